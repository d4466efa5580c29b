"""The process that notices new studies and runs the story."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta

import structlog

from cds_server import bootstrap, model_in_use
from cds_server.batch import path_sha256, record_problems
from cds_server.bootstrap import Services
from cds_server.config import Settings
from cds_server.destinations import receivers_of
from cds_server.durable import running
from cds_server.errors import ArchiveUnreachable, CdsServerError
from cds_server.imaging import FileProblem
from cds_server.inbound import inbound_of
from cds_server.operations import WORKER
from cds_server.workitems import Happening, Performer, Step

_LOOK_EVERY_S = 0.05
_TROUBLED_S = 1.0
_AGAIN_AFTER = timedelta(minutes=1)


def work(settings: Settings, *, stop: threading.Event, looked: Callable[[int], None]) -> None:
    """Watch the archive and read what arrives, until told to stop.

    Parameters
    ----------
    settings
        Of the server.
    stop
        Set to end.
    looked
        Told, after each look, how many studies were due.

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
    archive = bootstrap.archive(settings, services.pacs)
    reader = model_in_use.reader(settings)
    destinations = bootstrap.destinations(services)
    triage = bootstrap.triage(services, archive=archive, reader=reader, destinations=destinations)
    amending = bootstrap.amending(services, destinations)
    performer = bootstrap.performer(services, triage)
    watch = bootstrap.watch(services, archive=archive, look=triage.arrived, model=reader.model)
    inbound = inbound_of(
        receivers_of(settings),
        services.inbox,
        arrivals=services.arrivals,
        results=services.store,
        in_archive=archive.holds,
        patients=services.patients,
        operations=services.operations,
        site=settings.site,
        clock=services.clock,
        notice=lambda says: log.warning("hl7 inbound", says=says),
    )
    with (
        running(
            triage, settings.data_dir / "workflow.sqlite", poll_interval_s=_LOOK_EVERY_S
        ) as steering,
        inbound.server or nullcontext(),
    ):
        log.info("worker started", destinations=triage.destination_names)
        watch.renew()
        told: frozenset[FileProblem] = frozenset()
        told_work: frozenset[Happening] = frozenset()

        def look_again(study_instance_uid: str) -> None:
            services.arrivals.told(study_instance_uid, services.clock.now() + _AGAIN_AFTER)

        asks_at = time.monotonic()
        while not (stop.is_set() or steering.done()):
            try:
                if time.monotonic() >= asks_at:
                    asks_at = time.monotonic() + settings.poll_interval_s
                    services.operations.beat(WORKER)
                    for result_id in triage.explain_failures(look_again):
                        log.error("processing given up", result_id=result_id)
                    for lost in triage.explain_lost_deliveries():
                        log.error("delivery given up", result_id=lost.publication.result_id)
                    told = _tell_problems(archive.problems, told, services, log)
                    told_work = _perform(performer, told_work, services, log)
                    amending.look()
                    watch.ask()
                inbound.orders.look()
                looked(watch.look())
            except ArchiveUnreachable as error:
                log.warning("archive does not answer", error=str(error))
            except CdsServerError as error:
                log.error("the worker is in trouble", error=str(error))  # noqa: TRY400 - no traceback
                stop.wait(_TROUBLED_S)
            stop.wait(_LOOK_EVERY_S)
        log.info("worker stopped")


def _perform(
    performer: Performer | None,
    told: frozenset[Happening],
    services: Services,
    log: structlog.typing.FilteringBoundLogger,
) -> frozenset[Happening]:
    """Go on with the work of the worklist; log what is new, and note whether it answers."""
    if performer is None:
        return told
    happened = performer.look()
    silent = [each.says for each in happened if each.step is Step.TROUBLE and not each.workitem_uid]
    services.operations.note("worklist", "; ".join(silent))
    for each in happened:
        if each not in told:
            log.info("workitem", step=each.step.value, workitem=each.workitem_uid, says=each.says)
    return frozenset(each for each in happened if each.step is Step.TROUBLE)


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
    work(settings, stop=stop, looked=lambda _: None)
