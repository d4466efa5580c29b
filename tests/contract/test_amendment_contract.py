"""Every store of amendments keeps the same promises: what was said stays said, in order."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study

from cds_server.adapters.in_memory import (
    InMemoryAuditTrail,
    InMemoryFeedbackStore,
    InMemoryResultStore,
)
from cds_server.adapters.in_memory_amendments import InMemoryAmendmentStore
from cds_server.adapters.sql_amendment_store import SqlAmendmentStore
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_feedback_store import SqlFeedbackStore
from cds_server.adapters.sql_outbox import SqlOutbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.amendments import Amendment, AmendmentStore, RecallAsked, SignOffAsked
from cds_server.errors import AuditUnavailable
from cds_server.feedback import Agreement, FeedbackStore
from cds_server.feedback import Verdict as ReaderVerdict
from cds_server.outbox import Outbox, Publication
from cds_server.ports import AuditTrail, ResultStore, StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import Recall, ReportSet, SignOff, Verdict

LEAF = b'{"resourceType": "AuditEvent"}'
SIGNED = SignOff(1, Verdict.CONFIRMED, ISSUED, "Dr A Example", ("urn:gmc", "1"), "As it is.")
RECALL = Recall("Reads detector X wrongly.", ISSUED)


@dataclass
class Stores:
    """The stores of one server."""

    results: ResultStore
    amendments: AmendmentStore
    feedback: FeedbackStore
    outbox: Outbox
    trail: AuditTrail
    break_trail: Callable[[], None]

    def add(self, number: int = 0, name: str = "urgent", *, shadow: bool = False) -> str:
        uid = f"{STUDY_UID}.{number}"
        identifier = result_id(uid, MODEL.sha256)
        self.results.notice(identifier, uid, ISSUED)
        study = chest_study(study_instance_uid=uid)
        at = ISSUED + timedelta(minutes=number)
        result = StoredResult(identifier, study, OUTCOMES[name], at, {}, shadow=shadow)
        artefacts = ReportSet(b"bundle", b"oru", b"card", dicom={"report.dcm": b"report"})
        self.results.save(result, artefacts, audit_events=[], destinations=["ris"])
        return identifier

    def amend(self, identifier: str, number: int = 1, recall: Recall | None = None) -> str:
        name = str(uuid.uuid5(uuid.UUID(identifier), str(number)))
        uid = self.results.study_of(identifier)
        publication = Publication(name, identifier, uid, "A", ISSUED)
        said = (
            Amendment(publication, number, recall=recall)
            if recall
            else Amendment(publication, number, replace(SIGNED, number=number))
        )
        artefacts = ReportSet(b"bundle %d" % number, b"oru %d" % number, b"card %d" % number)
        self.amendments.amend(said, artefacts, audit_events=[LEAF], destinations=["ris", "pacs"])
        return name


@pytest.fixture(params=["in memory", "sql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "in memory":
        trail = InMemoryAuditTrail()
        results = InMemoryResultStore(trail)
        feedback = InMemoryFeedbackStore(results)
        return Stores(
            results,
            InMemoryAmendmentStore(results, feedback),
            feedback,
            results.outbox,
            trail,
            lambda: setattr(trail, "broken", True),
        )
    engine = open_engine(tmp_path / "radcds.sqlite")

    def break_trail() -> None:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE audit_leaf"))

    return Stores(
        SqlResultStore(engine),
        SqlAmendmentStore(engine),
        SqlFeedbackStore(engine),
        SqlOutbox(engine),
        SqlAuditTrail(engine),
        break_trail,
    )


def test_an_amendment_comes_back_as_it_was_said_and_is_delivered(stores: Stores) -> None:
    identifier = stores.add()
    first, second = stores.amend(identifier), stores.amend(identifier, 2, RECALL)
    assert [each.number for each in stores.amendments.amendments(identifier)] == [1, 2]
    signed, recalled = stores.amendments.amendments(identifier)
    assert (signed.signed, signed.recall) == (SIGNED, None)
    assert (recalled.signed, recalled.recall) == (None, RECALL)
    assert stores.amendments.amendment(second) == recalled
    assert stores.amendments.amendment(identifier) is None
    assert stores.results.artefacts(first).oru == b"oru 1"
    assert stores.results.artefacts(identifier).oru == b"oru", "what was said stays said"
    assert [each.publication_id for each in stores.outbox.deliveries(destination="ris")] == [
        identifier,
        first,
        second,
    ]
    assert stores.trail.events() == [LEAF, LEAF]


def test_a_result_shows_what_was_published_last(stores: Stores) -> None:
    identifier, other = stores.add(0), stores.add(1)
    stores.amend(identifier)
    stores.amend(identifier, 2)
    assert stores.results.artefact(identifier, "card.json") == b"card 2"
    assert stores.results.artefact(identifier, "report.dcm") == b"report"
    cards = stores.results.artefact_of_each("card.json", [identifier, other])
    assert cards == {identifier: b"card 2", other: b"card"}


def test_an_amendment_is_kept_once(stores: Stores) -> None:
    identifier = stores.add()
    stores.amend(identifier)
    stores.amend(identifier)
    assert len(stores.amendments.amendments(identifier)) == 1
    assert stores.trail.events() == [LEAF]


def test_no_audit_no_amendment(stores: Stores) -> None:
    identifier = stores.add()
    stores.break_trail()
    with pytest.raises(AuditUnavailable):
        stores.amend(identifier)
    assert stores.amendments.amendments(identifier) == []
    assert len(stores.outbox.deliveries()) == 1


def test_a_result_that_was_taken_back_says_so_and_stands_with_those_not_analysed(
    stores: Stores,
) -> None:
    taken_back, declined = stores.add(0), stores.add(1, "not_analysed")
    assert not stores.results.entry(taken_back).recalled
    stores.amend(taken_back, recall=RECALL)
    entry = stores.results.entry(taken_back)
    assert entry.recalled
    assert entry.rank == stores.results.entry(declined).rank


def test_a_verdict_can_ask_for_a_sign_off_which_waits_until_it_is_answered(stores: Stores) -> None:
    identifier = stores.add()
    verdict = ReaderVerdict(identifier, "dr.a", ISSUED, Agreement.AGREE, "1")
    stores.feedback.add_verdict(verdict, [LEAF])
    assert stores.amendments.sign_offs_asked() == []
    asked = SignOffAsked("", identifier, SIGNED, "viewer")
    stores.feedback.add_verdict(verdict, [LEAF], asked)
    stores.amendments.ask_sign_off(replace(asked, source="hl7"), audit_events=[LEAF])
    first, second = stores.amendments.sign_offs_asked()
    assert (first.result_id, first.signed, first.source) == (identifier, SIGNED, "viewer")
    stores.amendments.answer_sign_off(first.request_id)
    assert stores.amendments.sign_offs_asked() == [second]
    assert len(stores.trail.events()) == 3


def test_a_model_is_recalled_once_and_its_results_are_found_until_they_are_taken_back(
    stores: Stores,
) -> None:
    first, second = stores.add(1), stores.add(2, "normal")
    stores.add(3, "not_analysed")
    stores.add(4, shadow=True)
    asked = RecallAsked(MODEL.sha256, RECALL, "operator")
    assert stores.amendments.ask_recall(asked, audit_events=[LEAF])
    assert not stores.amendments.ask_recall(replace(asked, by="another"), audit_events=[LEAF])
    assert stores.amendments.recalls() == [asked]
    assert stores.amendments.to_recall(MODEL.sha256) == [first, second]
    assert stores.amendments.to_recall("0" * 64) == []
    stores.amend(first)
    assert stores.amendments.to_recall(MODEL.sha256) == [first, second]
    stores.amend(first, 2, RECALL)
    assert stores.amendments.to_recall(MODEL.sha256) == [second]
    assert len(stores.trail.events()) == 3
