"""The workflow engine underneath the story: DBOS on an embedded SQLite database."""

import fcntl
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from dbos import DBOS, DBOSConfig
from sqlalchemy import Engine, create_engine, event

from cds_server.errors import AlreadyRunning, AuditUnavailable
from cds_server.triage import READ_QUEUE, Triage, delivery_queue

# Workflows in flight are finished by this version of the story, whatever release wrote them.
_WORKFLOW_VERSION = "1"

# More than the processor needs: some of them wait for the archive.
_READ_AT_ONCE = 4
_STEER_EVERY_S = 0.05


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
                    worker_concurrency=0,
                    partition_concurrency=1,
                    polling_interval_sec=poll_interval_s,
                )
            with _steered(triage):
                yield
        finally:
            DBOS.destroy()
            engine.dispose()


@contextmanager
def _steered(triage: Triage) -> Iterator[None]:
    """Queue what waits, and give each queue of deliveries its places, until the block ends."""
    stop = threading.Event()
    steering = threading.Thread(target=_steer, args=(triage, stop), daemon=True)
    steering.start()
    try:
        yield
    finally:
        stop.set()
        steering.join()


def _steer(triage: Triage, stop: threading.Event) -> None:
    given: dict[str, int] = {}
    while not stop.wait(_STEER_EVERY_S):
        try:
            triage.send_waiting()
            for name, places in triage.places().items():
                if given.get(name) != places:
                    queue = DBOS.retrieve_queue(delivery_queue(name))
                    if queue is not None:
                        queue.set_worker_concurrency(places)
                        given[name] = places
        except AuditUnavailable as error:
            structlog.get_logger("radcds.worker").error("deliveries wait", error=str(error))


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
