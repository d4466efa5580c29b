"""The performer of workitems against a strict origin server, over HTTP."""

import contextlib
import io
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian
from studies import MODEL, OUTCOMES, STUDY_UID, chest_study
from studies import site as example_site
from ups_server import Dialect, Server, Worklist, serving, tag, value, values

from ai_engine.result import NotAnalysed, Outcome, Reason
from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.ups_rs import UpsRs
from cds_server.errors import ArchiveUnreachable, AuditUnavailable, PeerUnavailable
from cds_server.ports import StoredResult, StudyEntry, StudyState
from cds_server.workitems import Happening, Performer, Readings, Station, Step, WorkitemSource
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet
from fhir_mappers.workitem import State, Wanted

pytestmark = pytest.mark.alone

STATION = Code("RADCDS-1", "99NORTH", "radcds at North Hospital")
INSTALLATION = uuid.UUID("5f0c8a5e-7f0a-4c55-9a76-0d8a0c0f3a11")
PACS = "https://pacs.example.org/dicom-web"
NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
WORDS_ABOUT_PATIENTS = ("TEST^PATIENT", "PATIENT", "123456")
HTTP = BoundedHttp(timeout_s=10.0, largest_bytes=200_000)
SHOWN_IMAGE = f"{STUDY_UID}.1.1"


CLAIM_OF_ANOTHER = {
    tag("TransactionUID"): {"vr": "UI", "Value": ["2.25.99"]},
    tag("ProcedureStepState"): {"vr": "CS", "Value": ["IN PROGRESS"]},
}


def part10(series: str, instance: str) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, series
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()


OUTPUTS = {
    "secondary-capture.dcm": part10("2.25.1", "2.25.11"),
    "report.dcm": part10("2.25.2", "2.25.21"),
}


@dataclass
class Clock:
    time: datetime = NOW

    def now(self) -> datetime:
        return self.time


@dataclass
class Trail:
    """Keeps events, or refuses them."""

    refuses: bool = False
    leaves: list[dict[str, Any]] = field(default_factory=list)

    def record(self, events: Sequence[bytes]) -> None:
        if self.refuses:
            msg = "the audit trail cannot be written"
            raise AuditUnavailable(msg)
        self.leaves += [json.loads(event) for event in events]

    def events(self, study_instance_uid: str | None = None) -> Sequence[bytes]:
        raise NotImplementedError

    def verify(self) -> int:
        raise NotImplementedError

    def states(self) -> list[tuple[str, str]]:
        """Give each recorded change of state, with the study."""
        found = []
        for leaf in self.leaves:
            (entity,) = leaf["entity"]
            detail = {each["type"]: each["valueString"] for each in entity["detail"]}
            study = entity["what"].get("identifier", {}).get("value", "")
            found.append((detail["workitem-state"], study))
        return found


@dataclass
class Studies:
    """What reads the studies: a test says how far each is."""

    clock: Clock
    entries: dict[str, StudyEntry] = field(default_factory=dict)
    sets: dict[str, ReportSet] = field(default_factory=dict)
    noticed: list[str] = field(default_factory=list)

    def notice(self, study_instance_uid: str) -> str:
        identifier = result_id(study_instance_uid, MODEL.sha256)
        self.noticed.append(study_instance_uid)
        queued = StudyEntry(
            identifier, study_instance_uid, self.clock.now(), StudyState.QUEUED, None, {}, NOW
        )
        self.entries.setdefault(identifier, queued)
        return identifier

    def entry(self, identifier: str) -> StudyEntry:
        return self.entries[identifier]

    def artefacts(self, identifier: str) -> ReportSet:
        return self.sets[identifier]

    def begin(self, study_instance_uid: str = STUDY_UID) -> None:
        self._set(study_instance_uid, state=StudyState.ANALYSING)

    def read(
        self,
        study_instance_uid: str = STUDY_UID,
        outcome: Outcome = OUTCOMES["urgent"],
        *,
        dicom: dict[str, bytes] | None = None,
        shadow: bool = False,
        **study: Any,
    ) -> None:
        """Store a result that is not delivered yet."""
        identifier = result_id(study_instance_uid, MODEL.sha256)
        self.sets[identifier] = ReportSet(
            b"{}", b"", b"{}", dicom=OUTPUTS if dicom is None else dicom
        )
        stored = StoredResult(
            identifier,
            chest_study(study_instance_uid=study_instance_uid, **study),
            outcome,
            self.clock.now(),
            {"fetch": 0.5, "infer": 1.5},
            SHOWN_IMAGE,
            shadow,
        )
        self._set(
            study_instance_uid,
            state=StudyState.READ,
            result=stored,
            delivered={"pacs": False, "fhir": False},
        )

    def deliver(self, study_instance_uid: str = STUDY_UID) -> None:
        identifier = result_id(study_instance_uid, MODEL.sha256)
        delivered = dict.fromkeys(self.entries[identifier].delivered, True)
        self._set(study_instance_uid, state=StudyState.PUBLISHED, delivered=delivered)

    def _set(self, study_instance_uid: str, **changes: Any) -> None:
        identifier = self.notice(study_instance_uid)
        self.noticed.pop()
        self.entries[identifier] = replace(self.entries[identifier], **changes)


@dataclass
class World:
    server: Server
    clock: Clock = field(default_factory=Clock)
    trail: Trail = field(default_factory=Trail)
    said: list[Happening] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.studies = Studies(self.clock)

    @property
    def worklist(self) -> Worklist:
        return self.server.worklist

    def source(self, **options: Any) -> UpsRs:
        requester = "RADCDS" if self.worklist.dialect is Dialect.PAYLOAD else ""
        return UpsRs(options.pop("url", self.server.url), http=HTTP, requester=requester, **options)

    def performer(self, source: WorkitemSource | None = None, **changes: Any) -> Performer:
        """A performer that knows nothing yet, as after a restart."""
        installation = changes.pop("installation", INSTALLATION)
        parts: dict[str, Any] = {
            "readings": Readings(self.studies.notice, self.studies.entry, self.studies.artefacts),
            "wanted": Wanted(station=STATION),
            "station": Station(STATION, installation, "pacs", PACS),
            "trail": self.trail,
            "site": example_site(),
            "clock": self.clock,
        }
        return Performer(source or self.source(), **{**parts, **changes})

    def look(self, performer: Performer | None = None) -> list[tuple[Step, str]]:
        happened = (performer or self.performer()).look()
        self.said += happened
        return [(each.step, each.workitem_uid) for each in happened]

    def schedule(self, uid: str = "1.2.3.1", study: str | None = STUDY_UID, **changes: Any) -> str:
        """Put a workitem on the worklist, by the rules."""
        attributes = request(study, **changes).to_json_dict()
        self.worklist.create(uid, attributes)
        return uid

    def step_done(self, uid: str) -> dict[str, Any]:
        (item,) = values(self.worklist.items[uid], "UnifiedProcedureStepPerformedProcedureSequence")
        return dict(item)

    def reason(self, uid: str) -> tuple[str, str]:
        path = "ProcedureStepProgressInformationSequence"
        item = self.worklist.items[uid]
        code = value(item, path, "ProcedureStepDiscontinuationReasonCodeSequence", "CodeValue")
        return str(code), str(value(item, path, "ReasonForCancellation"))


def coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def request(study: str | None = STUDY_UID, station: Code = STATION, **changes: Any) -> Dataset:
    """What a requester creates."""
    dataset, reference, given = Dataset(), Dataset(), Dataset()
    dataset.ProcedureStepState = "SCHEDULED"
    dataset.ScheduledProcedureStepPriority = "MEDIUM"
    dataset.ScheduledProcedureStepStartDateTime = "20261120085900+0000"
    dataset.InputReadinessState = "READY"
    dataset.PatientName, dataset.PatientID = "TEST^PATIENT", "MRN 123456"
    dataset.WorklistLabel = "AI"
    dataset.ScheduledStationNameCodeSequence = [coded(station)]
    dataset.ScheduledWorkitemCodeSequence = [coded(Code("CXR-1", "99NORTH", "Chest triage"))]
    given.TypeOfInstances = "DICOM"
    given.StudyInstanceUID, given.SeriesInstanceUID = study or "", f"{STUDY_UID}.1"
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    reference.ReferencedSOPInstanceUID = SHOWN_IMAGE
    given.ReferencedSOPSequence = [reference]
    dataset.InputInformationSequence = [given] if study else []
    for keyword, each in changes.items():
        setattr(dataset, keyword, each)
    return dataset


@pytest.fixture(params=list(Dialect))
def every_dialect(request: pytest.FixtureRequest) -> Iterator[World]:
    with serving(Worklist(request.param)) as server:
        yield World(server)


@pytest.fixture
def world() -> Iterator[World]:
    with serving(Worklist()) as server:
        made = World(server)
        yield made
        for happening in made.said:
            assert not any(word in happening.says for word in WORDS_ABOUT_PATIENTS)


# --- the way of one workitem


def test_a_workitem_is_claimed_read_delivered_and_completed(every_dialect: World) -> None:
    world = every_dialect
    uid = world.schedule()
    performer = world.performer()
    assert world.look(performer) == [(Step.CLAIMED, uid)]
    assert world.studies.noticed == [STUDY_UID]
    world.studies.begin()
    assert world.look(performer) == []
    world.studies.read()
    assert world.look(performer) == []
    assert world.worklist.state(uid) == "IN PROGRESS"
    world.studies.deliver()
    assert world.look(performer) == [(Step.COMPLETED, uid)]
    assert world.worklist.history[uid] == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert world.look(performer) == []


def test_completed_says_what_was_done_by_whom_when_and_where_the_results_are(world: World) -> None:
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.studies.read()
    world.studies.deliver()
    world.look(performer)
    step = world.step_done(uid)
    assert value(step, "PerformedStationNameCodeSequence", "CodeValue") == "RADCDS-1"
    assert value(step, "PerformedWorkitemCodeSequence", "CodeValue") == "CXR-1"
    assert value(step, "PerformedProcedureStepStartDateTime") == "20261120085958.000000+0000"
    assert value(step, "PerformedProcedureStepEndDateTime") == "20261120090000.000000+0000"
    told = {
        (
            value(output, "StudyInstanceUID"),
            value(output, "ReferencedSOPSequence", "ReferencedSOPInstanceUID"),
            value(output, "WADORSRetrievalSequence", "RetrieveURL"),
        )
        for output in values(step, "OutputInformationSequence")
    }
    assert told == {
        (STUDY_UID, "2.25.11", f"{PACS}/studies/{STUDY_UID}/series/2.25.1"),
        (STUDY_UID, "2.25.21", f"{PACS}/studies/{STUDY_UID}/series/2.25.2"),
    }
    assert value(step, "CommentsOnThePerformedProcedureStep") is None


def test_each_stage_is_told_once(world: World) -> None:
    uid = world.schedule()
    performer = world.performer()
    for step in (lambda: None, world.studies.begin, world.studies.read):
        step()
        world.look(performer)
        world.look(performer)
    assert world.worklist.progress_told[uid] == [
        "Accepted; waiting to be read by the AI",
        "Being read by the AI",
        "Read by the AI; the results are being delivered",
    ]


def test_a_study_that_was_read_before_is_completed_at_the_first_look(world: World) -> None:
    world.studies.read()
    world.studies.deliver()
    uid = world.schedule()
    assert world.look() == [(Step.CLAIMED, uid), (Step.COMPLETED, uid)]
    assert world.worklist.progress_told[uid] == []


def test_the_work_named_where_the_workitem_names_none_is_detection(world: World) -> None:
    world.studies.read()
    world.studies.deliver()
    uid = world.schedule(ScheduledWorkitemCodeSequence=[])
    world.look()
    code = value(world.step_done(uid), "PerformedWorkitemCodeSequence", "CodeValue")
    assert code == "110004"


def test_a_requester_learns_when_the_result_rests_on_an_image_that_was_not_listed(
    world: World,
) -> None:
    other = request()
    other.InputInformationSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.77"
    world.worklist.create("1.2.3.1", other.to_json_dict())
    world.studies.read()
    world.studies.deliver()
    world.look()
    comment = value(world.step_done("1.2.3.1"), "CommentsOnThePerformedProcedureStep")
    assert "does not list" in comment


# --- which work is taken


def test_the_urgent_comes_first_then_the_earliest(world: World) -> None:
    world.schedule("1.1", "1.9.1", ScheduledProcedureStepPriority="LOW")
    world.schedule("1.2", "1.9.2", ScheduledProcedureStepStartDateTime="20261120084500+0000")
    world.schedule("1.3", "1.9.3", ScheduledProcedureStepStartDateTime="20261120093000+0100")
    world.schedule("1.4", "1.9.4", ScheduledProcedureStepPriority="HIGH")
    claimed = [uid for step, uid in world.look(world.performer(at_once=9)) if step is Step.CLAIMED]
    assert claimed == ["1.4", "1.3", "1.2", "1.1"]


def test_no_more_is_claimed_than_is_worked_on_at_once(world: World) -> None:
    for number in range(7):
        world.schedule(f"1.1.{number}", f"1.9.{number}")
    performer = world.performer(at_once=3)
    assert len(world.look(performer)) == 3
    assert world.look(performer) == []
    world.studies.read("1.9.0")
    world.studies.deliver("1.9.0")
    assert world.look(performer) == [(Step.COMPLETED, "1.1.0"), (Step.CLAIMED, "1.1.3")]


def test_every_page_of_the_worklist_is_seen(world: World) -> None:
    world.worklist.longest_page = 3
    for number in range(10):
        world.schedule(f"1.1.{number}", f"1.9.{number}")
    assert len(world.look(world.performer(at_once=20))) == 10


@pytest.mark.parametrize(("ignores_keys", "longest_page"), [(False, 100), (True, 100), (True, 2)])
def test_work_of_another_station_is_never_claimed(
    world: World, *, ignores_keys: bool, longest_page: int
) -> None:
    world.worklist.ignores_keys = ignores_keys
    world.worklist.longest_page = longest_page
    for number in range(5):
        other = Code("RADCDS-1", f"99SOUTH{number}", "the same name elsewhere")
        world.schedule(f"1.2.4.{number}", station=other)
    ours = world.schedule()
    performer = world.performer()
    assert world.look(performer) == [(Step.CLAIMED, ours)]
    for _ in range(3):
        assert world.look(performer) == []
    assert [world.worklist.state(f"1.2.4.{number}") for number in range(5)] == ["SCHEDULED"] * 5


def test_work_in_progress_of_another_station_is_not_touched(world: World) -> None:
    world.worklist.ignores_keys = True
    uid = world.schedule(station=Code("RADCDS-2", "99NORTH", "another"))
    world.worklist.change_state(uid, CLAIM_OF_ANOTHER)
    performer = world.performer()
    for _ in range(3):
        assert world.look(performer) == []
    assert [(method, path) for method, path, _ in world.server.log if uid in path] == [
        ("GET", f"/dicom/workitems/{uid}")
    ]


def test_a_worklist_that_knows_no_pages_is_asked_no_more_than_twice(world: World) -> None:
    uid = world.schedule()
    page = json.dumps([world.worklist.items[uid]]).encode()
    listed = lambda _, path: (200, "", page) if path.endswith("workitems") else None  # noqa: E731
    world.server.interrupts = listed
    assert len(world.source().search(State.SCHEDULED, Wanted(label="AI"))) == 1
    assert len(world.server.log) == 2


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(label="AI"),
        Wanted(code=Code("CXR-1", "99NORTH", "")),
        Wanted(station=STATION, code=Code("CXR-1", "99NORTH", ""), label="AI"),
    ],
)
def test_work_is_taken_by_label_and_code_too(world: World, wanted: Wanted) -> None:
    uid = world.schedule()
    world.schedule(
        "1.2.3.2",
        WorklistLabel="Transcription",
        ScheduledWorkitemCodeSequence=[coded(Code("110006", "DCM", "Transcription"))],
    )
    assert world.look(world.performer(wanted=wanted)) == [(Step.CLAIMED, uid)]


@pytest.mark.parametrize("readiness", ["INCOMPLETE", "UNAVAILABLE"])
def test_work_whose_images_are_not_there_waits(world: World, readiness: str) -> None:
    uid = world.schedule(InputReadinessState=readiness)
    performer = world.performer()
    assert world.look(performer) == []
    world.worklist.items[uid][tag("InputReadinessState")]["Value"] = ["READY"]
    assert world.look(performer) == [(Step.CLAIMED, uid)]


def test_of_two_performers_one_gets_each_workitem(world: World) -> None:
    for number in range(6):
        world.schedule(f"1.1.{number}", f"1.9.{number}")
    performers = [world.performer(installation=uuid.uuid4(), at_once=3) for _ in range(2)]
    claimed = [uid for each in performers for _, uid in world.look(each)]
    assert sorted(claimed) == [f"1.1.{number}" for number in range(6)]
    assert [world.look(each) for each in performers] == [[], []]


def test_a_claim_that_another_was_faster_with_is_left_to_it(world: World) -> None:
    uid = world.schedule()

    def faster(method: str, _path: str) -> None:
        if method == "PUT" and world.worklist.state(uid) == "SCHEDULED":
            world.worklist.change_state(uid, CLAIM_OF_ANOTHER)

    world.server.interrupts = faster
    performer = world.performer()
    for _ in range(3):
        assert world.look(performer) == []
    assert world.worklist.claims[uid] == "2.25.99"
    assert world.worklist.progress_told[uid] == []
    assert world.studies.noticed == []
    refused = [line for line in world.server.log if line[0] == "POST"]
    assert len(refused) == 1, "another's workitem is asked about once"


# --- what is asked cannot be done


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        ([], "110523", "no input"),
        ([None], "110523", "no study"),
        (["1.2.9", "1.2.8"], "110522", "2 studies"),
    ],
)
def test_work_that_cannot_be_followed_is_canceled_with_words(
    world: World, inputs: list[str | None], code: str, words: str
) -> None:
    items = []
    for study in inputs:
        item = Dataset()
        item.TypeOfInstances = "DICOM"
        item.StudyInstanceUID = study or ""
        items.append(item)
    uid = world.schedule(InputInformationSequence=items)
    assert world.look() == [(Step.CLAIMED, uid), (Step.CANCELED, uid)]
    assert world.reason(uid)[0] == code
    assert words in world.reason(uid)[1]
    assert world.studies.noticed == []


@pytest.mark.parametrize(
    "inputs",
    [
        {"vr": "SQ", "Value": "1.2.9"},
        {"vr": "SQ", "Value": [7]},
        {"vr": "UI", "Value": [["1.2.9"]]},
        {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["../../../etc/passwd"]}}]},
        {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["1." * 5_000]}}]},
        {"vr": "SQ", "Value": [{"0020000D": "1.2.9"}]},
        "1.2.9",
        None,
    ],
)
def test_a_malformed_workitem_is_canceled_and_the_next_one_is_done(
    world: World, inputs: Any
) -> None:
    bad = world.schedule("1.2.3.1", ScheduledProcedureStepPriority="HIGH")
    world.worklist.items[bad][tag("InputInformationSequence")] = inputs
    good = world.schedule("1.2.3.2")
    assert world.look() == [(Step.CLAIMED, bad), (Step.CANCELED, bad), (Step.CLAIMED, good)]
    assert "passwd" not in world.reason(bad)[1]
    assert world.studies.noticed == [STUDY_UID]


@pytest.mark.parametrize("uid", ["", "../workitems", "1.2/../../studies", "1.2?x=1", "x" * 500])
def test_a_workitem_that_cannot_be_named_is_skipped_with_words(world: World, uid: str) -> None:
    bad = request().to_json_dict() | {tag("SOPInstanceUID"): {"vr": "UI", "Value": [uid]}}
    world.worklist.items["bad"] = bad
    good = world.schedule()
    assert world.look() == [(Step.TROUBLE, ""), (Step.CLAIMED, good)]
    assert all("bad" not in path for _, path, _ in world.server.log)
    assert "SOP Instance UID" in world.said[0].says


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"[1]", b"7", b"[{}, {}]", b"\xff", b"[" * 100_000, b"[" + b" " * 300_000],
)
def test_a_workitem_that_cannot_be_read_does_not_keep_the_others_from_it(
    world: World, content: bytes
) -> None:
    bad = world.schedule("1.2.3.1", ScheduledProcedureStepPriority="HIGH")
    good = world.schedule("1.2.3.2")
    world.server.interrupts = lambda _, path: (200, "", content) if path.endswith(bad) else None
    performer = world.performer()
    assert world.look(performer) == [(Step.TROUBLE, bad), (Step.CLAIMED, good)]
    assert world.worklist.state(bad) == "SCHEDULED"
    world.server.interrupts = lambda _method, _path: None
    assert world.look(performer) == [(Step.CLAIMED, bad)]


def test_a_worklist_that_gives_another_workitem_than_asked_is_not_followed(world: World) -> None:
    asked = world.schedule("1.2.3.1")
    other = json.dumps([world.worklist.items[world.schedule("1.2.3.2")]]).encode()
    world.server.interrupts = lambda _, path: (200, "", other) if path.endswith(asked) else None
    assert (Step.TROUBLE, asked) in world.look()
    assert world.worklist.state(asked) == "SCHEDULED"


# --- the outcome is none that completes


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (OUTCOMES["failed"], "110501"),
        (NotAnalysed(Reason.UNREADABLE, "The file is damaged.", MODEL), "110521"),
        (NotAnalysed(Reason.PROCESSING_FAILED, "Given up.", MODEL), "110501"),
    ],
)
def test_what_broke_is_canceled_with_the_reason(world: World, outcome: Outcome, code: str) -> None:
    uid = world.schedule()
    world.studies.read(outcome=outcome)
    assert world.look() == [(Step.CLAIMED, uid), (Step.CANCELED, uid)]
    assert isinstance(outcome, NotAnalysed)
    assert world.reason(uid)[0] == code
    assert outcome.detail in world.reason(uid)[1]


def test_what_was_declined_is_completed_with_the_report_that_says_so(world: World) -> None:
    uid = world.schedule()
    world.studies.read(outcome=OUTCOMES["not_analysed"])
    performer = world.performer()
    assert world.look(performer) == [(Step.CLAIMED, uid)]
    world.studies.deliver()
    assert world.look(performer) == [(Step.COMPLETED, uid)]
    comment = value(world.step_done(uid), "CommentsOnThePerformedProcedureStep")
    assert comment.startswith("Not analysed (LATERAL_VIEW)")


def test_what_was_declined_without_a_report_is_canceled(world: World) -> None:
    uid = world.schedule()
    world.studies.read(outcome=OUTCOMES["not_analysed"], dicom={})
    world.studies.deliver()
    assert world.look() == [(Step.CLAIMED, uid), (Step.CANCELED, uid)]
    assert world.reason(uid)[0] == "110522"
    assert "LATERAL_VIEW" in world.reason(uid)[1]


def test_a_result_that_is_not_in_the_pacs_is_not_complete(world: World) -> None:
    uid = world.schedule()
    world.studies.read()
    world.studies.deliver()
    station = Station(STATION, INSTALLATION, "another pacs", PACS)
    assert world.look(world.performer(station=station))[-1] == (Step.CANCELED, uid)
    assert "not stored in the PACS" in world.reason(uid)[1]


def test_a_delivery_that_is_stuck_keeps_the_work_open_for_a_day_then_cancels_it(
    world: World,
) -> None:
    uid = world.schedule()
    world.studies.read()
    performer = world.performer()
    world.look(performer)
    world.clock.time += timedelta(hours=23, minutes=59)
    assert world.look(performer) == []
    assert world.worklist.progress_told[uid][-1].endswith("being delivered")
    world.clock.time += timedelta(minutes=2)
    assert world.look(performer) == [(Step.CANCELED, uid)]
    assert world.reason(uid) == (
        "110527",
        "The results could not be delivered to every destination in time.",
    )


def test_a_result_that_was_parked_long_ago_is_given_another_day(world: World) -> None:
    world.studies.read()
    world.clock.time += timedelta(days=30)
    world.worklist.now = world.clock.time
    uid = world.schedule()
    performer = world.performer()
    assert world.look(performer) == [(Step.CLAIMED, uid)]
    world.studies.deliver()
    assert world.look(performer) == [(Step.COMPLETED, uid)]


def test_a_study_that_is_not_read_within_a_day_is_canceled(world: World) -> None:
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.clock.time += timedelta(days=1, minutes=1)
    assert world.look(performer) == [(Step.CANCELED, uid)]
    assert world.reason(uid)[0] == "110527"


@pytest.mark.parametrize(
    ("patient", "canceled"),
    [
        ({"PatientID": "MRN 999"}, True),
        ({"PatientID": "MRN 999", "IssuerOfPatientID": "Example Trust"}, True),
        ({"PatientID": "MRN 999", "IssuerOfPatientID": "Another Trust"}, False),
        ({"PatientID": ""}, False),
        ({"PatientID": "MRN 123456"}, False),
    ],
)
def test_a_study_of_another_patient_is_not_given(
    world: World, patient: dict[str, str], *, canceled: bool
) -> None:
    uid = world.schedule(**patient)
    world.studies.read()
    world.studies.deliver()
    world.look()
    assert world.worklist.state(uid) == ("CANCELED" if canceled else "COMPLETED")
    if canceled:
        assert world.reason(uid)[0] == "110514"
        assert "UnifiedProcedureStepPerformedProcedureSequence" not in str(
            world.worklist.items[uid]
        )


def test_a_model_on_trial_gives_nothing(world: World) -> None:
    uid = world.schedule()
    world.studies.read(shadow=True)
    world.studies.deliver()
    assert world.look()[-1] == (Step.CANCELED, uid)
    assert "on trial" in world.reason(uid)[1]
    assert tag("UnifiedProcedureStepPerformedProcedureSequence") not in world.worklist.items[uid]


# --- the requester takes it back


def cancel_request(words: str = "wrong order") -> dict[str, Any]:
    asked = Dataset()
    asked.ReasonForCancellation = words
    asked.ProcedureStepDiscontinuationReasonCodeSequence = [coded(Code("110502", "DCM", words))]
    return asked.to_json_dict()


def test_what_was_taken_back_before_it_was_claimed_is_left(world: World) -> None:
    uid = world.schedule()
    world.worklist.request_cancel(uid, cancel_request())
    assert world.look() == []
    assert world.worklist.state(uid) == "CANCELED"


def test_what_is_taken_back_before_it_is_read_is_canceled_for_that_reason(world: World) -> None:
    world.worklist.marks_cancel_requests = True
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.worklist.request_cancel(uid, cancel_request())
    assert world.look(performer) == [(Step.CANCELED, uid)]
    assert world.reason(uid) == ("110502", "wrong order")


def test_the_words_of_a_requester_go_back_to_the_worklist_and_nowhere_else(world: World) -> None:
    world.worklist.marks_cancel_requests = True
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.worklist.request_cancel(uid, cancel_request("TEST^PATIENT is somebody else"))
    world.look(performer)
    assert world.reason(uid)[1] == "TEST^PATIENT is somebody else"
    assert "TEST^PATIENT" not in json.dumps(world.trail.leaves)


def test_what_is_taken_back_while_it_is_read_is_finished(world: World) -> None:
    world.worklist.marks_cancel_requests = True
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.studies.begin()
    world.look(performer)
    world.worklist.request_cancel(uid, cancel_request())
    for each in (performer, world.performer(), world.performer()):
        assert world.look(each) == []
    world.studies.read()
    world.studies.deliver()
    assert world.look() == [(Step.COMPLETED, uid)]


def test_what_the_worklist_canceled_itself_is_left(world: World) -> None:
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.worklist._set_state(uid, "CANCELED")
    world.studies.read()
    world.studies.deliver()
    assert world.look(performer) == []
    assert world.worklist.state(uid) == "CANCELED"


# --- killed, cut off, silent


class Killed(Exception):
    """The process died here."""


@dataclass
class Mortal:
    """A worklist whose user dies at one of its calls: before it is sent, or after it was done."""

    source: UpsRs
    at_call: int
    after: bool
    died_of: type[Exception] = Killed
    calls: int = 0

    def _call(self, do: Callable[..., Any], *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == self.at_call and not self.after:
            raise self.died_of
        given = do(*arguments)
        if self.calls == self.at_call:
            raise self.died_of
        return given

    def search(self, state: State, wanted: Wanted) -> Any:
        return self._call(self.source.search, state, wanted)

    def workitem(self, workitem_uid: str) -> Any:
        return self._call(self.source.workitem, workitem_uid)

    def update(self, *arguments: Any) -> None:
        self._call(self.source.update, *arguments)

    def change_state(self, *arguments: Any) -> None:
        self._call(self.source.change_state, *arguments)


def live(world: World, source: WorkitemSource) -> None:
    """Perform until it is done, as one process would."""
    performer = world.performer(source)
    for step in (lambda: None, world.studies.begin, world.studies.read, world.studies.deliver):
        step()
        world.look(performer)


CALLS_OF_A_LIFE = 18


def test_a_life_has_as_many_calls_as_are_tested_below(world: World) -> None:
    world.schedule()
    source = Mortal(world.source(), 0, after=False)
    live(world, source)
    assert source.calls == CALLS_OF_A_LIFE


@pytest.mark.parametrize("died_of", [Killed, PeerUnavailable])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at_call", range(1, CALLS_OF_A_LIFE + 1))
def test_killed_or_cut_off_anywhere_it_is_completed_once_with_one_set_of_outputs(
    world: World, at_call: int, *, after: bool, died_of: type[Exception]
) -> None:
    uid = world.schedule()
    try:
        live(world, Mortal(world.source(), at_call, after, died_of))
    except Killed:
        live(world, world.source())
    world.look()
    assert world.worklist.history[uid] == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    outputs = values(world.step_done(uid), "OutputInformationSequence")
    assert len(outputs) == 2
    assert set(world.studies.noticed) == {STUDY_UID}
    states = [state for state, _ in world.trail.states()]
    assert states[0] == "IN PROGRESS"
    assert set(states) == {"IN PROGRESS", "COMPLETED"}
    assert world.look() == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at_call", range(1, 7))
def test_killed_anywhere_what_cannot_be_done_is_canceled_once(
    world: World, at_call: int, *, after: bool
) -> None:
    uid = world.schedule(study=None)
    try:
        world.look(world.performer(Mortal(world.source(), at_call, after)))
    except Killed:
        world.look()
        world.look()
    assert world.worklist.history[uid] == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
    assert world.reason(uid)[0] == "110523"


def test_killed_while_it_is_taken_back_it_stays_taken_back(world: World) -> None:
    world.worklist.marks_cancel_requests = True
    uid = world.schedule()
    world.look()
    world.worklist.request_cancel(uid, cancel_request())
    # Search, retrieve, prove the claim, tell the reason: there it dies.
    with pytest.raises(Killed):
        world.look(world.performer(Mortal(world.source(), 4, after=True)))
    world.studies.begin()
    assert world.look() == [(Step.CANCELED, uid)]
    assert world.reason(uid) == ("110502", "wrong order")


def test_a_restart_knows_its_own_claim_and_leaves_that_of_a_neighbour(world: World) -> None:
    uid = world.schedule()
    world.look()
    world.studies.noticed.clear()
    neighbour = world.performer(installation=uuid.uuid4())
    assert world.look(neighbour) == []
    assert world.studies.noticed == []
    assert world.worklist.progress_told[uid] == ["Accepted; waiting to be read by the AI"]
    world.look()
    assert world.studies.noticed == [STUDY_UID]


def test_a_restart_does_not_take_back_what_was_told(world: World) -> None:
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.studies.begin()
    world.look(performer)
    world.look()
    assert world.worklist.progress_told[uid][-2:] == ["Being read by the AI"] * 2


def test_a_neighbours_claim_is_asked_about_again_after_an_hour(world: World) -> None:
    uid = world.schedule()
    world.look()
    restarted = world.performer()
    world.server.interrupts = lambda method, _: (400, "", b"") if method == "POST" else None
    assert world.look(restarted) == []
    world.server.interrupts = lambda _method, _path: None
    world.clock.time += timedelta(minutes=59)
    world.studies.read()
    world.studies.deliver()
    assert world.look(restarted) == []
    world.clock.time += timedelta(minutes=2)
    assert world.look(restarted) == [(Step.COMPLETED, uid)]


def test_the_claim_of_an_installation_is_the_same_each_time_and_of_another_is_not() -> None:
    one, two = (Station(STATION, uuid.UUID(int=n), "pacs", PACS) for n in (1, 2))
    assert one.transaction_uid("1.2.3") == one.transaction_uid("1.2.3")
    assert one.transaction_uid("1.2.3") != one.transaction_uid("1.2.4")
    assert one.transaction_uid("1.2.3") != two.transaction_uid("1.2.3")
    assert pydicom.uid.UID(one.transaction_uid("1.2.3")).is_valid


@pytest.mark.parametrize("status", [302, 401, 403, 413, 429, 500, 502, 503])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_nothing_is_lost_while_the_worklist_fails(world: World, method: str, status: int) -> None:
    uid = world.schedule()
    performer = world.performer()
    world.server.interrupts = lambda asked, _: (status, "", b"") if asked == method else None
    assert (Step.COMPLETED, uid) not in world.look(performer)
    assert any(str(status) in each.says for each in world.said if each.step is Step.TROUBLE)
    world.server.interrupts = lambda _method, _path: None
    world.studies.read()
    world.studies.deliver()
    world.look(performer)
    assert world.worklist.state(uid) == "COMPLETED"


def test_a_worklist_that_is_down_is_told_by_its_host_alone(world: World) -> None:
    source = world.source(url="http://127.0.0.1:9/dicom?secret")
    assert world.look(world.performer(source)) == [(Step.TROUBLE, "")]
    assert world.said[0].says == "127.0.0.1 cannot be asked (ConnectError)"


def test_a_worklist_that_falls_silent_is_left_alone_until_the_next_look(world: World) -> None:
    for number in range(10):
        world.schedule(f"1.1.{number}", f"1.9.{number}")
    world.server.interrupts = lambda _, path: None if path.endswith("items") else (503, "", b"")
    performer = world.performer()
    assert len(world.look(performer)) == 2
    world.server.interrupts = lambda _method, _path: None
    claimed = [uid for _, uid in world.look(performer)]
    assert claimed == ["1.1.2", "1.1.3", "1.1.4", "1.1.5"], "what did not fail comes first"


def test_a_refusal_that_stays_is_told(world: World) -> None:
    uid = world.schedule()
    world.studies.read()
    world.studies.deliver()
    inconsistent = "The submitted request is inconsistent with the current state."
    world.server.interrupts = lambda method, _: (
        (409, inconsistent, b"") if method == "PUT" and world.worklist.claims else None
    )
    performer = world.performer()
    assert world.look(performer) == [(Step.CLAIMED, uid)]
    assert world.look(performer) == [(Step.TROUBLE, uid)]
    assert "The submitted request is inconsistent" in world.said[-1].says


def test_words_of_a_server_are_not_repeated(world: World) -> None:
    world.schedule()
    world.server.interrupts = lambda method, _: (
        (409, "TEST^PATIENT has no such claim", b"TEST^PATIENT") if method == "PUT" else None
    )
    performer = world.performer()
    world.look(performer)
    assert [step for step, _ in world.look(performer)] == [Step.TROUBLE]


# --- who may, and what is kept of it


def test_each_change_of_state_is_recorded_before_it_is_made(world: World) -> None:
    world.schedule()
    performer = world.performer()
    world.look(performer)
    world.studies.read()
    world.studies.deliver()
    world.look(performer)
    study = f"urn:oid:{STUDY_UID}"
    assert world.trail.states() == [("IN PROGRESS", study), ("COMPLETED", study)]


def test_nothing_is_told_of_the_results_unless_that_is_recorded(world: World) -> None:
    uid = world.schedule()
    performer = world.performer()
    world.look(performer)
    world.studies.read()
    world.studies.deliver()
    world.trail.refuses = True
    assert world.look(performer) == [(Step.TROUBLE, "")]
    assert tag("UnifiedProcedureStepPerformedProcedureSequence") not in world.worklist.items[uid]


def test_no_audit_no_claim_and_no_completion(world: World) -> None:
    uid = world.schedule()
    world.studies.read()
    world.studies.deliver()
    world.trail.refuses = True
    assert world.look() == [(Step.TROUBLE, "")]
    assert world.worklist.history[uid] == ["SCHEDULED"]
    world.trail.refuses = False
    performer = world.performer()
    world.server.interrupts = lambda method, _: (503, "", b"") if method == "POST" else None
    world.look(performer)
    world.server.interrupts = lambda _method, _path: None
    world.trail.refuses = True
    world.look(performer)
    assert world.worklist.history[uid] == ["SCHEDULED", "IN PROGRESS"]


def test_each_request_shows_who_asks(world: World) -> None:
    uid = world.schedule()
    world.server.authorization = "Bearer of-the-hour"
    assert world.look() == [(Step.TROUBLE, "")]
    assert "401" in world.said[0].says
    source = world.source(authorization=lambda: "Bearer of-the-hour")
    assert world.look(world.performer(source)) == [(Step.CLAIMED, uid)]


@pytest.mark.parametrize("refusal", [PeerUnavailable, ArchiveUnreachable])
def test_without_credentials_nothing_is_asked(world: World, refusal: type[Exception]) -> None:
    def none_to_be_had() -> str:
        msg = "login.example.org does not answer in time"
        raise refusal(msg)

    source = world.source(authorization=none_to_be_had)
    assert world.look(world.performer(source)) == [(Step.TROUBLE, "")]
    assert world.server.log == []


def test_a_sender_keeps_its_bounds_and_tells_nothing_of_what_it_sent() -> None:
    def fails(_: httpx.Request) -> httpx.Response:
        msg = "secret-cause"
        raise httpx.ReadError(msg)

    http = BoundedHttp(httpx.MockTransport(fails))
    with pytest.raises(PeerUnavailable, match=r"^peer\.example\.org ") as failed:
        http.send("POST", "https://peer.example.org/secret", b"secret", headers={"X": "secret"})
    assert "secret" not in str(failed.value)
    assert failed.value.__context__ is None
    large = httpx.MockTransport(lambda _: httpx.Response(200, content=b"x" * 11))
    with pytest.raises(PeerUnavailable, match="too large"):
        BoundedHttp(large, largest_bytes=10).send("PUT", "https://p.example", b"", headers={})


def test_a_sender_ends_in_time_though_the_answer_drips() -> None:
    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(40):
                peer.sendall(b"x")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        began = time.monotonic()
        with pytest.raises(PeerUnavailable, match="in time"):
            BoundedHttp(timeout_s=0.3).send("PUT", url, b"", headers={})
        assert time.monotonic() - began < 1.5
        thread.join()


# --- the judge is strict


COMPLETE = {
    tag("TransactionUID"): {"vr": "UI", "Value": ["2.25.7"]},
    tag("ProcedureStepState"): {"vr": "CS", "Value": ["COMPLETED"]},
}


def asked_directly(world: World, method: str, path: str, payload: Any) -> int:
    with httpx.Client(trust_env=False) as client:
        headers = {"Content-Type": "application/dicom+json", "Accept": "application/dicom+json"}
        url = f"{world.server.url}/workitems/{path}"
        return client.request(method, url, json=payload, headers=headers).status_code


def claimed(world: World) -> str:
    uid = world.schedule()
    claim = COMPLETE | {tag("ProcedureStepState"): {"vr": "CS", "Value": ["IN PROGRESS"]}}
    assert asked_directly(world, "PUT", f"{uid}/state", [claim]) == 200
    return uid


def test_the_judge_refuses_what_the_standard_refuses(world: World) -> None:
    uid = claimed(world)
    wrong = COMPLETE | {tag("TransactionUID"): {"vr": "UI", "Value": ["2.25.8"]}}
    again = COMPLETE | {tag("ProcedureStepState"): {"vr": "CS", "Value": ["IN PROGRESS"]}}
    back = COMPLETE | {tag("ProcedureStepState"): {"vr": "CS", "Value": ["SCHEDULED"]}}
    world.worklist.gone.add("1.2.4")
    for path, payload, status in [
        (f"{uid}/state", [COMPLETE], 409),
        (f"{uid}/state", [wrong], 400),
        (f"{uid}/state", [again], 409),
        (f"{uid}/state", [back], 409),
        (f"{uid}/state", COMPLETE, 400),
        ("9.9/state", [COMPLETE], 404),
        ("1.2.4/state", [COMPLETE], 410),
    ]:
        assert asked_directly(world, "PUT", path, payload) == status, (path, payload)
    assert asked_directly(world, "POST", uid, [{}]) == 400
    assert asked_directly(world, "POST", f"{uid}?2.25.8", [{}]) == 400
    malformed = {tag("ProcedureStepProgressInformationSequence"): {"vr": "SQ", "Value": [{}]}}
    assert asked_directly(world, "POST", f"{uid}?2.25.7", [malformed | COMPLETE]) == 400
    world.worklist.claims[uid] = "2.25.7"
    assert asked_directly(world, "GET", uid, None) == 200
    assert tag("TransactionUID") not in world.worklist.retrieve(uid)


@pytest.mark.parametrize(
    "missing",
    [
        "PerformedStationNameCodeSequence",
        "PerformedProcedureStepStartDateTime",
        "PerformedProcedureStepEndDateTime",
        "PerformedWorkitemCodeSequence",
        "OutputInformationSequence",
    ],
)
def test_the_judge_refuses_completed_without_each_of_its_attributes(
    world: World, missing: str
) -> None:
    uid = world.schedule()
    world.studies.read()
    world.studies.deliver()

    def without(method: str, _path: str) -> None:
        done = world.worklist.items[uid].get(tag("UnifiedProcedureStepPerformedProcedureSequence"))
        if done and method == "PUT":
            done["Value"][0].pop(tag(missing), None)

    world.server.interrupts = without
    assert world.look() == [(Step.CLAIMED, uid)]
    assert world.worklist.state(uid) == "IN PROGRESS"
    world.server.interrupts = lambda _method, _path: None
    assert world.look() == [(Step.COMPLETED, uid)]


def test_a_repeat_of_completed_is_no_error(world: World) -> None:
    uid = world.schedule()
    world.studies.read()
    world.studies.deliver()
    world.look()
    transaction_uid = Station(STATION, INSTALLATION, "pacs", PACS).transaction_uid(uid)
    world.source().change_state(uid, State.COMPLETED, transaction_uid)
    assert world.worklist.history[uid].count("COMPLETED") == 1
