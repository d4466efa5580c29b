"""What is known of an imaging order, and what a message makes of it. Pure.

An order is known by the number of its placer, else of its filler, else by its accession number
alone; within one sending system, for numbers of two systems may be alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from ai_engine.result import Priority
from fhir_mappers.hl7_inbound.orders import InboundOrder, OrderAction, Procedure

HASTE: Mapping[str, Priority] = MappingProxyType(
    {
        "S": Priority.URGENT,
        "STAT": Priority.URGENT,
        "A": Priority.FLAGGED,
        "ASAP": Priority.FLAGGED,
    }
)
"""Priorities of tables 0027 and 0485 that hasten a study: it is due like one of that class."""
_STEPS = (None, Priority.FLAGGED, Priority.URGENT)
_CANCELLED = frozenset({"CA", "DC"})
"""ORC-5 of table 0038."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it stands.

    Parameters
    ----------
    sender
        Application and facility whose messages tell of it, as sent.
    placer_number, filler_number, accession_number
        Its numbers; any may be empty, not all.
    study_instance_uid
        Of its study, or empty: most orders do not say.
    procedure
        What is to be done.
    modality
        With what, or empty.
    priority
        As sent, such as ``S``.
    since
        Since when it asks for that haste.
    patient
        Namespace and number, opaque; the namespace may be empty.
    cancelled
        Whether it was withdrawn.
    """

    sender: tuple[str, str]
    placer_number: str
    filler_number: str
    accession_number: str
    study_instance_uid: str
    procedure: Procedure
    modality: str
    priority: str
    since: datetime
    patient: tuple[str, str]
    cancelled: bool = False

    @property
    def haste(self) -> Priority | None:
        """The class like which its study is due; ``None`` where it asks for no haste."""
        return None if self.cancelled else haste_of(self.priority)

    def is_of(self, study_instance_uid: str, accession_number: str) -> bool:
        """Say whether it is the order of a study; empty numbers are nobody's."""
        return bool(
            (study_instance_uid and study_instance_uid == self.study_instance_uid)
            or (accession_number and accession_number == self.accession_number)
        )


def haste_of(priority: str) -> Priority | None:
    """Give the class like which a study of a priority is due; ``None`` for the usual course."""
    return HASTE.get(priority.upper())


def is_cancelled(said: InboundOrder) -> bool:
    """Say whether a message cancels an order, or tells that it was cancelled."""
    return said.action is OrderAction.CANCEL or (
        said.action is OrderAction.STATUS and said.status in _CANCELLED
    )


def known_order(
    orders: Iterable[Order], sender: tuple[str, str], said: InboundOrder
) -> Order | None:
    """Find the order that a message is about: the earliest with its placer's number, and so on."""
    own = [each for each in orders if each.sender == sender]
    placer, filler = said.placer_number.value, said.filler_number.value
    by_placer = [each for each in own if placer and each.placer_number == placer]
    by_filler = [each for each in own if filler and each.filler_number == filler]
    alone = [
        each
        for each in own
        if not (placer or filler or each.placer_number or each.filler_number)
        and each.accession_number == said.accession_number
    ]
    return next(iter([*by_placer, *by_filler, *alone]), None)


def ordered(
    known: Order | None, said: InboundOrder, *, sender: tuple[str, str], at: datetime
) -> Order:
    """Give an order as it stands after a message.

    A new order and a change say how urgent it is. What only tells its status may raise that, never
    lower it, and opens nothing that was cancelled. What a message leaves out stays.

    Parameters
    ----------
    known
        As it stood before; ``None`` for one that was not known.
    said
        What the message says.
    sender
        Who says so.
    at
        When that came.
    """
    cancels = is_cancelled(said)
    asks = said.action in {OrderAction.NEW, OrderAction.CHANGE}
    before = known or _unknown(said, sender, at)
    order = replace(
        before,
        placer_number=said.placer_number.value or before.placer_number,
        filler_number=said.filler_number.value or before.filler_number,
        accession_number=_accession_number(before, said),
        study_instance_uid=said.study_instance_uid or before.study_instance_uid,
        procedure=said.procedure if said.procedure.code else before.procedure,
        modality=said.modality or before.modality,
        patient=_pair(said),
        cancelled=cancels or (before.cancelled and not asks),
    )
    raises = _step(said.priority) > _step(before.priority)
    return replace(
        order,
        priority=said.priority if said.priority and (asks or raises) else before.priority,
        since=at if raises or (before.cancelled and asks) else before.since,
    )


def _accession_number(before: Order, said: InboundOrder) -> str:
    """Give the accession number; a filler's number stands in where a message has no other."""
    stands_in = said.accession_number in {"", said.filler_number.value}
    return (
        before.accession_number if stands_in and before.accession_number else said.accession_number
    )


def _unknown(said: InboundOrder, sender: tuple[str, str], at: datetime) -> Order:
    return Order(
        sender=sender,
        placer_number="",
        filler_number="",
        accession_number="",
        study_instance_uid="",
        procedure=said.procedure,
        modality="",
        priority="",
        since=at,
        patient=_pair(said),
    )


def _pair(said: InboundOrder) -> tuple[str, str]:
    first = said.patient.identifiers[0]
    return next(iter(first.authorities), ""), first.value


def _step(priority: str) -> int:
    return _STEPS.index(haste_of(priority))
