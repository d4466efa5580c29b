"""Reports of a reporting system: ORU^R01 with a radiologist's words on a study.

References
----------
HL7 v2.5.1 ch. 7.3.1 ORU^R01, 7.4.1 OBR, 7.4.2 OBX; tables 0085, 0123. IHE RAD-28, RAD-128.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum

from fhir_mappers.hl7_inbound.hl7_message import (
    ErrorCode,
    HL7Message,
    Place,
    ReceivedSegment,
    UnreadableMessage,
)
from fhir_mappers.hl7_inbound.identity import (
    Identifier,
    ReceivedPatient,
    authorities_of,
    entity_of,
    is_time,
    moment_of,
    patient_of,
    uid_of,
    universal_name,
)

STUDY_UID_CODE = "113014"
STUDY_UID_WORDS = "STUDY INSTANCE UID"
"""OBX-3 of the study's UID: the code of RAD-128, or the words of RAD-28."""
_TEXT_TYPES = frozenset({"TX", "FT", "ST"})
_CODED_TYPES = frozenset({"CE", "CWE", "CNE"})
_NOT_SAID = frozenset({"D", "W", "X", "N", "I"})
"""OBX-11: deleted, wrong, not obtained, not asked, pending."""


class ReportStatus(StrEnum):
    """What OBR-25 says."""

    PENDING = "pending"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    CORRECTED = "corrected"
    CANCELLED = "cancelled"


STATUSES = {
    "O": ReportStatus.PENDING, "I": ReportStatus.PENDING, "S": ReportStatus.PENDING,
    "A": ReportStatus.PRELIMINARY, "P": ReportStatus.PRELIMINARY, "R": ReportStatus.PRELIMINARY,
    "F": ReportStatus.FINAL, "C": ReportStatus.CORRECTED, "X": ReportStatus.CANCELLED,
}  # fmt: skip
"""OBR-25 of table 0123 that are understood."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is named: number and name as one line, either may be empty."""

    identifier: Identifier
    name: str


@dataclass(frozen=True, slots=True)
class InboundReport:
    """One report.

    Parameters
    ----------
    sender
        MSH-3 and MSH-4 as sent: a report of this server itself is no news.
    accession_number
        OBR-18, else the filler number.
    filler_number
        OBR-3, else ORC-3.
    study_instance_uid
        OBX coded 113014, or empty.
    status
        OBR-25.
    words
        Line by line: the text of OBX and NTE that stands, in the order of the message.
    radiologist
        OBR-32, else OBX-16; ``None`` where nobody is named.
    reported
        OBR-22, or ``None``.
    patient
        PID.
    """

    sender: tuple[str, str]
    accession_number: str
    filler_number: Identifier
    study_instance_uid: str
    status: ReportStatus
    words: tuple[str, ...]
    radiologist: Person | None
    reported: datetime | None
    patient: ReceivedPatient


def read_reports(message: HL7Message, *, zone: tzinfo) -> tuple[InboundReport, ...]:
    """Give the reports of a message, one for each OBR.

    Parameters
    ----------
    message
        An ORU^R01.
    zone
        Of times without offset.

    Raises
    ------
    UnreadableMessage
        If it is no report, or a report that cannot be understood; then none of it is.
    """
    header = message.header
    if (header.message_type, header.event) != ("ORU", "R01"):
        raise UnreadableMessage(
            Place("MSH", 1, 9), "not a report", "send ORU^R01", ErrorCode.UNSUPPORTED_TYPE
        )
    patient = patient_of(message.required("PID"))
    message.required("OBR")
    return tuple(_report(group, patient, header.sender, zone) for group in _groups(message))


def _groups(message: HL7Message) -> Iterator[list[ReceivedSegment]]:
    """Part the message: each group is an ORC, where there is one, an OBR and what follows it."""
    group: list[ReceivedSegment] = []
    for segment in message.named("ORC", "OBR", "OBX", "NTE"):
        has_obr = any(each.name == "OBR" for each in group)
        if segment.name == "ORC" or (segment.name == "OBR" and has_obr):
            if has_obr:
                yield group
            group = []
        if segment.name in {"ORC", "OBR"} or has_obr:
            group.append(segment)
    if any(each.name == "OBR" for each in group):
        yield group


def _report(
    group: Sequence[ReceivedSegment],
    patient: ReceivedPatient,
    sender: tuple[str, str],
    zone: tzinfo,
) -> InboundReport:
    obr = next(segment for segment in group if segment.name == "OBR")
    orc = next((segment for segment in group if segment.name == "ORC"), None)
    filler = entity_of(obr, 3)
    if not filler.value and orc is not None:
        filler = entity_of(orc, 3)
    uid = next((uid_of(segment, 5) for segment in group if _names_study(segment)), "")
    accession = obr.part(18) or filler.value
    if not (accession or uid):
        raise UnreadableMessage(
            obr.place(3), "nothing says which study it is",
            "send OBR-3 or OBR-18, or OBX coded 113014", ErrorCode.REQUIRED_FIELD,
        )  # fmt: skip
    status = STATUSES.get(obr.part(25))
    if status is None:
        raise UnreadableMessage(
            obr.place(25), "a result status that is not supported",
            f"send one of {', '.join(sorted(STATUSES))}", ErrorCode.TABLE_VALUE,
        )  # fmt: skip
    return InboundReport(
        sender=sender,
        accession_number=accession,
        filler_number=filler,
        study_instance_uid=uid,
        status=status,
        words=tuple(_words(group)),
        radiologist=_radiologist(obr, group),
        reported=moment_of(obr, 22, zone),
        patient=patient,
    )


def _names_study(segment: ReceivedSegment) -> bool:
    if segment.name != "OBX":
        return False
    words = (segment.part(3, 1).upper(), segment.part(3, 2).upper())
    return STUDY_UID_CODE in words or STUDY_UID_WORDS in words


def _words(group: Sequence[ReceivedSegment]) -> Iterator[str]:
    stands = True
    for segment in group:
        if segment.name == "OBX":
            stands = segment.part(11) not in _NOT_SAID and not _names_study(segment)
            if stands:
                yield from _observed(segment)
        elif segment.name == "NTE" and stands:
            yield from _lines(segment, 3)


def _observed(obx: ReceivedSegment) -> Iterator[str]:
    kind = obx.part(2)
    if kind in _TEXT_TYPES:
        yield from _lines(obx, 5)
    elif kind in _CODED_TYPES:
        yield from (value.part(2) or value.part(1) for value in obx.values(5))


def _lines(segment: ReceivedSegment, number: int) -> Iterator[str]:
    for value in segment.values(number):
        yield from (line.strip() for line in value.text.split("\n"))


def _radiologist(obr: ReceivedSegment, group: Sequence[ReceivedSegment]) -> Person | None:
    """Give the interpreter: NDL with a CNN in it; as many write it, an XCN; else OBX-16."""
    found = obr.values(32)
    if found:
        value = found[0]
        numbered = obr.separators.subcomponent in value.raw.split(obr.separators.component)[0]
        if numbered or not value.part(2) or is_time(value.part(2)):
            parts = [value.part(1, number) for number in range(1, 7)]
            names = (value.part(1, 9), universal_name(value.part(1, 10), value.part(1, 11)))
            return _person(parts, tuple(name for name in names if name))
    observers = (each.values(16) for each in group if each.name == "OBX")
    value_of = found or next((values for values in observers if values), ())
    if not value_of:
        return None
    parts = [value_of[0].part(number) for number in range(1, 7)]
    return _person(parts, authorities_of(value_of[0], 9))


def _person(parts: Sequence[str], authorities: tuple[str, ...]) -> Person | None:
    """Give a person of number, family name, given, middle, suffix, prefix; ``None`` for nobody."""
    number, family, given, middle, suffix, prefix = parts
    name = " ".join(part for part in (prefix, given, middle, family, suffix) if part)
    if not (number or name):
        return None
    return Person(Identifier(number, authorities), name)
