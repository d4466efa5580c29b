"""Noticing studies: by asking the archive for its list, and by events that it sends.

The list is asked for in overlapping windows: often for the last hours, now and then for all the
days that are watched. What was seen is kept in the database, so that a restart neither misses nor
repeats. Events go the same way, only faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cds_server.arrivals import ArrivalStore, Arrived
from cds_server.errors import ArchiveUnreachable
from cds_server.imaging import Arrival, ImageArchive
from cds_server.operations import Operations
from cds_server.ports import Clock

ARCHIVE = "archive"
_RECENT = timedelta(hours=2)
_SWEEP_EVERY = timedelta(minutes=10)
_AGAIN_AFTER = timedelta(seconds=30)
_ARCHIVE_AWAY = timedelta(seconds=5)
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
    ) -> None:
        self._archive = archive
        self._arrivals = arrivals
        self._look = look
        self._operations = operations
        self._clock = clock
        self._watched = watched
        self._model_sha256 = model_sha256
        self._swept_at: datetime | None = None

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
        sweeps = self._swept_at is None or now - self._swept_at >= _SWEEP_EVERY
        try:
            listed = self._archive.arrivals(since=self._since(now, sweeps=sweeps))
        except ArchiveUnreachable as error:
            self._operations.note(ARCHIVE, str(error))
            raise
        self._operations.note(ARCHIVE)
        for arrival in listed:
            if not self._watched.passes_over(arrival):
                self._arrivals.listed(
                    arrival.study_instance_uid,
                    arrival.number_of_instances,
                    due=self._watched.due(frozenset(arrival.modalities), now),
                    again=now + _AGAIN_AFTER,
                )
        if sweeps:
            self._swept_at = now
            if (earliest := self._earliest()) is not None:
                self._arrivals.forget(earliest - _SWEEP_EVERY)

    def look(self) -> int:
        """Look at every study that is due; give how many these were.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept.
        """
        due = self._arrivals.due(self._clock.now())
        for arrived in due:
            try:
                wait = self._look(arrived)
            except ArchiveUnreachable as error:
                self._operations.note(ARCHIVE, str(error))
                wait = _ARCHIVE_AWAY
            if wait is None:
                self._arrivals.looked(arrived, self._model_sha256)
            else:
                self._arrivals.postpone(arrived, self._clock.now() + wait)
        return len(due)

    def _since(self, now: datetime, *, sweeps: bool) -> datetime | None:
        earliest = self._earliest()
        return earliest if sweeps or earliest is None else max(earliest, now - _RECENT)

    def _earliest(self) -> datetime | None:
        days = self._watched.days
        return None if days is None else self._clock.now() - timedelta(days=days)


_FIRST = datetime.fromisoformat("1970-01-02T00:00:00+00:00")
