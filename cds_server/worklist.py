"""The order in which studies are read. Pure: the rule that a radiology lead signs.

Every study has a deadline: the time it was noticed plus the target of its class. The worklist is
ordered by what is left of that time, then by priority. An urgent study stands above what arrived
with it, and nothing waits for ever below a stream of urgent ones. Time passes for all alike, so
the order by "deadline minus now" is the order by deadline. Whoever ordered a study may bring its
deadline forward, never put it off.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ai_engine.result import NotAnalysed, Priority
from cds_server.network import Network
from cds_server.order_book import Order
from cds_server.ports import StoredResult, StudyEntry


@dataclass(frozen=True, slots=True)
class Targets:
    """Minutes from noticing a study to reading it, by class.

    What the AI did not analyse comes before what it found nothing in: nobody has looked at all.
    What still waits for the AI, or was read in shadow, is read as usual: the routine target.
    """

    urgent_min: float = 60.0
    flagged_min: float = 240.0
    not_analysed_min: float = 720.0
    routine_min: float = 1440.0

    def due(
        self, noticed_at: datetime, stored: StoredResult | None, orders: Iterable[Order] = ()
    ) -> datetime:
        """Give the deadline of a study.

        Where an order asks for haste, the study is due like one of that class, from the time of the
        order, or from when the study was noticed if that is later; unless it is due earlier.
        """
        outcome = stored.outcome if stored and not stored.shadow else None
        if isinstance(outcome, NotAnalysed):
            minutes = self.not_analysed_min
        else:
            minutes = self._minutes(outcome.priority if outcome else None)
        hastened = (
            max(noticed_at, order.since) + timedelta(minutes=self._minutes(order.haste))
            for order in orders
            if order.haste
        )
        return min([noticed_at + timedelta(minutes=minutes), *hastened])

    def _minutes(self, priority: Priority | None) -> float:
        of_priority = {Priority.URGENT: self.urgent_min, Priority.FLAGGED: self.flagged_min}
        return of_priority.get(priority, self.routine_min) if priority else self.routine_min


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a study belongs: whose it is, and when it is due."""

    network: Network = field(default_factory=Network)
    targets: Targets = field(default_factory=Targets)

    def centre(self, stored: StoredResult | None) -> str:
        """Give the id of the centre of a study; empty where none claims it, or it is not read."""
        return self.network.centre_of(stored.study.institution) if stored else ""

    def due(
        self, noticed_at: datetime, stored: StoredResult | None, orders: Iterable[Order] = ()
    ) -> datetime:
        """Give the deadline of a study, with the orders that it has."""
        return self.targets.due(noticed_at, stored, orders)


class Show(StrEnum):
    """Which studies a worklist shows."""

    OPEN = "open"
    REVIEWED = "reviewed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """What a reader asks for.

    Parameters
    ----------
    centres
        Ids of the centres; empty means all. A study that no centre claims, or that is not read
        yet, is shown to those who see all centres; what is not read yet, to everyone.
    show
        Open, reviewed or all. A superseded result is only shown with all.
    ranks
        Classes by ``StudyEntry.rank``; empty means all.
    limit
        At most so many lines.
    due_after
        Leaves out what was due before, so that what nobody ever marked as read does not bury what
        came today; ``None`` leaves nothing out.
    """

    centres: frozenset[str] = frozenset()
    show: Show = Show.OPEN
    ranks: frozenset[int] = frozenset()
    limit: int = 200
    due_after: datetime | None = None

    def admits(self, entry: StudyEntry) -> bool:
        """Say whether a line belongs to the answer."""
        if self.centres and entry.result is not None and entry.centre not in self.centres:
            return False
        if self.ranks and entry.rank not in self.ranks:
            return False
        if self.due_after is not None and entry.due < self.due_after:
            return False
        if self.show is Show.ALL:
            return True
        return not entry.superseded and (entry.closed_at is None) is (self.show is Show.OPEN)


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """What a reader gets.

    Parameters
    ----------
    entries
        In the order of reading.
    more
        How many further ones there are.
    counts
        Lines by ``StudyEntry.rank``, those not shown included.
    """

    entries: Sequence[StudyEntry]
    more: int
    counts: Mapping[int, int]


def in_order(query: WorklistQuery, entries: Iterable[StudyEntry]) -> list[StudyEntry]:
    """Sort the lines of a worklist: what is due first; of what was read, the latest first."""
    return sorted(entries, key=order, reverse=query.show is not Show.OPEN)


def order(entry: StudyEntry) -> tuple[datetime, int, str]:
    """Give the place of a line: what is due first, then by priority."""
    return entry.due, entry.rank, entry.result_id


class Worklist(Protocol):
    """A result store asked for the studies that wait for a person."""

    def worklist(self, query: WorklistQuery) -> WorklistPage:
        """Give the lines of a worklist in the order of reading."""
        ...
