"""The story: one study from its arrival to every destination.

::

    notice ─► audit ─► fetch ─► read ─► store ─► one queued delivery per destination
              (no audit, no images)     (result, report set and audit leaf in one transaction)

Durable: DBOS keeps where each study stands. A worker that is killed at any point and started again
finishes every study, and publishes under the same identifiers, because all of them derive from the
study and the model. Workflows carry opaque identifiers only, never patient data.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dbos import DBOS, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID
from pydicom.dataset import Dataset

from ai_engine.errors import AiEngineError
from ai_engine.image import Image
from ai_engine.result import NotAnalysed, Outcome, Reason, TriageResult
from cds_server.errors import (
    ArchiveUnreachable,
    AuditUnavailable,
    DeliveryFailed,
    DeliveryRefused,
    InstanceUnreadable,
    StudyNotFound,
)
from cds_server.ports import (
    AuditTrail,
    Clock,
    Destination,
    ImageArchive,
    Reader,
    ResultStore,
    StoredResult,
    StudyState,
)
from fhir_mappers.audit_event import AuditFact, AuditKind, OutcomeCode, audit_event
from fhir_mappers.dicom_study import study_of, unidentified_study
from fhir_mappers.errors import ImageDeclined, InvalidStudy
from fhir_mappers.identifiers import result_id
from fhir_mappers.overlay import original_png
from fhir_mappers.pixels import image
from fhir_mappers.report_context import ReportContext, Site
from fhir_mappers.report_set import report_set
from fhir_mappers.selection import select_images
from fhir_mappers.study import Study

READ_QUEUE = "read"
PATIENCE_S = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, *([900.0] * 96))
"""With a destination, about a day: quick at first, then every quarter of an hour."""
_READING_PATIENCE = 7

_ACTOR = "radcds"
_GAVE_UP = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


def delivery_queue(destination: str) -> str:
    """Name the queue of one destination."""
    return f"deliver-{destination}"


@dataclass(frozen=True, slots=True)
class ParkedDelivery:
    """A delivery that was given up until a person looks at it."""

    result_id: str
    destination: str
    why: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """What reading gave: the outcome, and what it rests on where there is an image."""

    study: Study
    outcome: Outcome
    source: Dataset | None
    image: Image | None


class _Stopwatch:
    """Seconds spent in each named part, adding up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, part: str) -> None:
        """Count the time since the last lap towards ``part``."""
        now = time.monotonic()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now


@DBOS.dbos_class("Triage")
class Triage(DBOSConfiguredInstance):
    """Reads studies and delivers their results.

    Parameters
    ----------
    archive
        Where images come from.
    reader
        The AI engine.
    store
        Where results are kept.
    trail
        The audit trail; nothing is fetched or handed over unless it has recorded it.
    destinations
        Everyone who gets the result.
    site
        Whose server this is.
    clock
        Gives the time of each event.
    software_version
        Version of radcds, for what is published.
    patience_s
        Waits in seconds between attempts at an archive or destination that does not answer.
    shadow
        Whether results are recorded and sent to nobody.
    name
        Under which workflows find this story again after a restart.
    """

    def __init__(  # noqa: PLR0913 - every collaborator of the story, by name
        self,
        *,
        archive: ImageArchive,
        reader: Reader,
        store: ResultStore,
        trail: AuditTrail,
        destinations: Sequence[Destination],
        site: Site,
        clock: Clock,
        software_version: str,
        patience_s: Sequence[float] = PATIENCE_S,
        shadow: bool = False,
        name: str = "radcds",
    ) -> None:
        super().__init__(name)
        self._archive = archive
        self._reader = reader
        self._store = store
        self._trail = trail
        known = () if shadow else destinations
        self._destinations = {destination.name: destination for destination in known}
        self._shadow = shadow
        self._site = site
        self._clock = clock
        self._software_version = software_version
        self._patience_s = tuple(patience_s)
        self._audit_trouble: AuditUnavailable | None = None

    @property
    def audit_trouble(self) -> AuditUnavailable | None:
        """The last refusal of the audit trail, if there was any."""
        return self._audit_trouble

    @property
    def destination_names(self) -> Sequence[str]:
        """Everyone who gets the result, by name."""
        return tuple(self._destinations)

    # ── 1. A study is noticed ────────────────────────────────────────────────────────────────────

    def notice(self, study_instance_uid: str) -> str:
        """Queue a study that arrived, once per model version, and give the id of its result.

        Durable when it returns. Noticing the same study again changes nothing.
        """
        identifier = result_id(study_instance_uid, self._reader.model.sha256)
        self._store.notice(identifier, study_instance_uid, self._clock.now())
        with SetWorkflowID(f"read-{identifier}"):
            DBOS.enqueue_workflow(READ_QUEUE, self.read_study, identifier)
        return identifier

    # ── 2. It is read, and its deliveries are queued ─────────────────────────────────────────────

    @DBOS.workflow()
    def read_study(self, identifier: str) -> None:
        """Read one study and queue one delivery per destination.

        Raises
        ------
        ArchiveUnreachable
            If the archive stayed away for longer than the server's patience.
        AuditUnavailable
            If the audit trail did.
        """
        patience_s = self._patience_s[:_READING_PATIENCE]
        self._queue_deliveries(
            identifier, self._patiently(patience_s, self._read_and_store, identifier)
        )

    def _queue_deliveries(self, identifier: str, order_key: str) -> None:
        """Queue one delivery per destination, in order among those of the same key."""
        for name in self._destinations:
            with (
                SetWorkflowID(f"deliver-{name}-{identifier}"),
                SetEnqueueOptions(queue_partition_key=order_key),
            ):
                DBOS.enqueue_workflow(delivery_queue(name), self.deliver_result, identifier, name)

    @DBOS.step()
    def _read_and_store(self, identifier: str) -> str:
        """Fetch, read, and store the result with its report set; give the key that orders delivery.

        A repeat after a crash finds the stored result and changes nothing.
        """
        entry = self._store.entry(identifier)
        if entry.result is None:
            stopwatch = _Stopwatch()
            with self._noting_audit_trouble():
                reading = self._read(identifier, entry.study_instance_uid, stopwatch)
                self._publishable(identifier, reading, stopwatch)
            entry = self._store.entry(identifier)
        study = entry.result.study if entry.result else None
        accession_number = study.accession_number if study else ""
        ordered_by = (
            f"{self._site.accession_issuer}|{accession_number}" if accession_number else identifier
        )
        return str(uuid.uuid5(uuid.UUID(int=0), ordered_by))

    def _read(self, identifier: str, study_instance_uid: str, stopwatch: _Stopwatch) -> _Reading:
        """Audit, then fetch the images that the model needs, then read them."""
        self._record(AuditKind.READ_STUDY, identifier, study_instance_uid)
        self._store.progress(identifier, StudyState.FETCHING)
        try:
            metadata = self._archive.metadata(study_instance_uid)
            study = study_of(metadata, timezone=self._site.timezone)
        except (StudyNotFound, InvalidStudy) as error:
            declined = NotAnalysed(Reason.UNREADABLE, str(error), self._reader.model)
            return _Reading(unidentified_study(study_instance_uid), declined, None, None)
        selection = select_images(study)
        sources: list[Dataset] = []
        images: list[Image] = []
        refusal: NotAnalysed | None = None
        stopwatch.lap("fetch")
        for chosen in selection.chosen:
            try:
                source = self._archive.instance(
                    study_instance_uid, chosen.series_instance_uid, chosen.sop_instance_uid
                )
                stopwatch.lap("fetch")
                images.append(image(source))
                sources.append(source)
            except (InstanceUnreadable, StudyNotFound) as error:
                refusal = refusal or NotAnalysed(Reason.UNREADABLE, str(error))
            except ImageDeclined as error:
                refusal = refusal or error.outcome
            stopwatch.lap("decode")
        if not images:
            return _Reading(study, refusal or selection.declined(), None, None)
        self._store.progress(identifier, StudyState.ANALYSING)
        try:
            outcome = self._reader.read(images)
        except AiEngineError as error:
            outcome = NotAnalysed(Reason.MODEL_FAILED, str(error), self._reader.model)
        stopwatch.lap("infer")
        shown = outcome.image_index if isinstance(outcome, TriageResult) else 0
        return _Reading(study, outcome, sources[shown], images[shown])

    def _publishable(self, identifier: str, reading: _Reading, stopwatch: _Stopwatch) -> None:
        """Make the report set and store everything with the audit leaf in one transaction."""
        stored_at = self._clock.now()
        context = ReportContext(
            result_id=identifier,
            site=self._site,
            model=self._reader.model,
            issued=stored_at,
            software_version=self._software_version,
            model_card=self._reader.model_card,
        )
        artefacts = report_set(
            reading.study,
            reading.outcome,
            context=context,
            source=reading.source,
            image=reading.image,
        )
        original = original_png(reading.image) if reading.image else None
        stopwatch.lap("report")
        result = StoredResult(
            identifier,
            reading.study,
            reading.outcome,
            stored_at,
            stopwatch.seconds,
            str(reading.source.SOPInstanceUID) if reading.source else "",
            self._shadow,
        )
        fact = AuditFact(
            kind=AuditKind.ANALYSE,
            recorded=stored_at,
            user=_ACTOR,
            address=self._site.base_url,
            study_instance_uid=reading.study.study_instance_uid,
            result_id=identifier,
            patient_id=reading.study.patient.patient_id or None,
            patient_issuer=reading.study.patient.issuer,
            outcome_code=_audit_outcome(reading.outcome),
            outcome_text=_in_words(reading.outcome),
            detail=_model_detail(result, self._reader),
        )
        self._store.save(
            result,
            artefacts,
            original_png=original,
            audit_events=[audit_event(fact, self._site)],
            destinations=tuple(self._destinations),
        )

    # ── 3. It is delivered to each destination ───────────────────────────────────────────────────

    @DBOS.workflow()
    def deliver_result(self, identifier: str, destination: str) -> None:
        """Hand the result of one study to one destination.

        Raises
        ------
        DeliveryFailed
            If the destination did not accept within the server's patience, or never will.
        """
        self._patiently(self._patience_s, self._deliver, identifier, destination)

    def _patiently(
        self, patience_s: Sequence[float], step: Callable[..., str], *arguments: str
    ) -> str:
        """Run a step; while it may still work, run it again after each wait.

        Raises
        ------
        DeliveryRefused
            At once: no wait will change it.
        """
        for wait_s in patience_s:
            try:
                return step(*arguments)
            except DeliveryRefused:
                raise
            except (ArchiveUnreachable, AuditUnavailable, DeliveryFailed):
                DBOS.sleep(wait_s)
        return step(*arguments)

    @DBOS.step()
    def _deliver(self, identifier: str, destination: str) -> str:
        """Audit the disclosure, hand over the stored bytes, note the acknowledgement.

        Raises
        ------
        DeliveryRefused
            If there is no stored result to deliver.
        """
        entry = self._store.entry(identifier)
        if entry.result is None:
            msg = f"result {identifier} is queued for delivery but not stored"
            raise DeliveryRefused(msg)
        with self._noting_audit_trouble():
            self._record(
                AuditKind.DELIVER, identifier, entry.study_instance_uid, destination=destination
            )
            self._destinations[destination].deliver(entry.result, self._store.artefacts(identifier))
            self._store.mark_delivered(identifier, destination)
        return destination

    @contextmanager
    def _noting_audit_trouble(self) -> Iterator[None]:
        """Remember that the trail refused, for whoever watches over the work.

        Raises
        ------
        AuditUnavailable
            Passed on.
        """
        try:
            yield
        except AuditUnavailable as error:
            self._audit_trouble = error
            raise

    def _record(
        self, kind: AuditKind, identifier: str, study_instance_uid: str, destination: str = ""
    ) -> None:
        fact = AuditFact(
            kind=kind,
            recorded=self._clock.now(),
            user=_ACTOR,
            address=self._site.base_url,
            study_instance_uid=study_instance_uid,
            result_id=identifier,
            detail={"destination": destination} if destination else {},
        )
        self._trail.record([audit_event(fact, self._site)])

    # ── 4. What broke is said ────────────────────────────────────────────────────────────────────

    def explain_failures(self) -> Sequence[str]:
        """Store "processing failed" for each study whose workflow gave up: none stays silent.

        Returns
        -------
        Sequence[str]
            The results that were explained by this call.
        """
        explained = []
        for workflow in DBOS.list_workflows(status=_GAVE_UP, workflow_id_prefix="read-"):
            identifier = workflow.workflow_id.removeprefix("read-")
            entry = self._store.entry(identifier)
            if entry.result is not None:
                continue
            failed = NotAnalysed(
                Reason.PROCESSING_FAILED,
                "Processing failed and was given up. The study was not analysed.",
                self._reader.model,
            )
            unknown = unidentified_study(entry.study_instance_uid)
            self._publishable(identifier, _Reading(unknown, failed, None, None), _Stopwatch())
            self._queue_deliveries(identifier, identifier)
            explained.append(identifier)
        return explained

    def parked(self) -> Sequence[ParkedDelivery]:
        """List the deliveries that were given up; each waits for ``retry``."""
        return [
            ParkedDelivery(identifier, name, str(workflow.error))
            for name in self._destinations
            for workflow in DBOS.list_workflows(
                status=_GAVE_UP, workflow_id_prefix=f"deliver-{name}-"
            )
            for identifier in [workflow.workflow_id.removeprefix(f"deliver-{name}-")]
        ]

    def retry(self, parked: ParkedDelivery) -> None:
        """Try a parked delivery again, with the same bytes."""
        DBOS.rewind_workflow(f"deliver-{parked.destination}-{parked.result_id}")


def _audit_outcome(outcome: Outcome) -> OutcomeCode:
    """Give the AuditEvent outcome: success, minor failure (declined), serious failure (broken)."""
    if isinstance(outcome, TriageResult):
        return "0"
    return "8" if outcome.reason.is_failure else "4"


def _in_words(outcome: Outcome) -> str:
    return "" if isinstance(outcome, TriageResult) else f"{outcome.reason}: {outcome.detail}"


def _model_detail(result: StoredResult, reader: Reader) -> dict[str, str]:
    """Say what the model returned, for the audit leaf."""
    model = reader.model
    detail = {"model": f"{model.name}@{model.version}", "model-sha256": model.sha256}
    outcome = result.outcome
    if isinstance(outcome, NotAnalysed):
        return {**detail, "result": f"not analysed: {outcome.reason}"}
    findings = " ".join(
        f"{finding.label}={finding.probability:.3f}/{finding.threshold:.3f}"
        for finding in outcome.findings
    )
    return {**detail, "result": outcome.priority.value, "findings": findings}
