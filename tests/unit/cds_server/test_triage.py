"""The story of one study: audited first, told truly, stored once."""

import hashlib
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pydicom
import pytest
from serving import TickingClock
from studies import MODEL, OUTCOMES, STUDY_UID, chest_instance
from studies import site as example_site

from ai_engine.errors import ModelFailed
from ai_engine.image import Image
from ai_engine.result import ModelIdentity, NotAnalysed, Outcome, Reason, TriageResult
from cds_server.adapters.in_memory import (
    InMemoryArchive,
    InMemoryAuditTrail,
    InMemoryFeedbackStore,
    InMemoryResultStore,
)
from cds_server.adapters.in_memory_amendments import InMemoryAmendmentStore
from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.arrivals import Arrived
from cds_server.delivery import Courier, Patience
from cds_server.errors import (
    AuditUnavailable,
    DeliveryFailed,
    InstanceUnreadable,
    StudyNotFound,
)
from cds_server.ports import StoredResult, StudyState
from cds_server.reading import Reading
from cds_server.triage import READING_WAITS_S, Triage
from fhir_mappers.dicom_study import unidentified_study
from fhir_mappers.identifiers import resource_id, result_id
from fhir_mappers.report_context import DisplayMode, ReportSet

RESULT = result_id(STUDY_UID, MODEL.sha256)
_names = itertools.count()


@dataclass
class WatchedArchive(InMemoryArchive):
    """Counts what was fetched."""

    fetched: int = 0
    damaged: bool = False
    gone: set[str] = field(default_factory=set)
    sends: bytes = b""
    names: str = ""

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        self.fetched += 1
        found = super().metadata(study_instance_uid)
        if not self.names:
            return found
        garbled = {"vr": "PN", "Value": [{"Alphabetic": self.names}]}
        return [{**each, "00100010": garbled} for each in found]

    def instance(self, *uids: str) -> bytes:
        self.fetched += 1
        if uids[2] in self.gone:
            msg = "there is no such instance"
            raise StudyNotFound(msg)
        if self.damaged:
            msg = "The file is damaged and cannot be read."
            raise InstanceUnreadable(msg)
        return self.sends or super().instance(*uids)


@dataclass
class FixedReader:
    """An engine that gives what a test wants."""

    outcome: Outcome | Exception
    seen: list[Image] = field(default_factory=list)
    model: ModelIdentity = MODEL
    model_card: dict[str, object] = field(default_factory=dict)
    modalities: frozenset[str] = frozenset({"CR", "DX"})

    def read(self, images: Sequence[Image]) -> Outcome:
        self.seen += images
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass
class Collected:
    """A destination that keeps what it got."""

    got: list[ReportSet] = field(default_factory=list)
    name: str = "collected"
    at_once: int = 1
    fault: DeliveryFailed | None = None

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        assert result.result_id == RESULT
        if self.fault:
            raise self.fault
        self.got.append(artefacts)


class Story:
    """The story over stand-ins, step by step."""

    def __init__(
        self, outcome: Outcome | Exception, *, shadow: bool = False, **changes: object
    ) -> None:
        self.archive = WatchedArchive([chest_instance(**changes)])
        self.trail = InMemoryAuditTrail()
        self.store = InMemoryResultStore(self.trail)
        self.reader = FixedReader(outcome)
        self.destination = Collected()
        self.triage = Triage(
            archive=self.archive,
            decoder=InProcessDecoder(),
            reader=self.reader,
            store=self.store,
            trail=self.trail,
            outbox=self.store.outbox,
            courier=Courier(
                outbox=self.store.outbox,
                store=self.store,
                amendments=InMemoryAmendmentStore(self.store, InMemoryFeedbackStore(self.store)),
                trail=self.trail,
                destinations=[self.destination],
                site=example_site(),
                clock=TickingClock(),
                patience=Patience(),
            ),
            site=example_site(),
            clock=TickingClock(),
            software_version="0",
            shadow=shadow,
            back_into_archive="collected",
            name=f"test-{next(_names)}",
        )
        self.store.notice(RESULT, STUDY_UID, TickingClock().now())

    def read(self, result: str = RESULT) -> Outcome:
        return self.stored(result).outcome

    def stored(self, result: str = RESULT) -> StoredResult:
        self.triage._read_and_store(result)
        stored = self.store.entry(result).result
        assert stored is not None
        return stored

    def arrives(self, instances: int | None = None, *, in_place: bool = False) -> timedelta | None:
        """Let the archive tell of the study."""
        return self.triage.arrived(Arrived(STUDY_UID, 1, instances, in_place))

    def add(self, number: int, **changes: object) -> str:
        uid = f"{STUDY_UID}.1.{number}"
        self.archive.instances.append(
            chest_instance(SOPInstanceUID=uid, InstanceNumber=number, **changes)
        )
        return uid

    def events(self) -> list[tuple[str, str]]:
        events = [json.loads(event) for event in self.trail.recorded]
        return [(event["subtype"][0]["code"], event["outcome"]) for event in events]


def test_no_audit_no_images() -> None:
    story = Story(OUTCOMES["urgent"])
    story.trail.broken = True
    with pytest.raises(AuditUnavailable):
        story.triage._read_and_store(RESULT)
    assert story.archive.fetched == 0
    assert story.reader.seen == []
    assert story.store.entry(RESULT).result is None
    assert isinstance(story.triage.audit_trouble, AuditUnavailable)


def test_no_audit_no_delivery() -> None:
    story = Story(OUTCOMES["urgent"])
    story.read()
    story.trail.broken = True
    assert story.triage._deliver(RESULT, "collected", 1), "it is tried again"
    assert story.destination.got == []
    assert isinstance(story.triage.audit_trouble, AuditUnavailable)


def test_in_shadow_a_study_is_read_and_audited_and_sent_to_nobody() -> None:
    story = Story(OUTCOMES["urgent"], shadow=True)
    assert isinstance(story.read(), TriageResult)
    assert story.triage.destination_names == ()
    entry = story.store.entry(RESULT)
    assert entry.shadow
    assert entry.delivered == {}
    assert entry.state is StudyState.PUBLISHED
    assert entry.due - entry.noticed_at == timedelta(days=1)
    assert story.events() == [("read", "0"), ("create", "0")]


def test_a_study_is_audited_fetched_read_and_stored() -> None:
    story = Story(OUTCOMES["urgent"])
    assert isinstance(story.read(), TriageResult)
    assert story.events() == [("read", "0"), ("create", "0")]
    created = json.loads(story.trail.recorded[1])
    told = {d["type"]: d["valueString"] for e in created["entity"] for d in e.get("detail", [])}
    assert told["result"] == "urgent"
    assert told["model"] == "cxr-test@2.1.0"
    assert told["model-sha256"] == MODEL.sha256
    assert "abnormal=0.970/0.500" in told["findings"]


def test_the_model_sees_no_identity() -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    (seen,) = story.reader.seen
    shown = repr([getattr(seen, name) for name in seen.__slots__ if name != "pixels"])
    assert "MRN" not in shown
    assert "TEST" not in shown


def test_reading_again_after_a_crash_changes_nothing() -> None:
    story = Story(OUTCOMES["flagged"])
    story.read()
    artefacts = story.store.artefacts(RESULT)
    story.reader.outcome = OUTCOMES["normal"]
    story.read()
    assert story.store.artefacts(RESULT) == artefacts
    assert len(story.events()) == 2


def test_delivering_again_hands_over_the_same_bytes() -> None:
    story = Story(OUTCOMES["flagged"])
    story.read()
    story.triage._deliver(RESULT, "collected", 1)
    assert story.store.outbox.again(RESULT, "collected", audit_events=[])
    story.triage._deliver(RESULT, "collected", 1)
    story.triage._deliver(RESULT, "collected", 2)
    first, second = story.destination.got
    assert first == second
    assert story.events()[2:] == [("disclose", "0")] * 2


@pytest.mark.parametrize(
    ("changes", "reason", "audited"),
    [
        ({"Modality": "CT"}, Reason.UNSUPPORTED_MODALITY, "4"),
        ({"ViewPosition": "LL"}, Reason.LATERAL_VIEW, "4"),
        ({"NumberOfFrames": 4}, Reason.MULTI_FRAME, "4"),
        ({"PresentationIntentType": "FOR PROCESSING"}, Reason.POOR_QUALITY, "4"),
        ({"PixelData": b"\x00\x00"}, Reason.UNREADABLE, "8"),
    ],
)
def test_what_is_not_read_is_told_with_its_reason_and_audited(
    changes: dict[str, object], reason: Reason, audited: str
) -> None:
    story = Story(OUTCOMES["normal"], **changes)
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is reason
    assert story.events()[-1] == ("create", audited)
    assert story.reader.seen == []


def test_a_damaged_object_is_unreadable_and_never_normal() -> None:
    story = Story(OUTCOMES["normal"])
    story.archive.damaged = True
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is Reason.UNREADABLE


def test_a_model_that_fails_is_told_as_failed() -> None:
    story = Story(ModelFailed("the network gave values that are no numbers"))
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is Reason.MODEL_FAILED
    assert story.events()[-1] == ("create", "8")


def test_a_study_that_vanished_is_told_as_unreadable() -> None:
    story = Story(OUTCOMES["normal"])
    story.archive.instances.clear()
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is Reason.UNREADABLE


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is queued to be read, in place of the workflow engine."""
    found: list[str] = []

    def enqueue(_: str, workflow: object, identifier: str) -> None:
        assert callable(workflow)
        found.append(identifier)

    monkeypatch.setattr("cds_server.triage.DBOS.enqueue_workflow", enqueue)
    return found


AGAIN = result_id(STUDY_UID, MODEL.sha256, 2)


def test_a_study_is_read_once_however_often_the_archive_tells_of_it(queued: list[str]) -> None:
    story = Story(OUTCOMES["urgent"])
    story.read()
    fetched = story.archive.fetched
    assert story.arrives(1) is None
    assert queued == []
    assert story.archive.fetched == fetched, "a number that is explained needs no look"


def test_our_own_objects_in_the_study_never_cause_another_reading(queued: list[str]) -> None:
    story = Story(OUTCOMES["urgent"])
    story.read()
    story.triage._deliver(RESULT, "collected", 1)
    own = story.store.artefacts(RESULT).dicom
    story.archive.instances += [pydicom.dcmread(io.BytesIO(each)) for each in own.values()]
    assert story.arrives(1 + len(own)) is None
    for arrived in range(1, len(own)):
        assert story.arrives(1 + arrived) is None
    assert queued == []


def test_an_image_that_comes_late_has_the_study_read_again_and_supersedes(
    queued: list[str],
) -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    late = story.add(2, ViewPosition="AP")
    story.reader.outcome = OUTCOMES["urgent"]
    assert story.arrives(2) is None
    assert queued == [AGAIN]
    stored = story.stored(AGAIN)
    assert set(stored.chosen) == {f"{STUDY_UID}.1.1", late}
    assert story.store.entry(RESULT).superseded
    assert not story.store.entry(AGAIN).superseded
    bundle = json.loads(story.store.artefacts(AGAIN).bundle)
    (report,) = [
        each["resource"]
        for each in bundle["entry"]
        if each["resource"]["resourceType"] == "DiagnosticReport"
    ]
    earlier = resource_id(RESULT, "DiagnosticReport")
    assert report["extension"][0]["valueReference"]["reference"] == f"DiagnosticReport/{earlier}"
    assert "replaces an earlier AI result" in report["conclusion"]
    assert b"replaces an earlier AI result" in story.store.artefacts(AGAIN).oru
    story.arrives(2)
    assert queued == [AGAIN]


def test_a_late_image_that_the_model_does_not_read_changes_nothing(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    story.add(2, ViewPosition="LL")
    assert story.arrives(2) is None
    assert queued == []


def test_an_image_that_comes_while_the_study_is_read_is_not_forgotten(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    story.add(2, ViewPosition="AP")
    wait = story.arrives(2)
    assert wait is not None
    assert timedelta(0) < wait <= timedelta(minutes=1)
    assert queued == [RESULT], "queued again under the same identifier, which changes nothing"


def test_an_image_whose_content_was_replaced_is_read_again(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    assert story.arrives(in_place=True) is None
    assert queued == []
    story.archive.instances[0].PixelData = bytes(256 * 224 * 2 - 2) + b"\x01\x01"
    assert story.arrives(in_place=True) is None
    assert queued == [AGAIN]


def test_looking_for_late_images_is_itself_recorded(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    story.arrives(5)
    assert story.events()[-1] == ("read", "0")
    story.trail.broken = True
    fetched = story.archive.fetched
    with pytest.raises(AuditUnavailable):
        story.arrives(5)
    assert story.archive.fetched == fetched
    assert queued == []


def test_a_study_that_was_deleted_is_left_alone(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    story.archive.instances.clear()
    assert story.arrives(0) is None
    assert queued == []


def test_one_bad_image_among_good_ones_is_named_in_every_channel() -> None:
    story = Story(OUTCOMES["normal"])
    bad = story.add(2, ViewPosition="AP")
    story.archive.instances[-1].PixelData = b"\x00\x00"
    stored = story.stored()
    assert isinstance(stored.outcome, TriageResult)
    assert stored.unread == 1
    assert [each.reason for each in stored.exclusions if each.sop_instance_uid == bad] == [
        Reason.UNREADABLE
    ]
    artefacts = story.store.artefacts(RESULT)
    for channel in (artefacts.bundle, artefacts.oru, artefacts.card):
        assert b"INCOMPLETE" in channel
        assert b"could not be read" in channel
    created = json.loads(story.trail.recorded[-1])
    told = {d["type"]: d["valueString"] for e in created["entity"] for d in e.get("detail", [])}
    assert told["not-read"] == "UNREADABLE=1"


def test_an_image_that_was_deleted_while_the_study_was_read_is_said_to_be() -> None:
    story = Story(OUTCOMES["normal"])
    story.archive.gone = {f"{STUDY_UID}.1.1"}
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is Reason.UNREADABLE
    assert "removed from the archive" in outcome.detail


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_an_image_that_says_it_is_another_is_never_read(keyword: str) -> None:
    story = Story(OUTCOMES["normal"])
    other = chest_instance(**{keyword: "1.2.3"})
    written = io.BytesIO()
    pydicom.dcmwrite(written, other, enforce_file_format=True)
    story.archive.sends = written.getvalue()
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is Reason.UNREADABLE
    assert story.reader.seen == []


def test_what_was_read_is_kept_by_its_digest() -> None:
    story = Story(OUTCOMES["normal"])
    content = story.archive.instance(STUDY_UID, f"{STUDY_UID}.1", f"{STUDY_UID}.1.1")
    assert story.stored().chosen == {f"{STUDY_UID}.1.1": hashlib.sha256(content).hexdigest()}


def test_waiting_for_an_archive_goes_in_steps_of_a_minute_at_most_for_twenty_in_all() -> None:
    assert max(READING_WAITS_S) == 60.0
    assert READING_WAITS_S[:3] == (1.0, 2.0, 5.0)
    assert 1200 < sum(READING_WAITS_S) < 1400


def test_images_that_come_late_are_not_taken_for_our_own_objects(queued: list[str]) -> None:
    story = Story(OUTCOMES["urgent"])
    story.read()
    own = len(story.store.artefacts(RESULT).dicom)
    for number in range(own):
        story.add(number + 2, ViewPosition="AP")
    assert story.arrives(1 + own) is None
    assert queued == [AGAIN]


def test_a_late_image_of_another_patient_makes_the_study_unreadable(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    story.read()
    story.add(2, PatientID="SOMEBODY ELSE", ViewPosition="AP")
    story.arrives(2)
    assert queued == [AGAIN]
    outcome = story.stored(AGAIN).outcome
    assert isinstance(outcome, NotAnalysed)
    assert "disagree about Patient ID" in outcome.detail
    assert story.store.entry(RESULT).superseded


def test_an_image_that_names_another_patient_than_the_archive_is_never_read() -> None:
    story = Story(OUTCOMES["normal"])
    written = io.BytesIO()
    pydicom.dcmwrite(written, chest_instance(PatientID="OTHER"), enforce_file_format=True)
    story.archive.sends = written.getvalue()
    outcome = story.read()
    assert isinstance(outcome, NotAnalysed)
    assert outcome.reason is Reason.UNREADABLE
    assert "OTHER" not in outcome.detail


def test_what_an_earlier_model_was_to_read_this_one_reads_under_its_own_name() -> None:
    story = Story(OUTCOMES["normal"])
    earlier = result_id(STUDY_UID, "e" * 64)
    story.store.notice(earlier, STUDY_UID, TickingClock().now())
    assert story.triage._read_and_store(earlier) == ""
    assert story.store.entry(earlier).result is None
    assert story.archive.fetched == 0


def test_a_study_that_was_given_up_is_read_again_when_the_archive_tells_of_it(
    queued: list[str],
) -> None:
    story = Story(OUTCOMES["normal"])
    failed = NotAnalysed(Reason.PROCESSING_FAILED, "Processing failed and was given up.", MODEL)
    story.triage._publishable(
        RESULT, Reading(unidentified_study(STUDY_UID), failed), TickingClock().now()
    )
    story.arrives(in_place=True)
    assert queued == [AGAIN]


def test_a_result_of_a_release_that_kept_no_digests_is_not_read_again(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"])
    stored = story.stored()
    line = story.store.lines[RESULT]
    story.store.lines[RESULT] = replace(line, result=replace(stored, chosen={}))
    story.arrives(5)
    assert queued == []


def test_no_location_leaves_a_site_that_has_become_triage_only() -> None:
    story = Story(OUTCOMES["urgent"])
    story.read()
    story.triage._courier._site = example_site(DisplayMode.TRIAGE_ONLY)
    assert story.triage._deliver(RESULT, "collected", 1) is None
    assert story.destination.got == []
    (parked,) = story.triage.parked()
    assert "triage only now" in parked.says


@pytest.mark.parametrize("garbled", ["M\ufffdller^\u00c4", "Muller^A"])
def test_a_name_that_the_archive_garbles_is_taken_from_the_file_where_nothing_was_analysed(
    garbled: str,
) -> None:
    name = "M\u00fcller^\u00c4nne"
    story = Story(
        OUTCOMES["normal"], Modality="MR", PatientName=name, SpecificCharacterSet="ISO_IR 100"
    )
    story.archive.names = garbled
    assert isinstance(story.read(), NotAnalysed)
    report = pydicom.dcmread(io.BytesIO(story.store.artefacts(RESULT).dicom["report.dcm"]))
    ascii_only = garbled.isascii()
    assert str(report.PatientName) == (garbled if ascii_only else name)


def test_a_file_that_is_damaged_leaves_what_the_archive_says(queued: list[str]) -> None:
    story = Story(OUTCOMES["normal"], Modality="MR", PatientName="M\u00fcller^A")
    story.archive.damaged = True
    assert isinstance(story.read(), NotAnalysed)
    report = pydicom.dcmread(io.BytesIO(story.store.artefacts(RESULT).dicom["report.dcm"]))
    assert str(report.PatientName) == "M\u00fcller^A"
    assert queued == []
