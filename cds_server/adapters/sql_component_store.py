"""How the parts of the server are, in SQL."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine, delete, insert, select

from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_schema import component
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
        known = select(component.c.trouble).where(component.c.name == noted.name)
        with reading(self._engine) as connection:
            trouble = connection.scalar(known)
        if (trouble or "") == noted.trouble:
            return False
        with writing(self._engine) as connection:
            connection.execute(delete(component).where(component.c.name == noted.name))
            connection.execute(
                insert(component).values(
                    name=noted.name, trouble=noted.trouble, since=noted.since.isoformat()
                )
            )
            append(connection, [audit_event()])
        return True

    def components(self) -> Sequence[Component]:
        """Give every part that was ever in trouble, by name."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(component).order_by(component.c.name)).all()
        return [Component(row.name, row.trouble, datetime.fromisoformat(row.since)) for row in rows]
