"""Noticing studies: by asking the archive for its list, and by events that it sends.

The list is asked for in overlapping windows: each time for the last hours, and for all the days
that are watched as often as that takes a small part of the time. What was seen is kept in the
database, so that a restart neither misses nor repeats. Events go the same way, only faster.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cds_server.arrivals import ArrivalStore, Arrived, Listed
from cds_server.errors import ArchiveUnreachable, AuditUnavailable, CdsServerError
from cds_server.imaging import Arrival, ImageArchive
from cds_server.operations import Operations
from cds_server.ports import Clock

ARCHIVE, STUDIES = "archive", "studies"
_RECENT = timedelta(hours=2)
_SWEEPS_REST = 20
_OVERLAP = timedelta(hours=1)
_AGAIN_AFTER = timedelta(seconds=30)
_ARCHIVE_AWAY, _LONGEST_AWAY = timedelta(seconds=5), timedelta(minutes=1)
_AT_ONCE = frozenset({"CR", "DX"})

Look = Callable[[Arrived], timedelta | None]
"""Looks at a study; gives after which time to look again, where it is too early."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Which studies are noticed, and when.

    Parameters
    ----------
    days
        How far back study dates are watched; ``None`` is without end.
    modalities
        Studies that hold none of these are passed over; empty means all are noticed.
    settle
        How long a study is to be quiet before it is looked at. Radiographs never wait.
    """

    days: float | None = None
    modalities: frozenset[str] = frozenset()
    settle: timedelta = timedelta(0)

    def due(self, modalities: frozenset[str], now: datetime) -> datetime:
        """Say when a study of these modalities is to be looked at."""
        return now if modalities & _AT_ONCE else now + self.settle

    def passes_over(self, arrival: Arrival) -> bool:
        """Say whether a study is of no interest; one of unknown modality never is."""
        found = frozenset(arrival.modalities)
        return bool(self.modalities and found and not found & self.modalities)


class Watch:
    """Watches one archive.

    Parameters
    ----------
    archive
        The archive.
    arrivals
        What was seen, across restarts.
    look
        What happens with a study that is due.
    operations
        Told whether the archive answers.
    clock
        What time it is.
    watched
        Which studies are noticed.
    model_sha256
        Of the model that reads. What another one has read is due again.
    monotonic
        Measures how long a list takes, in seconds.
    """

    def __init__(  # noqa: PLR0913 - every collaborator of the watch, by name
        self,
        archive: ImageArchive,
        *,
        arrivals: ArrivalStore,
        look: Look,
        operations: Operations,
        clock: Clock,
        watched: Watched,
        model_sha256: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._archive = archive
        self._arrivals = arrivals
        self._look = look
        self._operations = operations
        self._clock = clock
        self._watched = watched
        self._model_sha256 = model_sha256
        self._failures: Counter[str] = Counter()
        self._monotonic = monotonic
        self._damaged: dict[str, str] = {}
        self._sweeps_at_s = self._rests_until_s = -math.inf

    def renew(self) -> int:
        """Make due again what another model has read within the days that are watched."""
        return self._arrivals.renew(self._model_sha256, self._earliest() or _FIRST)

    def ask(self) -> None:
        """Ask the archive for its list and note what is new or changed.

        Raises
        ------
        ArchiveUnreachable
            If it does not answer; operations have been told.
        AuditUnavailable
            If that, or what is new, cannot be kept.
        """
        now = self._clock.now()
        started_s = self._monotonic()
        sweeps = started_s >= self._sweeps_at_s
        try:
            listed = self._archive.arrivals(since=self._since(now, sweeps=sweeps))
        except ArchiveUnreachable as error:
            self._operations.note(ARCHIVE, str(error))
            raise
        self._operations.note(ARCHIVE)
        self._rests_until_s = -math.inf
        self._arrivals.listed(
            [
                Listed(
                    each.study_instance_uid,
                    each.number_of_instances,
                    due=self._watched.due(frozenset(each.modalities), now),
                    again=now + _AGAIN_AFTER,
                )
                for each in listed
                if not self._watched.passes_over(each)
            ]
        )
        if sweeps:
            ended_s = self._monotonic()
            self._sweeps_at_s = ended_s + _SWEEPS_REST * (ended_s - started_s)
            if (earliest := self._earliest()) is not None:
                self._arrivals.forget(earliest - _OVERLAP)

    def look(self) -> int:
        """Look at some of the studies that are due; give how many were.

        When the archive does not answer, the others wait: until it has listed its studies, or for
        some seconds, only studies that were never looked at are taken.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept.
        """
        rests = self._monotonic() < self._rests_until_s
        due = self._arrivals.due(self._clock.now(), only_new=rests)
        for arrived in due:
            if not self._look_at(arrived):
                break
        if due:
            self._operations.note(STUDIES, self._trouble())
        return len(due)

    def _look_at(self, arrived: Arrived) -> bool:
        """Look at one study; ``False`` if the archive does not answer.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept.
        """
        try:
            wait = self._look(arrived)
        except ArchiveUnreachable as error:
            self._operations.note(ARCHIVE, str(error))
            self._rests_until_s = self._monotonic() + _ARCHIVE_AWAY.total_seconds()
            self._postpone(arrived, self._backing_off(arrived))
            return False
        except AuditUnavailable:
            raise
        except CdsServerError as error:
            self._damaged[arrived.study_instance_uid] = type(error).__name__
            self._postpone(arrived, _LONGEST_AWAY)
            return True
        self._failures.pop(arrived.study_instance_uid, None)
        self._damaged.pop(arrived.study_instance_uid, None)
        if wait is None:
            self._arrivals.looked(arrived, self._model_sha256)
        else:
            self._postpone(arrived, wait)
        return True

    def _postpone(self, arrived: Arrived, wait: timedelta) -> None:
        self._arrivals.postpone(arrived, self._clock.now() + wait)

    def _trouble(self) -> str:
        """Say how many studies cannot be looked at, in words that name none: an error might."""
        if not self._damaged:
            return ""
        kinds = ", ".join(sorted(set(self._damaged.values())))
        return f"{len(self._damaged)} cannot be looked at ({kinds}); tried again every minute"

    def _backing_off(self, arrived: Arrived) -> timedelta:
        """Give a wait that grows for a study at which the archive fails again and again."""
        uid = arrived.study_instance_uid
        self._failures[uid] += 1
        doubled: int = 1 << min(self._failures[uid] - 1, 6)
        return min(_ARCHIVE_AWAY * doubled, _LONGEST_AWAY)

    def _since(self, now: datetime, *, sweeps: bool) -> datetime | None:
        earliest = self._earliest()
        if sweeps:
            return earliest
        return now - _RECENT if earliest is None else max(earliest, now - _RECENT)

    def _earliest(self) -> datetime | None:
        days = self._watched.days
        return None if days is None else self._clock.now() - timedelta(days=days)


_FIRST = datetime.fromisoformat("1970-01-02T00:00:00+00:00")
