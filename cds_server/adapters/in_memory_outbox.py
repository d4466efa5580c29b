"""Every delivery in memory, for tests and development."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cds_server.errors import ResultNotFound
from cds_server.outbox import Backlog, Delivery, DeliveryState, Pause, Publication
from cds_server.ports import AuditTrail

_WAITING = DeliveryState.WAITING
_Key = tuple[str, str]


@dataclass
class InMemoryOutbox:
    """An outbox whose audit leaves go to the given trail."""

    trail: AuditTrail
    kept: dict[_Key, Delivery] = field(default_factory=dict)
    turns: dict[_Key, int] = field(default_factory=dict)
    messages: dict[_Key, bytes] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)

    def add(
        self,
        publication: Publication,
        destinations: Sequence[str],
        *,
        audit_events: Sequence[bytes] = (),
    ) -> None:
        """Add one delivery per destination."""
        self.trail.record(audit_events)
        for name in destinations:
            key = (publication.publication_id, name)
            self.kept.setdefault(key, Delivery(publication, name, len(self.kept) + 1))

    def delivery(self, publication_id: str, destination: str) -> Delivery:
        """Give one delivery.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        if (publication_id, destination) not in self.kept:
            msg = "there is no such delivery"
            raise ResultNotFound(msg)
        return self.kept[publication_id, destination]

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
        found = [
            each
            for each in self.kept.values()
            if each.state in states
            and each.sequence > after
            and result_id in {None, each.publication.result_id}
            and destination in {None, each.destination}
            and order_key in {None, each.publication.order_key}
        ]
        parked = DeliveryState.PARKED
        return sorted(found, key=lambda each: (each.state is not parked, each.sequence))[:limit]

    def troubled(self, *, limit: int) -> Sequence[Delivery]:
        """Give the deliveries whose latest attempt failed."""
        states = frozenset({DeliveryState.PARKED, _WAITING})
        return [each for each in self.deliveries(states=states) if each.says][:limit]

    def ahead(self, delivery: Delivery) -> Delivery | None:
        """Give the earliest delivery that waits and has to arrive before this one."""
        return next(
            (
                each
                for each in self._beside(delivery)
                if each.state is _WAITING
                and _go_in_order(each.publication, delivery.publication)
                and each.sequence < delivery.sequence
            ),
            None,
        )

    def overtaken(self, delivery: Delivery) -> bool:
        """Say whether the same result later, or a later result of the study, arrived."""
        this = delivery.publication
        older = {
            each.publication.result_id
            for each in self.kept.values()
            if each.sequence < delivery.sequence
        } - {this.result_id}
        return any(
            each.state is DeliveryState.DELIVERED
            and each.publication.study_instance_uid == this.study_instance_uid
            and each.publication.result_id not in older
            and each.sequence > delivery.sequence
            for each in self._beside(delivery)
        )

    def message(self, publication_id: str, destination: str) -> bytes | None:
        """Give the message of a delivery."""
        return self.messages.get((publication_id, destination))

    def keep_message(self, publication_id: str, destination: str, message: bytes) -> bytes:
        """Keep a message; the first one stands."""
        self._put(replace(self.delivery(publication_id, destination), composed=True))
        return self.messages.setdefault((publication_id, destination), message)

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
        settled = self.delivery(publication_id, destination)
        self._put(replace(settled, state=state, says=says, since=at, due=None))

    def fail(self, failed: Delivery) -> None:
        """Note a failed attempt."""
        if self.delivery(failed.publication_id, failed.destination).state is _WAITING:
            self._put(failed)

    def again(
        self, publication_id: str, destination: str, *, audit_events: Sequence[bytes]
    ) -> bool:
        """Let a settled delivery wait once more."""
        found = self.kept.get((publication_id, destination))
        if found is None or found.state is _WAITING:
            return False
        self.trail.record(audit_events)
        self._put(replace(found, state=_WAITING, turn=found.turn + 1, strikes=0, due=None))
        return True

    def unqueued(self, destinations: Sequence[str]) -> Sequence[Delivery]:
        """Give what waits for these and was not handed to their queues yet."""
        return [
            each
            for key, each in self.kept.items()
            if each.state is _WAITING
            and each.destination in destinations
            and self.turns.get(key, 0) < each.turn
        ][:1000]

    def queued(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these turns were handed to their queues."""
        for each in deliveries:
            self.turns[each.publication_id, each.destination] = each.turn

    def backlogs(self) -> Mapping[str, Backlog]:
        """Say what waits for each destination."""
        found = {}
        for name in sorted({each.destination for each in self.kept.values()}):
            own = self.deliveries(destination=name)
            waiting = [each.publication.created for each in own if each.state is _WAITING]
            found[name] = Backlog(
                len(waiting),
                sum(each.state is DeliveryState.PARKED for each in own),
                sum(each.state is DeliveryState.DELIVERED for each in own),
                min(waiting, default=None),
            )
        return found

    def pause(self, destination: str, pause: Pause, *, audit_events: Sequence[bytes]) -> bool:
        """Send nothing there until resumed."""
        if destination in self.pauses:
            return False
        self.trail.record(audit_events)
        self.pauses[destination] = pause
        return True

    def resume(self, destination: str, *, audit_events: Sequence[bytes]) -> bool:
        """Send there again."""
        if destination not in self.pauses:
            return False
        self.trail.record(audit_events)
        del self.pauses[destination]
        return True

    def paused(self) -> Mapping[str, Pause]:
        """Give every destination that is paused."""
        return dict(self.pauses)

    def _beside(self, delivery: Delivery) -> Iterator[Delivery]:
        own = (each for each in self.kept.values() if each.destination == delivery.destination)
        return iter(sorted(own, key=lambda each: each.sequence))

    def _put(self, delivery: Delivery) -> None:
        self.kept[delivery.publication_id, delivery.destination] = delivery


def _go_in_order(one: Publication, other: Publication) -> bool:
    return one.order_key == other.order_key or one.study_instance_uid == other.study_instance_uid
