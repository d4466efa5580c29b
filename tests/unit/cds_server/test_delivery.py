"""One attempt to deliver: in order, recorded first, and never the end of it when it fails."""

import hashlib
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study
from studies import site as example_site

from cds_server.adapters.in_memory import (
    InMemoryAuditTrail,
    InMemoryFeedbackStore,
    InMemoryResultStore,
)
from cds_server.adapters.in_memory_amendments import InMemoryAmendmentStore
from cds_server.delivery import Courier, Patience
from cds_server.errors import (
    ArchiveUnreachable,
    AuditUnavailable,
    DeliveryFailed,
    DeliveryRefused,
    DestinationUnavailable,
)
from cds_server.outbox import DeliveryState, Pause, Publication
from cds_server.ports import AnyDestination, StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import DisplayMode, ReportSet

DELIVERED, PARKED, WAITING, SUPERSEDED = (
    DeliveryState.DELIVERED,
    DeliveryState.PARKED,
    DeliveryState.WAITING,
    DeliveryState.SUPERSEDED,
)


@dataclass
class Time:
    """A clock that a test moves, by day and by the stop watch."""

    passed_s: float = 0.0

    def now(self) -> datetime:
        return ISSUED + timedelta(seconds=self.passed_s)

    def elapsed_s(self) -> float:
        return self.passed_s


@dataclass
class Folder:
    """A destination that gets report sets."""

    got: list[str] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)
    name: str = "folder"
    at_once: int = 4

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        assert artefacts.oru
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        self.got.append(result.result_id)


@dataclass
class Feed:
    """A destination that gets one message a result; each composition would be another."""

    got: list[bytes] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)
    composed: int = 0
    refuses: DeliveryFailed | None = None
    name: str = "ris"
    at_once: int = 1

    def probe(self) -> str:
        return "is there"

    def compose(self, result: StoredResult, artefacts: ReportSet) -> bytes:
        if self.refuses:
            raise self.refuses
        self.composed += 1
        return f"MSH|{result.result_id}|{self.composed}|".encode() + artefacts.oru

    def send(self, message: bytes) -> None:
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        self.got.append(message)


class Post:
    """A courier over stand-ins."""

    def __init__(self, *destinations: AnyDestination, **patience: object) -> None:
        self.time = Time()
        self.trail = InMemoryAuditTrail()
        self.store = InMemoryResultStore(self.trail)
        self.outbox = self.store.outbox
        self.amendments = InMemoryAmendmentStore(self.store, InMemoryFeedbackStore(self.store))
        self.notes: list[tuple[str, str]] = []
        self.site = example_site()
        self.courier = Courier(
            outbox=self.outbox,
            store=self.store,
            amendments=self.amendments,
            trail=self.trail,
            destinations=destinations,
            site=self.site,
            clock=self.time,
            patience=Patience(**patience),
            note=lambda name, trouble: self.notes.append((name, trouble)),
            jitter=random.Random(1),
            elapsed_s=self.time.elapsed_s,
        )
        self.names = [each.name for each in destinations]

    def add(self, number: int = 1, order: str = "A", **artefacts: bytes) -> str:
        uid = f"{STUDY_UID}.{number}"
        identifier = result_id(uid, MODEL.sha256)
        self.store.notice(identifier, uid, ISSUED)
        study = chest_study(study_instance_uid=uid)
        self.store.save(
            StoredResult(identifier, study, OUTCOMES["urgent"], ISSUED, {}),
            ReportSet(b"{}", b"ORU", b"{}", **artefacts),
            audit_events=[],
            destinations=self.names,
            order_key=order,
        )
        return identifier

    def try_all(self, name: str = "") -> list[float | None]:
        return [
            self.courier.attempt(each.publication_id, each.destination, each.turn)
            for each in sorted(self.outbox.deliveries(), key=lambda each: each.sequence)
            if each.state is WAITING and name in {"", each.destination}
        ]

    def state(self, identifier: str, name: str) -> DeliveryState:
        return self.outbox.delivery(identifier, name).state

    def events(self) -> list[dict[str, object]]:
        return [json.loads(each) for each in self.trail.recorded]

    def run(self, seconds: float) -> None:
        """Let time pass, with an attempt whenever one is due."""
        until = self.time.passed_s + seconds
        while self.time.passed_s < until:
            waits = [each for each in self.try_all() if each is not None]
            self.time.passed_s += max(0.01, min([*waits, until - self.time.passed_s]))


def test_a_result_is_handed_over_once_and_recorded_before() -> None:
    folder = Folder()
    post = Post(folder)
    identifier = post.add()
    assert post.try_all() == [None]
    assert post.courier.attempt(identifier, "folder") is None
    assert folder.got == [identifier]
    assert post.state(identifier, "folder") is DELIVERED
    (event,) = post.events()
    assert (
        event["subtype"]
        == [
            {
                "system": "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",
                "code": "disclose",
            }
        ]
        or event["outcome"] == "0"
    )


def test_no_audit_nothing_is_handed_over() -> None:
    feed, folder = Feed(), Folder()
    post = Post(feed, folder)
    identifier = post.add()
    post.trail.broken = True
    for name in ("ris", "folder"):
        with pytest.raises(AuditUnavailable):
            post.courier.attempt(identifier, name)
    assert feed.got == folder.got == []
    post.trail.broken = False
    post.try_all()
    assert len(feed.got) == len(folder.got) == 1


def test_a_message_is_composed_once_and_every_attempt_sends_the_same_bytes() -> None:
    feed = Feed(faults=[DeliveryFailed("AE"), DestinationUnavailable("silence"), None])
    post = Post(feed)
    identifier = post.add()
    post.run(30)
    assert post.outbox.again(identifier, "ris", audit_events=[])
    post.run(1)
    assert feed.composed == 1
    first, second = feed.got
    assert first == second
    digest = hashlib.sha256(first).hexdigest()
    details = [
        detail["valueString"]
        for event in post.events()
        for entity in event["entity"]  # type: ignore[attr-defined]
        for detail in entity.get("detail", [])
        if detail["type"] == "message-sha256"
    ]
    assert details == [digest] * 4, "what was sent is recorded by its digest, at each attempt"


@pytest.mark.parametrize("when", ["composed", "sent"])
def test_what_will_never_be_accepted_is_parked_at_once_and_recorded(when: str) -> None:
    refused = DeliveryRefused("AR: unknown order")
    feed = Feed(faults=[refused]) if when == "sent" else Feed(refuses=refused)
    post = Post(feed)
    identifier = post.add()
    assert post.try_all() == [None]
    delivery = post.outbox.delivery(identifier, "ris")
    assert (delivery.state, delivery.says) == (PARKED, "AR: unknown order")
    assert post.events()[-1]["outcome"] == "8"
    assert post.courier.places() == {"ris": 8}, "the receiver itself is well"


def test_what_fails_again_and_again_is_tried_ever_more_seldom_then_parked() -> None:
    feed = Feed(faults=[DeliveryFailed(f"AE {number}") for number in range(99)])
    post = Post(feed, strikes=5, waits_s=(1.0, 2.0, 4.0, 8.0))
    identifier = post.add()
    waits = []
    for _ in range(6):
        (wait_s,) = post.try_all()
        waits.append(wait_s)
        post.time.passed_s += wait_s or 0
    assert waits[-1] is None
    for wait_s, expected in zip(waits[:-1], (1, 2, 4, 8, 8), strict=True):
        assert wait_s is not None
        assert expected * 0.75 <= wait_s <= expected * 1.25
    assert len({round(each or 0, 3) for each in waits}) == 6, "no two wait equally long"
    delivery = post.outbox.delivery(identifier, "ris")
    assert (delivery.state, delivery.says) == (PARKED, "AE 5")


def test_one_message_that_fails_keeps_no_other_patient_waiting() -> None:
    feed = Feed(faults=[DeliveryFailed("AE"), None])
    post = Post(feed)
    first, second = post.add(1, "A"), post.add(2, "B")
    post.try_all()
    assert post.state(first, "ris") is WAITING
    assert post.state(second, "ris") is DELIVERED


def test_results_of_one_accession_number_arrive_in_order() -> None:
    feed = Feed(faults=[DeliveryFailed("AE"), None])
    post = Post(feed)
    ids = [post.add(number, "A") for number in (1, 2, 3)]
    post.run(10)
    arrived = [message.split(b"|")[1].decode() for message in feed.got]
    assert arrived == ids


def test_a_parked_result_keeps_the_later_ones_of_its_accession_number_not() -> None:
    feed = Feed(faults=[DeliveryRefused("AR")])
    post = Post(feed)
    first, second = post.add(1, "A"), post.add(2, "A")
    post.run(5)
    assert post.state(first, "ris") is PARKED
    assert post.state(second, "ris") is DELIVERED


def test_a_preliminary_result_never_overtakes_a_final_one() -> None:
    feed = Feed(faults=[DeliveryRefused("AR")])
    post = Post(feed)
    first = post.add(1, "A")
    study = f"{STUDY_UID}.1"
    final = Publication(str(uuid.UUID(int=7)), first, study, "A", ISSUED)
    post.store.sets[final.publication_id] = post.store.sets[first]
    post.outbox.add(final, ["ris"])
    post.run(5)
    assert post.state(final.publication_id, "ris") is DELIVERED
    assert post.outbox.again(first, "ris", audit_events=[])
    post.run(5)
    assert post.state(first, "ris") is SUPERSEDED
    assert len(feed.got) == 1


def test_a_receiver_that_is_away_is_left_alone_and_nothing_is_given_up() -> None:
    away = DestinationUnavailable("connection refused")
    feed = Feed(faults=[away] * 50)
    post = Post(feed, strikes=3)
    ids = [post.add(number, str(number)) for number in range(5)]
    post.try_all()
    assert len(feed.faults) == 49, "one probe tells for all"
    assert post.courier.places() == {"ris": 0}
    assert post.notes == [("destination ris", "connection refused")]
    post.run(3600)
    assert {post.state(each, "ris") for each in ids} == {DELIVERED}
    assert len(feed.got) == 5
    assert post.courier.places() == {"ris": 8}
    assert post.notes[-1] == ("destination ris", "")


def test_after_an_outage_one_delivery_probes_before_the_others_follow() -> None:
    folder = Folder(faults=[DestinationUnavailable("away")])
    post = Post(folder)
    post.add()
    assert post.courier.places() == {"folder": 11}
    post.try_all()
    assert post.courier.places() == {"folder": 0}
    post.time.passed_s += 10
    assert post.courier.places() == {"folder": 1}
    post.try_all()
    assert post.courier.places() == {"folder": 11}


def test_a_message_on_which_the_receiver_breaks_is_parked_while_others_arrive() -> None:
    class Breaks(Feed):
        def send(self, message: bytes) -> None:
            if poison.encode() in message:
                msg = "connection reset"
                raise DestinationUnavailable(msg)
            super().send(message)

    feed = Breaks()
    post = Post(feed, strikes=3)
    poison = post.add(0, "0")
    others = []
    for number in range(1, 40):
        others.append(post.add(number, str(number)))
        post.run(20)
    assert post.state(poison, "ris") is PARKED
    assert {post.state(each, "ris") for each in others} == {DELIVERED}


def test_a_receiver_is_left_alone_as_long_as_it_asks() -> None:
    feed = Feed(faults=[DestinationUnavailable("429", retry_after_s=120.0)])
    post = Post(feed)
    post.add()
    (wait_s,) = post.try_all()
    assert wait_s is not None
    assert 120.0 <= wait_s <= 122.0
    post.time.passed_s += 119
    assert post.courier.places() == {"ris": 0}
    post.run(5)
    assert len(feed.got) == 1


def test_nobody_is_left_alone_for_longer_than_an_hour() -> None:
    feed = Feed(faults=[DestinationUnavailable("429", retry_after_s=1e9)])
    post = Post(feed)
    post.add()
    post.run(3603)
    assert len(feed.got) == 1


def test_a_receiver_that_is_away_keeps_no_other_one_waiting() -> None:
    feed, folder = Feed(faults=[DestinationUnavailable("away")] * 9), Folder()
    post = Post(feed, folder)
    identifier = post.add()
    post.try_all()
    assert post.state(identifier, "folder") is DELIVERED
    assert post.courier.places() == {"ris": 0, "folder": 11}


def test_nothing_is_sent_to_a_paused_destination() -> None:
    feed = Feed()
    post = Post(feed)
    identifier = post.add()
    post.outbox.pause("ris", Pause("dr.who", ISSUED), audit_events=[])
    assert post.courier.places() == {"ris": 0}
    post.run(60)
    assert feed.got == []
    post.outbox.resume("ris", audit_events=[])
    post.run(2)
    assert post.state(identifier, "ris") is DELIVERED


def test_an_archive_that_is_away_is_a_destination_that_is_away() -> None:
    folder = Folder(faults=[ArchiveUnreachable("the archive does not answer")])
    post = Post(folder)
    identifier = post.add()
    post.try_all()
    assert post.courier.places() == {"folder": 0}
    assert post.outbox.delivery(identifier, "folder").strikes == 0


def test_a_destination_that_is_not_configured_any_more_is_said() -> None:
    folder = Folder()
    post = Post(folder)
    post.names = ["gone"]
    identifier = post.add()
    assert post.courier.attempt(identifier, "gone") is None
    assert "not configured any more" in post.outbox.delivery(identifier, "gone").says
    assert post.state(identifier, "gone") is PARKED


def test_no_location_leaves_a_site_that_has_become_triage_only() -> None:
    feed = Feed()
    post = Post(feed)
    post.courier._site = example_site(DisplayMode.TRIAGE_ONLY)
    identifier = post.add(overlay_png=b"picture")
    post.try_all()
    assert post.state(identifier, "ris") is PARKED
    assert feed.got == []


FAULTS = st.sampled_from(["AE", "AR", "away", "fine", "fine"])


@settings(max_examples=60, deadline=None)
@given(faults=st.lists(FAULTS, max_size=60), orders=st.lists(st.sampled_from("ABC"), max_size=12))
def test_whatever_fails_nothing_is_lost_and_nothing_out_of_order(
    faults: list[str], orders: list[str]
) -> None:
    kinds = {"AE": DeliveryFailed, "AR": DeliveryRefused, "away": DestinationUnavailable}
    feed = Feed(faults=[kinds[each](each) if each in kinds else None for each in faults])
    post = Post(feed, strikes=4)
    ids = [post.add(number, order) for number, order in enumerate(orders)]
    post.run(4000)
    states = {each: post.state(each, "ris") for each in ids}
    assert set(states.values()) <= {DELIVERED, PARKED}
    arrived = [message.split(b"|")[1].decode() for message in feed.got]
    assert sorted(arrived) == sorted(each for each in ids if states[each] is DELIVERED)
    for order in "ABC":
        own = [each for each, of in zip(ids, orders, strict=True) if of == order]
        assert [each for each in arrived if each in own] == [e for e in own if e in arrived]
