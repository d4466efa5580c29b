"""Reading HL7 v2 messages of any sender.

Nothing here trusts the sender: the size is capped before anything is split, and any bytes give a
message or an ``UnreadableMessage``, which names the place and never a value.

References
----------
HL7 v2.5.1 ch. 2.5 (segments, fields), 2.15.9 MSH; table 0211.
"""

import re
from dataclasses import dataclass

from fhir_mappers.hl7_inbound.escapes import Separators
from fhir_mappers.hl7_inbound.hl7_message import (
    ErrorCode,
    HL7Message,
    MessageHeader,
    Place,
    ReceivedSegment,
    UnreadableMessage,
)

CODECS = {
    "ASCII": "ascii", "ISO IR6": "ascii",
    "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8", "UNICODE": "utf-8",
    **{f"8859/{part}": f"iso8859-{part}" for part in (*range(1, 10), 15)},
    **{f"ISO-8859-{part}": f"iso8859-{part}" for part in (*range(1, 10), 15)},
}  # fmt: skip
"""Table 0211, and the names that senders write instead; to Python's names."""
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_VERSION = re.compile(r"2\.\d(?:\.\d)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_WORD = re.compile(r"[A-Z0-9_]{1,10}")
_LONGEST_CONTROL_ID = 199
_LONGEST_HEADER = 4_096
_ENCODING_CHARACTERS = 4
_MLLP_START, _BYTE_ORDER_MARK = b"\x0b", b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is read at most."""

    message_bytes: int = 8 * 1024 * 1024
    segments: int = 5_000
    fields: int = 200
    repetitions: int = 200


LIMITS = Limits()


def read_message(
    content: bytes, *, limits: Limits = LIMITS, character_set: str = "UNICODE UTF-8"
) -> HL7Message:
    """Read one message.

    Parameters
    ----------
    content
        Without the frame of MLLP. Segments end with CR or CR LF; where there is no CR at all, as
        in a file that an editor wrote, with LF.
    limits
        What is read at most.
    character_set
        Of table 0211, where MSH-18 is empty.

    Raises
    ------
    UnreadableMessage
        Whatever is wrong with the bytes.
    """
    header = read_header(content, limits=limits, character_set=character_set)
    text = _in_codec(content.removeprefix(_BYTE_ORDER_MARK), header.codec)
    lines = _lines(text)
    _at_most(limits.segments, len(lines), Place(), "segments")
    counts: dict[str, int] = {}
    segments = []
    for number, line in enumerate(lines, start=1):
        segment = _segment(line, number, counts, header)
        _check(segment, limits)
        segments.append(segment)
    return HL7Message(header, tuple(segments))


def read_header(
    content: bytes, *, limits: Limits = LIMITS, character_set: str = "UNICODE UTF-8"
) -> MessageHeader:
    """Read MSH alone: enough to answer a message that cannot be read.

    Parameters
    ----------
    content, limits, character_set
        As of ``read_message``.

    Raises
    ------
    UnreadableMessage
        If there is no header that can be answered.
    """
    _at_most(limits.message_bytes, len(content), Place(), "bytes")
    line = _header_line(content.removeprefix(_BYTE_ORDER_MARK))
    separators = _separators(line)
    fields = _msh_fields(line, separators)
    declared = fields[17].partition(separators.repetition)[0].strip() if len(fields) > 17 else ""  # noqa: PLR2004 - MSH-18
    codec = CODECS.get((declared or character_set).upper())
    if codec is None:
        raise UnreadableMessage(
            Place("MSH", 1, 18),
            "a character set that is not supported",
            f"send one of {', '.join(sorted(CODECS))}",
            ErrorCode.TABLE_VALUE,
        )
    line = _in_codec(line.encode("latin-1"), codec)
    fields = _msh_fields(line, separators)
    segment = ReceivedSegment("MSH", 1, tuple(fields), separators, codec)
    _check(segment, limits)
    return _header(segment, declared)


def _header(msh: ReceivedSegment, declared: str) -> MessageHeader:
    control_id, version = msh.part(10), msh.part(12)
    kind = (msh.part(9, 1), msh.part(9, 2), msh.part(9, 3))
    answerable = control_id and control_id.isprintable() and "\ufffd" not in control_id
    if not answerable or len(control_id) > _LONGEST_CONTROL_ID:
        raise UnreadableMessage(
            msh.place(10),
            "the control id is missing, or is not printable, or is longer than 199 characters",
            "send one that is new in each message",
            ErrorCode.REQUIRED_FIELD,
        )
    if not _VERSION.fullmatch(version):
        raise UnreadableMessage(
            msh.place(12), "not a version of HL7 v2", "send 2.5.1", ErrorCode.UNSUPPORTED_VERSION
        )
    for number, each in enumerate(kind, start=1):
        if not _WORD.fullmatch(each) and (each or number == 1):
            raise UnreadableMessage(
                msh.place(9, number),
                "not the name of a message type, event or structure",
                "send such as ORM^O01^ORM_O01",
                ErrorCode.UNSUPPORTED_TYPE,
            )
    return MessageHeader(
        separators=msh.separators,
        codec=msh.codec,
        character_set=declared,
        sender=(msh.raw(3), msh.raw(4)),
        receiver=(msh.raw(5), msh.raw(6)),
        message_type=kind[0],
        event=kind[1],
        structure=kind[2],
        control_id=control_id,
        processing_id=msh.part(11),
        version=version,
        accept_acknowledgement=msh.part(15),
        application_acknowledgement=msh.part(16),
    )


def _header_line(content: bytes) -> str:
    if not content.startswith(b"MSH"):
        to_do = (
            "take the frame of MLLP off"
            if content.startswith(_MLLP_START)
            else "send one message, not a batch, in a character set that writes MSH in ASCII"
        )
        raise UnreadableMessage(
            Place(), "it does not start with MSH", to_do, ErrorCode.SEGMENT_SEQUENCE
        )
    end = min(
        (at for at in (content.find(b"\r"), content.find(b"\n")) if at >= 0), default=len(content)
    )
    _at_most(_LONGEST_HEADER, end, Place("MSH"), "bytes")
    return content[:end].decode("latin-1")


def _separators(line: str) -> Separators:
    separator = line[3:4]
    encoding = line[4:].partition(separator)[0] if separator else ""
    characters = f"{separator}{encoding}"
    usual = all(each.isascii() and each.isprintable() and not each.isalnum() for each in characters)
    enough = _ENCODING_CHARACTERS <= len(encoding) <= _ENCODING_CHARACTERS + 1
    if not usual or " " in characters or not enough or len(set(characters)) < len(characters):
        raise UnreadableMessage(
            Place("MSH", 1, 2),
            "the separators are not five different punctuation marks",
            "start with MSH|^~\\&|",
            ErrorCode.DATA_TYPE,
        )
    return Separators(separator, *encoding[:_ENCODING_CHARACTERS])


def _msh_fields(line: str, separators: Separators) -> list[str]:
    return [separators.field, *line.split(separators.field)[1:]]


def _lines(text: str) -> list[str]:
    """Part the segments; an LF inside a message with CR parts nothing."""
    if "\r" not in text:
        return [line for line in text.split("\n") if line]
    return [stripped for line in text.split("\r") if (stripped := line.removeprefix("\n"))]


def _segment(
    line: str, number: int, counts: dict[str, int], header: MessageHeader
) -> ReceivedSegment:
    separators = header.separators
    name = line[:3]
    if not _SEGMENT_NAME.fullmatch(name) or line[3:4] not in {"", separators.field}:
        raise UnreadableMessage(
            Place(),
            f"segment {number} does not start with the name of a segment",
            "part segments by CR, and escape a CR in text",
            ErrorCode.SEGMENT_SEQUENCE,
        )
    counts[name] = counts.get(name, 0) + 1
    if name in {"MSH", "BHS", "FHS"} and number > 1:
        raise UnreadableMessage(
            Place(name, counts[name]),
            "a second header",
            "send each message alone",
            ErrorCode.SEGMENT_SEQUENCE,
        )
    fields = _msh_fields(line, separators) if name == "MSH" else line.split(separators.field)[1:]
    return ReceivedSegment(name, counts[name], tuple(fields), separators, header.codec)


def _check(segment: ReceivedSegment, limits: Limits) -> None:
    _at_most(limits.fields, len(segment.fields), segment.place(), "fields")
    for number, value in enumerate(segment.fields, start=1):
        if _CONTROL.search(value):
            raise UnreadableMessage(
                segment.place(number),
                "a control character",
                "send text without it, or escape it",
                ErrorCode.DATA_TYPE,
            )
        encoding = segment.name == "MSH" and number <= 2  # noqa: PLR2004 - MSH-1, MSH-2
        if not encoding:
            count = value.count(segment.separators.repetition) + 1
            _at_most(limits.repetitions, count, segment.place(number), "repetitions")


def _at_most(limit: int, count: int, place: Place, unit: str) -> None:
    if count > limit:
        raise UnreadableMessage(
            place, f"more than {limit:,} {unit}", "send less", ErrorCode.TOO_LONG
        )


def _in_codec(content: bytes, codec: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        lines = _lines(content[: error.start].decode(codec) + "?")
        name = lines[-1][:3] if _SEGMENT_NAME.fullmatch(lines[-1][:3]) else ""
        occurrence = sum(line.startswith(name) for line in lines)
        raise UnreadableMessage(
            Place(name, occurrence),
            f"a byte that is no character of {codec}",
            "name the character set in MSH-18",
            ErrorCode.DATA_TYPE,
        ) from None
