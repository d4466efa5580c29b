"""What a message says: orders, changes of patients, or reports; and whom it is about. Pure."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from datetime import tzinfo

from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, HL7Message, Place, UnreadableMessage
from fhir_mappers.hl7_inbound.identity import Identifier, ReceivedPatient
from fhir_mappers.hl7_inbound.orders import ORDER_MESSAGES, InboundOrder, read_orders
from fhir_mappers.hl7_inbound.patient_changes import (
    PatientChange,
    PatientMerge,
    read_patient_changes,
)
from fhir_mappers.hl7_inbound.reported import InboundReport, read_reports

_LONGEST = 250
_REPORT = ("ORU", "R01")


@dataclass(frozen=True, slots=True)
class Content:
    """What a message says: orders, changes of patients, or reports; of one kind, at least one."""

    orders: tuple[InboundOrder, ...] = ()
    changes: tuple[PatientChange, ...] = ()
    reports: tuple[InboundReport, ...] = ()

    @property
    def patients(self) -> tuple[ReceivedPatient, ...]:
        """Whom it is about."""
        of_orders = [each.patient for each in self.orders]
        of_changes = [each.patient for each in self.changes]
        return (*of_orders, *of_changes, *(each.patient for each in self.reports))

    @property
    def study_instance_uid(self) -> str:
        """The first study that it names, or empty."""
        named = [each.study_instance_uid for each in self.orders]
        named += [each.study_instance_uid for each in self.reports]
        return next((uid for uid in named if uid), "")


def content_of(message: HL7Message, *, zone: tzinfo) -> Content:
    """Read what a message says.

    Parameters
    ----------
    message
        An order, a change of a patient or a report.
    zone
        Of times without offset.

    Raises
    ------
    UnreadableMessage
        If it is another message, or one that cannot be understood.
    """
    header = message.header
    kind = (header.message_type, header.event)
    if kind in ORDER_MESSAGES:
        content = Content(orders=read_orders(message))
    elif header.message_type == "ADT":
        content = Content(changes=read_patient_changes(message))
    elif kind == _REPORT:
        content = Content(reports=read_reports(message, zone=zone))
    else:
        raise UnreadableMessage(
            Place("MSH", 1, 9),
            "a message that is not supported",
            "send ORM^O01, OMI^O23, ADT^A01, A04, A08, A28, A31 or A40, or ORU^R01",
            ErrorCode.UNSUPPORTED_TYPE,
        )
    _check_lengths(content)
    return content


def _check_lengths(content: Content) -> None:
    """See that no number is a flood of characters.

    Raises
    ------
    UnreadableMessage
        If one is.
    """
    for place, text in _numbers(content):
        if len(text) > _LONGEST:
            raise UnreadableMessage(
                place, f"longer than {_LONGEST} characters", "send less", ErrorCode.TOO_LONG
            )


def _numbers(content: Content) -> Iterator[tuple[Place, str]]:
    for patient in content.patients:
        for each in patient.identifiers:
            yield from _parts(Place("PID", 1, 3), each)
    for change in content.changes:
        if isinstance(change, PatientMerge):
            yield from _parts(Place("MRG", 1, 1), change.retired)
    for order in content.orders:
        yield from _numbers_of_order(order)
    for report in content.reports:
        yield Place("OBR", 1, 18), report.accession_number
        yield from _parts(Place("OBR", 1, 3), report.filler_number)


def _numbers_of_order(order: InboundOrder) -> Iterator[tuple[Place, str]]:
    yield from _parts(Place("ORC", 1, 2), order.placer_number)
    yield from _parts(Place("ORC", 1, 3), order.filler_number)
    yield Place("ORC", 1, 7), order.priority
    yield Place("OBR", 1, 18), order.accession_number
    yield Place("OBR", 1, 24), order.modality
    for text in astuple(order.procedure):
        yield Place("OBR", 1, 4), text


def _parts(place: Place, identifier: Identifier) -> Iterator[tuple[Place, str]]:
    for text in (identifier.value, *identifier.authorities):
        yield place, text


def numbers_named(change: PatientChange) -> tuple[str, ...]:
    """Give the numbers of patients that a change names, each once."""
    retired = [change.retired] if isinstance(change, PatientMerge) else []
    named = [*retired, *change.patient.identifiers]
    return tuple(dict.fromkeys(each.value for each in named))


def without_patient_data(change: PatientChange) -> PatientMerge | None:
    """Give what is left when it is forgotten: which numbers were merged; of the rest nothing."""
    if not isinstance(change, PatientMerge):
        return None
    return replace(change, patient=ReceivedPatient((change.surviving,)))
