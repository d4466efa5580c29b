"""The process that notices new studies and runs the story."""

import signal
import threading
from collections.abc import Callable, Sequence

import structlog

from cds_server import bootstrap
from cds_server.batch import path_sha256, record_problems
from cds_server.bootstrap import Services
from cds_server.config import Settings
from cds_server.durable import running
from cds_server.errors import ArchiveUnreachable
from cds_server.ports import FileProblem


def work(settings: Settings, *, stop: threading.Event, noticed: Callable[[int], None]) -> None:
    """Watch the archive and read what arrives, until told to stop.

    Parameters
    ----------
    settings
        Of the server.
    stop
        Set to end.
    noticed
        Told the number of studies known after each look.

    Raises
    ------
    InvalidSettings
        If no archive is set.
    ModelUnavailable
        If the model bundle is missing or damaged.
    AlreadyRunning
        If another worker holds the data folder.
    """
    log = structlog.get_logger("radcds.worker")
    services = bootstrap.services(settings)
    archive = bootstrap.archive(settings)
    destinations = bootstrap.destinations(services)
    triage = bootstrap.triage(
        services, archive=archive, reader=bootstrap.reader(settings), destinations=destinations
    )
    with running(triage, settings.data_dir / "workflow.sqlite", poll_interval_s=0.25):
        log.info("worker started", destinations=triage.destination_names)
        seen: set[str] = set()
        told: frozenset[FileProblem] = frozenset()
        while not stop.is_set():
            try:
                for study_instance_uid in archive.study_uids():
                    if study_instance_uid not in seen:
                        triage.notice(study_instance_uid)
                        seen.add(study_instance_uid)
            except ArchiveUnreachable as error:
                log.warning("archive does not answer", error=str(error))
            told = _tell_problems(archive.problems, told, services, log)
            for result_id in triage.explain_failures():
                log.error("processing given up", result_id=result_id)
            noticed(len(seen))
            stop.wait(settings.poll_interval_s)
        log.info("worker stopped")


def _tell_problems(
    problems: Sequence[FileProblem],
    told: frozenset[FileProblem],
    services: Services,
    log: structlog.typing.FilteringBoundLogger,
) -> frozenset[FileProblem]:
    """Audit and log each input that cannot be read, once; ``radcds doctor`` names the files."""
    new = [problem for problem in problems if problem not in told]
    record_problems(new, services)
    for problem in new:
        log.warning(
            "input cannot be read", what=problem.what, path_sha256=path_sha256(problem.path)
        )
    return told | set(new)


def work_until_signalled(settings: Settings) -> None:
    """Run the worker in this process until SIGTERM or SIGINT.

    Raises
    ------
    InvalidSettings
        If no archive is set.
    ModelUnavailable
        If the model bundle is missing or damaged.
    AlreadyRunning
        If another worker holds the data folder.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    work(settings, stop=stop, noticed=lambda _: None)
