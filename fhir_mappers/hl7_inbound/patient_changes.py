"""Patients that changed: ADT^A01, A04, A08, A28, A31 (what is known), A40 (two were one).

A pending result of the patient is said of the patient as they are known now: ``changed_study``
gives the study with it, or ``None`` where the change is of somebody else. A patient is a namespace
and a number; a number alone is nobody.

References
----------
HL7 v2.5.1 ch. 3.3 (events), 3.4.2 PID, 3.4.9 MRG, 3.6.2.1.2 (merge: MRG-1 is retired, PID-3 stays).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

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
    identifier_of,
    patient_of,
)
from fhir_mappers.study import Patient, Study

UPDATES = frozenset({"A01", "A04", "A08", "A28", "A31"})
MERGES = frozenset({"A40"})
_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PatientUpdate:
    """What is known of a patient now; the identifiers are the same.

    Parameters
    ----------
    event
        MSH-9.2.
    patient
        PID.
    """

    event: str
    patient: ReceivedPatient


@dataclass(frozen=True, slots=True)
class PatientMerge:
    """Two identifiers of one patient became one.

    Parameters
    ----------
    retired
        MRG-1: nothing is said of it any more.
    surviving
        That of PID-3 that takes its place: of the same authority.
    patient
        PID.
    """

    retired: Identifier
    surviving: Identifier
    patient: ReceivedPatient


PatientChange = PatientUpdate | PatientMerge


def read_patient_changes(message: HL7Message) -> tuple[PatientChange, ...]:
    """Give what an ADT message changes, at least one; in its order.

    Raises
    ------
    UnreadableMessage
        If it is another message, or a change that cannot be understood; then none of it is.
    """
    header = message.header
    if header.message_type != "ADT":
        raise UnreadableMessage(
            Place("MSH", 1, 9), "not a message about patients", "send ADT^A08 or ADT^A40",
            ErrorCode.UNSUPPORTED_TYPE,
        )  # fmt: skip
    if header.event in UPDATES:
        return (PatientUpdate(header.event, patient_of(message.required("PID"))),)
    if header.event in MERGES:
        return tuple(_merges(message))
    raise UnreadableMessage(
        Place("MSH", 1, 9, 2), "an event that is not supported",
        f"send one of {', '.join(sorted(UPDATES | MERGES))}", ErrorCode.UNSUPPORTED_EVENT,
    )  # fmt: skip


def with_patient(study: Study, patient: Patient) -> Study:
    """Give the study, said of the patient as they are known now."""
    return replace(study, patient=patient)


def changed_study(
    study: Study,
    change: PatientChange,
    *,
    default_issuer: str,
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> Study | None:
    """Give the study with its changed patient, or ``None`` where the change is of somebody else.

    Parameters
    ----------
    study
        As it is known.
    change
        What became known.
    default_issuer
        Namespace of a patient identifier, of the study or the message, that names none; may be
        empty, and then such an identifier is nobody's.
    aliases
        One name for namespaces that are written differently.

    Returns
    -------
    Study or None
        With the issuer as the study had it.
    """
    spaces = _Namespaces(default_issuer, aliases)
    patient = study.patient
    known = change.retired if isinstance(change, PatientMerge) else None
    candidates = [known] if known else list(change.patient.identifiers)
    if not any(spaces.same(patient, each) for each in candidates):
        return None
    number = change.surviving.value if isinstance(change, PatientMerge) else patient.patient_id
    return with_patient(study, _updated(patient, number, change.patient))


@dataclass(frozen=True, slots=True)
class _Namespaces:
    """Whose number it is, however it is written."""

    default: str
    aliases: Mapping[str, str]

    def same(self, patient: Patient, other: Identifier) -> bool:
        issuer = self._name(patient.issuer or self.default)
        theirs = {self._name(each) for each in other.authorities or (self.default,)}
        return bool(
            issuer and patient.patient_id and issuer in theirs and patient.patient_id == other.value
        )

    def _name(self, written: str) -> str:
        return self.aliases.get(written, written)


def _updated(patient: Patient, number: str, said: ReceivedPatient) -> Patient:
    return Patient(
        patient_id=number,
        issuer=patient.issuer,
        name=patient.name if said.name is None else said.name,
        birth_date=patient.birth_date if said.birth_date is None else said.birth_date or None,
        sex=patient.sex if said.sex is None else said.sex,
    )


def _merges(message: HL7Message) -> Iterator[PatientMerge]:
    pid: ReceivedSegment | None = None
    message.required("MRG")
    for segment in message.named("PID", "MRG"):
        if segment.name == "PID":
            if pid is not None:
                raise _without_partner(pid)
            pid = segment
        elif pid is None:
            raise _without_partner(segment)
        else:
            yield from _merged(pid, segment)
            pid = None
    if pid is not None:
        raise _without_partner(pid)


def _merged(pid: ReceivedSegment, mrg: ReceivedSegment) -> Iterator[PatientMerge]:
    patient = patient_of(pid)
    retired = [each for each in map(identifier_of, mrg.values(1)) if each.value]
    if not retired:
        raise UnreadableMessage(
            mrg.place(1), "no identifier that is retired", "send one", ErrorCode.REQUIRED_FIELD
        )
    for old in retired:
        surviving = [each for each in patient.identifiers if _fits(each, old)]
        if len(surviving) != 1 or surviving[0].value == old.value:
            raise UnreadableMessage(
                mrg.place(1),
                "PID-3 does not have one other identifier of the authority of this one",
                "send the identifier that stays, and its assigning authority",
                ErrorCode.UNKNOWN_KEY,
            )
        yield PatientMerge(old, surviving[0], patient)


def _fits(new: Identifier, old: Identifier) -> bool:
    """Whether one may take the place of the other: same authority, no other type."""
    same = bool(set(new.authorities) & set(old.authorities)) or (
        not new.authorities and not old.authorities
    )
    return same and (not new.kind or not old.kind or new.kind == old.kind)


def _without_partner(segment: ReceivedSegment) -> UnreadableMessage:
    return UnreadableMessage(
        segment.place(),
        "PID and MRG do not come in pairs",
        "send MRG after each PID",
        ErrorCode.SEGMENT_SEQUENCE,
    )
