"""How the parts of the server are, in SQL."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine, delete, insert, select, update

from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_schema import component, heartbeat
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.operations import Component


class SqlComponentStore:
    """The component store on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with the audit trail, so that a state and its leaf commit together.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, noted: Component, audit_event: Callable[[], bytes]) -> bool:
        """Keep how a part is, with the audit event, where that is news; ``False`` if it is not.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        named = component.c.name == noted.name
        with reading(self._engine) as connection:
            trouble = connection.scalar(select(component.c.trouble).where(named)) or ""
        if trouble == noted.trouble:
            return False
        if trouble and noted.trouble:
            with writing(self._engine) as connection:
                connection.execute(update(component).where(named).values(trouble=noted.trouble))
            return False
        with writing(self._engine) as connection:
            connection.execute(delete(component).where(named))
            connection.execute(
                insert(component).values(
                    name=noted.name, trouble=noted.trouble, since=noted.since.isoformat()
                )
            )
            append(connection, [audit_event()])
        return True

    def beat(self, name: str, at: datetime) -> None:
        """Keep that a part was alive.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(delete(heartbeat).where(heartbeat.c.name == name))
            connection.execute(insert(heartbeat).values(name=name, at=at.isoformat()))

    def last_beat(self, name: str) -> datetime | None:
        """Say when a part was alive for the last time."""
        query = select(heartbeat.c.at).where(heartbeat.c.name == name)
        with reading(self._engine) as connection:
            at = connection.scalar(query)
        return datetime.fromisoformat(at) if at else None

    def components(self) -> Sequence[Component]:
        """Give every part that was ever in trouble, by name."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(component).order_by(component.c.name)).all()
        return [Component(row.name, row.trouble, datetime.fromisoformat(row.since)) for row in rows]
