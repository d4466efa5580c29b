r"""Escape sequences of HL7 v2 and the text that they stand for.

References
----------
HL7 v2.5.1 ch. 2.7: ``\F\ \S\ \T\ \R\ \E\``, ``\Xdd..\``, ``\H\ \N\``, formatting of FT.
"""

import re
from dataclasses import dataclass

_LONGEST_RUN = 20
"""Blank lines or blanks that one command may ask for; ``\\.sp99999\\`` asks for a flood."""
_COMMAND = re.compile(r"\.(br|sp|sk|ce|fi|nf|in|ti)\s*([+-]?\d{1,5})?")
_HEXADECIMAL = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
_OTHERS = re.compile(r"[HN]|C[0-9A-Fa-f]{4}|M[0-9A-Fa-f]{4}(?:[0-9A-Fa-f]{2})?|Z.*")
_SILENT = frozenset({"H", "N"})
_NEW_LINE = frozenset({"br", "ce"})


@dataclass(frozen=True, slots=True)
class Separators:
    """The characters that part a message, as MSH-1 and MSH-2 name them."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def msh_2(self) -> str:
        """All but the first, as they stand in MSH-2."""
        return f"{self.component}{self.repetition}{self.escape}{self.subcomponent}"


def unescaped(text: str, separators: Separators, codec: str) -> str:
    r"""Give the text that stands for; a sequence that is not known stays as it is.

    Parameters
    ----------
    text
        One component or subcomponent, or a whole field of text.
    separators
        Of the message.
    codec
        Python's name of its character set: what ``\Xdd..\`` is read in.
    """
    if separators.escape not in text:
        return text
    parts = text.split(separators.escape)
    given = [parts[0]]
    position = 1
    while position < len(parts):
        closed = position + 1 < len(parts)
        meaning = _meaning(parts[position], separators, codec) if closed else None
        if meaning is None:
            given.append(f"{separators.escape}{parts[position]}")
            position += 1
        else:
            given.append(f"{meaning}{parts[position + 1]}")
            position += 2
    return "".join(given)


def faulty_escape(text: str, separators: Separators) -> bool:
    """Whether an escape character starts no sequence of the standard."""
    parts = text.split(separators.escape)
    if len(parts) % 2 == 0:
        return True
    return any(
        _meaning(part, separators, "latin-1") is None and not _OTHERS.fullmatch(part)
        for part in parts[1::2]
    )


def _meaning(sequence: str, separators: Separators, codec: str) -> str | None:
    single = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
    }
    if sequence in single:
        return single[sequence]
    if sequence in _SILENT:
        return ""
    if command := _COMMAND.fullmatch(sequence):
        return _formatted(command[1], command[2])
    if data := _HEXADECIMAL.fullmatch(sequence):
        return _decoded(bytes.fromhex(data[1]), codec)
    return None


def _formatted(command: str, number: str | None) -> str:
    count = min(max(int(number or 1), 1), _LONGEST_RUN)
    if command in _NEW_LINE:
        return "\n"
    return {"sp": "\n", "sk": " "}.get(command, "") * count


def _decoded(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None
