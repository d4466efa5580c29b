"""Stores of sessions, feedback and the worklist keep the same promises, the stand-ins as well."""

import json
import multiprocessing
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text
from studies import ISSUED, OUTCOMES, STUDY_UID, chest_study
from studies import site as example_site

from cds_server.adapters.in_memory import (
    InMemoryAuditTrail,
    InMemoryFeedbackStore,
    InMemoryResultStore,
    InMemorySessionStore,
)
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_feedback_store import SqlFeedbackStore
from cds_server.adapters.sql_outbox import SqlOutbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import (
    SCHEMA_VERSION,
    open_engine,
    pending_launch,
    schema_version,
)
from cds_server.adapters.sql_schema import session as session_table
from cds_server.adapters.sql_session_store import SqlSessionStore
from cds_server.errors import AuditUnavailable
from cds_server.feedback import Agreement, CardFeedback, FeedbackStore, IssuedCard, Verdict
from cds_server.network import Centre, Network, Role
from cds_server.outbox import DeliveryState, Outbox
from cds_server.ports import AuditTrail, StoredResult, StudyEntry, StudyState
from cds_server.session import PendingLaunch, Session, SessionStore
from cds_server.viewer import PatientScope
from cds_server.worklist import Placing, Show, WorklistPage, WorklistQuery
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_context import ReportSet

ARTEFACTS = ReportSet(b"{bundle}", b"MSH|\r", b"{card}", b"png", {"report.dcm": b"dicom"})
PLACING = Placing(
    Network(
        centres=(
            Centre("north", "North", frozenset({"NORTH"})),
            Centre("south", "South", frozenset({"SOUTH"})),
        )
    )
)
LAUNCH = PendingLaunch("state", "https://ehr/fhir", "verifier", "nonce", "5f" * 32, ISSUED, "r1")
OF_ONE = PatientScope("Patient/1", frozenset({("urn:oid:2.999.7", "1"), ("urn:oid:2.999.8", "1")}))
SESSION = Session(
    handle="handle",
    secret_sha256="5f" * 32,
    fhir_base_url="https://ehr/fhir",
    user="Practitioner/1",
    display="Dr Test, MD",
    role=Role.RADIOLOGIST,
    centres=frozenset({"north", "south"}),
    patient=OF_ONE,
    scopes=frozenset({"openid", "patient/Patient.r"}),
    started_at=ISSUED,
    seen_at=ISSUED,
    access_token="access-token-0",  # noqa: S106 - of tests
    refresh_token="refresh-token-0",  # noqa: S106 - of tests
    access_until=ISSUED + timedelta(minutes=5),
    needs_banner=False,
)
MINUTE = timedelta(minutes=1)


@dataclass
class Stores:
    """Stores over one trail, and a way to break it."""

    sessions: SessionStore
    results: InMemoryResultStore | SqlResultStore
    outbox: Outbox
    feedback: FeedbackStore
    trail: AuditTrail
    break_trail: Callable[[], None]
    engine: Engine | None = None


def in_memory() -> Stores:
    trail = InMemoryAuditTrail()
    results = InMemoryResultStore(trail, PLACING)
    return Stores(
        InMemorySessionStore(trail),
        results,
        results.outbox,
        InMemoryFeedbackStore(results),
        trail,
        lambda: setattr(trail, "broken", True),
    )


def in_sql(path: Path) -> Stores:
    engine = open_engine(path)

    def fill_the_disk() -> None:
        with engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar()
            connection.execute(text(f"PRAGMA max_page_count={pages}"))

    return Stores(
        SqlSessionStore(engine),
        SqlResultStore(engine, PLACING),
        SqlOutbox(engine),
        SqlFeedbackStore(engine),
        SqlAuditTrail(engine),
        fill_the_disk,
        engine,
    )


@pytest.fixture(params=["memory", "sql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    return in_memory() if request.param == "memory" else in_sql(tmp_path / "radcds.sqlite")


@pytest.fixture
def sql(tmp_path: Path) -> Stores:
    return in_sql(tmp_path / "radcds.sqlite")


def leaf(number: int = 0, padding: int = 10) -> bytes:
    detail = {"number": str(number), "padding": "x" * padding}
    fact = AuditFact(AuditKind.SIGN_IN, ISSUED, "u", "127.0.0.1", detail=detail)
    return audit_event(fact, example_site())


LARGE = [leaf(number, 20_000) for number in range(5)]


# --- Launches


def test_a_launch_is_given_once_as_it_was_kept(stores: Stores) -> None:
    stores.sessions.add_launch(LAUNCH)
    assert stores.sessions.take_launch("other") is None
    assert stores.sessions.take_launch("state") == LAUNCH
    assert stores.sessions.take_launch("state") is None


def test_old_launches_and_sessions_are_forgotten_with_what_was_granted(stores: Stores) -> None:
    for minutes in (0, 10, 20):
        at = ISSUED + minutes * MINUTE
        stores.sessions.add_launch(replace(LAUNCH, state=f"s{minutes}", started_at=at))
        stores.sessions.add(replace(SESSION, handle=f"h{minutes}", started_at=at), [])
        stores.sessions.grant(f"h{minutes}", "r1", "images", ISSUED + timedelta(days=1), [])
    stores.sessions.forget_before(ISSUED + 10 * MINUTE)
    kept = {m: stores.sessions.take_launch(f"s{m}") is not None for m in (0, 10, 20)}
    assert kept == {0: False, 10: True, 20: True}
    assert {m: stores.sessions.session(f"h{m}") is not None for m in (0, 10, 20)} == kept
    granted = {m: stores.sessions.granted(f"h{m}", "r1", "images", ISSUED) for m in (0, 10, 20)}
    assert granted == kept


# --- Sessions


@pytest.mark.parametrize(
    "begun",
    [
        SESSION,
        replace(SESSION, patient=None, centres=frozenset(), scopes=frozenset()),
        replace(SESSION, access_token="", refresh_token="", access_until=None),
        replace(SESSION, user="Practitioner/ä", display="Dr 漢字 \u202e🩻", fhir_base_url=""),
    ],
)
def test_a_session_is_given_as_it_was_kept(stores: Stores, begun: Session) -> None:
    stores.sessions.add(begun, [leaf()])
    assert stores.sessions.session("handle") == begun
    assert stores.sessions.session("other") is None
    assert stores.trail.events() == [leaf()]


def test_a_session_that_is_used_is_seen(stores: Stores) -> None:
    stores.sessions.add(SESSION, [])
    stores.sessions.seen("handle", ISSUED + MINUTE)
    assert stores.sessions.session("handle") == replace(SESSION, seen_at=ISSUED + MINUTE)


def test_renewed_tokens_replace_the_old_ones(stores: Stores) -> None:
    stores.sessions.add(SESSION, [])
    until = ISSUED + 10 * MINUTE
    stores.sessions.renew("handle", access_token="a1", refresh_token="r1", access_until=until)  # noqa: S106
    assert stores.sessions.session("handle") == replace(
        SESSION,
        access_token="a1",  # noqa: S106
        refresh_token="r1",  # noqa: S106
        access_until=until,
    )


def test_an_ended_session_stays_ended_whoever_still_uses_it(stores: Stores) -> None:
    stores.sessions.add(SESSION, [leaf(0)])
    stores.sessions.end("handle", [leaf(1)])
    assert stores.sessions.session("handle") is None
    stores.sessions.seen("handle", ISSUED + MINUTE)
    stores.sessions.renew("handle", access_token="a", refresh_token="r", access_until=ISSUED)  # noqa: S106
    assert stores.sessions.session("handle") is None
    assert not stores.sessions.claim_refresh("handle", ISSUED, ISSUED + MINUTE)
    assert stores.trail.events() == [leaf(0), leaf(1)]


def test_one_claim_to_renew_is_good_until_it_ends_or_is_used(stores: Stores) -> None:
    stores.sessions.add(SESSION, [])
    claim = stores.sessions.claim_refresh
    assert claim("handle", ISSUED, ISSUED + MINUTE)
    assert not claim("handle", ISSUED, ISSUED + MINUTE)
    assert not claim("handle", ISSUED + timedelta(seconds=59), ISSUED + 2 * MINUTE)
    assert claim("handle", ISSUED + MINUTE, ISSUED + 2 * MINUTE)
    stores.sessions.renew("handle", access_token="a", refresh_token="r", access_until=ISSUED)  # noqa: S106
    assert claim("handle", ISSUED + MINUTE, ISSUED + 2 * MINUTE)
    assert not claim("unknown", ISSUED, ISSUED + MINUTE)


def test_a_grant_is_of_one_session_one_study_and_one_thing_until_it_ends(stores: Stores) -> None:
    for handle in ("handle", "other"):
        stores.sessions.add(replace(SESSION, handle=handle), [])
    stores.sessions.grant("handle", "r1", "emergency", ISSUED + MINUTE, [leaf()])
    granted = stores.sessions.granted
    assert granted("handle", "r1", "emergency", ISSUED)
    assert granted("handle", "r1", "emergency", ISSUED + timedelta(seconds=59))
    assert not granted("handle", "r1", "emergency", ISSUED + MINUTE)
    for other in (("other", "r1", "emergency"), ("handle", "r2", "emergency")):
        assert not granted(*other, ISSUED)
    assert not granted("handle", "r1", "images", ISSUED)
    stores.sessions.grant("handle", "r1", "emergency", ISSUED + 3 * MINUTE, [leaf(1)])
    assert granted("handle", "r1", "emergency", ISSUED + 2 * MINUTE)
    stores.sessions.grant("other", "r1", "emergency", ISSUED + MINUTE, [])
    stores.sessions.end("handle", [leaf(2)])
    assert not granted("handle", "r1", "emergency", ISSUED)
    assert granted("other", "r1", "emergency", ISSUED)
    assert stores.trail.events() == [leaf(0), leaf(1), leaf(2)]


def test_no_audit_no_session_no_grant_and_no_end(stores: Stores) -> None:
    stores.sessions.add(SESSION, [leaf()])
    stores.break_trail()
    with pytest.raises(AuditUnavailable):
        stores.sessions.add(replace(SESSION, handle="second"), LARGE)
    assert stores.sessions.session("second") is None
    with pytest.raises(AuditUnavailable):
        stores.sessions.grant("handle", "r1", "emergency", ISSUED + MINUTE, LARGE)
    assert not stores.sessions.granted("handle", "r1", "emergency", ISSUED)
    with pytest.raises(AuditUnavailable):
        stores.sessions.end("handle", LARGE)
    assert stores.sessions.session("handle") == SESSION
    assert stores.trail.events() == [leaf()]


# --- What only a database can promise

ROUNDS = 40


def takes(path: Path) -> list[str]:
    """Take every launch that is still there, in a process of its own."""
    store = SqlSessionStore(open_engine(path))
    return [f"s{n}" for n in range(ROUNDS) if store.take_launch(f"s{n}") is not None]


def claims(path: Path) -> list[str]:
    """Claim every renewal that is free, in a process of its own."""
    store = SqlSessionStore(open_engine(path))
    return [f"h{n}" for n in range(ROUNDS) if store.claim_refresh(f"h{n}", ISSUED, ISSUED + MINUTE)]


def test_of_two_processes_one_takes_a_launch_and_one_renews_a_session(tmp_path: Path) -> None:
    path = tmp_path / "radcds.sqlite"
    store = SqlSessionStore(open_engine(path))
    for number in range(ROUNDS):
        store.add_launch(replace(LAUNCH, state=f"s{number}"))
        store.add(replace(SESSION, handle=f"h{number}"), [])
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawning) as pool:
        for work, letter in ((takes, "s"), (claims, "h")):
            both = [future.result() for future in [pool.submit(work, path) for _ in range(2)]]
            won = [name for each in both for name in each]
            assert sorted(won) == sorted(f"{letter}{number}" for number in range(ROUNDS))


def test_tokens_stand_in_their_columns_alone_and_leave_nothing_behind(sql: Stores) -> None:
    assert sql.engine is not None
    sql.sessions.add(SESSION, [leaf()])
    with sql.engine.connect() as connection:
        row = connection.execute(select(session_table)).one()
    assert (row.access_token, row.refresh_token) == ("access-token-0", "refresh-token-0")
    assert "token-0" not in row.content
    sql.sessions.renew(
        "handle",
        access_token="access-token-1",  # noqa: S106 - of tests
        refresh_token="refresh-token-1",  # noqa: S106 - of tests
        access_until=ISSUED,
    )
    assert b"token-0" not in on_disk(sql.engine)
    assert b"token-1" in on_disk(sql.engine)
    sql.sessions.end("handle", [leaf(1)])
    assert b"token-1" not in on_disk(sql.engine)


def on_disk(engine: Engine) -> bytes:
    """Give every byte of the database and its log."""
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")  # a checkpoint does not run within a transaction
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    path = Path(str(engine.url.database))
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


def test_the_secret_of_a_pending_launch_is_gone_once_taken(sql: Stores) -> None:
    assert sql.engine is not None
    sql.sessions.add_launch(replace(LAUNCH, verifier="the-pkce-verifier"))
    sql.sessions.take_launch("state")
    with sql.engine.connect() as connection:
        assert connection.execute(select(pending_launch)).all() == []
    assert b"the-pkce-verifier" not in on_disk(sql.engine)


# --- Feedback

CARD = IssuedCard("card-1", "r1", "radcds-patient-view", "https://ehr")
SAID = CardFeedback("card-1", "overridden", ISSUED, "urn:x", "too-late", "a comment")


def of(item: CardFeedback) -> bytes:
    fact = AuditFact(AuditKind.FEEDBACK, item.at, "u", "127.0.0.1", detail={"card": item.card})
    return audit_event(fact, example_site())


def test_a_card_that_was_shown_stays_as_it_was_shown_first(stores: Stores) -> None:
    stores.feedback.issue([CARD], [leaf(0)])
    stores.feedback.issue([replace(CARD, client="https://another")], [leaf(1)])
    assert stores.feedback.card("card-1") == CARD
    assert stores.feedback.card("card-2") is None
    assert stores.trail.events() == [leaf(0), leaf(1)]


def test_feedback_that_comes_again_is_kept_and_recorded_once(stores: Stores) -> None:
    stores.feedback.issue([CARD], [])
    accepted = CardFeedback("card-1", "accepted", ISSUED - MINUTE, accepted=("s1", "s2"))
    assert stores.feedback.add_feedback([SAID, accepted], of) == 2
    assert stores.feedback.add_feedback([SAID], of) == 0
    assert stores.feedback.add_feedback([accepted, SAID, SAID], of) == 0
    assert stores.feedback.feedback("card-1") == [accepted, SAID]
    assert stores.feedback.feedback("card-2") == []
    assert len(stores.trail.events()) == 2
    later = replace(SAID, at=ISSUED + MINUTE)
    assert stores.feedback.add_feedback([later, later], of) == 1
    assert len(stores.trail.events()) == 3


def test_no_audit_no_card_no_feedback_and_no_verdict(stores: Stores) -> None:
    noticed(stores, "r1")
    stores.break_trail()
    with pytest.raises(AuditUnavailable):
        stores.feedback.issue([CARD], LARGE)
    assert stores.feedback.card("card-1") is None
    with pytest.raises(AuditUnavailable):
        stores.feedback.add_feedback([SAID], lambda _: leaf(0, 100_000))
    assert stores.feedback.feedback("card-1") == []
    with pytest.raises(AuditUnavailable):
        stores.feedback.add_verdict(verdict("r1"), LARGE)
    assert stores.feedback.verdicts("r1") == []
    assert stores.results.entry("r1").closed_at is None
    assert stores.trail.events() == []


def verdict(result_id: str, minutes: int = 60) -> Verdict:
    return Verdict(
        result_id,
        "Practitioner/1",
        ISSUED + minutes * MINUTE,
        Agreement.DISAGREE,
        "3b",
        "missed-finding",
        "left base, é",
    )


def noticed(stores: Stores, result_id: str, uid: str = STUDY_UID, minutes: int = 0) -> None:
    stores.results.notice(result_id, uid, ISSUED + minutes * MINUTE)


def read(
    stores: Stores, result_id: str, name: str = "flagged", institution: str = "", minutes: int = 30
) -> None:
    study = chest_study(institution=institution)
    stored = StoredResult(result_id, study, OUTCOMES[name], ISSUED + minutes * MINUTE, {})
    stores.results.save(stored, ARTEFACTS, audit_events=[], destinations=("fhir",))


def test_a_verdict_closes_the_study_and_is_listed(stores: Stores) -> None:
    noticed(stores, "r1")
    read(stores, "r1")
    first, second = verdict("r1"), replace(verdict("r1", 90), agreement=Agreement.AGREE, reason="")
    stores.feedback.add_verdict(first, [leaf(0)])
    assert listed(stores, Show.OPEN) == []
    assert listed(stores, Show.REVIEWED) == ["r1"]
    stores.feedback.add_verdict(second, [leaf(1)])
    assert stores.feedback.verdicts("r1") == [first, second]
    assert stores.feedback.verdicts("r2") == []
    assert stores.results.entry("r1").closed_at == first.at
    assert stores.trail.events() == [leaf(0), leaf(1)]


def listed(stores: Stores, show: Show) -> list[str]:
    page = stores.results.worklist(WorklistQuery(show=show))
    return [entry.result_id for entry in page.entries]


@pytest.mark.parametrize(("read_at", "late"), [(59, False), (60, False), (61, True)])
def test_a_result_that_comes_after_the_reader_is_late(
    stores: Stores, read_at: int, *, late: bool
) -> None:
    noticed(stores, "r1")
    stores.feedback.add_verdict(verdict("r1", 60), [])
    read(stores, "r1", minutes=read_at)
    entry = stores.results.entry("r1")
    assert entry.late is late
    assert entry.closed_at == ISSUED + 60 * MINUTE


def test_a_second_model_supersedes_the_first_and_not_its_own_repetition(stores: Stores) -> None:
    noticed(stores, "r1", f"{STUDY_UID}.1")
    read(stores, "r1")
    noticed(stores, "other", f"{STUDY_UID}.2")
    noticed(stores, "r2", f"{STUDY_UID}.1", 5)
    noticed(stores, "r1", f"{STUDY_UID}.1", 9)
    superseded = {e.result_id: e.superseded for e in stores.results.entries()}
    assert superseded == {"r1": True, "r2": False, "other": False}
    assert listed(stores, Show.OPEN) == ["other", "r2"]
    assert set(listed(stores, Show.ALL)) == {"r1", "r2", "other"}


# --- The worklist


@dataclass(frozen=True)
class Noticed:
    """A study of a random worklist."""

    uid: int
    minutes: int
    outcome: str
    institution: str
    closed: bool
    progress: StudyState | None
    delivered: bool


STUDIES = st.lists(
    st.builds(
        Noticed,
        uid=st.integers(0, 8),
        minutes=st.sampled_from([0, 0, 60, 180, 240, 720, 1440, 2000]),
        outcome=st.sampled_from(["", *OUTCOMES]),
        institution=st.sampled_from(["NORTH", "south", "Elsewhere", ""]),
        closed=st.booleans(),
        progress=st.sampled_from([None, StudyState.FETCHING, StudyState.ANALYSING]),
        delivered=st.booleans(),
    ),
    max_size=10,
)
QUERIES = [
    WorklistQuery(frozenset(centres), show, frozenset(ranks), limit)
    for centres, show, ranks, limit in product(
        [(), ("north",), ("north", "south"), ("nowhere",)], Show, [(), (0,), (2, 4)], [200, 3, 0]
    )
] + [WorklistQuery(due_after=ISSUED + timedelta(minutes=minutes)) for minutes in (60, 300, 1500)]


def fill(stores: Stores, studies: Sequence[Noticed]) -> None:
    for number, each in enumerate(studies):
        name = f"r{number}"
        noticed(stores, name, f"{STUDY_UID}.{each.uid}", each.minutes)
        if each.progress:
            stores.results.progress(name, each.progress)
        if each.outcome:
            read(stores, name, each.outcome, each.institution)
        if each.outcome and each.delivered:
            stores.outbox.settle(name, "fhir", DeliveryState.DELIVERED, at=ISSUED)
        if each.closed:
            stores.feedback.add_verdict(verdict(name), [])


def line(entry: StudyEntry) -> tuple[object, ...]:
    seen = (entry.result_id, entry.study_instance_uid, entry.noticed_at, entry.due, entry.rank)
    told = (entry.centre, entry.closed_at, entry.superseded, entry.late, entry.state)
    return (*seen, *told, dict(entry.delivered))


def whole(page: WorklistPage) -> tuple[object, ...]:
    return [line(entry) for entry in page.entries], page.more, dict(page.counts)


@settings(max_examples=12, deadline=None)
@given(studies=STUDIES)
def test_every_store_gives_the_same_worklist(studies: list[Noticed]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory, sql = in_memory(), in_sql(Path(folder) / "radcds.sqlite")
        fill(memory, studies)
        fill(sql, studies)
        for query in QUERIES:
            page = sql.results.worklist(query)
            assert whole(page) == whole(memory.results.worklist(query)), query
            places = [(entry.due, entry.rank) for entry in page.entries]
            assert places == sorted(places, reverse=query.show is not Show.OPEN)
            assert len(page.entries) <= query.limit
            assert sum(page.counts.values()) == len(page.entries) + page.more
            for entry in page.entries:
                assert query.admits(entry)
        assert sql.engine is not None
        sql.engine.dispose()


# --- An older database

NEW_IN_2 = (
    *("worklist_line", "issued_card", "card_feedback", "verdict", "pending_launch"),
    *("session", "session_grant", "used_token", "fhir_origin"),
)


def made_old(path: Path, *, whole_tables: bool) -> None:
    """Turn a database into one of schema version 1."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in NEW_IN_2 if whole_tables else ():
            connection.execute(f'DROP TABLE "{table}"')
        if not whole_tables:
            connection.execute("DELETE FROM worklist_line")
        connection.execute("UPDATE schema_version SET version = 1")


@pytest.mark.parametrize("whole_tables", [1, 0])
def test_a_database_of_version_1_is_upgraded_in_place(tmp_path: Path, whole_tables: int) -> None:
    path = tmp_path / "radcds.sqlite"
    before = in_sql(path)
    studies = [
        Noticed(number, 10 * number, name, "NORTH", closed=False, progress=None, delivered=False)
        for number, name in enumerate(["", *OUTCOMES])
    ]
    fill(before, studies)
    before.trail.record([leaf()])
    expected = whole(before.results.worklist(WorklistQuery(show=Show.ALL)))
    assert before.engine is not None
    before.engine.dispose()
    made_old(path, whole_tables=bool(whole_tables))
    for _ in range(2):
        after = in_sql(path)
        assert whole(after.results.worklist(WorklistQuery(show=Show.ALL))) == expected
        assert after.results.artefacts("r1") == ARTEFACTS
        assert after.trail.verify() == 1
        assert after.engine is not None
        with after.engine.connect() as connection:
            assert connection.scalar(select(schema_version.c.version)) == SCHEMA_VERSION
        after.engine.dispose()
    again = in_sql(path)
    again.sessions.add(SESSION, [leaf(1)])
    again.feedback.add_verdict(verdict("r1"), [leaf(2)])
    assert again.trail.verify() == 3
    assert json.loads(again.trail.events()[-1])["resourceType"] == "AuditEvent"


def test_an_upgrade_knows_which_results_a_later_model_superseded(tmp_path: Path) -> None:
    path = tmp_path / "radcds.sqlite"
    before = in_sql(path)
    for number in range(2):
        noticed(before, f"r{number}", STUDY_UID, number)
        read(before, f"r{number}")
    assert before.engine is not None
    before.engine.dispose()
    made_old(path, whole_tables=False)
    assert listed(in_sql(path), Show.OPEN) == ["r1"]
