"""Every inbox keeps the same promises: what was taken stays, takes effect once, in order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hl7_samples import PID, adt, merge, omi, orm, report
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, text
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study

from cds_server.adapters.in_memory import InMemoryAuditTrail, InMemoryResultStore
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_feedback_store import SqlFeedbackStore
from cds_server.adapters.sql_inbox import SqlInbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import ACCESSION_NUMBER, open_engine
from cds_server.errors import AuditUnavailable, ResultNotFound
from cds_server.feedback import Agreement, Verdict
from cds_server.inbound_content import Content, content_of
from cds_server.inbox import InboundMessage, Inbox, InboxBacklog, KeptMessage, MessageState, Taken
from cds_server.order_book import Order
from cds_server.ports import AuditTrail, ResultStore, StoredResult, StudyEntry, StudyState
from cds_server.worklist import WorklistQuery
from fhir_mappers.hl7_inbound.patient_changes import PatientMerge
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.hl7_inbound.reported import ReportStatus
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

LEAF = b'{"resourceType": "AuditEvent"}'
DONE, FAILED, WAITING = MessageState.DONE, MessageState.FAILED, MessageState.WAITING
RESULT = result_id(STUDY_UID, MODEL.sha256)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@dataclass
class Built:
    """An inbox with what it shares a database with."""

    inbox: Inbox
    trail: AuditTrail
    results: ResultStore
    line: Callable[[str], StudyEntry]
    break_trail: Callable[[], None]
    engine: Engine | None = None


def built(kind: str, folder: Path) -> Built:
    if kind == "in memory":
        trail = InMemoryAuditTrail()
        results = InMemoryResultStore(trail)
        broken = lambda: setattr(trail, "broken", True)  # noqa: E731
        return Built(results.inbox, trail, results, results.entry, broken)
    engine = open_engine(folder / "radcds.sqlite")
    store = SqlResultStore(engine)

    def break_trail() -> None:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE audit_leaf"))

    return Built(SqlInbox(engine), SqlAuditTrail(engine), store, store.entry, break_trail, engine)


@pytest.fixture(params=["in memory", "sql"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    return built(request.param, tmp_path)


@pytest.fixture
def inbox(parts: Built) -> Inbox:
    return parts.inbox


def inbound(
    content: bytes = b"MSH|", control_id: str = "1", *, minute: int = 0, sender: str = "RIS"
) -> InboundMessage:
    at = ISSUED + minute * MINUTE
    return InboundMessage((sender, "TRUST"), control_id, "ORM^O01", at, content)


def said(content: bytes) -> Content:
    return content_of(read_message(content), zone=UTC)


def take(inbox: Inbox, content: bytes, *, minute: int = 0, sender: str = "RIS") -> KeptMessage:
    """Keep a message under an id of its own, and let it take effect."""
    control_id = str(len(inbox.failed(limit=99)) + minute)
    message = inbound(content + control_id.encode(), control_id, minute=minute, sender=sender)
    assert inbox.keep(message, audit_events=[]) is Taken.NEW
    (kept,) = inbox.waiting(limit=9)
    inbox.finish(kept.sequence, said(content), at=message.received)
    return kept


def test_a_message_is_kept_byte_for_byte_with_its_audit_event(parts: Built) -> None:
    content = b"MSH|^~\\&|\r\xff\x00"
    assert parts.inbox.keep(inbound(content), audit_events=[LEAF]) is Taken.NEW
    (kept,) = parts.inbox.waiting(limit=9)
    message = inbound(content)
    assert kept == KeptMessage(
        kept.sequence, message.sender, "1", "ORM^O01", ISSUED, message.sha256
    )
    assert parts.inbox.content(kept.sequence) == content
    assert parts.trail.events() == [LEAF]


def test_a_repeat_is_told_from_a_contradiction_and_neither_is_kept(parts: Built) -> None:
    inbox = parts.inbox
    inbox.keep(inbound(b"one"), audit_events=[LEAF])
    for state in ("waiting", "done"):
        assert inbox.keep(inbound(b"one", minute=5), audit_events=[LEAF]) is Taken.REPEAT, state
        assert inbox.keep(inbound(b"two"), audit_events=[LEAF]) is Taken.CONTRADICTION, state
        for each in inbox.waiting(limit=9):
            inbox.finish(each.sequence, Content(), at=ISSUED)
    assert len(parts.trail.events()) == 1, "nothing was taken, so nothing is recorded"
    assert inbox.waiting(limit=9) == []


def test_an_id_is_one_of_its_sender_alone(inbox: Inbox) -> None:
    assert inbox.keep(inbound(b"one"), audit_events=[]) is Taken.NEW
    assert inbox.keep(inbound(b"two", sender="HIS"), audit_events=[]) is Taken.NEW
    assert inbox.keep(inbound(b"two", "2"), audit_events=[]) is Taken.NEW


def test_messages_wait_in_the_order_of_arrival(inbox: Inbox) -> None:
    for number in (3, 1, 2):
        inbox.keep(inbound(b"m%d" % number, str(number), minute=number), audit_events=[])
    waiting = inbox.waiting(limit=9)
    assert [each.control_id for each in waiting] == ["3", "1", "2"]
    assert [each.control_id for each in inbox.waiting(limit=2)] == ["3", "1"]
    assert inbox.backlog() == InboxBacklog(3, 0, ISSUED + 3 * MINUTE)


def test_what_failed_waits_no_more_until_a_person_lets_it(parts: Built) -> None:
    inbox = parts.inbox
    for number in (1, 2):
        inbox.keep(inbound(b"m%d" % number, str(number)), audit_events=[])
    first, second = inbox.waiting(limit=9)
    inbox.fail(first.sequence, "MRG-1: no", at=ISSUED + MINUTE)
    assert inbox.waiting(limit=9) == [second]
    failed = replace(first, state=FAILED, says="MRG-1: no", settled=ISSUED + MINUTE)
    assert inbox.failed(limit=9) == [failed]
    assert inbox.backlog() == InboxBacklog(1, 1, ISSUED)
    inbox.finish(first.sequence, said(orm()), at=ISSUED)
    assert inbox.failed(limit=9) == [failed], "what failed is not done behind a person's back"
    assert inbox.orders(study_instance_uid="", accession_number="ACC1001") == []
    assert inbox.again(first.sequence, audit_events=[LEAF])
    assert not inbox.again(first.sequence, audit_events=[LEAF])
    assert not inbox.again(99, audit_events=[LEAF])
    assert inbox.waiting(limit=9) == [first, second]
    assert len(parts.trail.events()) == 1


def test_the_latest_failure_is_shown_first(inbox: Inbox) -> None:
    for number in (1, 2, 3):
        inbox.keep(inbound(b"m%d" % number, str(number)), audit_events=[])
    for each in inbox.waiting(limit=9):
        inbox.fail(each.sequence, "no", at=ISSUED)
    assert [each.control_id for each in inbox.failed(limit=2)] == ["3", "2"]


def test_what_is_done_takes_effect_once(inbox: Inbox) -> None:
    kept = take(inbox, orm("NW"))
    inbox.finish(kept.sequence, said(orm("CA")), at=ISSUED)
    inbox.fail(kept.sequence, "no", at=ISSUED)
    (order,) = inbox.orders(study_instance_uid="", accession_number="ACC1001")
    assert not order.cancelled
    assert inbox.failed(limit=9) == []


def test_without_an_audit_event_no_message_is_kept(parts: Built) -> None:
    parts.inbox.keep(inbound(b"0", "0"), audit_events=[])
    (kept,) = parts.inbox.waiting(limit=9)
    parts.inbox.fail(kept.sequence, "no", at=ISSUED)
    parts.break_trail()
    with pytest.raises(AuditUnavailable):
        parts.inbox.keep(inbound(), audit_events=[LEAF])
    with pytest.raises(AuditUnavailable):
        parts.inbox.again(kept.sequence, audit_events=[LEAF])
    assert parts.inbox.waiting(limit=9) == []
    assert parts.inbox.backlog() == InboxBacklog(0, 1)


# ── Orders and the worklist ──────────────────────────────────────────────────────────────────────


def test_an_order_is_found_by_accession_number_and_by_study(inbox: Inbox) -> None:
    take(inbox, omi())
    order = Order(
        sender=("RIS", "TRUST"),
        placer_number="PLC1",
        filler_number="FIL1",
        accession_number="ACC2002",
        study_instance_uid="1.2.840.99.1",
        procedure=said(omi()).orders[0].procedure,
        modality="DX",
        priority="A",
        since=ISSUED,
        patient=("Example Trust", "MRN 123456"),
    )
    assert inbox.orders(study_instance_uid="1.2.840.99.1", accession_number="") == [order]
    assert inbox.orders(study_instance_uid="1.2.3", accession_number="ACC2002") == [order]
    assert inbox.orders(study_instance_uid="", accession_number="") == []
    assert inbox.orders(study_instance_uid="1.2.3", accession_number="ACC1") == []


def test_a_later_message_changes_the_order_of_its_own_sender_alone(inbox: Inbox) -> None:
    take(inbox, orm("NW"))
    take(inbox, orm("CA"), minute=1, sender="HIS")
    take(inbox, orm("CA"), minute=2)
    found = inbox.orders(study_instance_uid="", accession_number="ACC1001")
    assert [(each.sender[0], each.cancelled) for each in found] == [("RIS", True), ("HIS", True)]


def stored(name: str, **changes: object) -> StoredResult:
    return StoredResult(RESULT, chest_study(**changes), OUTCOMES[name], ISSUED, {})


def read(parts: Built, result: StoredResult) -> None:
    files = ReportSet(b"b", b"o", b"c")
    parts.results.save(result, files, audit_events=[], destinations=())


def stat(control: str = "NW", *, accession: str = "ACC1001", uid: str = "") -> bytes:
    more = [f"ZDS|{uid}^RIS^Application^DICOM"] if uid else []
    return orm(control, obr_18=accession, more=more)


def due_min(parts: Built) -> float:
    entry = parts.line(RESULT)
    return (entry.due - entry.noticed_at) / MINUTE


@pytest.mark.parametrize("by", ["accession number", "study"])
def test_a_stat_order_brings_a_study_forward_that_was_read(parts: Built, by: str) -> None:
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored("normal"))
    assert due_min(parts) == 1440
    other = stat(accession="ANOTHER", uid=STUDY_UID)
    take(parts.inbox, stat() if by == "accession number" else other, minute=30)
    assert due_min(parts) == 90, "an hour from the order"


def test_a_stat_order_brings_a_study_forward_that_is_queued(parts: Built) -> None:
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    take(parts.inbox, stat(uid=STUDY_UID), minute=30)
    assert due_min(parts) == 90
    read(parts, stored("normal"))
    assert due_min(parts) == 90


def test_a_study_that_comes_after_its_order_is_due_from_when_it_comes(parts: Built) -> None:
    take(parts.inbox, stat(uid=STUDY_UID))
    parts.results.notice(RESULT, STUDY_UID, ISSUED + DAY)
    assert due_min(parts) == 60


def test_an_order_without_a_study_finds_it_as_soon_as_it_is_read(parts: Built) -> None:
    take(parts.inbox, stat())
    parts.results.notice(RESULT, STUDY_UID, ISSUED + MINUTE)
    assert due_min(parts) == 1440
    read(parts, stored("normal"))
    assert due_min(parts) == 60


@pytest.mark.parametrize(("name", "minutes"), [("urgent", 60), ("flagged", 240), ("normal", 250)])
def test_an_order_never_makes_a_study_later(parts: Built, name: str, minutes: int) -> None:
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored(name, accession_number="ACC2002"))
    take(parts.inbox, omi(), minute=10)
    assert due_min(parts) == minutes


def test_a_cancelled_order_lets_the_study_fall_back(parts: Built) -> None:
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored("flagged"))
    take(parts.inbox, stat())
    assert due_min(parts) == 60
    take(parts.inbox, stat("CA"), minute=1)
    assert due_min(parts) == 240


def test_another_order_of_the_study_still_counts_when_one_is_cancelled(parts: Built) -> None:
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored("normal"))
    take(parts.inbox, stat())
    take(parts.inbox, stat(), minute=1, sender="HIS")
    take(parts.inbox, stat("CA"), minute=2)
    assert due_min(parts) == 61


def test_an_order_that_moves_to_another_study_leaves_the_first(parts: Built) -> None:
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored("normal"))
    take(parts.inbox, stat())
    assert due_min(parts) == 60
    take(parts.inbox, stat("XO", accession="ACC7"), minute=1)
    assert due_min(parts) == 1440


def test_the_worklist_shows_what_was_ordered_first(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "radcds.sqlite")
    store = SqlResultStore(engine)
    for name in ("a", "b", "c"):
        store.notice(name, f"1.2.{name}".replace("a", "1").replace("b", "2"), ISSUED)
    take(SqlInbox(engine), stat(uid="1.2.2"))
    page = store.worklist(WorklistQuery())
    assert [each.result_id for each in page.entries] == ["b", "a", "c"]


def test_what_a_reader_closed_keeps_its_place(tmp_path: Path) -> None:
    parts = built("sql", tmp_path)
    assert parts.engine
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored("normal"))
    verdict = Verdict(RESULT, "dr.who", ISSUED, Agreement.AGREE, "1")
    SqlFeedbackStore(parts.engine).add_verdict(verdict, [])
    take(parts.inbox, stat())
    assert due_min(parts) == 1440


def test_a_study_that_is_being_read_goes_on_being_read(tmp_path: Path) -> None:
    parts = built("sql", tmp_path)
    store = SqlResultStore(parts.engine or open_engine(tmp_path / "x"))
    store.notice(RESULT, STUDY_UID, ISSUED)
    store.progress(RESULT, StudyState.ANALYSING)
    take(parts.inbox, stat(uid=STUDY_UID))
    assert store.entry(RESULT).state is StudyState.ANALYSING
    assert due_min(parts) == 60


def test_the_studies_of_an_order_are_found_by_an_index(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "radcds.sqlite")
    query = f"EXPLAIN QUERY PLAN SELECT result_id FROM result WHERE {ACCESSION_NUMBER} = 'A'"  # noqa: S608
    with engine.connect() as connection:
        plan = " ".join(row.detail for row in connection.execute(text(query)))
    assert "result_accession" in plan


# ── Patients ─────────────────────────────────────────────────────────────────────────────────────


def test_a_change_is_found_by_every_number_that_it_names(inbox: Inbox) -> None:
    take(inbox, adt("A08"))
    take(inbox, merge(), minute=1)
    for number, events in (("MRN 123456", 2), ("999", 1), ("MRN 777", 1), ("nobody", 0)):
        assert len(inbox.changes(number)) == events, number
    first, second = inbox.changes("MRN 123456")
    assert (first.change,) == said(adt("A08")).changes
    assert (second.change,) == said(merge()).changes
    assert [each.received for each in (first, second)] == [ISSUED, ISSUED + MINUTE]


# ── Reports ──────────────────────────────────────────────────────────────────────────────────────


def test_a_report_waits_until_somebody_has_looked_at_it(inbox: Inbox) -> None:
    take(inbox, report("P"))
    take(inbox, report("F"), minute=1)
    preliminary, final = inbox.reports(limit=9)
    assert (preliminary.report,) == said(report("P")).reports
    assert final.report.status is ReportStatus.FINAL
    assert final.report.radiologist is not None
    assert final.received == ISSUED + MINUTE
    assert inbox.reports(limit=1) == [preliminary]
    inbox.settle_report(preliminary.report_id, at=ISSUED)
    assert inbox.reports(limit=9) == [final]


# ── What is forgotten ────────────────────────────────────────────────────────────────────────────


def test_patient_data_are_dropped_when_their_time_is_over(inbox: Inbox) -> None:
    old = take(inbox, adt("A08"))
    old_merge = take(inbox, merge(), minute=1)
    newer = take(inbox, adt("A01"), minute=100)
    inbox.keep(inbound(b"waits", "waits"), audit_events=[])
    inbox.keep(inbound(b"fails", "fails"), audit_events=[])
    waits, fails = inbox.waiting(limit=9)
    inbox.fail(fails.sequence, "no", at=ISSUED)
    assert inbox.forget(ISSUED + 50 * MINUTE, limit=9) == 2
    assert inbox.forget(ISSUED + 50 * MINUTE, limit=9) == 0
    for each in (old, old_merge):
        with pytest.raises(ResultNotFound, match="not kept any more"):
            inbox.content(each.sequence)
    for each in (newer, waits, fails):
        assert inbox.content(each.sequence)
    (left, latest) = inbox.changes("MRN 123456")
    assert isinstance(left.change, PatientMerge), "which numbers are one patient is not forgotten"
    assert left.change.patient.name is None
    assert [each.value for each in left.change.patient.identifiers] == ["MRN 777"]
    assert (latest.change,) == said(adt("A01")).changes


def test_no_more_is_forgotten_at_once_than_asked_for(inbox: Inbox) -> None:
    for minute in range(5):
        take(inbox, orm(), minute=minute)
    assert [inbox.forget(ISSUED + DAY, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_an_id_that_was_forgotten_may_be_used_again(inbox: Inbox) -> None:
    inbox.keep(inbound(b"one"), audit_events=[])
    (kept,) = inbox.waiting(limit=9)
    inbox.finish(kept.sequence, Content(), at=ISSUED)
    inbox.forget(ISSUED + DAY, limit=9)
    assert inbox.keep(inbound(b"one"), audit_events=[]) is Taken.REPEAT
    assert inbox.keep(inbound(b"two"), audit_events=[]) is Taken.NEW


def test_nothing_of_a_patient_is_left_in_the_file(tmp_path: Path) -> None:
    parts = built("sql", tmp_path)
    assert parts.engine
    name = b"ZWETSCHGENKNOEDEL"
    pid = PID.replace("TEST^PATIENT", name.decode())
    take(parts.inbox, adt("A08", pid=pid))
    take(parts.inbox, report().replace(b"TEST^PATIENT", name), minute=1)
    (kept,) = parts.inbox.reports(limit=9)
    parts.inbox.settle_report(kept.report_id, at=ISSUED)
    file = tmp_path / "radcds.sqlite"

    def checkpointed() -> bytes:
        assert parts.engine
        with parts.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()

    assert name in checkpointed()
    parts.inbox.forget(ISSUED + DAY, limit=9)
    assert name not in checkpointed()


def test_a_message_that_was_changed_in_the_database_is_not_processed(tmp_path: Path) -> None:
    parts = built("sql", tmp_path)
    assert parts.engine
    parts.inbox.keep(inbound(), audit_events=[])
    (kept,) = parts.inbox.waiting(limit=9)
    with parts.engine.begin() as connection:
        connection.execute(text("UPDATE inbound_message SET content = CAST('MSH|F' AS BLOB)"))
    with pytest.raises(ResultNotFound, match="was changed in the database"):
        parts.inbox.content(kept.sequence)


def test_a_full_disk_keeps_nothing_half(tmp_path: Path) -> None:
    parts = built("sql", tmp_path)
    assert parts.engine
    with parts.engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(AuditUnavailable, match="full"):
        parts.inbox.keep(inbound(b"x" * 100_000), audit_events=[LEAF])
    assert parts.inbox.waiting(limit=9) == []
    assert parts.trail.events() == []


def test_results_of_an_older_database_are_found_by_their_accession_number(tmp_path: Path) -> None:
    parts = built("sql", tmp_path)
    assert parts.engine
    parts.results.notice(RESULT, STUDY_UID, ISSUED)
    read(parts, stored("normal"))
    with parts.engine.begin() as connection:
        for what in ("INDEX result_accession", "TABLE imaging_order"):
            connection.execute(text(f"DROP {what}"))
    parts.engine.dispose()
    again = built("sql", tmp_path)
    take(again.inbox, stat())
    assert due_min(again) == 60


# ── Both are alike, whatever comes ───────────────────────────────────────────────────────────────

_CONTENTS = [
    *(stat(control, uid=uid) for control in ("NW", "XO", "CA", "SC") for uid in ("", STUDY_UID)),
    stat(accession="ACC9"),
    orm("XO").replace(b"^^S\r", b"^^R\r"),
    omi(),
    adt("A08"),
    merge(),
    report("P"),
    report("F"),
]


class Both(RuleBasedStateMachine):
    """Whatever comes in, both kinds of inbox say the same, and a repeat changes nothing."""

    folder: Path
    made = 0

    def __init__(self) -> None:
        super().__init__()
        Both.made += 1
        folder = Both.folder / str(Both.made)
        folder.mkdir()
        self.both = [built("in memory", folder), built("sql", folder)]
        self.at: datetime = ISSUED

    ids = st.integers(1, 4).map(str)
    contents = st.sampled_from(_CONTENTS)
    senders = st.sampled_from(["RIS", "HIS"])

    def tick(self) -> datetime:
        self.at += MINUTE
        return self.at

    @rule(control_id=ids, content=contents, sender=senders)
    def keep(self, control_id: str, content: bytes, sender: str) -> None:
        message = InboundMessage((sender, "TRUST"), control_id, "X", self.tick(), content)
        assert len({each.inbox.keep(message, audit_events=[]) for each in self.both}) == 1
        repeat = replace(message, received=self.tick())
        known = {each.inbox.keep(repeat, audit_events=[]) for each in self.both}
        assert known <= {Taken.REPEAT, Taken.CONTRADICTION}

    @rule(fails=st.booleans())
    def settle(self, fails: bool) -> None:  # noqa: FBT001 - hypothesis
        at = self.tick()
        for each in self.both:
            for kept in each.inbox.waiting(limit=1):
                if fails:
                    each.inbox.fail(kept.sequence, "no", at=at)
                else:
                    content = said(each.inbox.content(kept.sequence))
                    for _ in range(2):
                        each.inbox.finish(kept.sequence, content, at=at)

    @rule()
    def again(self) -> None:
        for each in self.both:
            for kept in each.inbox.failed(limit=1):
                assert each.inbox.again(kept.sequence, audit_events=[])

    @rule(minutes=st.integers(0, 20), limit=st.integers(1, 3))
    def forget(self, minutes: int, limit: int) -> None:
        before = self.at - minutes * MINUTE
        assert len({each.inbox.forget(before, limit=limit) for each in self.both}) == 1

    @rule()
    def look_at_a_report(self) -> None:
        for each in self.both:
            for kept in each.inbox.reports(limit=1):
                each.inbox.settle_report(kept.report_id, at=self.at)

    @rule(name=st.sampled_from(["normal", "urgent"]))
    def notice_and_read(self, name: str) -> None:
        at = self.tick()
        for each in self.both:
            if not each.results.notice(RESULT, STUDY_UID, at):
                read(each, replace(stored(name), stored_at=self.at))

    @invariant()
    def they_say_the_same(self) -> None:
        for question in (
            lambda box: [_unnumbered(each) for each in box.waiting(limit=9)],
            lambda box: [_unnumbered(each) for each in box.failed(limit=9)],
            lambda box: box.backlog(),
            lambda box: box.orders(study_instance_uid=STUDY_UID, accession_number="ACC1001"),
            lambda box: box.orders(study_instance_uid="", accession_number="ACC9"),
            lambda box: box.changes("MRN 123456"),
            lambda box: box.changes("MRN 777"),
            lambda box: [(each.report, each.received) for each in box.reports(limit=9)],
        ):
            one, other = (question(each.inbox) for each in self.both)
            assert one == other

    @invariant()
    def the_worklist_is_the_same(self) -> None:
        known = {len(each.results.entries()) for each in self.both}
        if known == {1}:
            one, other = (each.line(RESULT).due for each in self.both)
            assert one == other

    def teardown(self) -> None:
        for each in self.both:
            if each.engine:
                each.engine.dispose()


def _unnumbered(kept: KeptMessage) -> KeptMessage:
    """Leave the number out: what is given up may use one up."""
    return replace(kept, sequence=0)


def test_the_stand_in_and_the_real_inbox_never_differ(tmp_path: Path) -> None:
    Both.folder = tmp_path
    run_state_machine_as_test(
        Both, settings=settings(max_examples=30, stateful_step_count=25, deadline=None)
    )
