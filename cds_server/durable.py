"""The workflow engine underneath the story: DBOS on an embedded SQLite database."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS, DBOSConfig
from sqlalchemy import Engine, create_engine, event

from cds_server.errors import AlreadyRunning
from cds_server.triage import READ_QUEUE, Triage, delivery_queue

# Workflows in flight are finished by this version of the story, whatever release wrote them.
_WORKFLOW_VERSION = "1"

# More than the processor needs: what waits for a receiver, in the order of its patient, must not
# hold up the others.
_READ_AT_ONCE = 4
_DELIVERED_AT_ONCE = 64


@contextmanager
def running(triage: Triage, database: Path, *, poll_interval_s: float = 0.1) -> Iterator[None]:
    """Run the story until the block ends; work left by a killed predecessor is taken up first.

    Parameters
    ----------
    triage
        The story, with its collaborators. Each of its destinations has a queue of its own, in
        order per accession number.
    database
        File of the workflow state; its folder exists.
    poll_interval_s
        Seconds between two looks at the queues.

    Raises
    ------
    AlreadyRunning
        If another process works on the same database.
    """
    with _only_one(database.with_suffix(".lock")):
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        engine = _engine(database)
        config: DBOSConfig = {
            "name": "radcds",
            "system_database_url": f"sqlite:///{database}",
            "system_database_engine": engine,
            "application_version": _WORKFLOW_VERSION,
            "executor_id": "radcds-worker",
            "log_level": "CRITICAL",
            "console_log_level": "CRITICAL",
            "notification_listener_polling_interval_sec": 1.0,
        }
        DBOS(config=config)
        try:
            DBOS.launch()
            DBOS.register_queue(
                READ_QUEUE, worker_concurrency=_READ_AT_ONCE, polling_interval_sec=poll_interval_s
            )
            for name in triage.destination_names:
                DBOS.register_queue(
                    delivery_queue(name),
                    worker_concurrency=_DELIVERED_AT_ONCE,
                    partition_concurrency=1,
                    polling_interval_sec=poll_interval_s,
                )
            yield
        finally:
            DBOS.destroy()
            engine.dispose()


def _engine(database: Path) -> Engine:
    engine = create_engine(f"sqlite:///{database}")

    @event.listens_for(engine, "connect")
    def _durable(connection: object, _: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold the lock of the worker; the kernel frees it however the process ends.

    Raises
    ------
    AlreadyRunning
        If another process holds it.
    """
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another radcds works in {lock.parent}; stop it, or choose another folder"
            raise AlreadyRunning(msg) from error
        yield
