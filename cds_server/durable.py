"""The workflow engine underneath the story: DBOS on an embedded SQLite database."""

import fcntl
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import structlog
from dbos import DBOS, DBOSConfig, error
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cds_server.errors import AlreadyRunning, AuditUnavailable
from cds_server.triage import READ_QUEUE, Triage, delivery_queue

# Workflows in flight are finished by this version of the story, whatever release wrote them.
_WORKFLOW_VERSION = "1"

# More than the processor needs: some of them wait for the archive.
_READ_AT_ONCE = 4
_STEER_EVERY_S = 0.05


@contextmanager
def running(
    triage: Triage, database: Path, *, poll_interval_s: float = 0.1
) -> Iterator[Future[None]]:
    """Run the story until the block ends; work left by a killed predecessor is taken up first.

    Gives what queues the deliveries: while it is not done, they are queued. What ended it before
    the block did is raised when the block ends.

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
            with _steered(triage) as steering:
                yield steering
        finally:
            DBOS.destroy()
            engine.dispose()


@contextmanager
def _steered(triage: Triage) -> Iterator[Future[None]]:
    """Queue what waits, and give each queue of deliveries its places, until the block ends."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        steering = threads.submit(_steer, triage, stop)
        steering.add_done_callback(_say_what_ended_it)
        try:
            yield steering
        finally:
            stop.set()
    steering.result()


def _steer(triage: Triage, stop: threading.Event) -> None:
    given: dict[str, int] = {}
    trouble = ""
    while not stop.wait(_STEER_EVERY_S):
        try:
            _steer_once(triage, given)
            says = ""
        except (AuditUnavailable, error.DBOSException) as refused:
            says = str(refused)
        except SQLAlchemyError as broken:
            says = f"the database of the workflows cannot be used ({_reason(broken)})"
        if says != trouble:
            _tell(says)
        trouble = says


def _steer_once(triage: Triage, given: dict[str, int]) -> None:
    triage.send_waiting()
    for name, places in triage.places().items():
        if given.get(name) != places:
            queue = DBOS.retrieve_queue(delivery_queue(name))
            if queue is not None:
                queue.set_worker_concurrency(places)
                given[name] = places


def _reason(broken: SQLAlchemyError) -> str:
    """Say why, without the statement and its values."""
    return str(broken.orig) if isinstance(broken, DBAPIError) else type(broken).__name__


def _tell(trouble: str) -> None:
    log = structlog.get_logger("radcds.worker")
    if trouble:
        log.error("deliveries wait", error=trouble)
    else:
        log.info("deliveries go on")


def _say_what_ended_it(steering: Future[None]) -> None:
    if (ended_by := steering.exception()) is not None:
        log = structlog.get_logger("radcds.worker")
        log.critical("deliveries are not queued any more", error=type(ended_by).__name__)


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
