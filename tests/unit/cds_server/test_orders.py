"""What came in does what it says: once, in order, and never more than that."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hl7_samples import PID, adt, header, lines, merge, orm, report
from hypothesis import given
from hypothesis import strategies as st
from standing_clock import StandingClock
from studies import ISSUED, OUTCOMES, chest_study, context
from studies import site as example_site

from ai_engine.result import Priority
from cds_server.adapters.in_memory import InMemoryAuditTrail, InMemoryResultStore
from cds_server.adapters.in_memory_inbox import InMemoryInbox
from cds_server.errors import ArchiveUnreachable
from cds_server.inbound_content import content_of
from cds_server.inbox import InboundMessage, MessageState
from cds_server.known_patients import KnownPatients
from cds_server.operations import Component, Operations
from cds_server.order_book import Order, haste_of, ordered
from cds_server.orders import Orders
from cds_server.ports import StoredResult
from cds_server.report_messages import oru_of
from cds_server.worklist import Placing, Targets
from fhir_mappers.hl7_dialect import Hl7Dialect
from fhir_mappers.hl7_inbound.orders import InboundOrder
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.report_context import ReportSet
from fhir_mappers.study import PersonName, Study

MINUTE = timedelta(minutes=1)
ORDERED_UID = "1.2.840.99.1"
_ids = itertools.count(1)


@dataclass
class Told:
    """Arrivals that a test reads."""

    uids: list[str] = field(default_factory=list)

    def told(self, study_instance_uid: str, due: datetime) -> None:
        assert due
        self.uids.append(study_instance_uid)


@dataclass
class Noted:
    """Components that a test reads."""

    troubles: list[str] = field(default_factory=list)

    def note(self, noted: Component, audit_event: object) -> bool:
        del audit_event
        self.troubles.append(noted.trouble)
        return True


class Working:
    """What takes messages, over stand-ins."""

    def __init__(self) -> None:
        self.trail = InMemoryAuditTrail()
        self.inbox = InMemoryInbox(self.trail)
        self.results = InMemoryResultStore(self.trail)
        self.arrivals, self.noted = Told(), Noted()
        self.clock = StandingClock()
        self.archive: set[str] = set()
        self.away = False
        self.patients = KnownPatients(self.inbox, default_issuer="urn:oid:2.999.1")
        site = example_site()
        self.orders = Orders(
            self.inbox,
            arrivals=self.arrivals,  # type: ignore[arg-type]
            results=self.results,
            in_archive=self.in_archive,
            patients=self.patients,
            operations=Operations(self.noted, site=site, clock=self.clock),  # type: ignore[arg-type]
            site=site,
            clock=self.clock,
        )

    def in_archive(self, study_instance_uid: str) -> bool:
        if self.away:
            msg = "the archive does not answer"
            raise ArchiveUnreachable(msg)
        return study_instance_uid in self.archive

    def come(self, *contents: bytes, sender: tuple[str, str] = ("RIS", "TRUST")) -> None:
        """Keep messages, a minute apart, and let them take effect."""
        for content in contents:
            self.clock.time += MINUTE
            message = InboundMessage(sender, f"M{next(_ids)}", "X", self.clock.time, content)
            self.inbox.keep(message, audit_events=[])
        assert self.orders.look() == len(contents)

    @property
    def failures(self) -> list[str]:
        return [each.says for each in self.inbox.failed(limit=9)]

    def open_orders(self) -> Sequence[Order]:
        return self.inbox.orders(study_instance_uid=ORDERED_UID, accession_number="ACC1001")


@pytest.fixture
def working() -> Working:
    return Working()


def named(control: str = "NW", uid: str = ORDERED_UID) -> bytes:
    return orm(control, more=[f"ZDS|{uid}^RIS^Application^DICOM"])


# ── A study is looked at ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("control", ["NW", "XO", "SC"])
def test_the_study_of_an_order_is_looked_at_at_once(working: Working, control: str) -> None:
    working.archive = {ORDERED_UID}
    working.come(named(control))
    assert working.arrivals.uids == [ORDERED_UID]


def test_an_order_before_its_images_reads_nothing(working: Working) -> None:
    working.come(named())
    assert working.arrivals.uids == [], "a study without images would be told as not analysed"
    assert [each.priority for each in working.open_orders()] == ["S"]


def test_a_study_that_is_known_is_not_read_again_for_each_message(working: Working) -> None:
    working.archive = {ORDERED_UID}
    working.results.notice("r", ORDERED_UID, ISSUED)
    working.come(named("NW"), named("SC"))
    assert working.arrivals.uids == []


def test_neither_a_cancelled_order_nor_one_without_a_study_is_a_reason_to_look(
    working: Working,
) -> None:
    working.archive = {ORDERED_UID, ""}
    status = named("SC").replace(b"||SC||", b"||CA||")
    working.come(named("CA"), orm("NW"), status)
    assert working.arrivals.uids == []


def test_an_archive_that_is_away_keeps_no_order_waiting(working: Working) -> None:
    working.away = True
    working.come(named())
    assert len(working.open_orders()) == 1
    assert working.failures == []


# ── Orders ───────────────────────────────────────────────────────────────────────────────────────


def prioritised(control: str, priority: str) -> bytes:
    return orm(control).replace(b"^^S\r", f"^^{priority}\r".encode())


@pytest.mark.parametrize(
    ("messages", "priority", "minute"),
    [
        (["NW S"], "S", 1),
        (["NW R", "XO S"], "S", 2),
        (["NW S", "XO S"], "S", 1),
        (["NW S", "XO R"], "R", 1),
        (["NW S", "XO A"], "A", 1),
        (["NW A", "XO S"], "S", 2),
        (["NW S", "XO "], "S", 1),
        (["NW S", "SC R"], "S", 1),
        (["NW R", "SC S"], "S", 2),
        (["SC S"], "S", 1),
        (["NW S", "CA S", "NW S"], "S", 3),
        (["NW S", "CA S", "XO "], "S", 3),
    ],
)
def test_what_an_order_asks_for_and_since_when(
    working: Working, messages: list[str], priority: str, minute: int
) -> None:
    working.come(*(prioritised(*each.split(" ")) for each in messages))
    (order,) = working.open_orders()
    assert (order.priority, order.since) == (priority, ISSUED + minute * MINUTE)
    assert not order.cancelled


@pytest.mark.parametrize("messages", [["CA"], ["NW", "CA"], ["NW", "DC"], ["NW", "OC", "SC"]])
def test_a_cancelled_order_asks_for_nothing(working: Working, messages: list[str]) -> None:
    working.come(*(orm(each) for each in messages))
    (order,) = working.open_orders()
    assert order.cancelled
    assert order.haste is None


def test_a_status_that_tells_of_a_cancellation_cancels(working: Working) -> None:
    working.come(orm("NW"), orm("SC").replace(b"||SC||", b"||CA||"))
    assert working.open_orders()[0].cancelled


def test_a_number_that_becomes_known_later_belongs_to_the_same_order(working: Working) -> None:
    placed = lines(header("ORM^O01"), PID, "ORC|NW|PLC1^RIS||||||||", "OBR|1|PLC1^RIS")
    working.come(placed, orm("XO"), lines(header("ORM^O01"), PID, "ORC|CA||FIL1^RIS"))
    (order,) = working.open_orders()
    assert (order.placer_number, order.filler_number) == ("PLC1", "FIL1")
    assert order.cancelled


def test_two_orders_of_one_accession_number_stand_apart(working: Working) -> None:
    second = orm("NW").replace(b"PLC1", b"PLC2").replace(b"FIL1", b"FIL2")
    working.come(orm("NW"), second, orm("CA"))
    assert [each.cancelled for each in working.open_orders()] == [True, False]


@pytest.mark.parametrize(
    ("priority", "haste"),
    [
        *((each, Priority.URGENT) for each in ("S", "STAT", "stat")),
        *((each, Priority.FLAGGED) for each in ("A", "ASAP")),
        *((each, None) for each in ("R", "P", "C", "T", "PRN", "")),
    ],
)
def test_only_stat_and_asap_hasten(priority: str, haste: Priority | None) -> None:
    assert haste_of(priority) is haste


_SAID = st.builds(
    prioritised,
    st.sampled_from(["NW", "XO", "CA", "DC", "SC"]),
    st.sampled_from(["S", "A", "R", ""]),
).map(lambda content: content_of(read_message(content), zone=UTC).orders[0])
_MINUTES = st.integers(-2000, 2000).map(lambda minutes: minutes * MINUTE)


def folded(history: Sequence[InboundOrder]) -> Order:
    order = None
    for number, said in enumerate(history):
        order = ordered(order, said, sender=("RIS", ""), at=ISSUED + number * MINUTE)
    assert order
    return order


@given(st.lists(_SAID, min_size=1, max_size=8), st.sampled_from([None, *OUTCOMES]), _MINUTES)
def test_no_history_of_orders_makes_a_study_later(
    history: list[InboundOrder], name: str | None, offset: timedelta
) -> None:
    noticed = ISSUED + offset
    stored = StoredResult("r", chest_study(), OUTCOMES[name], ISSUED, {}) if name else None
    placing, order = Placing(), folded(history)
    usual, due = placing.due(noticed, stored), placing.due(noticed, stored, [order])
    assert due <= usual
    assert due >= noticed + Targets().urgent_min * MINUTE, "no study is overdue as it comes"
    if order.haste is None:
        assert due == usual


@given(st.lists(_SAID, min_size=1, max_size=8))
def test_a_repeat_of_what_an_order_said_last_changes_nothing(history: list[InboundOrder]) -> None:
    once, twice = folded(history), folded([*history, history[-1]])
    assert once == twice


# ── Patients ─────────────────────────────────────────────────────────────────────────────────────


def pid(number: str, name: str = "TEST^PATIENT", rest: str = "|19700101|F") -> str:
    return f"PID|1||{number}^^^Example Trust^MR||{name}|{rest}"


def merged(old: str, new: str, name: str = "TEST^PATIENT", rest: str = "") -> bytes:
    return adt("A40", pid=pid(new, name, rest), more=(f"MRG|{old}^^^Example Trust^MR",))


def study(number: str = "MRN 1", **changes: object) -> Study:
    made = chest_study(started=ISSUED, **changes)
    return replace(made, patient=replace(made.patient, patient_id=number))


def test_a_result_that_was_not_sent_yet_goes_out_under_the_new_name(working: Working) -> None:
    working.come(adt("A08", pid=pid("MRN 1", "MARRIED^PATIENT")))
    patient = working.patients.known(study()).patient
    assert patient.name == PersonName("MARRIED", "PATIENT")
    assert (patient.patient_id, patient.issuer) == ("MRN 1", "Example Trust")


def test_what_was_said_before_the_study_began_is_in_the_study_itself(working: Working) -> None:
    working.come(adt("A08", pid=pid("MRN 1", "OLD^NAME")))
    later = replace(study(), started=ISSUED + 60 * MINUTE)
    assert working.patients.known(later) == later
    undated = replace(study(), started=None)
    assert working.patients.known(undated).patient.name.family == "OLD"


def test_the_patient_of_another_number_or_namespace_is_another(working: Working) -> None:
    working.come(adt("A08", pid=pid("MRN 2", "NOT^ME")))
    other = study()
    foreign = replace(other, patient=replace(other.patient, patient_id="MRN 2", issuer="Elsewhere"))
    for each in (other, foreign):
        assert working.patients.known(each) == each


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_a_chain_of_merges_is_followed_in_whatever_order_it_came(
    working: Working, order: tuple[int, ...]
) -> None:
    chain = [merged("MRN 1", "MRN 2"), merged("MRN 2", "MRN 3"), merged("MRN 3", "MRN 4")]
    working.come(*(chain[each] for each in order))
    assert working.failures == []
    assert working.patients.known(study()).patient.patient_id == "MRN 4"


def test_a_merge_before_the_study_began_still_retires_the_number(working: Working) -> None:
    working.come(merged("MRN 1", "MRN 2", "OLD^NAME"))
    later = replace(study(), started=ISSUED + 60 * MINUTE)
    patient = working.patients.known(later).patient
    assert patient == replace(later.patient, patient_id="MRN 2")


def test_the_latest_word_on_a_patient_stands_across_a_merge(working: Working) -> None:
    working.come(
        adt("A08", pid=pid("MRN 2", "FIRST^", "|19600101|M")),
        merged("MRN 1", "MRN 2", "SECOND^"),
        adt("A08", pid=pid("MRN 2", "THIRD^", "||")),
        adt("A08", pid=pid("MRN 1", "RETIRED^", "||")),
    )
    patient = working.patients.known(study()).patient
    assert (patient.name.family, patient.birth_date, patient.sex) == ("THIRD", "1960-01-01", "M")


def test_a_merge_that_would_make_a_ring_is_refused_and_said(working: Working) -> None:
    working.come(merged("MRN 1", "MRN 2"), merged("MRN 2", "MRN 3"), merged("MRN 3", "MRN 1"))
    (says,) = working.failures
    assert "MRG-1: the patient who stays was merged into the one who is retired" in says
    assert "MRN" not in says
    assert working.patients.known(study()).patient.patient_id == "MRN 3"
    assert working.noted.troubles[-1].startswith("1 messages cannot do what they say")


def test_a_ring_within_one_message_is_refused(working: Working) -> None:
    back = ("MRG|MRN 1^^^Example Trust^MR", pid("MRN 1"), "MRG|MRN 2^^^Example Trust^MR")
    working.come(adt("A40", pid=pid("MRN 2"), more=back))
    assert len(working.failures) == 1
    assert working.inbox.changes("MRN 1") == []


def test_the_same_number_elsewhere_makes_no_ring(working: Working) -> None:
    elsewhere = merged("MRN 2", "MRN 1").replace(b"Example Trust", b"Elsewhere")
    working.come(merged("MRN 1", "MRN 2"), elsewhere)
    assert working.failures == []


_PAIRS = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda pair: pair[0] != pair[1])


@given(st.lists(_PAIRS, max_size=12))
def test_whatever_was_merged_every_patient_is_found_and_no_ring_is_made(
    pairs: list[tuple[int, int]],
) -> None:
    working = Working()
    working.come(*(merged(f"MRN {old}", f"MRN {new}") for old, new in pairs))
    for number in range(1, 6):
        last = working.patients.known(study(f"MRN {number}"))
        assert working.patients.known(last) == last
    for says in working.failures:
        assert "MRG-1" in says


def test_a_message_is_composed_of_the_patient_as_they_are_known(working: Working) -> None:
    site = example_site()
    compose = oru_of(
        Hl7Dialect.of(site), site=site, software_version="0", known=working.patients.known
    )
    result = StoredResult(context().result_id, study(), OUTCOMES["normal"], ISSUED, {})
    artefacts = ReportSet(b"", b"", b"")
    before = compose(result, artefacts)
    working.come(merged("MRN 1", "MRN 2", "MARRIED^PATIENT"))
    after = compose(result, artefacts)
    assert b"MRN 1^" in before
    assert b"MRN 2^" in after
    assert b"MARRIED" in after
    assert b"MRN 1^" not in after


# ── Reports ──────────────────────────────────────────────────────────────────────────────────────


def test_a_report_is_kept_for_the_sign_off(working: Working) -> None:
    working.come(report("P"), report("F"), report("C"))
    statuses = [each.report.status.value for each in working.inbox.reports(limit=9)]
    assert statuses == ["preliminary", "final", "corrected"]


def test_a_report_of_this_server_itself_is_no_news(working: Working) -> None:
    site = example_site()
    working.come(report(), sender=(site.hl7_application, site.hl7_facility))
    assert working.inbox.reports(limit=9) == []
    assert working.failures == []


# ── One message and the others ───────────────────────────────────────────────────────────────────


def test_a_message_that_cannot_be_processed_keeps_nobody_waiting(working: Working) -> None:
    working.come(orm("NW"), b"MSH|not a message any more", orm("CA"))
    assert working.open_orders()[0].cancelled
    assert len(working.failures) == 1
    assert working.inbox.backlog().waiting == 0
    assert working.noted.troubles[-1] == (
        "1 messages cannot do what they say; a person has to look"
    )


def test_a_failed_message_that_is_let_through_clears_the_trouble(working: Working) -> None:
    working.come(merged("MRN 1", "MRN 2"), merged("MRN 2", "MRN 1"))
    (failed,) = working.inbox.failed(limit=9)
    working.inbox.known.clear()
    assert working.inbox.again(failed.sequence, audit_events=[])
    working.orders.look()
    assert working.noted.troubles[-1] == ""
    assert working.failures == []


def test_an_empty_inbox_is_no_work(working: Working) -> None:
    assert [working.orders.look() for _ in range(3)] == [0, 0, 0]
    assert working.noted.troubles == [""], "said once"


def test_patient_data_are_kept_for_two_weeks(working: Working) -> None:
    working.come(adt("A08"))
    (kept,) = working.inbox.kept.values()
    assert kept.state is MessageState.DONE
    working.clock.time += timedelta(days=13, hours=23)
    working.orders.look()
    assert working.inbox.content(kept.sequence)
    working.clock.time += timedelta(hours=2)
    working.orders.look()
    assert working.inbox.contents == {}
    assert working.inbox.changes("MRN 123456") == []


def test_all_that_is_old_is_dropped_though_not_at_once(working: Working) -> None:
    for _ in range(3):
        working.come(*[orm()] * 90)
    working.clock.time += timedelta(days=15)
    left = []
    for _ in range(4):
        working.orders.look()
        left.append(len(working.inbox.contents))
    assert left == [170, 70, 0, 0]


MESSAGES = st.lists(
    st.sampled_from(
        [
            named("NW"),
            named("CA"),
            prioritised("XO", "R"),
            prioritised("SC", "A"),
            adt("A08"),
            merge(),
            merged("MRN 777", "MRN 888"),
            merged("MRN 888", "MRN 123456"),
            report(),
            b"MSH|nonsense",
        ]
    ),
    max_size=10,
)


@given(MESSAGES, st.data())
def test_repeats_change_nothing(messages: list[bytes], data: st.DataObject) -> None:
    sent = [(f"C{number}", content) for number, content in enumerate(messages)]
    repeated = [
        each
        for number, message in enumerate(sent)
        for each in [message, *data.draw(st.lists(st.sampled_from(sent[: number + 1]), max_size=2))]
    ]
    plain, again = state(sent), state(repeated)
    assert plain == again


def state(sent: Sequence[tuple[str, bytes]]) -> tuple[object, ...]:
    """Give all that stands after messages came; each was first sent at a time of its own."""
    working = Working()
    for control_id, content in sent:
        at = ISSUED + int(control_id[1:]) * MINUTE
        message = InboundMessage(("RIS", "TRUST"), control_id, "X", at, content)
        working.inbox.keep(message, audit_events=[])
        working.orders.look()
    known = working.patients.known(study("MRN 123456"))
    return (
        working.open_orders(),
        working.inbox.known,
        working.inbox.reports(limit=99),
        working.failures,
        known,
    )
