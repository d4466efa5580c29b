"""Files and folders given by hand, read to the end: what ``radcds read`` does."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from ai_engine.result import NotAnalysed
from cds_server import bootstrap, model_in_use
from cds_server.arrivals import Arrived
from cds_server.bootstrap import Services
from cds_server.config import Settings
from cds_server.delivery import Patience
from cds_server.durable import running
from cds_server.errors import AuditUnavailable
from cds_server.imaging import FileProblem
from cds_server.outbox import Delivery
from cds_server.ports import StudyEntry, StudyState
from cds_server.triage import Triage
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event

_PATIENCE = Patience((0.2, 1.0), strikes=2, hold_s=(0.2,), outages_count=True, turn_s=0.1)
_POLL_S = 0.05
_LEAST_FREE_BYTES = 256 * 1024

Progress = Callable[[int, int], None]
"""Called with the number of studies done and their total."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch.

    Parameters
    ----------
    studies
        Every study of the batch, the most urgent first.
    problems
        Each file or folder that could not be read.
    parked
        Each delivery that was given up.
    """

    studies: Sequence[StudyEntry]
    problems: Sequence[FileProblem]
    parked: Sequence[Delivery]

    @property
    def complete(self) -> bool:
        """Whether every input was readable and every result delivered and none broke."""
        broken = any(
            entry.result is None
            or (
                isinstance(entry.result.outcome, NotAnalysed)
                and entry.result.outcome.reason.is_failure
            )
            for entry in self.studies
        )
        return not (self.problems or self.parked or broken)


def batch_settings(settings: Settings, out: Path) -> Settings:
    """Keep the state of a batch beside its output, so that the same command resumes it."""
    return replace(settings, output=out, data_dir=out / ".radcds")


def read_batch(paths: Sequence[Path], settings: Settings, *, progress: Progress) -> BatchReport:
    """Read every study in the given files and folders and write its artefacts.

    Killed at any point, the same call finishes what is left.

    Parameters
    ----------
    paths
        Files and folders.
    settings
        Of ``batch_settings``.
    progress
        Told how far it is.

    Raises
    ------
    InvalidSettings
        If the output folder cannot be written.
    ModelUnavailable
        If the model bundle is missing or damaged.
    AuditUnavailable
        If the audit trail cannot be written; what was read before stays.
    AlreadyRunning
        If another process works on the same output folder.
    """
    services = bootstrap.services(settings)
    reader = model_in_use.reader(settings)
    destinations = bootstrap.destinations(services)
    archive = bootstrap.folder_archive(paths)
    record_problems(archive.problems, services)
    triage = bootstrap.triage(
        services,
        archive=archive,
        reader=reader,
        destinations=destinations,
        patience=_PATIENCE,
    )
    with running(triage, settings.data_dir / "workflow.sqlite") as steering:
        for parked in triage.parked():
            triage.retry(parked)
        noticed = [
            triage.settle(Arrived(each.study_instance_uid, instances=each.number_of_instances))
            for each in archive.arrivals()
        ]
        parked_now = _finish(triage, services, set(noticed), progress, steering)
    studies = [entry for entry in services.store.entries() if entry.result_id in set(noticed)]
    return BatchReport(studies, archive.problems, parked_now)


def _finish(
    triage: Triage,
    services: Services,
    noticed: set[str],
    progress: Progress,
    steering: Future[None],
) -> Sequence[Delivery]:
    """Wait until every study is published or given up.

    Raises
    ------
    AuditUnavailable
        If the trail refused an event, or the disk is full: the workflow engine would wait for ever.
    """
    while True:
        _check_disk(services.settings.data_dir)
        if triage.audit_trouble is not None:
            raise triage.audit_trouble
        if steering.done():
            steering.result()
        parked = triage.parked()
        triage.explain_failures()
        gave_up = {each.publication.result_id for each in parked}
        done = sum(
            entry.state is StudyState.PUBLISHED or entry.result_id in gave_up
            for entry in services.store.entries()
            if entry.result_id in noticed
        )
        progress(done, len(noticed))
        if done == len(noticed):
            return parked
        time.sleep(_POLL_S)


def _check_disk(folder: Path) -> None:
    """Stop while there is still room to note where each study stands.

    Raises
    ------
    AuditUnavailable
        If there is not.
    """
    if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
        msg = f"the disk of {folder} is full; free some space and run the same command again"
        raise AuditUnavailable(msg)


def record_problems(problems: Sequence[FileProblem], services: Services) -> None:
    """Audit each input that cannot be read, by a hash: the path itself may name a patient.

    Raises
    ------
    AuditUnavailable
        If the trail cannot be written.
    """
    events = [
        audit_event(
            AuditFact(
                kind=AuditKind.READ_STUDY,
                recorded=services.clock.now(),
                user="radcds",
                address=services.settings.base_url,
                outcome_code="8",
                outcome_text=problem.what,
                detail={"path-sha256": path_sha256(problem.path)},
            ),
            services.settings.site,
        )
        for problem in problems
    ]
    if events:
        services.trail.record(events)


def path_sha256(path: Path) -> str:
    """Name a path without telling it."""
    return hashlib.sha256(bytes(path)).hexdigest()
