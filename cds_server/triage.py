"""The story: one study from its arrival to every destination.

::

    notice ─► audit ─► fetch ─► open ─► read ─► store ─► one queued delivery per destination
      ▲       (no audit,      (in a sandbox)   (result, report set and audit leaf
      │        no images)                       in one transaction)
      └── images that come late: read again, and the later result supersedes the earlier

Durable: DBOS keeps where each study stands. A worker that is killed at any point and started again
finishes every study, and publishes under the same identifiers, because all of them derive from the
study and the model. Workflows carry opaque identifiers only, never patient data.
"""

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from dbos import DBOS, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID

from ai_engine.result import NotAnalysed, Reason
from cds_server.analysis_leaf import analysis_leaf
from cds_server.arrivals import Arrived
from cds_server.errors import (
    ArchiveUnreachable,
    AuditUnavailable,
    DeliveryFailed,
    DeliveryRefused,
)
from cds_server.imaging import Decoder, ImageArchive
from cds_server.ports import (
    AuditTrail,
    Clock,
    DeliveryTrouble,
    Destination,
    Reader,
    ResultStore,
    StoredResult,
    StudyEntry,
    StudyState,
)
from cds_server.reading import Reading, StudyReader
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.dicom_study import unidentified_study
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import DisplayMode, Predecessor, ReportContext, ReportSet, Site
from fhir_mappers.report_set import report_set

READ_QUEUE = "read"
PATIENCE_S = (1.0, 2.0, 5.0, 15.0, 30.0, *([60.0] * 5), *([300.0] * 286))
"""With a destination, about a day: quick at first, then every five minutes."""
_READING_PATIENCE_S, _READING_WAIT_S = 1283.0, 60.0
_SHORTEST_WAIT, _LONGEST_WAIT = timedelta(seconds=0.5), timedelta(minutes=1)

_ACTOR = "radcds"
_ID_LENGTH = 36
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


@DBOS.dbos_class("Triage")
class Triage(DBOSConfiguredInstance):
    """Reads studies and delivers their results.

    Parameters
    ----------
    archive
        Where images come from.
    decoder
        Opens them.
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
    back_into_archive
        Name of the destination that stores results in the archive of the images; empty for none.
    name
        Under which workflows find this story again after a restart.
    """

    def __init__(  # noqa: PLR0913 - every collaborator of the story, by name
        self,
        *,
        archive: ImageArchive,
        decoder: Decoder,
        reader: Reader,
        store: ResultStore,
        trail: AuditTrail,
        destinations: Sequence[Destination],
        site: Site,
        clock: Clock,
        software_version: str,
        patience_s: Sequence[float] = PATIENCE_S,
        shadow: bool = False,
        back_into_archive: str = "",
        name: str = "radcds",
    ) -> None:
        super().__init__(name)
        self._reading = StudyReader(archive, decoder, reader, timezone=site.timezone)
        self._reader = reader
        self._store = store
        self._trail = trail
        known = () if shadow else destinations
        self._destinations = {destination.name: destination for destination in known}
        self._shadow = shadow
        self._back_into_archive = back_into_archive
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

    def notice(self, study_instance_uid: str, revision: int = 1) -> str:
        """Queue a study that arrived, once per model version, and give the id of its result.

        Durable when it returns. Noticing the same study again changes nothing.
        """
        identifier = result_id(study_instance_uid, self._reader.model.sha256, revision)
        self._store.notice(identifier, study_instance_uid, self._clock.now())
        with SetWorkflowID(f"read-{identifier}"):
            DBOS.enqueue_workflow(READ_QUEUE, self.read_study, identifier)
        return identifier

    def arrived(self, arrived: Arrived) -> timedelta | None:
        """Read a study that arrived or changed; one that was read, only if its images are others.

        Our own results are no images, so they never cause another reading.

        Returns
        -------
        timedelta | None
            After which to ask again, while an earlier reading is under way.

        Raises
        ------
        ArchiveUnreachable
            If the archive does not answer.
        AuditUnavailable
            If the audit trail does not.
        """
        study_instance_uid = arrived.study_instance_uid
        readings = self._readings(study_instance_uid)
        if not readings:
            self.notice(study_instance_uid)
            return None
        latest = readings[-1].result
        if latest is None:
            self.notice(study_instance_uid, len(readings))
            waited = self._clock.now() - readings[-1].noticed_at
            return min(max(waited / 2, _SHORTEST_WAIT), _LONGEST_WAIT)
        if not arrived.in_place and arrived.instances == self._explained(readings[-1], latest):
            return None
        self._record(AuditKind.READ_STUDY, latest.result_id, study_instance_uid)
        differs = self._reading.differs(
            study_instance_uid, latest.chosen, contents=arrived.in_place
        )
        if (differs and _was_followed(latest)) or _was_given_up(latest):
            self.notice(study_instance_uid, len(readings) + 1)
        return None

    def settle(self, arrived: Arrived) -> str:
        """Read a study as ``arrived`` does, and give the id of its latest result."""
        self.arrived(arrived)
        return self._readings(arrived.study_instance_uid)[-1].result_id

    def requested(self, study_instance_uid: str) -> str:
        """Read a study that somebody asks for, unless it was, and give the id of its result."""
        readings = self._readings(study_instance_uid)
        if readings and readings[-1].result is not None:
            return readings[-1].result_id
        return self.notice(study_instance_uid, max(len(readings), 1))

    def _explained(self, entry: StudyEntry, read: StoredResult) -> int:
        """Give how many instances a study holds where nothing but our own objects was added."""
        delivered = entry.delivered.get(self._back_into_archive)
        own = self._store.artefacts(read.result_id).dicom if delivered else ()
        return read.study.number_of_instances + len(own)

    def _readings(self, study_instance_uid: str) -> Sequence[StudyEntry]:
        """Give the readings of a study under this model, the latest last."""
        known = {each.result_id: each for each in self._store.entries_of_study(study_instance_uid)}
        found: list[StudyEntry] = []
        for revision in itertools.count(1):
            entry = known.get(result_id(study_instance_uid, self._reader.model.sha256, revision))
            if entry is None:
                break
            found.append(entry)
        return found

    # ── 2. It is read, and its deliveries are queued ─────────────────────────────────────────────

    @DBOS.workflow()
    def read_study(self, identifier: str, attempt: int = 0) -> None:
        """Read one study and queue one delivery per destination.

        Where the archive does not answer, the next attempt is queued, so that a study that cannot
        be had holds no place from which others could be read.

        Raises
        ------
        ArchiveUnreachable
            If the archive stayed away for longer than the server's patience.
        AuditUnavailable
            If the audit trail did.
        """
        try:
            order_key = self._read_and_store(identifier)
        except (ArchiveUnreachable, AuditUnavailable):
            waits_s = tuple(_while_reading(self._patience_s))
            if attempt >= len(waits_s):
                raise
            with (
                SetWorkflowID(f"read-{identifier}-{attempt + 1}"),
                SetEnqueueOptions(delay_seconds=waits_s[attempt]),
            ):
                DBOS.enqueue_workflow(READ_QUEUE, self.read_study, identifier, attempt + 1)
            return
        if order_key:
            self._queue_deliveries(identifier, order_key)

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

        A repeat after a crash finds the stored result and changes nothing. What an earlier model
        was to read, it gives no key for: this one reads the study under an identifier of its own.
        """
        entry = self._store.entry(identifier)
        result = entry.result
        if result is None and not self._is_of_this_model(entry):
            return ""
        if result is None:
            began = self._clock.now()
            with self._noting_audit_trouble():
                self._record(AuditKind.READ_STUDY, identifier, entry.study_instance_uid)
                reading = self._reading.read(
                    entry.study_instance_uid, lambda state: self._store.progress(identifier, state)
                )
                result = self._publishable(identifier, reading, began)
        accession_number = result.study.accession_number
        ordered_by = (
            f"{self._site.accession_issuer}|{accession_number}" if accession_number else identifier
        )
        return str(uuid.uuid5(uuid.UUID(int=0), ordered_by))

    def _is_of_this_model(self, entry: StudyEntry) -> bool:
        own = self._readings(entry.study_instance_uid)
        return entry.result_id in {each.result_id for each in own}

    def _publishable(self, identifier: str, reading: Reading, began: datetime) -> StoredResult:
        """Make the report set and store everything with the audit leaf in one transaction."""
        stored_at = self._clock.now()
        context = ReportContext(
            result_id=identifier,
            site=self._site,
            model=self._reader.model,
            issued=stored_at,
            software_version=self._software_version,
            model_card=self._reader.model_card,
            began=began,
            predecessor=self._predecessor(identifier, reading.study.study_instance_uid),
            unread=reading.unread,
        )
        artefacts = report_set(
            reading.study,
            reading.outcome,
            context=context,
            source=reading.source,
            image=reading.image,
        )
        reading.stopwatch.lap("report")
        result = StoredResult(
            identifier,
            reading.study,
            reading.outcome,
            stored_at,
            reading.stopwatch.seconds,
            str(reading.source.SOPInstanceUID) if reading.source and reading.image else "",
            self._shadow,
            reading.sha256,
            reading.exclusions,
            reading.notes,
        )
        leaf = analysis_leaf(result, self._reader.model, self._site)
        self._store.save(
            result,
            artefacts,
            audit_events=[leaf],
            destinations=tuple(self._destinations),
        )
        return result

    def _predecessor(self, identifier: str, study_instance_uid: str) -> Predecessor | None:
        """Give what the result supersedes: the latest earlier one of the study that was sent."""
        own = self._readings(study_instance_uid)
        ids = [each.result_id for each in own]
        before = own[: ids.index(identifier)] if identifier in ids else []
        of_others = [
            each
            for each in self._store.entries_of_study(study_instance_uid)
            if each.result_id not in ids
        ]
        for entry in (*reversed(before), *of_others):
            if entry.result and not entry.shadow:
                artefacts = self._store.artefacts(entry.result_id)
                return Predecessor(entry.result_id, artefacts.dicom.get("report.dcm"))
        return None

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
        self, patience_s: Iterable[float], step: Callable[..., str], *arguments: str
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
        DeliveryFailed
            If the destination did not accept it; that is noted.
        """
        entry = self._store.entry(identifier)
        if entry.result is None:
            msg = f"result {identifier} is queued for delivery but not stored"
            raise DeliveryRefused(msg)
        with self._noting_audit_trouble():
            self._record(
                AuditKind.DELIVER, identifier, entry.study_instance_uid, destination=destination
            )
            try:
                artefacts = self._store.artefacts(identifier)
                self._check_may_leave(artefacts)
                self._destinations[destination].deliver(entry.result, artefacts)
            except DeliveryFailed as error:
                self._note_trouble(entry, destination, str(error))
                raise
            self._store.mark_delivered(identifier, destination)
        return destination

    def _check_may_leave(self, artefacts: ReportSet) -> None:
        """Let no location leave a site that has become ``triage_only`` since it was drawn.

        Raises
        ------
        DeliveryRefused
            If there is one.
        """
        if self._site.display_mode is DisplayMode.TRIAGE_ONLY and artefacts.overlay_png:
            msg = "it was made while this site showed overlays, and the site is triage only now"
            raise DeliveryRefused(msg)

    def _note_trouble(self, entry: StudyEntry, destination: str, says: str) -> None:
        """Keep that an attempt failed where operators and auditors see it."""
        now = self._clock.now()
        self._store.note_trouble(DeliveryTrouble(entry.result_id, destination, says, now))
        self._record(
            AuditKind.DELIVER,
            entry.result_id,
            entry.study_instance_uid,
            destination=destination,
            failure=says,
        )

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
        self,
        kind: AuditKind,
        identifier: str,
        study_instance_uid: str,
        *,
        destination: str = "",
        failure: str = "",
    ) -> None:
        fact = AuditFact(
            kind=kind,
            recorded=self._clock.now(),
            user=_ACTOR,
            address=self._site.base_url,
            study_instance_uid=study_instance_uid,
            result_id=identifier,
            outcome_code="8" if failure else "0",
            outcome_text=failure,
            detail={"destination": destination} if destination else {},
        )
        self._trail.record([audit_event(fact, self._site)])

    # ── 4. What broke is said ────────────────────────────────────────────────────────────────────

    def explain_failures(self, again: Callable[[str], None] = lambda _: None) -> Sequence[str]:
        """Store "processing failed" for each study whose workflow gave up: none stays silent.

        Parameters
        ----------
        again
            Told the Study Instance UID where only the archive was away: it is worth a later look.

        Returns
        -------
        Sequence[str]
            The results that were explained by this call.
        """
        explained = []
        for workflow in DBOS.list_workflows(status=_GAVE_UP, workflow_id_prefix="read-"):
            identifier = workflow.workflow_id.removeprefix("read-")[:_ID_LENGTH]
            entry = self._store.entry(identifier)
            if entry.result is not None:
                if entry.state is not StudyState.PUBLISHED:
                    self._queue_deliveries(identifier, identifier)
                continue
            if not self._is_of_this_model(entry):
                continue
            if isinstance(workflow.error, ArchiveUnreachable):
                again(entry.study_instance_uid)
            failed = NotAnalysed(
                Reason.PROCESSING_FAILED,
                "Processing failed and was given up. The study was not analysed.",
                self._reader.model,
            )
            unknown = unidentified_study(entry.study_instance_uid)
            self._publishable(identifier, Reading(unknown, failed), self._clock.now())
            self._queue_deliveries(identifier, identifier)
            explained.append(identifier)
        return explained

    def note_parked(self) -> Sequence[ParkedDelivery]:
        """Keep which deliveries were given up, for whoever operates the server."""
        parked = self.parked()
        known = {(t.result_id, t.destination) for t in self._store.troubles() if t.parked}
        for each in parked:
            if (each.result_id, each.destination) not in known:
                self._store.note_trouble(
                    DeliveryTrouble(
                        each.result_id, each.destination, each.why, self._clock.now(), parked=True
                    )
                )
        return parked

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


def _was_followed(read: StoredResult) -> bool:
    """Say whether it is known what was read: results of earlier databases do not say it."""
    return bool(read.chosen) or isinstance(read.outcome, NotAnalysed)


def _was_given_up(read: StoredResult) -> bool:
    outcome = read.outcome
    return isinstance(outcome, NotAnalysed) and outcome.reason is Reason.PROCESSING_FAILED


def _while_reading(patience_s: Sequence[float]) -> Iterator[float]:
    """Give the waits for an archive: no longer than a minute each, for about twenty in all."""
    waited_s = 0.0
    for wait_s in patience_s:
        if waited_s < _READING_PATIENCE_S:
            waited_s += min(wait_s, _READING_WAIT_S)
            yield min(wait_s, _READING_WAIT_S)
