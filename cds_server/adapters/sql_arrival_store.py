"""Arrivals in SQL."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import (
    ColumnElement,
    Engine,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import Insert, insert

from cds_server.adapters.sql_schema import arrival
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.arrivals import Arrived, Listed

_MOST = 50
_CHUNK = 500
_LONGEST_QUIET_MS = 10 * 60 * 1000
_ROW = arrival.c
_RENEWED = -1
_WAITS = and_(_ROW.looked != _RENEWED, _ROW.looked < _ROW.change)
"""It has a change that nobody has looked at. One that was only renewed has none."""
_LOOKED = case((_ROW.looked == _RENEWED, _ROW.change), else_=_ROW.looked)
"""What a change makes of a renewed study: one that has changed since it was looked at."""


class SqlArrivalStore:
    """The arrival store on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with the other stores.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def listed(self, found: Sequence[Listed]) -> int:
        """Note the archive's list; give how many studies are new or changed.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        changed = [each for chunk in _chunks(found) for each in self._changed(chunk)]
        if changed:
            with writing(self._engine) as connection:
                connection.execute(_NOTED, [_row(each) for each in changed])
        return len(changed)

    def _changed(self, found: Sequence[Listed]) -> Iterator[Listed]:
        """Give what is not known as it is listed."""
        uids = [each.study_instance_uid for each in found]
        query = select(_ROW.study_instance_uid, _ROW.instances)
        with reading(self._engine) as connection:
            rows = connection.execute(query.where(_ROW.study_instance_uid.in_(uids))).all()
        known = {row.study_instance_uid: row.instances for row in rows}
        for each in found:
            uid, instances = each.study_instance_uid, each.instances
            if uid not in known or (instances is not None and known[uid] != instances):
                yield each

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
                set_={
                    "in_place": 1,
                    "change": _ROW.change + 1,
                    "looked": _LOOKED,
                    "changed_at": _since(at),
                    "due": case((_WAITS, _bounded(at)), else_=at),
                },
            )
        )

    def due(self, now: datetime, *, only_new: bool = False) -> Sequence[Arrived]:
        """Give some studies to be looked at: new ones first, then the longest waiting."""
        query = (
            select(arrival)
            .where(_ROW.due <= _milliseconds(now), _ROW.looked < _ROW.change)
            .order_by(_ROW.looked != 0, _ROW.due)
            .limit(_MOST)
        )
        if only_new:
            query = query.where(_ROW.looked == 0)
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
                changed_at=case((latest, _ROW.changed_at), else_=_ROW.due),
            )
        )

    def postpone(self, arrived: Arrived, due: datetime) -> None:
        """Look at it later, unless it has changed meanwhile.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        self._write(
            update(arrival)
            .where(
                _ROW.study_instance_uid == arrived.study_instance_uid,
                _ROW.change == arrived.change,
            )
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
            .values(looked=_RENEWED)
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


def _since(at: int | ColumnElement[int]) -> ColumnElement[int]:
    """Give the time of the first change that was not looked at."""
    return case((_WAITS, _ROW.changed_at), else_=at)


def _bounded(at: int | ColumnElement[int]) -> ColumnElement[int]:
    """Give when it is due that waits and changes again: it is not put off for ever."""
    return func.min(at, _ROW.changed_at + _LONGEST_QUIET_MS)


def _chunks(found: Sequence[Listed]) -> Iterator[Sequence[Listed]]:
    for start in range(0, len(found), _CHUNK):
        yield found[start : start + _CHUNK]


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _row(listed: Listed) -> dict[str, object]:
    at = _milliseconds(listed.due)
    return {
        "study_instance_uid": listed.study_instance_uid,
        "instances": listed.instances,
        "changed_at": at,
        "due": at,
        "again": _milliseconds(listed.again),
    }


def _noted() -> Insert:
    """Give the statement that keeps a study as it is listed, for many at once."""
    new = insert(arrival).values(in_place=0, change=1, looked=0, model="")
    told_of = and_(_WAITS, _ROW.instances.is_(None))
    at = new.excluded.due
    return new.on_conflict_do_update(
        index_elements=["study_instance_uid"],
        set_={
            "instances": new.excluded.instances,
            "change": _ROW.change + 1,
            "looked": _LOOKED,
            "changed_at": _since(at),
            "due": case(
                (told_of, _ROW.due), (_WAITS, _bounded(at)), else_=bindparam("again", type_=Integer)
            ),
        },
    )


_NOTED = _noted()
