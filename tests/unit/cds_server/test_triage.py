"""The story of one study: audited first, told truly, stored once."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from serving import TickingClock
from studies import MODEL, OUTCOMES, STUDY_UID, chest_instance
from studies import site as example_site

from ai_engine.errors import ModelFailed
from ai_engine.image import Image
from ai_engine.result import ModelIdentity, NotAnalysed, Outcome, Reason, TriageResult
from cds_server.adapters.in_memory import (
    InMemoryArchive,
    InMemoryAuditTrail,
    InMemoryResultStore,
)
from cds_server.errors import AuditUnavailable, InstanceUnreadable
from cds_server.ports import StoredResult, StudyState
from cds_server.triage import Triage
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

RESULT = result_id(STUDY_UID, MODEL.sha256)
_names = itertools.count()


@dataclass
class WatchedArchive(InMemoryArchive):
    """Counts what was fetched."""

    fetched: int = 0
    damaged: bool = False

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        self.fetched += 1
        return super().metadata(study_instance_uid)

    def instance(self, *uids: str) -> Dataset:
        self.fetched += 1
        if self.damaged:
            msg = "The file is damaged and cannot be read."
            raise InstanceUnreadable(msg)
        return super().instance(*uids)


@dataclass
class FixedReader:
    """An engine that gives what a test wants."""

    outcome: Outcome | Exception
    seen: list[Image] = field(default_factory=list)
    model: ModelIdentity = MODEL
    model_card: dict[str, object] = field(default_factory=dict)

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

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        assert result.result_id == RESULT
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
            reader=self.reader,
            store=self.store,
            trail=self.trail,
            destinations=[self.destination],
            site=example_site(),
            clock=TickingClock(),
            software_version="0",
            shadow=shadow,
            name=f"test-{next(_names)}",
        )
        self.store.notice(RESULT, STUDY_UID, TickingClock().now())

    def read(self) -> Outcome:
        self.triage._read_and_store(RESULT)
        stored = self.store.entry(RESULT).result
        assert stored is not None
        return stored.outcome

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
    with pytest.raises(AuditUnavailable):
        story.triage._deliver(RESULT, "collected")
    assert story.destination.got == []


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
    story.triage._deliver(RESULT, "collected")
    story.triage._deliver(RESULT, "collected")
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
