"""Launches and sessions in SQL: one table for all processes."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import orjson
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_schema import pending_launch, session, session_grant
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.network import Role
from cds_server.session import LAUNCH_LASTS, PendingLaunch, Session
from cds_server.viewer import PatientScope


class SqlSessionStore:
    """The session store on the engine of ``sql_schema.open_engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_launch(self, launch: PendingLaunch) -> None:
        """Remember a launch, and forget those that never came back.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept.
        """
        lost = _seconds(launch.started_at - LAUNCH_LASTS)
        with writing(self._engine) as connection:
            connection.execute(delete(pending_launch).where(pending_launch.c.started_at < lost))
            connection.execute(
                insert(pending_launch).values(
                    state=launch.state,
                    started_at=_seconds(launch.started_at),
                    content=orjson.dumps(asdict(launch)).decode(),
                )
            )

    def take_launch(self, state: str) -> PendingLaunch | None:
        """Give a launch once, and forget it.

        Raises
        ------
        AuditUnavailable
            If it cannot be forgotten: then it must not be used.
        """
        with writing(self._engine) as connection:
            content = connection.scalar(
                delete(pending_launch)
                .where(pending_launch.c.state == state)
                .returning(pending_launch.c.content)
            )
        if content is None:
            return None
        value = orjson.loads(content)
        return PendingLaunch(**{**value, "started_at": datetime.fromisoformat(value["started_at"])})

    def add(self, begun: Session, audit_events: Sequence[bytes]) -> None:
        """Begin a session, with its audit leaves, in one transaction.

        Raises
        ------
        AuditUnavailable
            If any of it cannot be kept; then nothing is.
        """
        with writing(self._engine) as connection:
            connection.execute(
                insert(session).values(
                    handle=begun.handle,
                    started_at=_seconds(begun.started_at),
                    seen_at=_seconds(begun.seen_at),
                    refreshing_until=0,
                    content=_encoded(begun),
                    access_token=begun.access_token,
                    refresh_token=begun.refresh_token,
                    access_until=_seconds(begun.access_until) if begun.access_until else None,
                )
            )
            append(connection, audit_events)

    def session(self, handle: str) -> Session | None:
        """Give a session, if it has not ended."""
        with reading(self._engine) as connection:
            row = connection.execute(select(session).where(session.c.handle == handle)).first()
        if row is None:
            return None
        return replace(
            _decoded(row.content),
            seen_at=datetime.fromtimestamp(row.seen_at, UTC),
            access_token=row.access_token,
            refresh_token=row.refresh_token,
            access_until=datetime.fromtimestamp(row.access_until, UTC)
            if row.access_until is not None
            else None,
        )

    def seen(self, handle: str, at: datetime) -> None:
        """Note that a session was used.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        self._changed(handle, seen_at=_seconds(at))

    def claim_refresh(self, handle: str, now: datetime, until: datetime) -> bool:
        """Let exactly one process renew the tokens of a session, until the given time.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            claimed = connection.execute(
                update(session)
                .where(session.c.handle == handle, session.c.refreshing_until <= _seconds(now))
                .values(refreshing_until=_seconds(until))
            )
            return bool(claimed.rowcount)

    def renew(
        self, handle: str, *, access_token: str, refresh_token: str, access_until: datetime
    ) -> None:
        """Replace the tokens of a session; the old ones are gone.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        self._changed(
            handle,
            access_token=access_token,
            refresh_token=refresh_token,
            access_until=_seconds(access_until),
            refreshing_until=0,
        )

    def end(self, handle: str, audit_events: Sequence[bytes]) -> None:
        """End a session with everything that was granted to it.

        Raises
        ------
        AuditUnavailable
            If the leaves cannot be kept.
        """
        with writing(self._engine) as connection:
            connection.execute(delete(session_grant).where(session_grant.c.handle == handle))
            connection.execute(delete(session).where(session.c.handle == handle))
            append(connection, audit_events)

    def grant(
        self, handle: str, result_id: str, what: str, until: datetime, audit_events: Sequence[bytes]
    ) -> None:
        """Grant a session something of one study, with its audit leaves, in one transaction.

        Raises
        ------
        AuditUnavailable
            If any of it cannot be kept; then nothing is granted.
        """
        values = {"handle": handle, "result_id": result_id, "what": what, "until": _seconds(until)}
        with writing(self._engine) as connection:
            connection.execute(
                sqlite_insert(session_grant)
                .values(values)
                .on_conflict_do_update(
                    index_elements=["handle", "result_id", "what"],
                    set_={"until": values["until"]},
                )
            )
            append(connection, audit_events)

    def granted(self, handle: str, result_id: str, what: str, now: datetime) -> bool:
        """Say whether it was granted, and still is."""
        query = select(session_grant.c.until).where(
            session_grant.c.handle == handle,
            session_grant.c.result_id == result_id,
            session_grant.c.what == what,
        )
        with reading(self._engine) as connection:
            until = connection.scalar(query)
        return until is not None and _seconds(now) < until

    def forget_before(self, started_before: datetime) -> None:
        """Drop what began before the given time.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        limit = _seconds(started_before)
        with writing(self._engine) as connection:
            connection.execute(delete(pending_launch).where(pending_launch.c.started_at < limit))
            old = select(session.c.handle).where(session.c.started_at < limit)
            connection.execute(delete(session_grant).where(session_grant.c.handle.in_(old)))
            connection.execute(delete(session).where(session.c.started_at < limit))

    def _changed(self, handle: str, **values: object) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(session).where(session.c.handle == handle).values(values))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _encoded(begun: Session) -> str:
    value = asdict(replace(begun, access_token="", refresh_token="", access_until=None))
    value["centres"], value["scopes"] = sorted(begun.centres), sorted(begun.scopes)
    if begun.patient:
        value["patient"]["identifiers"] = sorted(begun.patient.identifiers)
    return orjson.dumps(value).decode()


def _decoded(content: str) -> Session:
    value = orjson.loads(content)
    patient = value["patient"]
    return Session(
        **{
            **value,
            "role": Role(value["role"]),
            "centres": frozenset(value["centres"]),
            "scopes": frozenset(value["scopes"]),
            "patient": PatientScope(
                patient["reference"],
                frozenset((each[0], each[1]) for each in patient["identifiers"]),
            )
            if patient
            else None,
            "started_at": datetime.fromisoformat(value["started_at"]),
            "seen_at": datetime.fromisoformat(value["seen_at"]),
        }
    )
