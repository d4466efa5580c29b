"""Stand-ins that keep everything in memory. They pass the contract tests of the real adapters.

For tests only: ``bootstrap`` builds none of them.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pydicom
from pydicom.dataset import Dataset

from cds_server.adapters.in_memory_inbox import InMemoryInbox
from cds_server.adapters.in_memory_outbox import InMemoryOutbox
from cds_server.amendments import SignOffAsked
from cds_server.errors import AuditUnavailable, ResultNotFound, StudyNotFound
from cds_server.feedback import CardFeedback, IssuedCard, Verdict
from cds_server.imaging import Arrival, FileProblem
from cds_server.outbox import DeliveryState, Publication
from cds_server.ports import StoredResult, StudyEntry, StudyState
from cds_server.session import LAUNCH_LASTS, PendingLaunch, Session
from cds_server.worklist import Placing, WorklistPage, WorklistQuery, in_order
from fhir_mappers.report_context import ReportSet


@dataclass
class InMemoryArchive:
    """An archive of datasets that a test made."""

    instances: list[Dataset] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:
        """List the studies, sorted."""
        day = since.strftime("%Y%m%d") if since else ""
        found: dict[str, list[Dataset]] = {}
        for each in self.instances:
            if str(each.get("StudyDate", "")) >= day:
                found.setdefault(str(each.StudyInstanceUID), []).append(each)
        return [
            Arrival(
                uid, tuple(sorted({str(each.Modality) for each in found[uid]})), len(found[uid])
            )
            for uid in sorted(found)
        ]

    def holds(self, study_instance_uid: str) -> bool:
        """Say whether there is such a study."""
        return any(each.StudyInstanceUID == study_instance_uid for each in self.instances)

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance.

        Raises
        ------
        StudyNotFound
            If there is no such study.
        """
        found = [
            {tag: value for tag, value in each.to_json_dict().items() if tag != "7FE00010"}
            for each in self.instances
            if each.StudyInstanceUID == study_instance_uid
        ]
        if not found:
            msg = "there is no such study"
            raise StudyNotFound(msg)
        return found

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> bytes:
        """Give one instance.

        Raises
        ------
        StudyNotFound
            If there is no such instance.
        """
        wanted = (study_instance_uid, series_instance_uid, sop_instance_uid)
        for each in self.instances:
            if (each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID) == wanted:
                written = io.BytesIO()
                pydicom.dcmwrite(written, each, enforce_file_format=True)
                return written.getvalue()
        msg = "there is no such instance"
        raise StudyNotFound(msg)


@dataclass
class InMemoryAuditTrail:
    """A trail that a test can read, and break."""

    recorded: list[bytes] = field(default_factory=list)
    broken: bool = False

    def record(self, events: Sequence[bytes]) -> None:
        """Append events.

        Raises
        ------
        AuditUnavailable
            If a test broke the trail.
        """
        if self.broken:
            msg = "the audit trail cannot be written (broken by the test)"
            raise AuditUnavailable(msg)
        self.recorded.extend(events)

    def events(self, study_instance_uid: str | None = None) -> Sequence[bytes]:
        """Give the events of one study, or all."""
        if study_instance_uid is None:
            return list(self.recorded)
        needle = f'"urn:oid:{study_instance_uid}"'.encode()
        return [event for event in self.recorded if needle in event]

    def verify(self) -> int:
        """Count the events."""
        return len(self.recorded)


@dataclass
class InMemoryResultStore:
    """A result store whose audit leaves go to the given trail."""

    trail: InMemoryAuditTrail = field(default_factory=InMemoryAuditTrail)
    placing: Placing = field(default_factory=Placing)
    lines: dict[str, StudyEntry] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sets: dict[str, ReportSet] = field(default_factory=dict)
    outbox: InMemoryOutbox = field(init=False)
    inbox: InMemoryInbox = field(init=False)
    recalled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with an empty outbox."""
        self.outbox = InMemoryOutbox(self.trail)
        self.inbox = InMemoryInbox(self.trail, self.placing)

    def notice(self, result_id: str, study_instance_uid: str, noticed_at: datetime) -> bool:
        """Remember a study."""
        if result_id in self.lines:
            return False
        for earlier in self.entries_of_study(study_instance_uid):
            self.lines[earlier.result_id] = replace(earlier, superseded=True)
        self.lines[result_id] = StudyEntry(
            result_id,
            study_instance_uid,
            noticed_at,
            StudyState.QUEUED,
            None,
            {},
            self.placing.due(noticed_at, None),
        )
        return True

    def save(
        self,
        stored: StoredResult,
        artefacts: ReportSet,
        *,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
        order_key: str = "",
    ) -> None:
        """Store a result, unless there is one."""
        if stored.result_id in self.sets:
            return
        self.trail.record(audit_events)
        self.sets[stored.result_id] = artefacts
        original = {"original.png": artefacts.original_png} if artefacts.original_png else {}
        self.files[stored.result_id] = artefacts.files() | original
        self.lines[stored.result_id] = replace(
            self.lines[stored.result_id],
            result=stored,
            state=StudyState.READ,
            due=self.placing.due(self.lines[stored.result_id].noticed_at, stored),
            centre=self.placing.centre(stored),
        )
        publication = Publication(
            stored.result_id,
            stored.result_id,
            stored.study.study_instance_uid,
            order_key or stored.result_id,
            stored.stored_at,
        )
        self.outbox.add(publication, destinations)

    def progress(self, result_id: str, state: StudyState) -> None:
        """Note how far a study is."""
        if self.lines[result_id].result is None:
            self.lines[result_id] = replace(self.lines[result_id], state=state)

    def _lines(self) -> list[StudyEntry]:
        return [self._line(result_id) for result_id in self.lines]

    def _line(self, result_id: str) -> StudyEntry:
        """Give one line with what was delivered of it."""
        line = self.lines[result_id]
        arrived = {DeliveryState.DELIVERED, DeliveryState.SUPERSEDED}
        delivered = {
            each.destination: each.state in arrived
            for each in sorted(self.outbox.kept.values(), key=lambda each: each.sequence)
            if each.publication_id == result_id
        }
        published = line.result is not None and all(delivered.values())
        state = StudyState.PUBLISHED if published else line.state
        recalled = result_id in self.recalled
        whole = replace(line, delivered=delivered, state=state, recalled=recalled)
        return self.inbox.placed(whole)

    def entry(self, result_id: str) -> StudyEntry:
        """Give one line.

        Raises
        ------
        ResultNotFound
            If nothing is known.
        """
        if result_id not in self.lines:
            msg = "no study is known under this identifier"
            raise ResultNotFound(msg)
        return self._line(result_id)

    def study_of(self, result_id: str) -> str:
        """Give the Study Instance UID of a result.

        Raises
        ------
        ResultNotFound
            If nothing is known.
        """
        return self.entry(result_id).study_instance_uid

    def entries(self) -> Sequence[StudyEntry]:
        """Give every study, the most urgent first."""
        return sorted(self._lines(), key=lambda line: (line.rank, line.noticed_at))

    def entries_of_patient(self, patient_id: str) -> Sequence[StudyEntry]:
        """Give the studies of one patient, latest first."""
        own = [
            line
            for line in self._lines()
            if line.result and line.result.study.patient.patient_id == patient_id
        ]
        return sorted(own, key=lambda line: line.noticed_at, reverse=True)

    def entries_of_study(self, study_instance_uid: str) -> Sequence[StudyEntry]:
        """Give every result of one study, latest first."""
        own = [e for e in self._lines() if e.study_instance_uid == study_instance_uid]
        return sorted(own, key=lambda line: line.noticed_at, reverse=True)

    def worklist(self, query: WorklistQuery) -> WorklistPage:
        """Give the lines of a worklist in the order of reading."""
        admitted = in_order(query, (e for e in self._lines() if query.admits(e)))
        counts = Counter(entry.rank for entry in admitted)
        shown = admitted[: query.limit]
        return WorklistPage(shown, len(admitted) - len(shown), counts)

    def artefact(self, result_id: str, name: str) -> bytes:
        """Give one artefact.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        if name not in self.files.get(result_id, {}):
            msg = "this study has no such artefact"
            raise ResultNotFound(msg)
        return self.files[result_id][name]

    def artefact_of_each(self, name: str, result_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Give one artefact of each result that has it."""
        files = {each: self.files.get(each, {}) for each in result_ids}
        return {each: found[name] for each, found in files.items() if name in found}

    def artefacts(self, result_id: str) -> ReportSet:
        """Give the report set.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        if result_id not in self.sets:
            msg = "no result is stored under this identifier"
            raise ResultNotFound(msg)
        return self.sets[result_id]


@dataclass
class InMemoryFeedbackStore:
    """What people said, beside an in-memory result store."""

    results: InMemoryResultStore
    cards: dict[str, IssuedCard] = field(default_factory=dict)
    said: list[CardFeedback] = field(default_factory=list)
    given: list[Verdict] = field(default_factory=list)
    sign_offs: list[SignOffAsked] = field(default_factory=list)

    def issue(self, cards: Sequence[IssuedCard], audit_events: Sequence[bytes]) -> None:
        """Remember cards."""
        self.results.trail.record(audit_events)
        for card in cards:
            self.cards.setdefault(card.uuid, card)

    def card(self, uuid: str) -> IssuedCard | None:
        """Give a card."""
        return self.cards.get(uuid)

    def add_feedback(
        self, items: Sequence[CardFeedback], leaf: Callable[[CardFeedback], bytes]
    ) -> int:
        """Keep what is new."""
        known = {(each.card, each.outcome, each.at) for each in self.said}
        new = {(each.card, each.outcome, each.at): each for each in items}
        fresh = [each for key, each in new.items() if key not in known]
        self.results.trail.record([leaf(each) for each in fresh])
        self.said += fresh
        return len(fresh)

    def feedback(self, card: str) -> Sequence[CardFeedback]:
        """Give what was said of a card, oldest first."""
        return sorted((each for each in self.said if each.card == card), key=lambda each: each.at)

    def add_verdict(
        self, verdict: Verdict, audit_events: Sequence[bytes], asked: SignOffAsked | None = None
    ) -> None:
        """Keep a verdict and close the study."""
        self.results.trail.record(audit_events)
        if asked is not None:
            self.sign_offs.append(asked)
        self.given.append(verdict)
        line = self.results.lines[verdict.result_id]
        closed_at = line.closed_at or verdict.at
        self.results.lines[verdict.result_id] = replace(line, closed_at=closed_at)

    def verdicts(self, result_id: str) -> Sequence[Verdict]:
        """Give the verdicts on a result, oldest first."""
        return [each for each in self.given if each.result_id == result_id]


@dataclass
class InMemorySessionStore:
    """Launches and sessions of one process."""

    trail: InMemoryAuditTrail = field(default_factory=InMemoryAuditTrail)
    launches: dict[str, PendingLaunch] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    refreshing: dict[str, datetime] = field(default_factory=dict)
    grants: dict[tuple[str, str, str], datetime] = field(default_factory=dict)

    def add_launch(self, launch: PendingLaunch) -> None:
        """Remember a launch, and forget those that never came back."""
        lost = launch.started_at - LAUNCH_LASTS
        self.launches = {k: v for k, v in self.launches.items() if v.started_at >= lost}
        self.launches[launch.state] = launch

    def take_launch(self, state: str) -> PendingLaunch | None:
        """Give a launch once."""
        return self.launches.pop(state, None)

    def add(self, session: Session, audit_events: Sequence[bytes]) -> None:
        """Begin a session."""
        self.trail.record(audit_events)
        self.sessions[session.handle] = session

    def session(self, handle: str) -> Session | None:
        """Give a session."""
        return self.sessions.get(handle)

    def seen(self, handle: str, at: datetime) -> None:
        """Note that a session was used."""
        if handle in self.sessions:
            self.sessions[handle] = replace(self.sessions[handle], seen_at=at)

    def claim_refresh(self, handle: str, now: datetime, until: datetime) -> bool:
        """Let one caller renew."""
        if handle not in self.sessions or self.refreshing.get(handle, now) > now:
            return False
        self.refreshing[handle] = until
        return True

    def renew(
        self, handle: str, *, access_token: str, refresh_token: str, access_until: datetime
    ) -> None:
        """Replace the tokens."""
        if handle not in self.sessions:
            return
        self.refreshing.pop(handle, None)
        self.sessions[handle] = replace(
            self.sessions[handle],
            access_token=access_token,
            refresh_token=refresh_token,
            access_until=access_until,
        )

    def end(self, handle: str, audit_events: Sequence[bytes]) -> None:
        """End a session."""
        self.trail.record(audit_events)
        self.sessions.pop(handle, None)
        self.grants = {key: until for key, until in self.grants.items() if key[0] != handle}

    def grant(
        self, handle: str, result_id: str, what: str, until: datetime, audit_events: Sequence[bytes]
    ) -> None:
        """Grant something of one study."""
        self.trail.record(audit_events)
        self.grants[handle, result_id, what] = until

    def granted(self, handle: str, result_id: str, what: str, now: datetime) -> bool:
        """Say whether it was granted, and still is."""
        until = self.grants.get((handle, result_id, what))
        return until is not None and now < until

    def forget_before(self, started_before: datetime) -> None:
        """Drop what is old."""
        self.launches = {
            state: launch
            for state, launch in self.launches.items()
            if launch.started_at >= started_before
        }
        self.sessions = {
            handle: session
            for handle, session in self.sessions.items()
            if session.started_at >= started_before
        }
        self.grants = {key: until for key, until in self.grants.items() if key[0] in self.sessions}
