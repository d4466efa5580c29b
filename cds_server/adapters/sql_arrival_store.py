"""Arrivals in SQL."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine, and_, case, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from cds_server.adapters.sql_schema import arrival
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.arrivals import Arrived

_MOST = 500
_ROW = arrival.c


class SqlArrivalStore:
    """The arrival store on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with the other stores.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def listed(
        self, study_instance_uid: str, instances: int | None, *, due: datetime, again: datetime
    ) -> bool:
        """Note a study of the archive's list; ``False`` if nothing about it has changed.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        known = select(_ROW.instances).where(_ROW.study_instance_uid == study_instance_uid)
        with reading(self._engine) as connection:
            row = connection.execute(known).first()
        if row is not None and (instances is None or row.instances == instances):
            return False
        at = _milliseconds(due)
        new = insert(arrival).values(
            study_instance_uid=study_instance_uid,
            instances=instances,
            in_place=0,
            change=1,
            looked=0,
            changed_at=at,
            due=at,
            model="",
        )
        self._write(
            new.on_conflict_do_update(
                index_elements=["study_instance_uid"],
                set_={
                    "instances": instances,
                    "change": _ROW.change + 1,
                    "changed_at": at,
                    "due": case(
                        (and_(_ROW.looked < _ROW.change, _ROW.instances.is_(None)), _ROW.due),
                        (_ROW.looked < _ROW.change, at),
                        else_=_milliseconds(again),
                    ),
                },
            )
        )
        return True

    def told(self, study_instance_uid: str, due: datetime) -> None:
        """Note that the archive told of a study, or of one of its instances.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        at = _milliseconds(due)
        new = insert(arrival).values(
            study_instance_uid=study_instance_uid,
            instances=None,
            in_place=1,
            change=1,
            looked=0,
            changed_at=at,
            due=at,
            model="",
        )
        self._write(
            new.on_conflict_do_update(
                index_elements=["study_instance_uid"],
                set_={"in_place": 1, "change": _ROW.change + 1, "changed_at": at, "due": at},
            )
        )

    def due(self, now: datetime) -> Sequence[Arrived]:
        """Give the studies to be looked at, the longest waiting first."""
        query = (
            select(arrival)
            .where(_ROW.due <= _milliseconds(now), _ROW.looked < _ROW.change)
            .order_by(_ROW.due)
            .limit(_MOST)
        )
        with reading(self._engine) as connection:
            return [
                Arrived(row.study_instance_uid, row.change, row.instances, bool(row.in_place))
                for row in connection.execute(query)
            ]

    def waiting(self, now: datetime) -> tuple[int, datetime | None]:
        """Give how many studies are due and were not looked at, and since when the longest is."""
        query = select(func.count(), func.min(_ROW.due)).where(
            _ROW.due <= _milliseconds(now), _ROW.looked < _ROW.change
        )
        with reading(self._engine) as connection:
            count, oldest = connection.execute(query).one()
        return count, datetime.fromtimestamp(oldest / 1000, UTC) if count else None

    def looked(self, arrived: Arrived, model_sha256: str) -> None:
        """Note that a change was looked at, under which model; a later change stays due.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        latest = _ROW.change == arrived.change
        self._write(
            update(arrival)
            .where(_ROW.study_instance_uid == arrived.study_instance_uid)
            .values(
                looked=arrived.change,
                model=model_sha256,
                in_place=case((latest, 0), else_=_ROW.in_place),
            )
        )

    def postpone(self, arrived: Arrived, due: datetime) -> None:
        """Look at it later.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        self._write(
            update(arrival)
            .where(_ROW.study_instance_uid == arrived.study_instance_uid)
            .values(due=_milliseconds(due))
        )

    def renew(self, model_sha256: str, since: datetime) -> int:
        """Make due again what another model has looked at since then; give how many these are.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        return self._write(
            update(arrival)
            .where(
                _ROW.looked == _ROW.change,
                _ROW.changed_at >= _milliseconds(since),
                _ROW.model != model_sha256,
            )
            .values(looked=0)
        )

    def forget(self, before: datetime) -> None:
        """Drop what was looked at and has not changed since then.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        self._write(
            delete(arrival).where(
                _ROW.looked == _ROW.change, _ROW.changed_at < _milliseconds(before)
            )
        )

    def _write(self, statement: object) -> int:
        with writing(self._engine) as connection:
            return int(connection.execute(statement).rowcount)  # type: ignore[call-overload]


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
