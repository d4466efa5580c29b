"""An HL7 v2 message that was read: its header, its segments, their fields, and what can be wrong.

References
----------
HL7 v2.5.1 ch. 2.5 (segments, fields), 2.15.9 MSH; table 0357.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from fhir_mappers.errors import MapperError
from fhir_mappers.hl7_inbound.escapes import Separators, unescaped

NULL = '""'
"""What a sender writes to delete a value; an empty field says nothing."""


class ErrorCode(StrEnum):
    """Table 0357: what is wrong with a message."""

    SEGMENT_SEQUENCE = "100"
    REQUIRED_FIELD = "101"
    DATA_TYPE = "102"
    TABLE_VALUE = "103"
    TOO_LONG = "104"
    UNSUPPORTED_TYPE = "200"
    UNSUPPORTED_EVENT = "201"
    UNSUPPORTED_VERSION = "203"
    UNKNOWN_KEY = "204"
    APPLICATION_ERROR = "207"

    @property
    def display(self) -> str:
        """What the table says."""
        return {
            "100": "Segment sequence error",
            "101": "Required field missing",
            "102": "Data type error",
            "103": "Table value not found",
            "104": "Value too long",
            "200": "Unsupported message type",
            "201": "Unsupported event code",
            "203": "Unsupported version id",
            "204": "Unknown key identifier",
            "207": "Application error",
        }[self.value]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a message.

    Parameters
    ----------
    segment
        Name; empty for the message as a whole.
    occurrence
        Which of the segments of that name, from 1.
    field, component
        Their numbers, from 1; 0 for the segment or the field as a whole.
    """

    segment: str = ""
    occurrence: int = 1
    field: int = 0
    component: int = 0

    def __str__(self) -> str:
        """Such as ``OBX[3]-5.2``."""
        if not self.segment:
            return "the message"
        which = f"[{self.occurrence}]" if self.occurrence > 1 else ""
        component = f".{self.component}" if self.component else ""
        return f"{self.segment}{which}" + (f"-{self.field}{component}" if self.field else "")


class UnreadableMessage(MapperError):
    """A message of another system breaks a rule, or asks for what is not supported.

    Parameters
    ----------
    place
        Where.
    what
        What is wrong. Never a value.
    to_do
        What the sender should do.
    code
        Of table 0357, for the ERR segment of the answer.
    """

    def __init__(self, place: Place, what: str, to_do: str, code: ErrorCode) -> None:
        super().__init__(f"{place}: {what}; {to_do}")
        self.place = place
        self.what = what
        self.to_do = to_do
        self.code = code


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _without_controls(text: str) -> str:
    """Replace what an escape smuggled in; left out, it would make two identifiers alike."""
    return _CONTROL.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class Value:
    """One repetition of a field.

    Parameters
    ----------
    raw
        As sent, escaped.
    separators, codec
        Of the message.
    """

    raw: str
    separators: Separators
    codec: str

    def part(self, component: int, subcomponent: int = 1) -> str:
        """Give a subcomponent decoded, on one line, without blanks around it.

        Empty where there is none.
        """
        parts = self.raw.split(self.separators.component)
        if component > len(parts):
            return ""
        smaller = parts[component - 1].split(self.separators.subcomponent)
        if subcomponent > len(smaller):
            return ""
        decoded = unescaped(smaller[subcomponent - 1], self.separators, self.codec)
        return _without_controls(" ".join(decoded.splitlines())).strip()

    @property
    def text(self) -> str:
        """The whole decoded, as of a field of text; its lines are parted by LF."""
        decoded = unescaped(self.raw, self.separators, self.codec)
        return "\n".join(_without_controls(line) for line in decoded.splitlines())


@dataclass(frozen=True, slots=True)
class ReceivedSegment:
    """One segment.

    Parameters
    ----------
    name
        Three letters or digits.
    occurrence
        Which of the segments of that name, from 1.
    fields
        As sent; that of number n at n - 1. Of MSH the first is the separator itself.
    separators, codec
        Of the message.
    """

    name: str
    occurrence: int
    fields: tuple[str, ...]
    separators: Separators = field(repr=False)
    codec: str = field(repr=False)

    def raw(self, number: int) -> str:
        """Give a field as sent; empty where there is none."""
        return self.fields[number - 1] if number <= len(self.fields) else ""

    def values(self, number: int) -> tuple[Value, ...]:
        """Give the repetitions of a field; none where it is empty."""
        raw = self.raw(number)
        if not raw:
            return ()
        parts = raw.split(self.separators.repetition)
        return tuple(Value(part, self.separators, self.codec) for part in parts)

    def part(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """Give a part of the first repetition decoded; empty where there is none, or ``""``."""
        found = self.values(number)
        given = found[0].part(component, subcomponent) if found else ""
        return "" if given == NULL else given

    def place(self, number: int = 0, component: int = 0) -> Place:
        """Say where this is."""
        return Place(self.name, self.occurrence, number, component)


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """MSH, as far as an answer needs it.

    Parameters
    ----------
    separators, codec
        How the message is written.
    character_set
        MSH-18 as sent, or empty.
    sender, receiver
        MSH-3 and MSH-4, MSH-5 and MSH-6, as sent.
    message_type, event, structure
        MSH-9; the last may be empty.
    control_id, processing_id, version
        MSH-10, MSH-11.1 and MSH-12.1.
    accept_acknowledgement, application_acknowledgement
        MSH-15 and MSH-16; both empty in original mode.
    """

    separators: Separators
    codec: str
    character_set: str
    sender: tuple[str, str]
    receiver: tuple[str, str]
    message_type: str
    event: str
    structure: str
    control_id: str
    processing_id: str
    version: str
    accept_acknowledgement: str
    application_acknowledgement: str

    @property
    def enhanced(self) -> bool:
        """Whether the sender asks for acknowledgements of enhanced mode."""
        return bool(self.accept_acknowledgement or self.application_acknowledgement)


@dataclass(frozen=True, slots=True)
class HL7Message:
    """One message that was read.

    Parameters
    ----------
    header
        MSH.
    segments
        All, MSH first.
    """

    header: MessageHeader
    segments: tuple[ReceivedSegment, ...] = field(repr=False)

    def named(self, *names: str) -> Iterator[ReceivedSegment]:
        """Give the segments of these names, in the order of the message."""
        return (segment for segment in self.segments if segment.name in names)

    def required(self, name: str) -> ReceivedSegment:
        """Give the first segment of a name.

        Raises
        ------
        UnreadableMessage
            If there is none.
        """
        found = next(self.named(name), None)
        if found is None:
            raise UnreadableMessage(
                Place(name), "the segment is missing", "send it", ErrorCode.SEGMENT_SEQUENCE
            )
        return found
