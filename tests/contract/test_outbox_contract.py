"""Every outbox keeps the same promises: in order, once settled settled, nothing forgotten."""

import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import text
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study

from cds_server.adapters.in_memory import InMemoryAuditTrail, InMemoryResultStore
from cds_server.adapters.in_memory_outbox import InMemoryOutbox
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_outbox import SqlOutbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.errors import AuditUnavailable, ResultNotFound
from cds_server.outbox import Delivery, DeliveryState, Outbox, Pause, Publication
from cds_server.ports import AuditTrail, ResultStore, StoredResult, StudyState
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

DELIVERED, PARKED, WAITING = DeliveryState.DELIVERED, DeliveryState.PARKED, DeliveryState.WAITING
LEAF = b'{"resourceType": "AuditEvent"}'
Built = tuple[Outbox, AuditTrail, ResultStore]


def built(kind: str, folder: Path) -> Built:
    if kind == "in memory":
        trail = InMemoryAuditTrail()
        store = InMemoryResultStore(trail)
        return store.outbox, trail, store
    engine = open_engine(folder / "radcds.sqlite")
    return SqlOutbox(engine), SqlAuditTrail(engine), SqlResultStore(engine)


@pytest.fixture(params=["in memory", "sql"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    return built(request.param, tmp_path)


@pytest.fixture
def outbox(parts: Built) -> Outbox:
    return parts[0]


def publication(number: int, order: str = "A", study: str = STUDY_UID) -> Publication:
    name = str(uuid.UUID(int=number))
    return Publication(name, name, study, order, ISSUED + timedelta(minutes=number))


def only(outbox: Outbox, number: int, to: str = "ris") -> Delivery:
    return outbox.delivery(str(uuid.UUID(int=number)), to)


def settle(outbox: Outbox, number: int, state: DeliveryState, to: str = "ris") -> None:
    says = "no" if state is PARKED else ""
    outbox.settle(str(uuid.UUID(int=number)), to, state, says=says, at=ISSUED)


def test_a_delivery_is_added_once(outbox: Outbox) -> None:
    for _ in range(2):
        outbox.add(publication(1), ["ris", "fhir"])
    found = outbox.deliveries()
    assert [each.destination for each in found] == ["ris", "fhir"]
    assert found[0] == Delivery(publication(1), "ris", found[0].sequence)


def test_what_was_never_added_is_not_there(outbox: Outbox) -> None:
    with pytest.raises(ResultNotFound, match="no such delivery"):
        only(outbox, 1)
    assert not outbox.again(str(uuid.UUID(int=1)), "ris", audit_events=[])
    assert outbox.backlogs() == {}


def test_the_earliest_that_waits_of_the_same_order_goes_first(outbox: Outbox) -> None:
    for number, order in ((1, "A"), (2, "B"), (3, "A"), (4, "A")):
        outbox.add(publication(number, order), ["ris", "fhir"])
    assert outbox.ahead(only(outbox, 1)) is None
    assert outbox.ahead(only(outbox, 2)) is None
    assert outbox.ahead(only(outbox, 4)) == only(outbox, 1)
    settle(outbox, 1, DELIVERED)
    assert outbox.ahead(only(outbox, 4)) == only(outbox, 3)
    settle(outbox, 3, PARKED)
    assert outbox.ahead(only(outbox, 4)) is None, "what is parked keeps nobody waiting"
    assert outbox.ahead(only(outbox, 4, "fhir")) == only(outbox, 1, "fhir")


def test_what_arrived_later_of_the_same_study_overtakes(outbox: Outbox) -> None:
    for number in (1, 2):
        outbox.add(publication(number), ["ris", "fhir"])
    outbox.add(publication(3, study="1.2.3"), ["ris"])
    settle(outbox, 3, DELIVERED)
    assert not outbox.overtaken(only(outbox, 1))
    settle(outbox, 2, DELIVERED)
    assert outbox.overtaken(only(outbox, 1))
    assert not outbox.overtaken(only(outbox, 2))
    assert not outbox.overtaken(only(outbox, 1, "fhir"))


def test_a_message_is_kept_byte_for_byte_and_the_first_one_stands(outbox: Outbox) -> None:
    outbox.add(publication(1), ["ris"])
    name = only(outbox, 1).publication_id
    assert outbox.message(name, "ris") is None
    assert not only(outbox, 1).composed
    assert outbox.keep_message(name, "ris", b"MSH|\r\xff") == b"MSH|\r\xff"
    assert outbox.keep_message(name, "ris", b"other") == b"MSH|\r\xff"
    assert outbox.message(name, "ris") == b"MSH|\r\xff"
    assert outbox.message(name, "fhir") is None
    assert only(outbox, 1).composed


def test_a_failure_is_kept_until_it_arrives(outbox: Outbox) -> None:
    for number in (1, 2, 3):
        outbox.add(publication(number), ["ris"])
    due = ISSUED + timedelta(minutes=9)
    failed = replace(only(outbox, 2), strikes=2, says="AE", since=ISSUED, due=due)
    outbox.fail(failed)
    assert only(outbox, 2) == failed
    settle(outbox, 3, PARKED)
    assert [each.says for each in outbox.troubled(limit=9)] == ["no", "AE"]
    assert [each.says for each in outbox.troubled(limit=1)] == ["no"]
    settle(outbox, 2, DELIVERED)
    outbox.fail(failed)
    assert only(outbox, 2).state is DELIVERED
    assert [each.says for each in outbox.troubled(limit=9)] == ["no"]


def test_what_is_settled_can_be_asked_for_again_and_is_another_turn(parts: Built) -> None:
    outbox, trail, _ = parts
    outbox.add(publication(1), ["ris"])
    first = only(outbox, 1)
    outbox.queued([first])
    assert not outbox.again(first.publication_id, "ris", audit_events=[LEAF])
    assert trail.events() == [], "nothing happened, so nothing is recorded"
    for turn, state in enumerate((PARKED, DELIVERED), start=2):
        settle(outbox, 1, state)
        assert outbox.unqueued() == []
        assert outbox.again(first.publication_id, "ris", audit_events=[LEAF])
        assert (only(outbox, 1).state, only(outbox, 1).turn) == (WAITING, turn)
        assert outbox.unqueued() == [only(outbox, 1)]
        outbox.queued(outbox.unqueued())
        assert outbox.unqueued() == []
    assert len(trail.events()) == 2


def test_what_waits_is_counted_for_each_destination(outbox: Outbox) -> None:
    for number in (1, 2, 3, 4):
        outbox.add(publication(number), ["ris"] if number > 1 else ["ris", "fhir"])
    settle(outbox, 1, DELIVERED)
    settle(outbox, 4, PARKED)
    backlogs = outbox.backlogs()
    ris = backlogs["ris"]
    assert (ris.waiting, ris.parked, ris.delivered) == (2, 1, 1)
    assert ris.oldest == publication(2).created
    assert backlogs["fhir"].waiting == 1
    settle(outbox, 1, DELIVERED, "fhir")
    assert outbox.backlogs()["fhir"].oldest is None


def test_a_destination_is_paused_and_resumed_once_each(parts: Built) -> None:
    outbox, trail, _ = parts
    pause = Pause("dr.who", ISSUED)
    assert outbox.paused() == {}
    assert outbox.pause("ris", pause, audit_events=[LEAF])
    assert not outbox.pause("ris", Pause("another", ISSUED), audit_events=[LEAF])
    assert outbox.paused() == {"ris": pause}
    assert outbox.resume("ris", audit_events=[LEAF])
    assert not outbox.resume("ris", audit_events=[LEAF])
    assert outbox.paused() == {}
    assert len(trail.events()) == 2


def test_the_deliveries_of_one_result_or_destination_are_found(outbox: Outbox) -> None:
    for number in (1, 2):
        outbox.add(publication(number), ["ris", "fhir"])
    settle(outbox, 2, PARKED)
    name = only(outbox, 1).publication_id
    assert {each.publication_id for each in outbox.deliveries(result_id=name)} == {name}
    assert {each.destination for each in outbox.deliveries(destination="ris")} == {"ris"}
    assert len(outbox.deliveries(order_key="A")) == 4
    assert outbox.deliveries(order_key="B") == []
    parked = outbox.deliveries(states=frozenset({PARKED}))
    assert parked == [only(outbox, 2)]
    assert len(outbox.deliveries(limit=3)) == 3
    assert outbox.deliveries(limit=1) == [only(outbox, 2)], "parked first"


def test_a_result_waits_for_each_destination_as_soon_as_it_is_stored(parts: Built) -> None:
    outbox, _, store = parts
    identifier = result_id(STUDY_UID, MODEL.sha256)
    store.notice(identifier, STUDY_UID, ISSUED)
    result = StoredResult(identifier, chest_study(), OUTCOMES["urgent"], ISSUED, {})
    store.save(
        result, ReportSet(b"b", b"o", b"c"), audit_events=[], destinations=["ris"], order_key="A"
    )
    (found,) = outbox.unqueued()
    assert found.publication == Publication(identifier, identifier, STUDY_UID, "A", ISSUED)
    assert store.entry(identifier).state is StudyState.READ
    outbox.settle(identifier, "ris", DeliveryState.SUPERSEDED, at=ISSUED)
    assert store.entry(identifier).state is StudyState.PUBLISHED


def test_a_study_is_published_when_every_destination_acknowledged(parts: Built) -> None:
    outbox, _, store = parts
    identifier = result_id(STUDY_UID, MODEL.sha256)
    store.notice(identifier, STUDY_UID, ISSUED)
    result = StoredResult(identifier, chest_study(), OUTCOMES["flagged"], ISSUED, {})
    both = ["fhir", "folder"]
    store.save(result, ReportSet(b"b", b"o", b"c"), audit_events=[], destinations=both)
    outbox.settle(identifier, "fhir", DELIVERED, at=ISSUED)
    assert store.entry(identifier).state is StudyState.READ
    assert store.entry(identifier).delivered == {"fhir": True, "folder": False}
    outbox.settle(identifier, "folder", DELIVERED, at=ISSUED)
    assert store.entry(identifier).state is StudyState.PUBLISHED


def test_a_message_that_was_changed_in_the_database_is_not_sent(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "radcds.sqlite")
    outbox = SqlOutbox(engine)
    outbox.add(publication(1), ["ris"])
    outbox.keep_message(str(uuid.UUID(int=1)), "ris", b"MSH|P")
    with engine.begin() as connection:
        connection.execute(text("UPDATE outbound_message SET content = CAST('MSH|F' AS BLOB)"))
    with pytest.raises(ResultNotFound, match="was changed in the database"):
        outbox.message(str(uuid.UUID(int=1)), "ris")


def test_what_cannot_be_made_durable_is_said_and_not_half_done(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "radcds.sqlite")
    outbox = SqlOutbox(engine)
    outbox.add(publication(1), ["ris"])
    settle(outbox, 1, PARKED)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE audit_leaf"))
    with pytest.raises(AuditUnavailable):
        outbox.again(str(uuid.UUID(int=1)), "ris", audit_events=[LEAF])
    assert only(outbox, 1).state is PARKED


def test_deliveries_of_an_older_database_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "radcds.sqlite"
    engine = open_engine(path)
    store = SqlResultStore(engine)
    ids = [result_id(f"{STUDY_UID}.{number}", MODEL.sha256) for number in range(3)]
    for identifier in ids:
        store.notice(identifier, STUDY_UID, ISSUED)
        result = StoredResult(identifier, chest_study(), OUTCOMES["urgent"], ISSUED, {})
        store.save(result, ReportSet(b"b", b"o", b"c"), audit_events=[], destinations=())
    older = """
        CREATE TABLE delivery (result_id TEXT, destination TEXT, delivered INTEGER);
        CREATE TABLE delivery_trouble
            (result_id TEXT, destination TEXT, says TEXT, since TEXT, parked INTEGER);
        UPDATE schema_version SET version = 2;
        """
    with engine.begin() as connection:
        for statement in older.strip().rstrip(";").split(";"):
            connection.execute(text(statement))
        for number, identifier in enumerate(ids):
            row = {"id": identifier, "delivered": int(number == 0)}
            connection.execute(text("INSERT INTO delivery VALUES (:id, 'pacs', :delivered)"), row)
        trouble = "INSERT INTO delivery_trouble VALUES (:id, 'pacs', 'is full', :at, 1)"
        connection.execute(text(trouble), {"id": ids[1], "at": ISSUED.isoformat()})
    engine.dispose()
    outbox = SqlOutbox(open_engine(path))
    states = {each.publication_id: each.state for each in outbox.deliveries()}
    assert states == dict(zip(ids, (DELIVERED, PARKED, WAITING), strict=True))
    assert [each.says for each in outbox.troubled(limit=9)] == ["is full"]
    assert [each.publication_id for each in outbox.unqueued()] == [ids[2]]
    assert len(SqlOutbox(open_engine(path)).deliveries()) == 3


class Both(RuleBasedStateMachine):
    """Whatever is done to both kinds of outbox, they say the same."""

    folder: Path
    made = 0

    def __init__(self) -> None:
        super().__init__()
        Both.made += 1
        folder = Both.folder / str(Both.made)
        folder.mkdir()
        self.engine = open_engine(folder / "radcds.sqlite")
        self.both: tuple[Outbox, Outbox] = (
            InMemoryOutbox(InMemoryAuditTrail()),
            SqlOutbox(self.engine),
        )

    numbers = st.integers(1, 5)
    names = st.sampled_from(["ris", "fhir"])

    @rule(number=numbers, order=st.sampled_from("AB"), study=st.sampled_from(["1.2", "1.3"]))
    def add(self, number: int, order: str, study: str) -> None:
        for each in self.both:
            each.add(publication(number, order, study), ["ris", "fhir"])

    @rule(number=numbers, name=names, state=st.sampled_from([*set(DeliveryState) - {WAITING}]))
    def settle(self, number: int, name: str, state: DeliveryState) -> None:
        for each in self.both:
            if any(found.publication_id.endswith(str(number)) for found in each.deliveries()):
                settle(each, number, state, name)

    @rule(number=numbers, name=names)
    def again(self, number: int, name: str) -> None:
        identifier = str(uuid.UUID(int=number))
        said = {each.again(identifier, name, audit_events=[]) for each in self.both}
        assert len(said) == 1

    @rule()
    def queue(self) -> None:
        for each in self.both:
            each.queued(each.unqueued())

    @rule(name=names)
    def pause_or_resume(self, name: str) -> None:
        for each in self.both:
            if not each.pause(name, Pause("x", ISSUED), audit_events=[]):
                each.resume(name, audit_events=[])

    @invariant()
    def they_say_the_same(self) -> None:
        for questions in (
            lambda box: [_plain(each) for each in box.deliveries()],
            lambda box: [_plain(each) for each in box.unqueued()],
            lambda box: [_plain(each) for each in box.troubled(limit=9)],
            lambda box: [box.overtaken(each) for each in box.deliveries()],
            lambda box: [_plain(box.ahead(each)) for each in box.deliveries()],
            lambda box: dict(box.backlogs()),
            lambda box: dict(box.paused()),
        ):
            one, other = (questions(each) for each in self.both)
            assert one == other

    def teardown(self) -> None:
        self.engine.dispose()


def _plain(delivery: Delivery | None) -> Delivery | None:
    """Leave the number out: what is added twice may use one up."""
    return replace(delivery, sequence=0) if delivery else None


def test_the_stand_in_and_the_real_outbox_never_differ(tmp_path: Path) -> None:
    Both.folder = tmp_path
    run_state_machine_as_test(
        Both, settings=settings(max_examples=20, stateful_step_count=20, deadline=None)
    )
