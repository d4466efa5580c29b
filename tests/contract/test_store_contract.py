"""Every result store and audit trail keeps the same promises, the stand-ins as well."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study
from studies import site as example_site

from cds_server.adapters.in_memory import InMemoryAuditTrail, InMemoryResultStore
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.sql_transaction import reading
from cds_server.errors import AuditUnavailable, ResultNotFound
from cds_server.ports import AuditTrail, ResultStore, StoredResult, StudyState
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

ARTEFACTS = ReportSet(b"{bundle}", b"MSH|\r", b"{card}", b"png", {"report.dcm": b"dicom"}, b"o")
Stores = tuple[ResultStore, AuditTrail, Callable[[], None]]


@pytest.fixture(params=["memory", "sql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """A store, its trail, and a way to break the trail."""
    if request.param == "memory":
        trail = InMemoryAuditTrail()
        return InMemoryResultStore(trail), trail, lambda: setattr(trail, "broken", True)
    engine = open_engine(tmp_path / "radcds.sqlite")

    def fill_the_disk() -> None:
        with engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar()
            connection.execute(text(f"PRAGMA max_page_count={pages}"))

    return SqlResultStore(engine), SqlAuditTrail(engine), fill_the_disk


def event(number: int, uid: str = STUDY_UID) -> bytes:
    fact = AuditFact(
        AuditKind.READ_STUDY,
        ISSUED + timedelta(seconds=number),
        "radcds",
        "127.0.0.1",
        study_instance_uid=uid,
        detail={"padding": "x" * 2000},
    )
    return audit_event(fact, example_site())


def stored(name: str, number: int = 0, uid: str = STUDY_UID) -> StoredResult:
    identifier = result_id(f"{uid}.{number}", MODEL.sha256)
    return StoredResult(
        identifier,
        chest_study(),
        OUTCOMES[name],
        ISSUED + timedelta(minutes=number),
        {"infer": 0.1},
        f"{STUDY_UID}.7",
    )


def save(store: ResultStore, result: StoredResult, events: Sequence[bytes] = ()) -> None:
    store.notice(result.result_id, STUDY_UID, result.stored_at)
    store.save(result, ARTEFACTS, audit_events=events, destinations=("fhir", "folder"))


def test_a_study_is_noticed_once(stores: Stores) -> None:
    store, _, _ = stores
    assert store.notice("a", STUDY_UID, ISSUED)
    assert not store.notice("a", STUDY_UID, ISSUED)
    assert store.entry("a").state is StudyState.QUEUED
    assert store.entry("a").result is None


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_result_comes_back_as_it_was_stored(stores: Stores, name: str) -> None:
    store, trail, _ = stores
    result = stored(name)
    save(store, result, [event(1)])
    back = store.entry(result.result_id).result
    assert back is not None
    assert back.study == result.study
    assert back.stored_at == result.stored_at
    assert (back.shown_instance_uid, back.shadow) == (result.shown_instance_uid, result.shadow)
    assert dict(back.seconds) == {"infer": 0.1}
    assert repr(back.outcome) == repr(result.outcome)
    assert store.artefacts(result.result_id) == ARTEFACTS
    assert store.artefact(result.result_id, "original.png") == b"o"
    assert trail.events() == [event(1)]


def test_a_result_in_shadow_comes_back_as_such_and_changes_no_order(stores: Stores) -> None:
    store, _, _ = stores
    save(store, replace(stored("urgent"), shadow=True))
    entry = store.entry(stored("urgent").result_id)
    assert entry.shadow
    store.notice("waiting", "1.2.3", entry.noticed_at)
    waiting = store.entry("waiting")
    assert (entry.rank, entry.due) == (waiting.rank, waiting.due)


def test_saving_twice_changes_nothing_and_leaves_one_leaf(stores: Stores) -> None:
    store, trail, _ = stores
    save(store, stored("urgent"), [event(1)])
    again = ReportSet(b"other", b"other", b"other")
    store.save(stored("normal"), again, audit_events=[event(2)], destinations=())
    assert store.artefacts(stored("urgent").result_id) == ARTEFACTS
    assert trail.events() == [event(1)]


def test_the_worklist_puts_urgent_first_and_not_analysed_before_normal(stores: Stores) -> None:
    store, _, _ = stores
    for number, name in enumerate(("normal", "not_analysed", "flagged", "urgent", "urgent")):
        save(store, stored(name, number))
    store.notice("queued", STUDY_UID, ISSUED)
    order = [repr(entry.result and entry.result.outcome)[:40] for entry in store.entries()]
    ranks = [entry.rank for entry in store.entries()]
    assert ranks == [0, 0, 1, 2, 3, 4], order
    urgent = store.entries()[:2]
    assert urgent[0].noticed_at < urgent[1].noticed_at


def test_the_studies_of_a_patient_are_found_latest_first(stores: Stores) -> None:
    store, _, _ = stores
    for number in range(3):
        save(store, stored("flagged", number))
    found = store.entries_of_patient("MRN 123456")
    assert [entry.noticed_at for entry in found] == sorted(
        (entry.noticed_at for entry in found), reverse=True
    )
    assert len(found) == 3
    assert store.entries_of_patient("somebody else") == []


def test_what_is_not_there_is_said(stores: Stores) -> None:
    store, _, _ = stores
    with pytest.raises(ResultNotFound):
        store.entry("nothing")
    with pytest.raises(ResultNotFound):
        store.study_of("nothing")
    with pytest.raises(ResultNotFound):
        store.artefact("nothing", "card.json")
    with pytest.raises(ResultNotFound):
        store.artefacts("nothing")


def test_no_audit_no_result(stores: Stores) -> None:
    store, _, break_trail = stores
    result = stored("urgent")
    store.notice(result.result_id, STUDY_UID, ISSUED)
    break_trail()
    with pytest.raises(AuditUnavailable):
        store.save(
            result,
            ReportSet(b"b" * 100_000, b"", b""),
            audit_events=[event(1)],
            destinations=("fhir",),
        )
    assert store.entry(result.result_id).result is None
    with pytest.raises(ResultNotFound):
        store.artefacts(result.result_id)


def test_events_are_kept_byte_for_byte_and_found_by_study(stores: Stores) -> None:
    _, trail, _ = stores
    other = event(2, "1.2.3")
    trail.record([event(1), other])
    trail.record([event(3)])
    assert trail.events() == [event(1), other, event(3)]
    assert trail.events("1.2.3") == [other]
    assert trail.verify() == 3
    assert json.loads(trail.events()[0])["resourceType"] == "AuditEvent"


def test_a_trail_that_cannot_be_written_says_so(stores: Stores) -> None:
    _, trail, break_trail = stores
    trail.record([event(1)])
    break_trail()
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        trail.record([event(number) for number in range(200)])
    assert trail.verify() == 1


def test_an_artefact_of_each_result_is_given_at_once(stores: Stores) -> None:
    store, _, _ = stores
    save(store, stored("urgent", 0))
    save(store, stored("normal", 1))
    ids = [stored("urgent", 0).result_id, stored("normal", 1).result_id]
    assert store.artefact_of_each("card.json", [*ids, "nothing"]) == dict.fromkeys(ids, b"{card}")
    assert store.artefact_of_each("card.json", []) == {}
    assert store.study_of(ids[0]) == STUDY_UID


def test_a_long_read_keeps_no_writer_waiting(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "radcds.sqlite")
    trail = SqlAuditTrail(engine)
    trail.record([event(number) for number in range(3)])
    with reading(engine) as connection:
        before = connection.scalar(text("SELECT count(*) FROM audit_leaf"))
        trail.record([event(9)])
        assert connection.scalar(text("SELECT count(*) FROM audit_leaf")) == before == 3
    assert trail.verify() == 4
    engine.dispose()
