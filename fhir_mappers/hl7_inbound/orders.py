"""Imaging orders: ORM^O01 with ZDS, as IHE RAD-4 had it in 2.3.1, and OMI^O23 with IPC.

References
----------
HL7 v2.5.1 ch. 4.4.4, 4.4.10, 4.5.1 ORC, 4.5.3 OBR, 4.5.4 TQ1, 4.5.6 IPC; table 0119. IHE RAD-4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    entity_of,
    patient_of,
    uid_of,
)

ORDER_MESSAGES = frozenset({("ORM", "O01"), ("OMI", "O23")})


class OrderAction(StrEnum):
    """What becomes of an order."""

    NEW = "new"
    CHANGE = "change"
    CANCEL = "cancel"
    STATUS = "status"
    """It is told how the order stands; nothing is asked."""


ACTIONS = {
    "NW": OrderAction.NEW, "RO": OrderAction.NEW, "CH": OrderAction.NEW,
    "XO": OrderAction.CHANGE, "XX": OrderAction.CHANGE, "SU": OrderAction.CHANGE,
    "CA": OrderAction.CANCEL, "OC": OrderAction.CANCEL, "DC": OrderAction.CANCEL,
    "OD": OrderAction.CANCEL, "RP": OrderAction.CANCEL, "RU": OrderAction.CANCEL,
    "SC": OrderAction.STATUS, "SN": OrderAction.STATUS, "NA": OrderAction.STATUS,
    "OK": OrderAction.STATUS, "HD": OrderAction.STATUS, "OH": OrderAction.STATUS,
    "RL": OrderAction.STATUS, "OE": OrderAction.STATUS, "PA": OrderAction.STATUS,
}  # fmt: skip
"""ORC-1 of table 0119 that are understood; another is refused."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """What is to be done: code, words and coding system of OBR-4."""

    code: str
    text: str
    system: str


@dataclass(frozen=True, slots=True)
class InboundOrder:
    """One order.

    Parameters
    ----------
    action, control
        What becomes of it, and ORC-1 as sent.
    placer_number, filler_number
        ORC-2 or OBR-2, ORC-3 or OBR-3.
    accession_number
        IPC-1, else OBR-18, else the filler number.
    study_instance_uid
        IPC-3, else ZDS-1, else empty.
    procedure
        OBR-4.
    modality
        IPC-5, else OBR-24.
    priority
        TQ1-9, else ORC-7.6, OBR-27.6 or OBR-5; ``S``, ``A``, ``R`` and others, or empty.
    status
        ORC-5, or empty.
    patient
        PID.
    """

    action: OrderAction
    control: str
    placer_number: Identifier
    filler_number: Identifier
    accession_number: str
    study_instance_uid: str
    procedure: Procedure
    modality: str
    priority: str
    status: str
    patient: ReceivedPatient


def read_orders(message: HL7Message) -> tuple[InboundOrder, ...]:
    """Give the orders of a message, at least one.

    Raises
    ------
    UnreadableMessage
        If it is no order, or an order that cannot be understood; then none of it is.
    """
    header = message.header
    if (header.message_type, header.event) not in ORDER_MESSAGES:
        raise UnreadableMessage(
            Place("MSH", 1, 9),
            "not an order",
            "send ORM^O01 or OMI^O23",
            ErrorCode.UNSUPPORTED_TYPE,
        )
    patient = patient_of(message.required("PID"))
    message.required("ORC")
    return tuple(_order(group, patient) for group in _groups(message))


def _groups(message: HL7Message) -> Iterator[list[ReceivedSegment]]:
    group: list[ReceivedSegment] = []
    for segment in message.named("ORC", "OBR", "TQ1", "IPC", "ZDS"):
        if segment.name == "ORC" and group:
            yield group
            group = []
        group.append(segment)
    yield group


def _order(group: Sequence[ReceivedSegment], patient: ReceivedPatient) -> InboundOrder:
    segments = {segment.name: segment for segment in reversed(group)}
    orc = group[0]
    if orc.name != "ORC":
        raise UnreadableMessage(
            orc.place(), "it stands before ORC", "start each order with ORC",
            ErrorCode.SEGMENT_SEQUENCE,
        )  # fmt: skip
    nothing = ReceivedSegment("OBR", 1, (), orc.separators, orc.codec)
    obr, ipc, zds = (segments.get(name, nothing) for name in ("OBR", "IPC", "ZDS"))
    control = orc.part(1)
    if control not in ACTIONS:
        raise UnreadableMessage(
            orc.place(1), "an order control code that is not supported",
            f"send one of {', '.join(sorted(ACTIONS))}", ErrorCode.TABLE_VALUE,
        )  # fmt: skip
    filler = _first(entity_of(orc, 3), entity_of(obr, 3))
    placer = _first(entity_of(orc, 2), entity_of(obr, 2))
    accession = ipc.part(1) or obr.part(18) or filler.value
    if not (accession or placer.value):
        raise UnreadableMessage(
            orc.place(3), "an order without any number", "send ORC-2, ORC-3, OBR-18 or IPC-1",
            ErrorCode.REQUIRED_FIELD,
        )  # fmt: skip
    return InboundOrder(
        action=ACTIONS[control],
        control=control,
        placer_number=placer,
        filler_number=filler,
        accession_number=accession,
        study_instance_uid=uid_of(ipc, 3) or uid_of(zds, 1),
        procedure=Procedure(obr.part(4, 1), obr.part(4, 2), obr.part(4, 3)),
        modality=ipc.part(5) or obr.part(24),
        priority=_priority(orc, obr, segments.get("TQ1", nothing)),
        status=orc.part(5),
        patient=patient,
    )


def _priority(orc: ReceivedSegment, obr: ReceivedSegment, tq1: ReceivedSegment) -> str:
    newer = tq1.part(9) if tq1.name == "TQ1" else ""
    return newer or orc.part(7, 6) or obr.part(27, 6) or obr.part(5)


def _first(*found: Identifier) -> Identifier:
    return next((each for each in found if each.value), Identifier(""))
