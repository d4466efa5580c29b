"""Answers to HL7 v2 messages: made for those that came, read of those that were sent.

References
----------
HL7 v2.5.1 ch. 2.9 (original and enhanced mode), 2.15.5 ERR, 2.15.8 MSA; tables 0008, 0357, 0516.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fhir_mappers.er7 import Segment, components, escaped, message, subcomponents, timestamp
from fhir_mappers.hl7_inbound.escapes import Separators
from fhir_mappers.hl7_inbound.hl7_message import (
    ErrorCode,
    HL7Message,
    MessageHeader,
    Place,
    UnreadableMessage,
    Value,
)
from fhir_mappers.hl7_inbound.reading import read_message

_LONGEST_TEXT, _LONGEST_ERROR, _LONGEST_SAID = 80, 250, 1_000
_ERL_SINCE = (2, 5)


class AcknowledgementCode(StrEnum):
    """Table 0008."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"

    @property
    def accepted(self) -> bool:
        """Whether the message was taken."""
        return self in {AcknowledgementCode.AA, AcknowledgementCode.CA}

    @property
    def rejected(self) -> bool:
        """Whether the message will never be taken as it is: sending it again is of no use."""
        return self in {AcknowledgementCode.AR, AcknowledgementCode.CR}

    @property
    def commits(self) -> bool:
        """Whether it is the first of the two answers of enhanced mode."""
        return self.value.startswith("C")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An answer that was read.

    Parameters
    ----------
    code
        MSA-1.
    control_id
        MSA-2: that of the message that is answered.
    says
        MSA-3 and ERR in one line: the words of the other system, which may name a patient.
    """

    code: AcknowledgementCode
    control_id: str
    says: str


@dataclass(frozen=True, slots=True)
class ReceivedError:
    """What an answer says of an error.

    Parameters
    ----------
    place
        Where, in the message that is answered.
    code
        What.
    """

    place: Place
    code: ErrorCode

    @classmethod
    def of(cls, error: UnreadableMessage) -> "ReceivedError":
        """Give that of a message that could not be read."""
        return cls(error.place, error.code)


def acknowledgement(
    answered: HL7Message | MessageHeader,
    code: AcknowledgementCode,
    text: str = "",
    error: ReceivedError | None = None,
    *,
    at: datetime,
) -> bytes:
    """Give the answer to a message, in its version and its character set.

    Parameters
    ----------
    answered
        The message, or its header where the rest could not be read.
    code
        MSA-1.
    text
        For a person, without patient data.
    error
        Where and what, for ERR.
    at
        MSH-7, with an offset.

    Returns
    -------
    bytes
        With a control id that is derived from that of the message and the code.
    """
    header = answered.header if isinstance(answered, HL7Message) else answered
    made = hashlib.sha256(f"{header.control_id}|{code}".encode()).hexdigest()[:20].upper()
    segments = [
        Segment(
            "MSH",
            {
                **{n: _again(raw, header) for n, raw in enumerate(header.receiver, start=3)},
                **{n: _again(raw, header) for n, raw in enumerate(header.sender, start=5)},
                7: timestamp(at),
                9: components("ACK", header.event, "ACK" if header.event else ""),
                10: made,
                11: _writable(header.processing_id, header) or "P",
                12: header.version,
                18: escaped(header.character_set),
            },
        ),
        Segment("MSA", {1: code.value, 2: escaped(header.control_id), 3: _plain(text)}),
    ]
    if error is not None:
        segments.append(_err(error, text, header))
    return message(segments, codec=header.codec)


def read_acknowledgement(content: bytes, expected_control_id: str) -> Acknowledgement:
    """Read the answer to a message.

    Parameters
    ----------
    content
        Without the frame of MLLP.
    expected_control_id
        MSH-10 of the message.

    Raises
    ------
    UnreadableMessage
        If it is no answer, or the answer to another message.
    """
    read = read_message(content)
    msa = read.required("MSA")
    control_id = msa.part(2)
    if control_id != expected_control_id:
        raise UnreadableMessage(
            msa.place(2), "it answers another message", "send MSH-10 of the message here",
            ErrorCode.UNKNOWN_KEY,
        )  # fmt: skip
    try:
        code = AcknowledgementCode(msa.part(1))
    except ValueError:
        raise UnreadableMessage(
            msa.place(1), "not an acknowledgement code",
            f"send one of {', '.join(AcknowledgementCode)}", ErrorCode.TABLE_VALUE,
        ) from None  # fmt: skip
    return Acknowledgement(code, control_id, _says(read))


def _says(answer: HL7Message) -> str:
    parts = [segment.part(3) for segment in answer.named("MSA")]
    for err in answer.named("ERR"):
        parts += [err.part(8), err.part(7), err.part(3, 2), err.part(1, 4, 2)]
    told = list(dict.fromkeys(part for part in parts if part))
    return "; ".join(told)[:_LONGEST_SAID]


def _err(error: ReceivedError, text: str, header: MessageHeader) -> Segment:
    """Give ERR: since 2.5 with ERL and a text of its own, before with ELD."""
    place, code = error.place, error.code
    numbers = [str(place.occurrence) if place.segment else "", *map(_number, (place.field,))]
    version = tuple(int(part) for part in header.version.split("."))[:2]
    if version >= _ERL_SINCE:
        component = _number(place.component)
        return Segment(
            "ERR",
            {
                2: components(place.segment, *numbers, "1" if component else "", component),
                3: components(code.value, code.display, "HL70357"),
                4: "E",
                8: escaped(text[:_LONGEST_ERROR]),
            },
        )
    kind = subcomponents(code.value, code.display, "HL70357")
    return Segment("ERR", {1: f"{components(place.segment)}^{'^'.join(numbers)}^{kind}"})


def _number(value: int) -> str:
    return str(value) if value else ""


def _plain(text: str) -> str:
    """Give text in ASCII: the character set of the other side may have nothing else."""
    return escaped(text.encode("ascii", "replace").decode("ascii")[:_LONGEST_TEXT])


def _again(raw: str, header: MessageHeader) -> str:
    """Write the name of an application again, in the usual separators."""
    own = Separators()
    parts = [
        [
            Value(part, header.separators, header.codec).part(1)
            for part in component.split(header.separators.subcomponent)
        ]
        for component in raw.split(header.separators.component)
    ]
    written = own.component.join(subcomponents(*each) for each in parts).rstrip(own.component)
    return _in_codec(written, header)


def _writable(text: str, header: MessageHeader) -> str:
    return _in_codec(escaped(text), header)


def _in_codec(text: str, header: MessageHeader) -> str:
    return text.encode(header.codec, "replace").decode(header.codec)
