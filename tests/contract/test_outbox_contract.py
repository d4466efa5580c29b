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
from cds_server.adapters.sql_schema import SCHEMA_VERSION, open_engine
from cds_server.errors import AuditUnavailable, ResultNotFound
from cds_server.outbox import (
    Delivery,
    DeliveryState,
    Outbox,
    Pause,
    Publication,
    every_parked,
    order_key,
)
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


def publication(
    number: int, order: str = "A", study: str = STUDY_UID, *, of: int | None = None
) -> Publication:
    name, result = (str(uuid.UUID(int=each)) for each in (number, of or number))
    return Publication(name, result, study, order, ISSUED + timedelta(minutes=number))


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
        outbox.add(publication(number, order, f"1.{number}"), ["ris", "fhir"])
    assert outbox.ahead(only(outbox, 1)) is None
    assert outbox.ahead(only(outbox, 2)) is None
    assert outbox.ahead(only(outbox, 4)) == only(outbox, 1)
    settle(outbox, 1, DELIVERED)
    assert outbox.ahead(only(outbox, 4)) == only(outbox, 3)
    settle(outbox, 3, PARKED)
    assert outbox.ahead(only(outbox, 4)) is None, "what is parked keeps nobody waiting"
    assert outbox.ahead(only(outbox, 4, "fhir")) == only(outbox, 1, "fhir")


def test_what_waits_of_the_same_study_goes_first_whatever_its_accession_number(
    outbox: Outbox,
) -> None:
    outbox.add(publication(1, "no accession number"), ["ris", "fhir"])
    outbox.add(publication(2, "A"), ["ris", "fhir"])
    outbox.add(publication(3, "A", "1.3"), ["ris", "fhir"])
    assert outbox.ahead(only(outbox, 2)) == only(outbox, 1)
    assert outbox.ahead(only(outbox, 3)) == only(outbox, 2)
    settle(outbox, 1, DELIVERED)
    assert outbox.ahead(only(outbox, 2)) is None


def test_what_is_said_later_of_an_older_result_never_overtakes_a_newer_one(
    outbox: Outbox,
) -> None:
    outbox.add(publication(1), ["ris"])
    outbox.add(publication(2), ["ris"])
    outbox.add(publication(3, of=1), ["ris"])
    settle(outbox, 3, DELIVERED)
    assert outbox.overtaken(only(outbox, 1)), "the same result was signed off or recalled"
    assert not outbox.overtaken(only(outbox, 2))


def test_the_recall_of_an_older_result_is_not_overtaken_by_the_newer_one(outbox: Outbox) -> None:
    outbox.add(publication(1), ["ris"])
    outbox.add(publication(2), ["ris"])
    outbox.add(publication(3, of=1), ["ris"])
    settle(outbox, 2, DELIVERED)
    assert outbox.overtaken(only(outbox, 1))
    assert not outbox.overtaken(only(outbox, 3))


def test_the_sign_off_of_a_newer_result_overtakes_an_older_one(outbox: Outbox) -> None:
    outbox.add(publication(1), ["ris"])
    outbox.add(publication(2), ["ris"])
    outbox.add(publication(3, of=2), ["ris"])
    settle(outbox, 2, PARKED)
    settle(outbox, 3, DELIVERED)
    assert outbox.overtaken(only(outbox, 1))
    assert outbox.overtaken(only(outbox, 2))


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
        assert outbox.unqueued(["ris"]) == []
        assert outbox.again(first.publication_id, "ris", audit_events=[LEAF])
        assert (only(outbox, 1).state, only(outbox, 1).turn) == (WAITING, turn)
        assert outbox.unqueued(["ris"]) == [only(outbox, 1)]
        outbox.queued(outbox.unqueued(["ris"]))
        assert outbox.unqueued(["ris"]) == []
    assert len(trail.events()) == 2


def test_what_waits_for_a_destination_that_is_gone_starves_no_other(outbox: Outbox) -> None:
    gone = [f"gone-{number}" for number in range(1001)]
    outbox.add(publication(1), gone)
    outbox.add(publication(2), ["ris"])
    assert outbox.unqueued(["ris", "fhir"]) == [only(outbox, 2)]
    assert outbox.unqueued([]) == []
    assert len(outbox.unqueued([*gone, "ris"])) == 1000


def test_all_that_is_parked_is_found_once_even_if_it_is_parked_again(outbox: Outbox) -> None:
    for number in range(1, 6):
        outbox.add(publication(number), ["ris", "fhir"])
        settle(outbox, number, PARKED)
    settle(outbox, 5, PARKED, "fhir")
    found = []
    for parked in every_parked(outbox, "ris", at_once=2):
        number = uuid.UUID(parked.publication_id).int
        assert outbox.again(parked.publication_id, "ris", audit_events=[])
        settle(outbox, number, PARKED)
        found.append(number)
    assert found == [1, 2, 3, 4, 5]
    assert len(list(every_parked(outbox, at_once=2))) == 6


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
    (found,) = outbox.unqueued(["ris"])
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


OLD_DELIVERY = "CREATE TABLE delivery (result_id TEXT, destination TEXT, delivered INTEGER)"
OLD_TROUBLE = """
    CREATE TABLE delivery_trouble
    (result_id TEXT, destination TEXT, says TEXT, since TEXT, parked INTEGER)
    """
OLD_ROW = "INSERT INTO delivery VALUES (:id, 'pacs', :delivered)"
OLD_PARKED = "INSERT INTO delivery_trouble VALUES (:id, 'pacs', 'is full', :at, 1)"


def older(path: Path, *, version: int, troubled: bool) -> list[str]:
    """Make a database of an older release: one delivered, one given up where it can be, one due."""
    engine = open_engine(path)
    store = SqlResultStore(engine)
    ids = [result_id(f"{STUDY_UID}.{number}", MODEL.sha256) for number in range(3)]
    for number, identifier in enumerate(ids):
        store.notice(identifier, f"{STUDY_UID}.{number}", ISSUED)
        result = StoredResult(identifier, chest_study(), OUTCOMES["urgent"], ISSUED, {})
        store.save(result, ReportSet(b"b", b"o", b"c"), audit_events=[], destinations=())
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE outbox"))
        connection.execute(text(OLD_DELIVERY))
        for number, identifier in enumerate(ids):
            connection.execute(text(OLD_ROW), {"id": identifier, "delivered": int(number == 0)})
        if troubled:
            connection.execute(text(OLD_TROUBLE))
            connection.execute(text(OLD_PARKED), {"id": ids[1], "at": ISSUED.isoformat()})
        connection.execute(
            text("UPDATE schema_version SET version = :version"), {"version": version}
        )
    engine.dispose()
    return ids


def test_deliveries_of_an_older_database_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "radcds.sqlite"
    ids = older(path, version=2, troubled=True)
    engine = open_engine(path)
    outbox = SqlOutbox(engine)
    states = {each.publication_id: each.state for each in outbox.deliveries()}
    assert states == dict(zip(ids, (DELIVERED, PARKED, WAITING), strict=True))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version FROM schema_version")) == SCHEMA_VERSION
    assert [each.says for each in outbox.troubled(limit=9)] == ["is full"]
    assert [each.publication_id for each in outbox.unqueued(["pacs"])] == [ids[2]]
    assert len(SqlOutbox(open_engine(path)).deliveries()) == 3


@pytest.mark.parametrize("version", [1, 2])
def test_a_database_from_before_trouble_was_kept_is_taken_over(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "radcds.sqlite"
    ids = older(path, version=version, troubled=False)
    outbox = SqlOutbox(open_engine(path))
    states = {each.publication_id: each.state for each in outbox.deliveries()}
    assert states == dict(zip(ids, (DELIVERED, WAITING, WAITING), strict=True))
    assert outbox.troubled(limit=9) == []


def test_what_was_taken_over_arrives_before_what_is_published_now(tmp_path: Path) -> None:
    path = tmp_path / "radcds.sqlite"
    ids = older(path, version=2, troubled=False)
    outbox = SqlOutbox(open_engine(path))
    study = f"{STUDY_UID}.2"
    taken = outbox.delivery(ids[2], "pacs")
    assert taken.publication.order_key == order_key("", "", study)
    outbox.add(publication(1, order_key("hospital", "ACC1", study), study), ["pacs"])
    assert outbox.ahead(only(outbox, 1, "pacs")) == taken


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

    @rule(
        number=numbers,
        order=st.sampled_from("AB"),
        study=st.sampled_from(["1.2", "1.3"]),
        of=st.none() | numbers,
    )
    def add(self, number: int, order: str, study: str, of: int | None) -> None:
        for each in self.both:
            each.add(publication(number, order, study, of=of), ["ris", "fhir"])

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
            each.queued(each.unqueued(["ris"]))

    @rule(name=names)
    def pause_or_resume(self, name: str) -> None:
        for each in self.both:
            if not each.pause(name, Pause("x", ISSUED), audit_events=[]):
                each.resume(name, audit_events=[])

    @invariant()
    def they_say_the_same(self) -> None:
        for questions in (
            lambda box: [_plain(each) for each in box.deliveries()],
            lambda box: [_plain(each) for each in box.unqueued(["ris", "fhir"])],
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
