"""Every delivery in SQL."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_schema import outbound_message, outbox, paused_destination
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.errors import ResultNotFound
from cds_server.outbox import Backlog, Delivery, DeliveryState, Pause, Publication

_WAITING = outbox.c.state == DeliveryState.WAITING.value
_UNQUEUED = and_(_WAITING, outbox.c.queued_turn < outbox.c.turn)
_FAILED = outbox.c.says != ""
_PARKED_FIRST = case((outbox.c.state == DeliveryState.PARKED.value, 0), else_=1)
_COMPOSED = (
    select(outbound_message.c.sha256)
    .where(
        outbound_message.c.publication_id == outbox.c.publication_id,
        outbound_message.c.destination == outbox.c.destination,
    )
    .exists()
)
_ROWS: Select[Any] = select(outbox, _COMPOSED.label("composed"))
_EARLIER = outbox.alias("earlier")
_AT_ONCE = 500


class SqlOutbox:
    """The outbox on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with result store and audit trail, so that they commit together.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self,
        publication: Publication,
        destinations: Sequence[str],
        *,
        audit_events: Sequence[bytes] = (),
    ) -> None:
        """Add one delivery per destination; those that are there stay.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            add_deliveries(connection, publication, destinations)
            append(connection, audit_events)

    def delivery(self, publication_id: str, destination: str) -> Delivery:
        """Give one delivery.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        with reading(self._engine) as connection:
            row = connection.execute(_ROWS.where(_one(publication_id, destination))).one_or_none()
        if row is None:
            msg = "there is no such delivery"
            raise ResultNotFound(msg)
        return _delivery(row)

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
        query = _ROWS.where(
            outbox.c.state.in_([each.value for each in states]), outbox.c.sequence > after
        )
        if result_id is not None:
            query = query.where(outbox.c.result_id == result_id)
        if destination is not None:
            query = query.where(outbox.c.destination == destination)
        if order_key is not None:
            query = query.where(outbox.c.order_key == order_key)
        return self._found(query.order_by(_PARKED_FIRST, outbox.c.sequence).limit(limit))

    def troubled(self, *, limit: int) -> Sequence[Delivery]:
        """Give the deliveries whose latest attempt failed: parked ones first, then by age."""
        failed = or_(outbox.c.state == DeliveryState.PARKED.value, and_(_WAITING, _FAILED))
        query = _ROWS.where(failed).order_by(_PARKED_FIRST, outbox.c.sequence)
        return self._found(query.limit(limit))

    def ahead(self, delivery: Delivery) -> Delivery | None:
        """Give the earliest delivery that waits and has to arrive before this one."""
        query = _ROWS.where(
            _WAITING,
            outbox.c.destination == delivery.destination,
            or_(
                outbox.c.order_key == delivery.publication.order_key,
                outbox.c.study_instance_uid == delivery.publication.study_instance_uid,
            ),
            outbox.c.sequence < delivery.sequence,
        )
        return next(iter(self._found(query.order_by(outbox.c.sequence).limit(1))), None)

    def overtaken(self, delivery: Delivery) -> bool:
        """Say whether the same result later, or a later result of the study, arrived."""
        of_an_older_result = (
            select(_EARLIER.c.sequence)
            .where(
                _EARLIER.c.result_id == outbox.c.result_id,
                _EARLIER.c.result_id != delivery.publication.result_id,
                _EARLIER.c.sequence < delivery.sequence,
            )
            .exists()
        )
        query = select(outbox.c.sequence).where(
            outbox.c.state == DeliveryState.DELIVERED.value,
            outbox.c.destination == delivery.destination,
            outbox.c.study_instance_uid == delivery.publication.study_instance_uid,
            outbox.c.sequence > delivery.sequence,
            ~of_an_older_result,
        )
        with reading(self._engine) as connection:
            return connection.scalar(query.limit(1)) is not None

    def message(self, publication_id: str, destination: str) -> bytes | None:
        """Give the message that was composed for a delivery, if one was.

        Raises
        ------
        ResultNotFound
            If it is not the message any more that was kept.
        """
        query = select(outbound_message).where(
            outbound_message.c.publication_id == publication_id,
            outbound_message.c.destination == destination,
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        content = bytes(row.content)
        if hashlib.sha256(content).hexdigest() != row.sha256:
            msg = "the message that was kept was changed in the database; it is not sent"
            raise ResultNotFound(msg)
        return content

    def keep_message(self, publication_id: str, destination: str, message: bytes) -> bytes:
        """Keep a message, and give the one that stands: the first.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(
                insert(outbound_message)
                .values(
                    publication_id=publication_id,
                    destination=destination,
                    content=message,
                    sha256=hashlib.sha256(message).hexdigest(),
                )
                .on_conflict_do_nothing()
            )
        return self.message(publication_id, destination) or message

    def settle(
        self,
        publication_id: str,
        destination: str,
        state: DeliveryState,
        *,
        says: str = "",
        at: datetime,
    ) -> None:
        """Note what became of a delivery.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(
                update(outbox)
                .where(_one(publication_id, destination))
                .values(state=state.value, says=says, since=at.isoformat(), due=None)
            )

    def fail(self, failed: Delivery) -> None:
        """Note a failed attempt.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(
                update(outbox)
                .where(_one(failed.publication_id, failed.destination), _WAITING)
                .values(
                    strikes=failed.strikes,
                    says=failed.says,
                    since=_iso(failed.since),
                    due=_iso(failed.due),
                )
            )

    def again(
        self, publication_id: str, destination: str, *, audit_events: Sequence[bytes]
    ) -> bool:
        """Let a settled delivery wait once more; ``False`` if it waits, or there is none.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            changed = connection.execute(
                update(outbox)
                .where(_one(publication_id, destination), ~_WAITING)
                .values(
                    state=DeliveryState.WAITING.value,
                    turn=outbox.c.turn + 1,
                    strikes=0,
                    due=None,
                )
            ).rowcount
            if changed:
                append(connection, audit_events)
        return bool(changed)

    def unqueued(self, destinations: Sequence[str]) -> Sequence[Delivery]:
        """Give what waits for these and was not handed to their queues yet."""
        query = _ROWS.where(_UNQUEUED, outbox.c.destination.in_(destinations))
        return self._found(query.order_by(outbox.c.sequence).limit(1000))

    def queued(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these turns were handed to their queues.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            for each in deliveries:
                connection.execute(
                    update(outbox)
                    .where(outbox.c.sequence == each.sequence, outbox.c.turn == each.turn)
                    .values(queued_turn=each.turn)
                )

    def backlogs(self) -> Mapping[str, Backlog]:
        """Say what waits for each destination that ever had a delivery."""
        query = select(
            outbox.c.destination, outbox.c.state, func.count(), func.min(outbox.c.created)
        ).group_by(outbox.c.destination, outbox.c.state)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        found: dict[str, dict[str, tuple[int, str]]] = {}
        for name, state, count, oldest in rows:
            found.setdefault(name, {})[state] = (count, oldest)
        return {name: _backlog(states) for name, states in found.items()}

    def pause(self, destination: str, pause: Pause, *, audit_events: Sequence[bytes]) -> bool:
        """Send nothing there until resumed; ``False`` if that is so already.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            changed = connection.execute(
                insert(paused_destination)
                .values(name=destination, paused_by=pause.by, since=pause.since.isoformat())
                .on_conflict_do_nothing()
            ).rowcount
            if changed:
                append(connection, audit_events)
        return bool(changed)

    def resume(self, destination: str, *, audit_events: Sequence[bytes]) -> bool:
        """Send there again; ``False`` if that was so.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            changed = connection.execute(
                delete(paused_destination).where(paused_destination.c.name == destination)
            ).rowcount
            if changed:
                append(connection, audit_events)
        return bool(changed)

    def paused(self) -> Mapping[str, Pause]:
        """Give every destination that is paused."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(paused_destination)).all()
        return {row.name: Pause(row.paused_by, datetime.fromisoformat(row.since)) for row in rows}

    def _found(self, query: Select[Any]) -> Sequence[Delivery]:
        with reading(self._engine) as connection:
            return [_delivery(row) for row in connection.execute(query)]


def add_deliveries(
    connection: Connection, publication: Publication, destinations: Sequence[str]
) -> None:
    """Add one delivery per destination in a transaction that is under way."""
    for name in destinations:
        connection.execute(
            insert(outbox)
            .values(
                publication_id=publication.publication_id,
                destination=name,
                result_id=publication.result_id,
                study_instance_uid=publication.study_instance_uid,
                order_key=publication.order_key,
                created=publication.created.isoformat(),
                state=DeliveryState.WAITING.value,
                turn=1,
                queued_turn=0,
                strikes=0,
                says="",
            )
            .on_conflict_do_nothing(index_elements=["publication_id", "destination"])
        )


def delivered_of(
    connection: Connection, result_ids: Sequence[str]
) -> Mapping[str, Mapping[str, bool]]:
    """Say of each result whether each destination has it, or what superseded it."""
    found: dict[str, dict[str, bool]] = {each: {} for each in result_ids}
    arrived = {DeliveryState.DELIVERED.value, DeliveryState.SUPERSEDED.value}
    for start in range(0, len(result_ids), _AT_ONCE):
        query = select(outbox.c.publication_id, outbox.c.destination, outbox.c.state).where(
            outbox.c.publication_id.in_(result_ids[start : start + _AT_ONCE])
        )
        for row in connection.execute(query.order_by(outbox.c.sequence)):
            found[row.publication_id][row.destination] = row.state in arrived
    return found


def _one(publication_id: str, destination: str) -> ColumnElement[bool]:
    return and_(outbox.c.publication_id == publication_id, outbox.c.destination == destination)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        Publication(
            row.publication_id,
            row.result_id,
            row.study_instance_uid,
            row.order_key,
            datetime.fromisoformat(row.created),
        ),
        row.destination,
        row.sequence,
        DeliveryState(row.state),
        row.turn,
        row.strikes,
        row.says,
        datetime.fromisoformat(row.since) if row.since else None,
        datetime.fromisoformat(row.due) if row.due else None,
        bool(row.composed),
    )


def _backlog(states: Mapping[str, tuple[int, str]]) -> Backlog:
    def count(state: DeliveryState) -> int:
        return states.get(state.value, (0, ""))[0]

    waiting = states.get(DeliveryState.WAITING.value)
    return Backlog(
        count(DeliveryState.WAITING),
        count(DeliveryState.PARKED),
        count(DeliveryState.DELIVERED),
        datetime.fromisoformat(waiting[1]) if waiting else None,
    )


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
