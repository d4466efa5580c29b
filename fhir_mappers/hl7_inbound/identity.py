"""Identifiers, names and times as HL7 v2 writes them, and the patient of a message.

An empty field says nothing; ``""`` deletes what is known.

References
----------
HL7 v2.5.1 ch. 2.5.3 (null), ch. 2A CX, EI, HD, XPN, TS; ch. 3.4.2 PID; table 0001.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from fhir_mappers.hl7_inbound.hl7_message import (
    NULL,
    ErrorCode,
    ReceivedSegment,
    UnreadableMessage,
    Value,
)
from fhir_mappers.study import PersonName

_OID = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_TIME = re.compile(
    r"(\d{4})(\d{2})?(\d{2})?(?:(\d{2})(\d{2})?(?:(\d{2})(?:\.\d{1,4})?)?)?([+-]\d{4})?",
    re.ASCII,
)
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LONGEST_UID = 64
_MIDNIGHT = (0, 0, 0)
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O"}
_OTHER_NAMES = frozenset({"A", "M", "N", "P", "S"})
"""Table 0200: alias, maiden, nickname, of the partner, pseudonym."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier and whose it is.

    Parameters
    ----------
    value
        The number.
    authorities
        Names of who assigned it, a namespace and a universal id (an OID as ``urn:oid:``): either,
        both, or none where the message does not say.
    kind
        Of table 0203, such as ``MR``, or empty.
    """

    value: str
    authorities: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedPatient:
    """What a message says of a patient.

    Parameters
    ----------
    identifiers
        PID-3, those with a value.
    name
        PID-5; ``None`` where nothing is said, a name without parts where it is deleted.
    birth_date
        PID-7 as ``YYYY-MM-DD``; ``None`` where nothing is said, empty where it is deleted.
    sex
        PID-8 as DICOM has it; ``None`` where nothing is said, empty where it is deleted.
    """

    identifiers: tuple[Identifier, ...]
    name: PersonName | None = None
    birth_date: str | None = None
    sex: str | None = None


def identifier_of(value: Value) -> Identifier:
    """Read a CX: number, assigning authority, type."""
    authorities = authorities_of(value, 4)
    return Identifier(_known(value.part(1)), authorities, _known(value.part(5)))


def entity_of(segment: ReceivedSegment, number: int) -> Identifier:
    """Read an EI: number, namespace, universal id."""
    found = segment.values(number)
    if not found:
        return Identifier("")
    value = found[0]
    names = (value.part(2), universal_name(value.part(3), value.part(4)))
    return Identifier(_known(value.part(1)), tuple(name for name in names if _known(name)))


def authorities_of(value: Value, component: int) -> tuple[str, ...]:
    """Read an HD that is a component: its names, none, one or two."""
    universal = universal_name(value.part(component, 2), value.part(component, 3))
    return tuple(name for name in (value.part(component, 1), universal) if _known(name))


def name_of(value: Value) -> PersonName:
    """Read an XPN."""
    return PersonName(
        family=_known(value.part(1)),
        given=_known(value.part(2)),
        middle=_known(value.part(3)),
        suffix=_known(value.part(4)),
        prefix=_known(value.part(5)),
    )


def patient_of(pid: ReceivedSegment) -> ReceivedPatient:
    """Read a PID.

    Raises
    ------
    UnreadableMessage
        If it has no identifier, or its birth date is none.
    """
    found = (identifier_of(value) for value in pid.values(3))
    identifiers = tuple(each for each in found if each.value)
    if not identifiers:
        raise UnreadableMessage(
            pid.place(3), "no patient identifier", "send one", ErrorCode.REQUIRED_FIELD
        )
    return ReceivedPatient(identifiers, _name(pid), _birth_date(pid), _sex(pid))


def moment_of(segment: ReceivedSegment, number: int, zone: tzinfo) -> datetime | None:
    """Read a TS with an offset; ``None`` where there is none.

    Parameters
    ----------
    segment, number
        Which field.
    zone
        Of a time without offset.

    Raises
    ------
    UnreadableMessage
        If it is no time.
    """
    text = segment.part(number)
    if not text:
        return None
    try:
        return _moment(text, zone)
    except ValueError:
        raise UnreadableMessage(
            segment.place(number),
            "not a time",
            "send YYYYMMDDHHMMSS+ZZZZ",
            ErrorCode.DATA_TYPE,
        ) from None


def is_time(text: str) -> bool:
    """Whether text is a TS."""
    try:
        _moment(text, UTC)
    except ValueError:
        return False
    return True


def uid_of(segment: ReceivedSegment, number: int) -> str:
    """Read a DICOM UID; empty where there is none.

    Raises
    ------
    UnreadableMessage
        If it is none.
    """
    uid = segment.part(number)
    if uid and not (_UID.fullmatch(uid) and len(uid) <= _LONGEST_UID):
        raise UnreadableMessage(
            segment.place(number),
            "not a DICOM UID",
            "send digits and dots, at most 64 characters",
            ErrorCode.DATA_TYPE,
        )
    return uid


def _moment(text: str, zone: tzinfo) -> datetime:
    matched = _TIME.fullmatch(text)
    if matched is None:
        msg = "not a time"
        raise ValueError(msg)
    year, *parts, offset = matched.groups()
    month, day = (int(part or 1) for part in parts[:2])
    hour, minute, second = (int(part or 0) for part in parts[2:])
    read = datetime(int(year), month, day, hour, minute, second, tzinfo=_offset(offset) or zone)
    read.utcoffset()
    return read


def _offset(text: str | None) -> tzinfo | None:
    if not text:
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:])
    return timezone(timedelta(minutes=-minutes if text.startswith("-") else minutes))


def universal_name(name: str, kind: str) -> str:
    """Give a universal id as a name of a namespace: an OID as ``urn:oid:``."""
    return f"urn:oid:{name}" if kind in {"ISO", ""} and _OID.fullmatch(name) else name


def _known(text: str) -> str:
    return "" if text == NULL else text


def _name(pid: ReceivedSegment) -> PersonName | None:
    found = pid.values(5)
    if not found:
        return None
    if found[0].raw == NULL:
        return PersonName()
    legal = [value for value in found if value.part(7) == "L"]
    others = [value for value in found if value.part(7) not in _OTHER_NAMES]
    read = name_of((legal or others or list(found))[0])
    return read if read != PersonName() else None


def _birth_date(pid: ReceivedSegment) -> str | None:
    if pid.raw(7) == NULL:
        return ""
    text = pid.part(7)
    if not text:
        return None
    if not is_time(text):
        raise UnreadableMessage(pid.place(7), "not a date", "send YYYYMMDD", ErrorCode.DATA_TYPE)
    whole = text[:8]
    return date.fromisoformat(whole).isoformat() if whole.isdigit() and len(whole) == 8 else None  # noqa: PLR2004 - YYYYMMDD


def _sex(pid: ReceivedSegment) -> str | None:
    return "" if pid.raw(8) == NULL else _SEXES.get(pid.part(8))
