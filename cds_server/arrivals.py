"""What arrived in the archive and has still to be looked at, kept across restarts.

The archive may tell of a study many times: by the list that the watch asks for, by an event for
each instance. Each time is a change. A study is due once it was quiet for long enough, and stays
due until somebody has looked at its latest change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Arrived:
    """A study that is due to be looked at.

    Parameters
    ----------
    study_instance_uid
        Which study.
    change
        Number of its latest change.
    instances
        How many instances the archive lists, or ``None`` where it has not said.
    in_place
        Whether an instance may have been replaced under the same identifier: the archive told of
        an instance, not of their number.
    """

    study_instance_uid: str
    change: int = 1
    instances: int | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A study as the archive lists it.

    Parameters
    ----------
    study_instance_uid, instances
        Which study, and how many instances it has, where the archive says.
    due
        When to look at it.
    again
        When to look at it where that has been done before: our own objects may be arriving.
    """

    study_instance_uid: str
    instances: int | None
    due: datetime
    again: datetime


class ArrivalStore(Protocol):
    """Durable record of arrivals. Processes may share it."""

    def listed(self, found: Sequence[Listed]) -> int:
        """Note the archive's list; give how many studies are new or changed.

        Raises
        ------
        AuditUnavailable
            If it cannot be made durable.
        """
        ...

    def told(self, study_instance_uid: str, due: datetime) -> None:
        """Note that the archive told of a study, or of one of its instances; durable on return.

        Told again and again, it is due ten minutes after the first change at the latest.

        Raises
        ------
        AuditUnavailable
            If it cannot be made durable.
        """
        ...

    def due(self, now: datetime, *, only_new: bool = False) -> Sequence[Arrived]:
        """Give some studies to be looked at: new ones first, then the longest waiting.

        Parameters
        ----------
        now
            What time it is.
        only_new
            Leaves out those that were looked at before.
        """
        ...

    def waiting(self, now: datetime) -> tuple[int, datetime | None]:
        """Give how many studies are due and were not looked at, and since when the longest is."""
        ...

    def looked(self, arrived: Arrived, model_sha256: str) -> None:
        """Note that a change was looked at, under which model; a later change stays due."""
        ...

    def postpone(self, arrived: Arrived, due: datetime) -> None:
        """Look at it later, unless it has changed meanwhile."""
        ...

    def renew(self, model_sha256: str, since: datetime) -> int:
        """Make due again what another model has looked at since then; give how many these are."""
        ...

    def forget(self, before: datetime) -> None:
        """Drop what was looked at and has not changed since then."""
        ...
