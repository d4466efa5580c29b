"""Transactions in SQL: a durable write, and a read that keeps no writer waiting."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from cds_server.adapters.sql_schema import BUSY_TIMEOUT_S
from cds_server.errors import AuditUnavailable


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Write in one transaction. Threads wait for their turn, rather than poll the database.

    Raises
    ------
    AuditUnavailable
        If the turn does not come.
    """
    turn: threading.Lock = engine.get_execution_options()["turn"]
    if not turn.acquire(timeout=BUSY_TIMEOUT_S):
        msg = "the database cannot be written: others have been writing for too long"
        raise AuditUnavailable(msg)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        turn.release()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Write in one transaction.

    Raises
    ------
    AuditUnavailable
        If it cannot be made durable.
    """
    try:
        with transaction(engine) as connection:
            yield connection
    except DatabaseError as error:
        msg = f"the database cannot be written ({error.orig})"
        raise AuditUnavailable(msg) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Read from one snapshot. Writers go on meanwhile, however long it takes.

    Raises
    ------
    AuditUnavailable
        If the database cannot be read.
    """
    try:
        with engine.execution_options(reads=True).connect() as connection:
            yield connection
    except DatabaseError as error:
        msg = f"the database cannot be read ({error.orig})"
        raise AuditUnavailable(msg) from error
