r"""HL7 v2 in ER7: typed values in, escaped bytes out.

A value can never start a segment, field, component or repetition of its own: delimiters are
escaped and line ends never survive raw.

References
----------
HL7 v2.5.1 ch. 2.7 (escape sequences), ch. 2A (data types).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fhir_mappers.errors import InvalidMessage

FIELD, COMPONENT, REPETITION, ESCAPE, SUBCOMPONENT = "|^~\\&"
LONGEST_OBX_5 = 99_999
"""Characters that OBX-5 may have since version 2.5."""
_LONGEST_NAMESPACE, _LONGEST_TEXT = 20, 199
_ESCAPES = {
    ESCAPE: r"\E\ "[:3],
    FIELD: r"\F\ "[:3],
    COMPONENT: r"\S\ "[:3],
    REPETITION: r"\R\ "[:3],
    SUBCOMPONENT: r"\T\ "[:3],
}
_LINE_END = re.compile(r"\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def escaped(text: str) -> str:
    """Escape text for any component; a line end becomes a blank, other controls vanish."""
    flat = _CONTROL.sub("", _LINE_END.sub(" ", text))
    return "".join(_ESCAPES.get(character, character) for character in flat)


def formatted_text(lines: Sequence[str]) -> str:
    r"""Give lines as FT, joined by ``\.br\``."""
    return r"\.br\ "[:5].join(escaped(line) for line in lines)


def components(*values: str) -> str:
    """Join escaped components; empty ones at the end are left out."""
    return COMPONENT.join(escaped(value) for value in values).rstrip(COMPONENT)


def subcomponents(*values: str) -> str:
    """Join escaped subcomponents; empty ones at the end are left out."""
    return SUBCOMPONENT.join(escaped(value) for value in values).rstrip(SUBCOMPONENT)


def coded(code: str, display: str, system: str) -> str:
    """Give a CWE: code, display, coding system (HL7 table 0396).

    CWE.2 holds 199 characters; a longer display ends in an ellipsis. A CE, as older versions have
    it, is written the same.
    """
    return components(code, _cut(display), system)


def authority(name: str) -> str:
    """Give an HD as a component: a short name as namespace, an OID or a long name as universal id.

    References
    ----------
    HL7 v2.5.1 ch. 2A HD; table 0301 (``ISO``, ``L`` local).
    """
    if re.fullmatch(r"urn:oid:[0-9.]+", name):
        return SUBCOMPONENT.join(["", name.removeprefix("urn:oid:"), "ISO"])
    if len(name) <= _LONGEST_NAMESPACE:
        return escaped(name)
    return SUBCOMPONENT.join(["", escaped(_cut(name)), "L"])


def _cut(text: str) -> str:
    """Leave room for three full stops: what a character set without an ellipsis writes."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}…"


def timestamp(moment: datetime | None) -> str:
    """Give a TS to the second with offset; empty for none.

    An offset that is not of whole minutes (local mean time before time zones) is written in UTC.
    """
    if moment is None:
        return ""
    offset = moment.utcoffset() or timedelta()
    stated = moment.astimezone(UTC) if offset % timedelta(minutes=1) else moment
    return stated.strftime("%Y%m%d%H%M%S%z")


def encapsulated(
    application: str, kind: str, subtype: str, base64_data: str, *, longest: int = LONGEST_OBX_5
) -> str:
    """Give an ED: source, type (table 0191), subtype (table 0291), encoding (0299), data.

    Parameters
    ----------
    application, kind, subtype, base64_data
        The components.
    longest
        How many characters OBX-5 may have in the version of the message.

    Raises
    ------
    InvalidMessage
        If the whole is longer than OBX-5 may be.
    """
    value = f"{components(application, kind, subtype, 'Base64')}{COMPONENT}{base64_data}"
    if len(value) > longest:
        msg = f"OBX-5 would be {len(value):,} characters; this version of HL7 allows {longest:,}"
        raise InvalidMessage(msg)
    return value


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment.

    Parameters
    ----------
    name
        Three letters or digits.
    fields
        By position from 1, each already encoded by the functions above.
    """

    name: str
    fields: dict[int, str]

    def encode(self) -> str:
        """Give the segment without its end, empty fields at the end left out."""
        last = max((n for n, value in self.fields.items() if value), default=0)
        return FIELD.join([self.name, *(self.fields.get(n, "") for n in range(1, last + 1))])


def message(segments: Sequence[Segment], *, codec: str = "utf-8") -> bytes:
    r"""Encode a message, each segment ended by CR.

    Parameters
    ----------
    segments
        The first is MSH without MSH-1 and MSH-2, its other fields at their own numbers.
    codec
        Python's name of the character set that MSH-18 names.

    Raises
    ------
    InvalidMessage
        If the first segment is not MSH, or a character cannot be written.
    """
    header, *others = segments
    if header.name != "MSH":
        msg = f"a message starts with MSH, not {header.name}"
        raise InvalidMessage(msg)
    last = max((n for n, value in header.fields.items() if value), default=0)
    start = f"MSH{FIELD}{COMPONENT}{REPETITION}{ESCAPE}{SUBCOMPONENT}"
    first = FIELD.join([start, *(header.fields.get(n, "") for n in range(3, last + 1))])
    lines = [first, *(segment.encode() for segment in others)]
    try:
        return "".join(f"{line}\r" for line in lines).encode(codec)
    except UnicodeEncodeError as error:
        msg = f"the character set of the message ({codec}) lacks a character of it"
        raise InvalidMessage(msg) from error
