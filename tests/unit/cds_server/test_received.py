"""What is acknowledged was kept first; what is refused is told in words that name no patient."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hl7_samples import OTHERS, PID, adt, header, lines, merge, omi, orm, report
from hypothesis import example, given
from hypothesis import strategies as st
from standing_clock import StandingClock
from studies import ISSUED
from studies import site as example_site

from cds_server.adapters.in_memory import InMemoryAuditTrail
from cds_server.adapters.in_memory_inbox import InMemoryInbox
from cds_server.errors import AuditUnavailable
from cds_server.inbox import InboundMessage, Taken
from cds_server.mllp.server import NotAcknowledged, Peer
from cds_server.operations import Component, Operations
from cds_server.received import RECEIVING, Intake, Received
from fhir_mappers.hl7_inbound.acknowledgement import read_acknowledgement
from fhir_mappers.hl7_inbound.reading import read_message

PEER = Peer("192.0.2.7", "ris.example.org")
PATIENT = ("TEST", "123456", "19700101", "999")


@dataclass
class Noted:
    """Components that a test reads."""

    troubles: list[str] = field(default_factory=list)

    def note(self, noted: Component, audit_event: object) -> bool:
        del audit_event
        assert noted.name == RECEIVING
        self.troubles.append(noted.trouble)
        return True


@dataclass
class WatchedInbox(InMemoryInbox):
    """Says in which order things happened."""

    happened: list[str] = field(default_factory=list)

    def keep(self, message: InboundMessage, *, audit_events: Sequence[bytes]) -> Taken:
        taken = super().keep(message, audit_events=audit_events)
        self.happened.append("kept")
        return taken


class Receiving:
    """A handler over an inbox in memory."""

    def __init__(self, intake: Intake | None = None) -> None:
        self.trail = InMemoryAuditTrail()
        self.inbox = WatchedInbox(self.trail)
        self.noted = Noted()
        self.notices: list[str] = []
        clock = StandingClock()
        self.received = Received(
            self.inbox,
            site=example_site(),
            clock=clock,
            operations=Operations(self.noted, site=example_site(), clock=clock),  # type: ignore[arg-type]
            notice=self.notices.append,
            intake=intake,
        )

    def codes(self, content: bytes, peer: Peer = PEER) -> list[str]:
        return [code(each) for each in self.received(content, peer)]

    @property
    def kept(self) -> int:
        return len(self.inbox.kept)


def code(answer: bytes) -> str:
    return read_message(answer).required("MSA").part(1)


def asking(content: bytes, accept: str, application: str) -> bytes:
    """Put something into MSH-15 and MSH-16."""
    first, _, others = content.partition(b"\r")
    return first + f"|||{accept}|{application}\r".encode() + others


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_is_understood_is_kept_and_acknowledged(name: str) -> None:
    receiving = Receiving()
    (answer,) = receiving.received(OTHERS[name], PEER)
    read = read_acknowledgement(answer, "MSG1")
    assert (read.code, read.says) == ("AA", "")
    (kept,) = receiving.inbox.waiting(limit=9)
    assert receiving.inbox.content(kept.sequence) == OTHERS[name]
    assert kept.received == ISSUED
    assert receiving.notices == []


def test_the_audit_event_says_who_sent_what_of_whom() -> None:
    receiving = Receiving()
    receiving.received(omi(), PEER)
    (leaf,) = receiving.trail.events()
    event = json.loads(leaf)
    assert event["entity"][0]["what"]["identifier"]["value"] == "MRN 123456"
    detail = {each["type"]: each["valueString"] for each in event["entity"][1]["detail"]}
    (kept,) = receiving.inbox.waiting(limit=9)
    assert detail["message"] == "OMI^O23"
    assert detail["message-sha256"] == kept.sha256
    assert event["agent"][0]["who"]["identifier"]["value"] == "ris.example.org (192.0.2.7)"
    assert event["entity"][1]["what"]["identifier"]["value"] == "urn:oid:1.2.840.99.1"
    assert event["outcome"] == "0"
    assert "TEST" not in leaf.decode(), "a name is never recorded"


def test_nothing_is_kept_of_what_cannot_be_recorded() -> None:
    receiving = Receiving()
    receiving.trail.broken = True
    assert receiving.codes(orm()) == ["AE"]
    assert receiving.kept == 0
    receiving.trail.broken = False
    assert receiving.codes(orm()) == ["AA"], "the sender kept it, and sends it again"


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [
        ("", "", ["AA"]),
        ("AL", "AL", ["CA", "AA"]),
        ("SU", "SU", ["CA", "AA"]),
        ("AL", "NE", ["CA"]),
        ("AL", "", ["CA"]),
        ("NE", "AL", ["AA"]),
        ("", "AL", ["AA"]),
        ("ER", "ER", []),
        ("NE", "NE", []),
        ("XX", "NE", ["CA"]),
    ],
)
def test_what_is_taken_is_answered_as_the_sender_asks(
    accept: str, application: str, codes: list[str]
) -> None:
    receiving = Receiving()
    assert receiving.codes(asking(orm(), accept, application)) == codes
    assert receiving.kept == 1


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [
        ("", "", ["AE"]),
        ("AL", "AL", ["CE"]),
        ("ER", "ER", ["CE"]),
        ("ER", "NE", ["CE"]),
        ("NE", "AL", ["AE"]),
        ("SU", "ER", ["AE"]),
        ("SU", "SU", []),
        ("NE", "NE", []),
    ],
)
def test_what_is_refused_is_refused_once_as_the_sender_asks(
    accept: str, application: str, codes: list[str]
) -> None:
    receiving = Receiving()
    assert receiving.codes(asking(orm("ZZ"), accept, application)) == codes
    assert receiving.kept == 0


def test_what_cannot_be_read_is_rejected_by_the_mailbox_in_enhanced_mode() -> None:
    broken = asking(orm(), "AL", "AL") + b"no segment\r"
    assert Receiving().codes(broken) == ["CR"]


UNREADABLE = {
    "a line that is no segment": orm() + b"no segment\r",
    "a byte of another character set": orm().replace(b"Chest", b"Ch\xff\xfest"),
    "a control character": orm().replace(b"Chest", b"Ch\x01est"),
    "two messages": orm() + orm(),
    "HL7 3.1": orm().replace(b"|2.3.1", b"|3.1"),
    "an unknown character set": lines(header("ORM^O01", rest="||||||KOI8-R")) + orm()[60:],
    "a type that is none": orm().replace(b"ORM^O01^ORM_O01", b"orm"),
    "no control id": orm().replace(b"MSG1", b""),
    "no separators": b"MSH|||||||||ORM^O01\r",
}
UNSUPPORTED = {
    "scheduling": lines(header("SIU^S12"), PID),
    "a result query": lines(header("QRY^R02"), PID),
    "a discharge": adt("A03"),
    "an order response": lines(header("ORR^O02"), PID),
    "an exercise": orm().replace(b"|P|2.3.1", b"|T|2.3.1"),
}
NOT_UNDERSTOOD = {
    "no patient": orm().replace(PID.encode() + b"\r", b""),
    "no order": lines(header("ORM^O01"), PID),
    "an unknown order control": orm("ZZ"),
    "a study that is none": orm(more=["ZDS|not a uid"]),
    "a birth date that is none": adt("A08").replace(b"19700101", b"yesterday"),
    "a merge of nobody": merge("^^^Example Trust"),
    "a report of an unknown status": report("Q"),
    "a number that is a flood": orm(obr_18="7" * 251),
    "a priority that is a flood": orm().replace(b"^^S\r", b"^^" + b"S" * 251 + b"\r"),
    "a patient whose namespace is a flood": orm().replace(b"Example Trust", b"T" * 251),
}


@pytest.mark.parametrize("name", sorted(UNREADABLE | UNSUPPORTED))
def test_what_will_never_be_taken_is_rejected(name: str) -> None:
    refused((UNREADABLE | UNSUPPORTED)[name], "AR")


@pytest.mark.parametrize("name", sorted(NOT_UNDERSTOOD))
def test_what_cannot_be_understood_is_an_error(name: str) -> None:
    refused(NOT_UNDERSTOOD[name], "AE")


def refused(content: bytes, expected: str) -> None:
    receiving = Receiving()
    (answer,) = receiving.received(content, PEER)
    assert code(answer) == expected
    assert b"\rERR|" in answer
    told = answer.decode() + "".join(receiving.notices)
    assert not [each for each in PATIENT if each in told]
    assert (receiving.kept, receiving.trail.events()) == (0, [])
    (notice,) = receiving.notices
    assert notice.startswith(f"ris.example.org (192.0.2.7): a message was refused ({expected}): ")


def test_a_refusal_names_the_place_and_what_to_do() -> None:
    (answer,) = Receiving().received(orm("ZZ", version="2.5.1"), PEER)
    err = read_message(answer).required("ERR")
    assert [err.part(2, number) for number in (1, 2, 3)] == ["ORC", "1", "1"]
    assert err.part(3) == "103"
    assert "send one of" in err.part(8)


def test_a_header_that_breaks_a_rule_is_still_answered_under_its_id() -> None:
    content = asking(UNREADABLE["HL7 3.1"], "ER", "NE")
    (answer,) = Receiving().received(content, PEER)
    assert read_acknowledgement(answer, "MSG1").code == "CR"


@pytest.mark.parametrize(
    "content", [b"GET / HTTP/1.1\r\n", b"\x00", b"MSH", b"MSHX", b"FHS|^~\\&\r"]
)
def test_what_is_no_message_at_all_is_not_acknowledged(content: bytes) -> None:
    receiving = Receiving()
    with pytest.raises(NotAcknowledged, match=r"does not start with MSH|separators"):
        receiving.received(content, PEER)
    assert receiving.kept == 0


# ── The same id again ────────────────────────────────────────────────────────────────────────────


def test_the_same_message_again_is_acknowledged_again_and_kept_once() -> None:
    receiving = Receiving()
    for _ in range(3):
        assert receiving.codes(orm()) == ["AA"]
    assert receiving.kept == 1
    assert len(receiving.trail.events()) == 1


def test_another_message_under_the_same_id_is_refused_and_told_to_operations() -> None:
    receiving = Receiving()
    assert receiving.codes(orm("NW")) == ["AA"]
    for _ in range(2):
        assert receiving.codes(orm("CA")) == ["AE"]
    assert receiving.kept == 1
    said = "ris.example.org (192.0.2.7) used a control id (MSH-10) for two messages; "
    assert receiving.noted.troubles == ["", said + "the second is refused"]
    his = orm().replace(b"|RIS|TRUST|", b"|HIS|TRUST|")
    assert receiving.codes(his) == ["AA"]
    assert len(receiving.noted.troubles) == 2, "another sender does not clear it"
    assert receiving.codes(orm().replace(b"MSG1", b"MSG2")) == ["AA"]
    assert receiving.noted.troubles[2:] == [""]


def test_what_is_kept_is_acknowledged_even_if_operations_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiving = Receiving()

    def fails(*_: object) -> bool:
        msg = "the database is gone"
        raise AuditUnavailable(msg)

    monkeypatch.setattr(receiving.noted, "note", fails)
    assert receiving.codes(orm()) == ["AA"]
    assert receiving.codes(orm("CA")) == ["AE"]


# ── Too much ─────────────────────────────────────────────────────────────────────────────────────


def test_what_nobody_processes_fills_no_disk() -> None:
    receiving = Receiving(Intake(most_waiting=2))
    answers = [receiving.codes(orm().replace(b"MSG1", b"M%d" % each)) for each in range(3)]
    assert answers == [["AA"], ["AA"], ["AE"]]
    assert "too many messages wait" in receiving.notices[0]
    for each in receiving.inbox.waiting(limit=9):
        receiving.inbox.fail(each.sequence, "no", at=ISSUED)
    assert receiving.codes(orm()) == ["AA"]


def test_a_server_for_training_takes_exercises_and_no_real_messages() -> None:
    receiving = Receiving(Intake(processing_ids=frozenset({"T"})))
    assert receiving.codes(UNSUPPORTED["an exercise"]) == ["AA"]
    assert receiving.codes(orm()) == ["AR"]


# ── Whatever comes ───────────────────────────────────────────────────────────────────────────────

_FIELDS = st.lists(
    st.text(st.characters(max_codepoint=0x2FF, exclude_characters="\r\n"), max_size=12)
    | st.sampled_from(
        ["ORM^O01", "ADT^A40", "ORU^R01", "2.5.1", "P", "AL", "\\X0D\\", '""', "~^&"]
    ),
    max_size=22,
).map("|".join)
_SEGMENTS = st.lists(
    st.tuples(st.sampled_from(["PID", "ORC", "OBR", "MRG", "OBX", "ZDS", "MSH", "X"]), _FIELDS).map(
        "|".join
    ),
    max_size=6,
)
_MESSAGES = st.tuples(st.just("MSH|^~\\&"), _FIELDS, _SEGMENTS).map(
    lambda parts: "\r".join([f"{parts[0]}|{parts[1]}", *parts[2]]).encode()
)


def mutated(content: bytes, at: int, cut: int, put: bytes) -> bytes:
    at %= len(content)
    return content[:at] + put + content[at + cut :]


_MUTATED = st.builds(
    mutated,
    st.sampled_from(list(OTHERS.values())),
    st.integers(0, 2000),
    st.integers(0, 40),
    st.binary(max_size=6),
)


@given(st.binary(max_size=300) | _MESSAGES | _MUTATED)
@example(b"MSH|^~\\&|" + b"|" * 9 + b"\xff\r")
@example(lines(header("ADT^A08"), 'PID|||""^^^""~ \x7f^^^ ||""|""'))
@example(lines(header("ORM^O01"), "PID|||\\X00\\\\XC285\\", "ORC|NW|\\X0D\\1"))
def test_any_bytes_are_kept_or_refused_or_not_answered(content: bytes) -> None:
    receiving = Receiving()
    try:
        answers = receiving.received(content, PEER)
    except NotAcknowledged:
        answers = ()
    codes = [code(each) for each in answers]
    accepted = [each for each in codes if each in {"AA", "CA"}]
    assert len(codes) == len(accepted) or len(codes) == 1
    assert not accepted or receiving.kept == 1
    assert len(receiving.trail.events()) == receiving.kept
    for each in answers:
        assert not re.search(rb"[\x0b\x1c]", each), "it would break out of its frame"
