"""One durable transaction in SQL, and what its failure means."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from cds_server.errors import AuditUnavailable


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Write in one transaction.

    Raises
    ------
    AuditUnavailable
        If it cannot be made durable.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DatabaseError as error:
        msg = f"the database cannot be written ({error.orig})"
        raise AuditUnavailable(msg) from error
