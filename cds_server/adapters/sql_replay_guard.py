"""Used tokens in SQL: one table for all processes."""

from datetime import datetime

from sqlalchemy import Engine, delete, insert
from sqlalchemy.exc import DatabaseError, IntegrityError

from cds_server.adapters.sql_schema import used_token
from cds_server.adapters.sql_transaction import transaction
from cds_server.errors import AuditUnavailable
from cds_server.ports import Clock


class SqlReplayGuard:
    """Takes each token once, on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with every process of the server.
    clock
        Says which tokens are past their time, and may be forgotten.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def take(self, issuer: str, jti: str, until: datetime) -> bool:
        """Take a token; the primary key lets exactly one caller have it.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        now = int(self._clock.now().timestamp())
        try:
            with transaction(self._engine) as connection:
                connection.execute(delete(used_token).where(used_token.c.until < now))
                connection.execute(
                    insert(used_token).values(
                        issuer=issuer, jti=jti, until=int(until.timestamp()) + 1
                    )
                )
        except IntegrityError:
            return False
        except DatabaseError as error:
            msg = f"the token cannot be remembered ({error.orig})"
            raise AuditUnavailable(msg) from error
        return True
