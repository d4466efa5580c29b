"""Text in a character set that lacks some of it: said, never lost in silence.

An accent is dropped and a ligature is written out; what has no such form becomes a question mark.
Both are told. Only canonical decompositions of letters are used: the compatible form of ``10²`` is
``102``, and the base of ``≠`` is ``=``. An identifier is never changed: without its accent it may
be the identifier of somebody else.

References
----------
HL7 v2.5.1 ch. 2.7.4: hexadecimal escapes are data whose meaning two sites have agreed on, and the
escapes for other character sets need a receiver that declares them; neither is used.
"""

import unicodedata
from collections.abc import Sequence

from fhir_mappers.er7 import COMPONENT, SUBCOMPONENT, Segment, escaped
from fhir_mappers.errors import InvalidMessage

_WRITTEN_OUT = {  # letters that do not decompose; then ellipsis, hyphens, dashes, quotes, blank
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "TH", "\u0131": "i",
    "…": "...", "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-",
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ",
}  # fmt: skip
_WHOLE = frozenset({("PID", 3), ("ORC", 2), ("ORC", 3), ("OBR", 2), ("OBR", 3), ("OBR", 18)})
_FIRST_PART = frozenset({("OBR", 32), ("OBX", 16), ("OBX", 18)})
_POINTER = "RP"


def in_character_set(
    segments: Sequence[Segment], codec: str
) -> tuple[list[Segment], tuple[str, ...]]:
    """Give the segments with every character that the set has, and the fields that were changed.

    Parameters
    ----------
    segments
        With encoded fields.
    codec
        Python's name of the character set.

    Returns
    -------
    list of Segment, tuple of str
        The segments, and fields such as ``PID-5``, each once.

    Raises
    ------
    InvalidMessage
        If an identifier has a character that the set lacks. The message names the field, never
        its value.
    """
    places: dict[str, None] = {}
    written = []
    for segment in segments:
        fields = {}
        for number, value in segment.fields.items():
            fields[number] = _field(segment, number, value, codec)
            if fields[number] != value:
                places[f"{segment.name}-{number}"] = None
        written.append(Segment(segment.name, fields))
    return written, tuple(places)


def _field(segment: Segment, number: int, value: str, codec: str) -> str:
    if _fits(value, codec):
        return value
    place = (segment.name, number)
    pointer = place == ("OBX", 5) and segment.fields.get(2) == _POINTER
    first = value.partition(COMPONENT)[0].partition(SUBCOMPONENT)[0]
    kept = value if place in _WHOLE else first if pointer or place in _FIRST_PART else ""
    if segment.name == "MSH" or not _fits(kept, codec):
        msg = (
            f"{segment.name}-{number} holds a character that the character set of this destination "
            "lacks, and an identifier is never changed: choose UNICODE UTF-8"
        )
        raise InvalidMessage(msg)
    return "".join(_character(each, codec) for each in value)


def _character(character: str, codec: str) -> str:
    if _fits(character, codec):
        return character
    plain = _WRITTEN_OUT.get(character, "")
    if not plain and unicodedata.category(character).startswith("L"):
        plain = unicodedata.normalize("NFD", character)[:1]
    return escaped(plain) if plain and _fits(plain, codec) else "?"


def _fits(text: str, codec: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
