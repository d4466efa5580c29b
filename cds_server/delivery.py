"""One attempt to deliver: in order, recorded first, and never the end of it when it fails.

What fails because of the message is tried again ever more seldom, then parked for a person. What
fails because the receiver is away keeps everything for that receiver back, until one of the
deliveries gets through as a probe. Neither keeps any other receiver waiting.
"""

import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cds_server.amendments import AmendmentStore, amended
from cds_server.errors import (
    ArchiveUnreachable,
    DeliveryFailed,
    DeliveryRefused,
    DestinationUnavailable,
)
from cds_server.outbox import Delivery, DeliveryState, Outbox
from cds_server.ports import (
    AnyDestination,
    AuditTrail,
    Clock,
    ReportFeed,
    ResultStore,
    StoredResult,
)
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_context import DisplayMode, ReportSet, Site

_ACTOR = "radcds"
_LONGEST_HOLD_S = 3600.0
_READY = 7


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on with a delivery that fails.

    Parameters
    ----------
    waits_s
        Seconds before the second, third… attempt; the last one counts for all that follow.
    strikes
        After how many failures of its own a delivery is parked.
    hold_s
        Seconds for which a receiver that is away is left alone, likewise.
    outages_count
        Whether a receiver that is away counts as a failure of the delivery too.
    turn_s
        Seconds before a delivery looks again whether it is its turn.
    """

    waits_s: Sequence[float] = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 60.0, 60.0, 300.0)
    strikes: int = 30
    hold_s: Sequence[float] = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
    outages_count: bool = False
    turn_s: float = 1.0


@dataclass(slots=True)
class _Hold:
    """A receiver that is away: until when it is left alone, and how often it was asked in vain."""

    until_s: float = 0.0
    failures: int = 0
    arrived: int = 0


@dataclass
class _Holds:
    """Every receiver, as this process knows it. Threads may share it."""

    patience: Patience
    jitter: random.Random
    elapsed_s: Callable[[], float]
    holds: dict[str, _Hold] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def remaining_s(self, name: str) -> float:
        with self.lock:
            return max(0.0, self.holds.setdefault(name, _Hold()).until_s - self.elapsed_s())

    def away(self, name: str, retry_after_s: float | None) -> float:
        """Leave a receiver alone for a while, and say for how long."""
        with self.lock:
            hold = self.holds.setdefault(name, _Hold())
            wait_s = _nth(self.patience.hold_s, hold.failures) * self.jitter.uniform(0.75, 1.25)
            wait_s = min(max(wait_s, retry_after_s or 0.0), _LONGEST_HOLD_S)
            hold.failures += 1
            hold.until_s = max(hold.until_s, self.elapsed_s() + wait_s)
            return wait_s

    def answered(self, name: str, *, arrived: bool) -> None:
        with self.lock:
            hold = self.holds.setdefault(name, _Hold())
            hold.failures, hold.until_s = 0, 0.0
            hold.arrived += arrived

    def failing(self, name: str) -> bool:
        with self.lock:
            return self.holds.setdefault(name, _Hold()).failures > 0

    def arrived(self, name: str) -> int:
        """Say how many deliveries a receiver took."""
        with self.lock:
            return self.holds.setdefault(name, _Hold()).arrived


_NOBODY_ELSE = contextlib.nullcontext()


class Courier:
    """Delivers publications, one attempt at a time.

    Parameters
    ----------
    outbox
        What is to go where.
    store, amendments
        Where results are kept, and what changed them afterwards.
    trail
        Nothing is handed over unless it has recorded it.
    destinations
        Everyone who gets results.
    site, clock
        Whose server this is, and what time it is.
    patience
        With what fails.
    note
        Told how a destination is, by the name of the part and the trouble; empty where it works.
    jitter, elapsed_s
        Randomness of waits, and a clock that only goes forward.
    """

    def __init__(  # noqa: PLR0913 - every collaborator, by name
        self,
        *,
        outbox: Outbox,
        store: ResultStore,
        amendments: AmendmentStore,
        trail: AuditTrail,
        destinations: Sequence[AnyDestination],
        site: Site,
        clock: Clock,
        patience: Patience,
        note: Callable[[str, str], object] = lambda *_: None,
        jitter: random.Random | None = None,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._amendments = amendments
        self._trail = trail
        self._destinations = {each.name: each for each in destinations}
        self._site = site
        self._clock = clock
        self._patience = patience
        self._note = note
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._holds = _Holds(patience, self._jitter, elapsed_s)
        self._turns = {each.name: threading.Semaphore(each.at_once) for each in destinations}
        self._seen_arrived: dict[tuple[str, str], int] = {}

    @property
    def destinations(self) -> Mapping[str, AnyDestination]:
        """Everyone who gets results, by name."""
        return self._destinations

    def places(self) -> Mapping[str, int]:
        """Say how many deliveries to each destination may be in hand now.

        None where it is paused or left alone; one, as a probe, where the last attempt was in vain;
        else some more than are handed over at once, so that the next is ready.
        """
        paused = self._outbox.paused()
        return {
            name: 0
            if name in paused or self._holds.remaining_s(name)
            else 1
            if self._holds.failing(name)
            else destination.at_once + _READY
            for name, destination in self._destinations.items()
        }

    def attempt(self, publication_id: str, destination: str, turn: int = 1) -> float | None:
        """Try to deliver; give the seconds after which to try again, ``None`` where it is settled.

        Raises
        ------
        AuditUnavailable
            If the audit trail refuses: then nothing was handed over.
        """
        with self._turns.get(destination, _NOBODY_ELSE):
            return self._attempted(publication_id, destination, turn)

    def _attempted(self, publication_id: str, destination: str, turn: int) -> float | None:
        delivery = self._outbox.delivery(publication_id, destination)
        if delivery.state is not DeliveryState.WAITING or delivery.turn != turn:
            return None
        if (wait_s := self._not_yet_s(delivery)) > 0:
            return wait_s
        if self._outbox.overtaken(delivery):
            self._settle(
                delivery, DeliveryState.SUPERSEDED, "A later result of the study is there already."
            )
            return None
        return self._tried(delivery)

    def _not_yet_s(self, delivery: Delivery) -> float:
        """Say for how long a delivery has to wait for others, or for its own next attempt."""
        if delivery.destination in self._outbox.paused():
            return self._patience.turn_s
        if held_s := self._holds.remaining_s(delivery.destination):
            return held_s
        if (early_s := self._until_s(delivery.due)) > 0:
            return early_s
        ahead = self._outbox.ahead(delivery)
        return max(self._patience.turn_s, self._until_s(ahead.due)) if ahead else 0.0

    def _until_s(self, due: datetime | None) -> float:
        return (due - self._clock.now()).total_seconds() if due else 0.0

    def _tried(self, delivery: Delivery) -> float | None:
        name = delivery.destination
        try:
            self._hand_over(delivery)
        except DeliveryRefused as error:
            self._holds.answered(name, arrived=False)
            self._park(delivery, str(error))
            return None
        except DestinationUnavailable as error:
            return self._away(delivery, error)
        except DeliveryFailed as error:
            self._holds.answered(name, arrived=False)
            return self._struck(delivery, str(error))
        self._holds.answered(name, arrived=True)
        self._settle(delivery, DeliveryState.DELIVERED)
        self._note(f"destination {name}", "")
        return None

    def _hand_over(self, delivery: Delivery) -> None:
        """Record the disclosure, then deliver the stored bytes.

        Raises
        ------
        DeliveryRefused
            If there is nothing that may leave.
        DestinationUnavailable
            If the receiver is away.
        DeliveryFailed
            If the receiver did not accept it.
        """
        destination = self._destinations.get(delivery.destination)
        if destination is None:
            msg = "this destination is not configured any more"
            raise DeliveryRefused(msg)
        result = self._store.entry(delivery.publication.result_id).result
        if result is None:
            msg = "it is queued for delivery but not stored"
            raise DeliveryRefused(msg)
        if amendment := self._amendments.amendment(delivery.publication_id):
            history = self._amendments.amendments(delivery.publication.result_id)
            result = amended(result, history, amendment.number)
        artefacts = self._store.artefacts(delivery.publication_id)
        self._check_may_leave(artefacts)
        with _plain_failures():
            if isinstance(destination, ReportFeed):
                message = self._message(delivery, destination, result, artefacts)
                self._record(delivery, sha256=hashlib.sha256(message).hexdigest())
                destination.send(message)
            else:
                self._record(delivery)
                destination.deliver(result, artefacts)

    def _message(
        self, delivery: Delivery, feed: ReportFeed, result: StoredResult, artefacts: ReportSet
    ) -> bytes:
        """Give the message of a delivery: composed once, then always the same bytes."""
        key = (delivery.publication_id, delivery.destination)
        kept = self._outbox.message(*key)
        if kept is None:
            kept = self._outbox.keep_message(*key, feed.compose(result, artefacts))
        return kept

    def _check_may_leave(self, artefacts: ReportSet) -> None:
        """Let no location leave a site that has become ``triage_only`` since it was drawn.

        Raises
        ------
        DeliveryRefused
            If there is one.
        """
        if self._site.display_mode is DisplayMode.TRIAGE_ONLY and artefacts.overlay_png:
            msg = "it was made while this site showed overlays, and the site is triage only now"
            raise DeliveryRefused(msg)

    # ── What fails ───────────────────────────────────────────────────────────────────────────────

    def _away(self, delivery: Delivery, error: DestinationUnavailable) -> float | None:
        """Leave the receiver alone; count it against a delivery while others got through.

        The next one to try is another, if there is any: this one may be what breaks the receiver.
        """
        name, key = delivery.destination, (delivery.publication_id, delivery.destination)
        arrived = self._holds.arrived(name)
        others_arrive = self._seen_arrived.get(key, arrived) < arrived
        self._seen_arrived[key] = arrived
        wait_s = self._holds.away(name, error.retry_after_s) + self._patience.turn_s
        self._note(f"destination {name}", str(error))
        if others_arrive or self._patience.outages_count:
            return self._struck(delivery, str(error))
        self._failed(delivery, str(error), delivery.strikes, wait_s)
        return wait_s

    def _struck(self, delivery: Delivery, says: str) -> float | None:
        strikes = delivery.strikes + 1
        if strikes > self._patience.strikes:
            self._park(delivery, says)
            return None
        wait_s = _nth(self._patience.waits_s, strikes - 1) * self._jitter.uniform(0.75, 1.25)
        self._failed(delivery, says, strikes, wait_s)
        return wait_s

    def _failed(self, delivery: Delivery, says: str, strikes: int, wait_s: float) -> None:
        now = self._clock.now()
        due = now + timedelta(seconds=wait_s)
        self._record(delivery, failure=says)
        self._outbox.fail(replace(delivery, says=says, strikes=strikes, since=now, due=due))

    def _park(self, delivery: Delivery, says: str) -> None:
        self._record(delivery, failure=says)
        self._settle(delivery, DeliveryState.PARKED, says)

    def _settle(self, delivery: Delivery, state: DeliveryState, says: str = "") -> None:
        self._seen_arrived.pop((delivery.publication_id, delivery.destination), None)
        self._outbox.settle(
            delivery.publication_id, delivery.destination, state, says=says, at=self._clock.now()
        )

    def _record(self, delivery: Delivery, *, sha256: str = "", failure: str = "") -> None:
        detail = {"destination": delivery.destination}
        fact = AuditFact(
            kind=AuditKind.DELIVER,
            recorded=self._clock.now(),
            user=_ACTOR,
            address=self._site.base_url,
            study_instance_uid=delivery.publication.study_instance_uid,
            result_id=delivery.publication.result_id,
            outcome_code="8" if failure else "0",
            outcome_text=failure,
            detail=detail | ({"message-sha256": sha256} if sha256 else {}),
        )
        self._trail.record([audit_event(fact, self._site)])


@contextmanager
def _plain_failures() -> Iterator[None]:
    """Say of an archive that is away what is said of every destination that is.

    Raises
    ------
    DestinationUnavailable
        Instead of ``ArchiveUnreachable``.
    """
    try:
        yield
    except ArchiveUnreachable as error:
        raise DestinationUnavailable(str(error)) from error


def _nth(values: Sequence[float], number: int) -> float:
    return values[min(number, len(values) - 1)]
