"""What is to go where, in which order, and what became of it.

::

              ┌──────────────── later: the receiver cannot take it now ───────────────┐
              ▼                                                                       │
    add ─► WAITING ─► DELIVERED      acknowledged                                     │
              ├─────────────────────────────────────────────────────────────────────-─┘
              ├──► PARKED            will never be taken, or failed too often: a person looks at it
              └──► SUPERSEDED        what came later of its result, or a later result, is there

Deliveries of the same study, or of the same accession number, go to a destination in the order in
which they were added.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    PARKED = "parked"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Publication:
    """What is published of a result at one time: the result itself, its sign-off, its recall.

    Parameters
    ----------
    publication_id
        Of the result itself, its own id; else derived from it.
    result_id, study_instance_uid
        What it is about.
    order_key
        Opaque; publications with the same one arrive in order: those of one accession number.
    created
        When it was published.
    """

    publication_id: str
    result_id: str
    study_instance_uid: str
    order_key: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One publication on its way to one destination.

    Parameters
    ----------
    publication, destination
        What goes where.
    sequence
        Its place among all deliveries, from 1.
    state
        Where it stands.
    turn
        1, and one more each time a person asks for it again.
    strikes
        How many attempts of this turn failed for a reason of its own.
    says
        Why the latest attempt failed, in words without patient data; empty where none did.
    since
        When that was.
    due
        When the next attempt is made; ``None`` where that is at once, or never.
    composed
        Whether a message was composed for it.
    """

    publication: Publication
    destination: str
    sequence: int
    state: DeliveryState = DeliveryState.WAITING
    turn: int = 1
    strikes: int = 0
    says: str = ""
    since: datetime | None = None
    due: datetime | None = None
    composed: bool = False

    @property
    def publication_id(self) -> str:
        """Id of what goes there."""
        return self.publication.publication_id


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one destination.

    Parameters
    ----------
    waiting, parked, delivered
        How many deliveries stand so.
    oldest
        Since when the oldest of those waiting does, or ``None``.
    """

    waiting: int = 0
    parked: int = 0
    delivered: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A destination to which nothing is sent, because a person said so."""

    by: str
    since: datetime


def order_key(accession_issuer: str, accession_number: str, study_instance_uid: str) -> str:
    """Give what publications of one accession number share, and no others: opaque, a UUID."""
    ordered_by = (
        f"{accession_issuer}|{accession_number}" if accession_number else study_instance_uid
    )
    return str(uuid.uuid5(uuid.UUID(int=0), ordered_by))


class Outbox(Protocol):
    """Durable record of every delivery. Processes may share it.

    Whatever writes raises ``AuditUnavailable`` where that cannot be made durable.
    """

    def add(
        self,
        publication: Publication,
        destinations: Sequence[str],
        *,
        audit_events: Sequence[bytes] = (),
    ) -> None:
        """Add one delivery per destination, with audit events; those that are there stay."""
        ...

    def delivery(self, publication_id: str, destination: str) -> Delivery:
        """Give one delivery.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        ...

    def deliveries(
        self,
        *,
        result_id: str | None = None,
        destination: str | None = None,
        order_key: str | None = None,
        states: frozenset[DeliveryState] = frozenset(DeliveryState),
        after: int = 0,
        limit: int = 1000,
    ) -> Sequence[Delivery]:
        """Give deliveries whose place is after one, the oldest first; parked ones before others."""
        ...

    def troubled(self, *, limit: int) -> Sequence[Delivery]:
        """Give the deliveries whose latest attempt failed: parked ones first, then by age."""
        ...

    def ahead(self, delivery: Delivery) -> Delivery | None:
        """Give the earliest delivery that waits and has to arrive before this one.

        That is one of the same study, or of the same order key.
        """
        ...

    def overtaken(self, delivery: Delivery) -> bool:
        """Say whether what came later made this delivery pointless at its destination.

        A later publication of the same result did, and any of a later result of the same study,
        once it arrived there. What is said later of an older result never does.
        """
        ...

    def message(self, publication_id: str, destination: str) -> bytes | None:
        """Give the message that was composed for a delivery, byte for byte, if one was."""
        ...

    def keep_message(self, publication_id: str, destination: str, message: bytes) -> bytes:
        """Keep a message for every attempt there will be, and give it; the first one stands."""
        ...

    def settle(
        self,
        publication_id: str,
        destination: str,
        state: DeliveryState,
        *,
        says: str = "",
        at: datetime,
    ) -> None:
        """Note what became of a delivery."""
        ...

    def fail(self, failed: Delivery) -> None:
        """Note a failed attempt: ``strikes``, ``says``, ``since`` and ``due`` of the delivery."""
        ...

    def again(
        self, publication_id: str, destination: str, *, audit_events: Sequence[bytes]
    ) -> bool:
        """Let a settled delivery wait once more, with its message; ``False`` if it waits."""
        ...

    def unqueued(self, destinations: Sequence[str]) -> Sequence[Delivery]:
        """Give what waits for these and was not handed to their queues yet, the oldest first."""
        ...

    def queued(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these turns were handed to their queues."""
        ...

    def backlogs(self) -> Mapping[str, Backlog]:
        """Say what waits for each destination that ever had a delivery."""
        ...

    def pause(self, destination: str, pause: Pause, *, audit_events: Sequence[bytes]) -> bool:
        """Send nothing there until resumed; ``False`` if that is so already."""
        ...

    def resume(self, destination: str, *, audit_events: Sequence[bytes]) -> bool:
        """Send there again; ``False`` if that was so."""
        ...

    def paused(self) -> Mapping[str, Pause]:
        """Give every destination that is paused."""
        ...


def every_parked(
    outbox: Outbox, destination: str | None = None, *, at_once: int = 1000
) -> Iterator[Delivery]:
    """Give all deliveries that are parked, each once, even if it is parked again meanwhile."""
    after = 0
    parked = frozenset({DeliveryState.PARKED})
    while found := outbox.deliveries(
        destination=destination, states=parked, after=after, limit=at_once
    ):
        yield from found
        after = found[-1].sequence
