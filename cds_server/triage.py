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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from dbos import DBOS, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID

from ai_engine.result import NotAnalysed, Reason
from cds_server.analysis_leaf import analysis_leaf
from cds_server.arrivals import Arrived
from cds_server.delivery import Courier
from cds_server.errors import (
    ArchiveUnreachable,
    AuditUnavailable,
    ResultNotFound,
)
from cds_server.imaging import Decoder, ImageArchive
from cds_server.outbox import Delivery, DeliveryState, Outbox, every_parked, order_key
from cds_server.ports import (
    AuditTrail,
    Clock,
    Reader,
    ResultStore,
    StoredResult,
    StudyEntry,
)
from cds_server.reading import Reading, StudyReader
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.dicom_study import unidentified_study
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import Predecessor, ReportContext, Site
from fhir_mappers.report_set import report_set

READ_QUEUE = "read"
READING_WAITS_S = (1.0, 2.0, 5.0, 15.0, *([60.0] * 21))
"""Waits for an archive that is away: about twenty minutes in all, for the watch asks again."""
_AUDIT_AGAIN_S = 5.0
_SHORTEST_WAIT, _LONGEST_WAIT = timedelta(seconds=0.5), timedelta(minutes=1)

_ACTOR = "radcds"
_ID_LENGTH = 36
_GAVE_UP = ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_ATTEMPT = re.compile(r"deliver-(.+)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(\d+)-\d+")
"""Id of an attempt to deliver: destination, publication, turn and number."""


def delivery_queue(destination: str) -> str:
    """Name the queue of one destination."""
    return f"deliver-{destination}"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt to deliver: what, where to, in order with what, and which of how many."""

    publication_id: str
    destination: str
    order_key: str
    turn: int = 1
    number: int = 0

    @property
    def workflow_id(self) -> str:
        what = f"{self.publication_id}-{self.turn}-{self.number}"
        return f"deliver-{self.destination}-{what}"


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
    outbox, courier
        What is to go where, and who takes it there.
    site
        Whose server this is.
    clock
        Gives the time of each event.
    software_version
        Version of radcds, for what is published.
    reading_waits_s
        Seconds before the second, third… attempt at an archive that does not answer.
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
        outbox: Outbox,
        courier: Courier,
        site: Site,
        clock: Clock,
        software_version: str,
        reading_waits_s: Sequence[float] = READING_WAITS_S,
        shadow: bool = False,
        back_into_archive: str = "",
        name: str = "radcds",
    ) -> None:
        super().__init__(name)
        self._reading = StudyReader(archive, decoder, reader, timezone=site.timezone)
        self._reader = reader
        self._store = store
        self._trail = trail
        self._outbox = outbox
        self._courier = courier
        self._destinations = () if shadow else tuple(courier.destinations)
        self._shadow = shadow
        self._back_into_archive = back_into_archive
        self._site = site
        self._clock = clock
        self._software_version = software_version
        self._reading_waits_s = tuple(reading_waits_s)
        self._audit_trouble: AuditUnavailable | None = None

    @property
    def audit_trouble(self) -> AuditUnavailable | None:
        """The last refusal of the audit trail, if there was any."""
        return self._audit_trouble

    @property
    def destination_names(self) -> Sequence[str]:
        """Everyone who gets the result, by name."""
        return self._destinations

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
        delivered = self._outbox.deliveries(
            result_id=entry.result_id,
            destination=self._back_into_archive,
            states=frozenset({DeliveryState.DELIVERED}),
        )
        own = {
            content
            for each in delivered
            for content in self._store.artefacts(each.publication_id).dicom.values()
        }
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
            key = self._read_and_store(identifier)
        except (ArchiveUnreachable, AuditUnavailable):
            if attempt >= len(self._reading_waits_s):
                raise
            with (
                SetWorkflowID(f"read-{identifier}-{attempt + 1}"),
                SetEnqueueOptions(delay_seconds=self._reading_waits_s[attempt]),
            ):
                DBOS.enqueue_workflow(READ_QUEUE, self.read_study, identifier, attempt + 1)
            return
        if key:
            for name in self._destinations:
                self._queue_delivery(_Attempt(identifier, name, key))

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
        return self._order_key(result)

    def _order_key(self, result: StoredResult) -> str:
        study = result.study
        issuer = self._site.accession_issuer
        return order_key(issuer, study.accession_number, study.study_instance_uid)

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
            destinations=self._destinations,
            order_key=self._order_key(result),
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
    def deliver_result(
        self,
        publication_id: str,
        destination: str,
        order_key: str = "",
        turn: int = 1,
        attempt: int = 0,
    ) -> None:
        """Try to hand a publication to one destination; the next attempt, if any, is queued.

        So what waits holds no place in which others could be delivered.
        """
        if not order_key:
            return  # queued by an earlier release; what waits is in the outbox
        wait_s = self._deliver(publication_id, destination, turn)
        if wait_s is not None:
            again = _Attempt(publication_id, destination, order_key, turn, attempt + 1)
            self._queue_delivery(again, wait_s)

    @DBOS.step()
    def _deliver(self, publication_id: str, destination: str, turn: int) -> float | None:
        """Make one attempt; give the seconds after which to make another, if there is to be one."""
        try:
            return self._courier.attempt(publication_id, destination, turn)
        except AuditUnavailable as error:
            self._audit_trouble = error
            return _AUDIT_AGAIN_S

    def _queue_delivery(self, attempt: "_Attempt", wait_s: float = 0.0) -> None:
        """Queue an attempt; deliveries of the same order key are never under way at once."""
        with (
            SetWorkflowID(attempt.workflow_id),
            SetEnqueueOptions(
                queue_partition_key=attempt.order_key or attempt.publication_id,
                delay_seconds=wait_s or None,
            ),
        ):
            DBOS.enqueue_workflow(
                delivery_queue(attempt.destination), self.deliver_result, *astuple(attempt)
            )

    def send_waiting(self) -> int:
        """Queue every delivery that waits and is in no queue yet, and say how many."""
        waiting = self._outbox.unqueued(self._destinations)
        for each in waiting:
            key = each.publication.order_key
            self._queue_delivery(_Attempt(each.publication_id, each.destination, key, each.turn))
        if waiting:
            self._outbox.queued(waiting)
        return len(waiting)

    def places(self) -> Mapping[str, int]:
        """Say how many deliveries to each destination may be under way now."""
        return self._courier.places()

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
            explained.append(identifier)
        return explained

    def explain_lost_deliveries(self) -> Sequence[Delivery]:
        """Park each delivery whose workflow broke: it waits for nobody but a person.

        The workflows of releases that had no outbox have other ids. What they left was queued anew.
        """
        broken = []
        for workflow in DBOS.list_workflows(status=_GAVE_UP, workflow_id_prefix="deliver-"):
            attempt = _ATTEMPT.fullmatch(workflow.workflow_id)
            if attempt is None:
                continue
            destination, publication_id, turn = attempt.groups()
            try:
                delivery = self._outbox.delivery(publication_id, destination)
            except ResultNotFound:
                continue
            if delivery.state is DeliveryState.WAITING and delivery.turn == int(turn):
                says = f"radcds could not deliver it ({type(workflow.error).__name__})"
                state, now = DeliveryState.PARKED, self._clock.now()
                self._outbox.settle(publication_id, destination, state, says=says, at=now)
                broken.append(delivery)
        return broken

    def parked(self) -> Sequence[Delivery]:
        """List the deliveries that were given up; each waits for a person."""
        return list(every_parked(self._outbox))

    def retry(self, parked: Delivery) -> None:
        """Try a parked delivery again, with the same bytes."""
        if self._outbox.again(parked.publication_id, parked.destination, audit_events=()):
            self.send_waiting()


def _was_followed(read: StoredResult) -> bool:
    """Say whether it is known what was read: results of earlier databases do not say it."""
    return bool(read.chosen) or isinstance(read.outcome, NotAnalysed)


def _was_given_up(read: StoredResult) -> bool:
    outcome = read.outcome
    return isinstance(outcome, NotAnalysed) and outcome.reason is Reason.PROCESSING_FAILED
