"""A FHIR server of somebody else gets each result once, whole, and overwrites nobody's work."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from dicom_files import result
from fhir_server_stub import FORM, JSON, FhirServerStub, answer, fhir_server_stub, outcome
from standing_clock import StandingClock
from strict_pacs import (
    Fault,
    Seen,
    answers,
    changed,
    dripping,
    dripping_headers,
    fine,
    flooding,
    instead,
    late,
    lost,
    packed,
    thief,
    truncated,
)
from studies import OUTCOMES, chest_study, context

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.fhir_server import FhirServerDestination
from cds_server.errors import (
    DeliveryFailed,
    DeliveryRefused,
    DestinationUnavailable,
    InvalidSettings,
)
from cds_server.ports import ReportFeed
from fhir_mappers.report_context import ReportSet
from fhir_mappers.transaction import transaction_bundle

pytestmark = pytest.mark.alone

PATIENT_SYSTEM = "https://radcds.example.org/identifier/Example%20Trust"
MRN = "MRN 123456"
ACCESSION = "ACC1001"
TIMEOUT_S = 0.5
SECRETS = (MRN, "123456", ACCESSION, "TEST", "secret")


def bundle(**changes: object) -> bytes:
    return transaction_bundle(
        chest_study(**changes), OUTCOMES["flagged"], context=context(), overlay_jpeg=b"overlay"
    )


def artefacts(content: bytes = b"") -> ReportSet:
    return ReportSet(bundle=content or bundle(), oru=b"MSH", card=b"{}")


def signed(content: bytes = b"") -> bytes:
    """The same resources after a radiologist's word."""
    return (content or bundle()).replace(b'"preliminary"', b'"final"')


def patient(identifier: str = "p1", value: str = MRN, **more: object) -> dict[str, object]:
    system = PATIENT_SYSTEM
    return {
        "resourceType": "Patient",
        "id": identifier,
        "identifier": [{"system": system, "value": value}],
        "name": [{"family": "secret"}],
        **more,
    }


def order(identifier: str = "o1", subject: str = "Patient/p1", **more: object) -> dict[str, object]:
    return {
        "resourceType": "ServiceRequest",
        "id": identifier,
        "status": "active",
        "intent": "order",
        "identifier": [{"system": "urn:oid:2.999.1", "value": ACCESSION}],
        "subject": {"reference": subject},
        **more,
    }


def replaced_by(reference: str) -> dict[str, object]:
    return {"active": False, "link": [{"type": "replaced-by", "other": {"reference": reference}}]}


@dataclass
class Tokens:
    """Credentials that go from one token to the next when they are refused."""

    tokens: list[str] = field(default_factory=lambda: ["token-1", "token-2"])
    refreshed: int = 0

    def authorization(self) -> str:
        return f"Bearer {self.tokens[min(self.refreshed, len(self.tokens) - 1)]}"

    def refresh(self) -> None:
        self.refreshed += 1


@pytest.fixture
def server() -> Iterator[FhirServerStub]:
    with fhir_server_stub() as running:
        running.put(patient())
        running.put(order())
        yield running


def destination(server: FhirServerStub, **options: Any) -> FhirServerDestination:
    settings = {
        "http": BoundedHttp(timeout_s=TIMEOUT_S, largest_bytes=200_000),
        "credentials": None,
        "clock": StandingClock(),
        **options,
    }
    return FhirServerDestination("fhirserver", server.url, **settings)


def composed(server: FhirServerStub, content: bytes = b"", **options: Any) -> bytes:
    return destination(server, **options).compose(result(), artefacts(content))


def report_address(content: bytes = b"") -> str:
    entries = json.loads(content or bundle())["entry"]
    urls = [each["request"]["url"] for each in entries]
    return next(each for each in urls if each.startswith("DiagnosticReport/"))


def with_reference(content: bytes, reference: str) -> int:
    return content.count(f'"reference": "{reference}"'.encode())


def test_it_is_a_feed(server: FhirServerStub) -> None:
    feed = destination(server)
    assert isinstance(feed, ReportFeed)
    assert (feed.name, feed.at_once) == ("fhirserver", 4)


# --- whose it is


def test_a_result_refers_to_the_patient_and_order_that_the_server_knows(
    server: FhirServerStub,
) -> None:
    message = composed(server)
    assert with_reference(message, "Patient/p1") == message.count(MRN.encode()) > 0
    assert with_reference(message, "ServiceRequest/o1") == message.count(ACCESSION.encode()) > 0
    without = b"\n".join(
        line
        for line in message.split(b"\n")
        if b'"Patient/p1"' not in line and b'"ServiceRequest/o1"' not in line
    )
    assert without == bundle()


def test_whom_the_server_does_not_know_stays_an_identifier(server: FhirServerStub) -> None:
    server.stored.clear()
    message = composed(server)
    assert message == bundle()
    destination(server).send(message)


def test_no_identifier_is_ever_in_an_address(server: FhirServerStub) -> None:
    composed(server)
    assert {each.method for each in server.seen} == {"POST"}
    assert all(each.headers["content-type"] == FORM for each in server.seen)
    assert [(each.path, each.query) for each in server.seen] == [
        ("/r4/Patient/_search", {}),
        ("/r4/ServiceRequest/_search", {}),
    ]


@pytest.mark.parametrize("status", [404, 405, 415, 501])
def test_a_server_without_search_by_post_is_searched_by_get(
    server: FhirServerStub, status: int
) -> None:
    server.post_search = status
    assert with_reference(composed(server), "Patient/p1")
    assert [each.method for each in server.seen] == ["POST", "GET"] * 2


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500, 503])
def test_a_search_that_fails_otherwise_never_becomes_an_address(
    server: FhirServerStub, status: int
) -> None:
    server.post_search = status
    with pytest.raises(DeliveryFailed):
        composed(server)
    assert {each.method for each in server.seen} == {"POST"}


def test_identifiers_with_the_signs_of_a_search_are_found(server: FhirServerStub) -> None:
    value = r"A|B,C$D\E+F &=%ü"
    server.put(patient(value=value))
    of = replace(chest_study().patient, patient_id=value)
    message = composed(server, bundle(patient=of))
    assert with_reference(message, "Patient/p1")


def test_more_than_one_patient_is_an_error_and_not_a_guess(server: FhirServerStub) -> None:
    server.put(patient("p2"))
    with pytest.raises(DeliveryRefused, match="more than one Patient") as refused:
        composed(server)
    assert not any(secret in str(refused.value) for secret in SECRETS)


def test_more_than_one_order_is_an_error_and_not_a_guess(server: FhirServerStub) -> None:
    server.put(order("o2"))
    with pytest.raises(DeliveryRefused, match="more than one ServiceRequest"):
        composed(server)


def test_an_order_that_was_entered_in_error_is_no_order(server: FhirServerStub) -> None:
    server.put(order("o2", status="entered-in-error"))
    assert with_reference(composed(server), "ServiceRequest/o1")


def test_an_order_of_another_patient_is_never_linked(server: FhirServerStub) -> None:
    server.put(patient("p2", "other"))
    server.put(order(subject="Patient/p2"))
    with pytest.raises(DeliveryRefused, match="for another patient"):
        composed(server)


def test_a_merged_patient_is_followed_to_the_one_that_remains(server: FhirServerStub) -> None:
    server.put(patient(**replaced_by(f"{server.url}/Patient/p2")))
    server.put(patient("p2", "new number"))
    message = composed(server)
    assert with_reference(message, "Patient/p2")
    assert not with_reference(message, "Patient/p1")
    assert with_reference(message, "ServiceRequest/o1"), "the order names the old record"


def test_two_records_of_one_patient_are_one_patient(server: FhirServerStub) -> None:
    server.put(patient("old", **replaced_by("Patient/p1")))
    assert with_reference(composed(server), "Patient/p1")


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        replaced_by("Patient/merged-too"),
        replaced_by("Patient/inactive"),
        replaced_by("Patient/missing"),
        replaced_by("Practitioner/p1"),
        replaced_by("urn:uuid:1"),
        replaced_by("Patient/../Patient/p1"),
        replaced_by(""),
        {
            "link": [
                {"type": "replaced-by", "other": {"reference": "Patient/p2"}},
                {"type": "replaced-by", "other": {"reference": "Patient/p3"}},
            ]
        },
    ],
)
def test_a_patient_record_out_of_use_is_said(
    server: FhirServerStub, changes: Mapping[str, Any]
) -> None:
    server.put(patient(**changes))
    server.put(patient("p2", "2"))
    server.put(patient("p3", "2"))
    server.put(patient("inactive", "3", active=False))
    server.put(patient("merged-too", "4", **replaced_by("Patient/p2")))
    with pytest.raises(DeliveryRefused) as refused:
        composed(server)
    assert not any(secret in str(refused.value) for secret in SECRETS)


def test_another_patient_than_was_asked_for_is_not_believed(server: FhirServerStub) -> None:
    server.put(patient(**replaced_by("Patient/p2")))
    server.faults.extend([fine, instead(answer(200, patient("p3", "2")))])
    with pytest.raises(DeliveryRefused, match="something else"):
        composed(server)


def test_a_patient_of_another_server_is_never_asked_for(server: FhirServerStub) -> None:
    with thief() as (elsewhere, heard):
        server.put(patient(**replaced_by(f"{elsewhere}/r4/Patient/p2")))
        with pytest.raises(DeliveryRefused, match="does not name"):
            composed(server, credentials=Tokens())
    assert heard == []


def test_a_search_that_finds_everybody_is_not_believed(server: FhirServerStub) -> None:
    server.finds_everybody = True
    server.put(patient("p2", "another"))
    assert with_reference(composed(server), "Patient/p1")
    server.stored.pop("Patient/p1")
    server.stored.pop("ServiceRequest/o1")
    assert composed(server) == bundle()


def test_a_search_in_pages_is_no_answer(server: FhirServerStub) -> None:
    server.finds_everybody, server.page = True, 1
    server.put(patient("p2", "another"))
    with pytest.raises(DeliveryRefused, match="pages"):
        composed(server)
    assert [each.path for each in server.seen] == ["/r4/Patient/_search"]


@pytest.mark.parametrize(
    "linked", [frozenset(), frozenset({"Patient"}), frozenset({"ServiceRequest"})]
)
def test_only_what_is_wanted_is_looked_up(server: FhirServerStub, linked: frozenset[str]) -> None:
    message = composed(server, linked=linked)
    assert {each.path.split("/")[2] for each in server.seen} == linked
    assert bool(with_reference(message, "Patient/p1")) == ("Patient" in linked)
    assert bool(with_reference(message, "ServiceRequest/o1")) == ("ServiceRequest" in linked)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"secret",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"resourceType":"Bundle","type":"history"}',
        b'{"resourceType":"OperationOutcome","issue":[{"diagnostics":"secret"}]}',
        b'{"resourceType":"Bundle","type":"searchset","entry":{}}',
        b'{"resourceType":"Bundle","type":"searchset","entry":["secret"]}',
        json.dumps(
            {
                "resourceType": "Bundle",
                "type": "searchset",
                "entry": [{"resource": patient("../secret")}],
            }
        ).encode(),
    ],
)
def test_an_odd_answer_to_a_search_is_not_nobody(server: FhirServerStub, body: bytes) -> None:
    server.faults.append(answers(200, body, JSON))
    with pytest.raises(DeliveryFailed) as failed:
        composed(server)
    assert not any(secret in str(failed.value) for secret in SECRETS)


def test_odd_entries_in_a_searchset_are_passed_over(server: FhirServerStub) -> None:
    odd = [
        {},
        {"resource": None},
        {"resource": outcome("informational"), "search": {"mode": "outcome"}},
        {"resource": {**patient("p9"), "identifier": "x"}},
        {"resource": {**patient("p9"), "identifier": [None, {"value": MRN}]}},
        {"resource": {**patient("p9"), "resourceType": "Person"}},
        {"resource": patient()},
    ]
    page = {"resourceType": "Bundle", "type": "searchset", "link": [None, {"relation": []}]}
    server.faults.append(instead(answer(200, {**page, "entry": odd})))
    assert with_reference(composed(server), "Patient/p1")


# --- what is sent


def test_what_is_sent_is_what_was_composed(server: FhirServerStub) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    server.seen.clear()
    feed.send(message)
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.query, seen.body) == ("POST", "/r4", {}, message)
    assert seen.headers["content-type"] == f"{JSON}; charset=utf-8; fhirVersion=4.0"
    assert seen.headers["accept"] == JSON
    assert seen.headers["prefer"] == "return=minimal"
    assert b"ifNoneExist" not in message


def test_the_same_result_three_times_is_there_once(server: FhirServerStub) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    for _ in range(3):
        feed.send(message)
    assert len(server.addresses("DiagnosticReport")) == 1
    assert server.transactions() == [message], "what is there is not sent again"
    assert {len(each.versions) for each in server.stored.values()} == {1}


def test_eight_workers_at_once_leave_one_of_each(server: FhirServerStub) -> None:
    start = threading.Barrier(8)

    def work(_: int) -> bytes:
        feed = destination(server, http=BoundedHttp(timeout_s=10))
        message = feed.compose(result(), artefacts())
        start.wait()
        feed.send(message)
        return message

    with ThreadPoolExecutor(8) as workers:
        messages = set(workers.map(work, range(8)))
    assert len(messages) == 1
    assert len(server.addresses("DiagnosticReport")) == 1
    assert {len(each.versions) for each in server.stored.values()} == {1}


def test_one_bad_entry_and_nothing_is_stored(server: FhirServerStub) -> None:
    broken = json.loads(bundle())
    of_kind = [e["resource"] for e in broken["entry"] if "Observation" in e["request"]["url"]]
    del of_kind[-1]["code"]
    before = set(server.stored)
    with pytest.raises(
        DeliveryRefused,
        match=r"status 422: error required MSG_LOCAL_FAIL at Bundle\.entry\[\d\]\.resource\.code",
    ) as refused:
        destination(server).send(json.dumps(broken).encode())
    assert set(server.stored) == before
    assert not any(secret in str(refused.value) for secret in SECRETS)


def test_faults_of_a_profile_are_found_before_anything_is_sent(server: FhirServerStub) -> None:
    checked: list[bytes] = []

    def check(message: bytes) -> list[str]:
        checked.append(message)
        return [f"rule {number} is broken" for number in range(7)]

    with pytest.raises(DeliveryRefused, match=r"rule 0 is broken; .*rule 4 .*and 2 more") as said:
        composed(server, check=check)
    assert with_reference(checked[0], "Patient/p1"), "what would be sent is checked"
    assert "rule 5" not in str(said.value)
    assert server.transactions() == []


def test_a_transaction_of_more_than_500_entries_is_not_sent(server: FhirServerStub) -> None:
    def of(count: int) -> bytes:
        devices = [{"resourceType": "Device", "id": f"d{number}"} for number in range(count)]
        entries = [
            {"resource": each, "request": {"method": "PUT", "url": f"Device/{each['id']}"}}
            for each in devices
        ]
        return json.dumps(
            {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        ).encode()

    with pytest.raises(DeliveryRefused, match="501 entries"):
        composed(server, of(501))
    destination(server).send(composed(server, of(500)))
    assert len(server.addresses("Device")) == 500


def test_a_message_that_is_too_large_is_not_sent(server: FhirServerStub) -> None:
    with pytest.raises(DeliveryRefused, match="bytes"):
        composed(server, largest_bytes=1000)


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"[]",
        b"[" * 5000,
        b'{"resourceType":"Bundle","type":"batch","entry":[]}',
        b'{"resourceType":"Bundle","type":"transaction","entry":[]}',
        b'{"resourceType":"Bundle","type":"transaction","entry":[null]}',
        bundle().replace(b'"PUT"', b'"POST"', 1),
        bundle().replace(b'"url": "Device/', b'"url": "Device?_id=', 1),
        bundle().replace(b'"url": "Device/', b'"url": "../Device/', 1),
    ],
)
def test_only_a_transaction_of_puts_under_own_ids_is_sent(
    server: FhirServerStub, content: bytes
) -> None:
    feed = destination(server)
    with pytest.raises(DeliveryRefused):
        feed.compose(result(), artefacts(content))
    with pytest.raises(DeliveryRefused):
        feed.send(content)
    assert server.seen == []


# --- what the answer says


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        *[(each, DestinationUnavailable) for each in (401, 403, 408, 424, 425, 429)],
        *[(each, DestinationUnavailable) for each in (301, 302, 307, 308)],
        *[(each, DestinationUnavailable) for each in (500, 502, 503, 504, 507)],
        *[(each, DeliveryRefused) for each in (400, 404, 405, 406, 410, 413, 415, 422, 501)],
        *[(each, DeliveryFailed) for each in (201, 202, 206, 409, 412)],
    ],
)
def test_each_status_says_what_to_do_next(
    server: FhirServerStub, status: int, kind: type[Exception] | None
) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    told = outcome("processing", f"{MRN} secret", "Bundle.entry[3].resource")
    if kind is None:
        feed.send(message)
        return
    server.faults.append(instead(answer(status, told, Location="http://192.0.2.1/")))
    with pytest.raises(kind, match=f"status {status}: error processing") as failed:
        feed.send(message)
    assert type(failed.value) is kind
    assert not any(secret in str(failed.value) for secret in SECRETS)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", 3600.0),
        (format_datetime(StandingClock().now() + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(StandingClock().now() - timedelta(seconds=90), usegmt=True), 0.0),
        ("Fri, 20 Nov 2026 09:31:04 -0000", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_is_left_alone_for_as_long_as_it_asks(
    server: FhirServerStub, status: int, header: str, wait_s: float | None
) -> None:
    server.faults.append(instead(answer(status, outcome("throttled"), Retry_After=header)))
    with pytest.raises(DestinationUnavailable, match="throttled") as failed:
        destination(server).send(bundle())
    assert failed.value.retry_after_s == wait_s
    assert len(server.seen) == 1, "it is not asked again before"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("429 Too Many Requests", DestinationUnavailable),
        ("412", DeliveryFailed),
        ("422 Unprocessable", DeliveryRefused),
        ("202", DeliveryFailed),
    ],
)
def test_success_is_believed_only_of_each_entry(
    server: FhirServerStub, status: str, kind: type[Exception]
) -> None:
    def spoilt(content: bytes) -> bytes:
        told = json.loads(content)
        told["entry"][2]["response"] = {"status": status, "outcome": outcome("value", MRN)}
        return json.dumps(told).encode()

    feed = destination(server)
    message = feed.compose(result(), artefacts())
    server.faults.append(changed(spoilt))
    with pytest.raises(kind, match=r"entry 2 of the transaction.*error value") as failed:
        feed.send(message)
    assert MRN not in str(failed.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"secret",
        lambda _: b"{" * 100_000,
        lambda body: body.replace(b"transaction-response", b"batch-response"),
        lambda body: body.replace(b'"status"', b'"secret"', 1),
        lambda body: body.replace(b'"201"', b'"secret"', 1),
        lambda body: body.replace(b'"201"', b"201", 1),
        lambda body: json.dumps(
            {**json.loads(body), "entry": json.loads(body)["entry"][1:]}
        ).encode(),
        lambda body: json.dumps({**json.loads(body), "entry": "secret"}).encode(),
        lambda _: b'{"resourceType": "Bundle", "type": "transaction-response"}',
    ],
)
def test_an_answer_that_does_not_confirm_is_no_success(
    server: FhirServerStub, change: Callable[[bytes], bytes]
) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    server.faults.append(changed(change))
    with pytest.raises(DeliveryFailed) as failed:
        feed.send(message)
    assert not isinstance(failed.value, DeliveryRefused)
    assert "secret" not in str(failed.value)
    feed.send(message)
    assert len(server.transactions()) == 1, "it had arrived"


@pytest.mark.parametrize(
    "fault",
    [
        lost,
        truncated(0),
        truncated(200),
        late(5),
        dripping(),
        dripping_headers(),
        flooding(JSON),
        packed(1_000_000),
    ],
    ids=["lost", "empty", "truncated", "late", "dripping", "headers", "flood", "packed"],
)
def test_an_answer_that_is_cut_off_and_again_is_one_of_each(
    server: FhirServerStub, fault: Fault
) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    server.faults.append(fault)
    start = time.monotonic()
    with pytest.raises(DestinationUnavailable) as failed:
        feed.send(message)
    assert time.monotonic() - start < 3 * TIMEOUT_S
    assert failed.value.retry_after_s is None
    feed.send(message)
    assert len(server.addresses("DiagnosticReport")) == 1
    assert {len(each.versions) for each in server.stored.values()} == {1}


def test_a_server_that_is_away_is_said(server: FhirServerStub) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/r4"
    listener.close()
    for ask in (lambda: composed(server), lambda: destination(server).send(bundle())):
        with pytest.raises(DestinationUnavailable, match="cannot be asked"):
            ask()


def test_a_redirect_is_not_followed_and_no_secret_goes_elsewhere(server: FhirServerStub) -> None:
    with thief() as (elsewhere, heard):
        for status in (301, 302, 303, 307, 308):
            server.faults.append(answers(status, Location=elsewhere))
            with pytest.raises(DestinationUnavailable, match="redirects elsewhere"):
                destination(server, credentials=Tokens()).send(bundle())
    assert heard == []


# --- who this server is


def test_a_token_that_is_refused_is_renewed_once(server: FhirServerStub) -> None:
    server.tokens = {"token-2"}
    credentials = Tokens()
    feed = destination(server, credentials=credentials)
    feed.send(feed.compose(result(), artefacts()))
    assert [each.headers["authorization"][-1] for each in server.seen] == ["1", "2", "2", "2"]
    assert credentials.refreshed == 1
    server.tokens = set()
    server.seen.clear()
    with pytest.raises(DestinationUnavailable, match=r"refuses the credentials.*401.*login") as no:
        feed.send(bundle())
    assert "token" not in str(no.value)


def test_a_token_is_not_tried_twice(server: FhirServerStub) -> None:
    server.tokens = set()
    with pytest.raises(DestinationUnavailable, match="401"):
        destination(server, credentials=Tokens(["only"])).send(bundle())
    assert len(server.seen) == 1


def test_what_another_thread_has_renewed_is_used(server: FhirServerStub) -> None:
    server.tokens = {"token-2"}
    credentials = Tokens()

    def renewed(_: object) -> None:
        credentials.refreshed = max(credentials.refreshed, 1)

    server.before = renewed
    destination(server, credentials=credentials).compose(result(), artefacts())
    assert credentials.refreshed == 1


def test_no_credentials_none_sent(server: FhirServerStub) -> None:
    composed(server)
    assert all("authorization" not in each.headers for each in server.seen)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "fhir.example.org",
        "ftp://fhir.example.org",
        "https://",
        "https://user:secret@fhir.example.org/r4",
        "https://fhir.example.org/r4?token=secret",
        "https://fhir.example.org/r4#secret",
        "https://fhir.example.org/r 4",
        "https://fhir.example.org:port/r4",
        "https://fhir.example.org/r4\r\nX: secret",
    ],
)
def test_an_address_is_an_address_and_nothing_else(server: FhirServerStub, url: str) -> None:
    server.url = url
    with pytest.raises(InvalidSettings, match="address") as refused:
        destination(server)
    assert "secret" not in str(refused.value)


def test_credentials_do_not_travel_in_the_clear(server: FhirServerStub) -> None:
    server.url = "http://fhir.example.org/r4"
    with pytest.raises(InvalidSettings, match="over https"):
        destination(server, credentials=Tokens())
    destination(server)


# --- nobody's work is overwritten


def edited(server: FhirServerStub, address: str, **changes: object) -> dict[str, Any]:
    """Somebody else changes a resource under our id."""
    server.put({**server.current(address), **changes})
    return server.current(address)


def test_what_somebody_else_changed_is_not_overwritten(server: FhirServerStub) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    feed.send(message)
    theirs = edited(server, report_address(), conclusion="secret words of a radiologist")
    with pytest.raises(
        DeliveryRefused, match=r"DiagnosticReport/.* changed there.*\(version 2\)"
    ) as no:
        feed.send(message)
    assert server.current(report_address()) == theirs
    assert "secret" not in str(no.value)


def test_what_somebody_deleted_does_not_come_back(server: FhirServerStub) -> None:
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    feed.send(message)
    server.delete(report_address())
    with pytest.raises(DeliveryRefused, match="was deleted there"):
        feed.send(message)
    assert server.stored[report_address()].current is None


def test_a_preliminary_result_never_replaces_a_signed_one(server: FhirServerStub) -> None:
    late_message = composed(server)
    destination(server).send(composed(server, signed()))
    with pytest.raises(DeliveryRefused, match="past being preliminary"):
        destination(server).send(late_message)
    assert server.current(report_address())["status"] == "final"


def test_after_a_restart_it_looks_before_it_sends(server: FhirServerStub) -> None:
    message = composed(server)
    destination(server).send(message)
    server.seen.clear()
    destination(server).send(message)
    (looked,) = server.seen
    assert json.loads(looked.body)["type"] == "batch"


def test_what_a_server_writes_otherwise_is_still_ours(server: FhirServerStub) -> None:
    server.reformats = lambda resource: {
        **resource,
        "text": {"status": "generated", "div": "<div>other</div>"},
        "language": "en",
    }
    feed = destination(server)
    message = feed.compose(result(), artefacts())
    server.faults.append(lost)
    with pytest.raises(DestinationUnavailable):
        feed.send(message)
    feed.send(message)
    assert len(server.addresses("DiagnosticReport")) == 1


def test_a_sign_off_replaces_what_was_sent_before_and_says_which_version(
    server: FhirServerStub,
) -> None:
    first = composed(server)
    destination(server).send(first)
    feed = destination(server, sent_before={result().result_id: first}.get)
    second = feed.compose(result(), artefacts(signed()))
    assert second.count(b'"ifMatch"') == len(json.loads(second)["entry"])
    feed.send(second)
    assert server.current(report_address())["status"] == "final"
    feed.send(second)
    assert len(server.stored[report_address()].versions) == 2


def test_a_later_sign_off_rests_on_the_one_before(server: FhirServerStub) -> None:
    sent: dict[str, bytes] = {}
    feed = destination(server, sent_before=sent.get)
    for status in (b'"preliminary"', b'"final"', b'"amended"'):
        content = bundle().replace(b'"preliminary"', status)
        sent_now = feed.compose(result(), artefacts(content))
        feed.send(sent_now)
        sent[result().result_id] = sent_now
    assert server.current(report_address())["status"] == "amended"
    assert len(server.stored[report_address()].versions) == 3


def test_a_sign_off_does_not_overwrite_what_somebody_changed_before(server: FhirServerStub) -> None:
    first = composed(server)
    destination(server).send(first)
    edited(server, report_address(), conclusion="words of a radiologist")
    feed = destination(server, sent_before={result().result_id: first}.get)
    with pytest.raises(DeliveryRefused, match="changed there by somebody else"):
        feed.compose(result(), artefacts(signed()))


def test_a_change_between_composing_and_sending_is_noticed(server: FhirServerStub) -> None:
    first = composed(server)
    destination(server).send(first)
    feed = destination(server, sent_before={result().result_id: first}.get)
    second = feed.compose(result(), artefacts(signed()))
    theirs = edited(server, report_address(), conclusion="words of a radiologist")
    with pytest.raises(DeliveryRefused, match="changed there"):
        feed.send(second)
    assert server.current(report_address()) == theirs


def test_a_change_at_the_last_moment_is_noticed_by_the_server(server: FhirServerStub) -> None:
    first = composed(server)
    destination(server).send(first)
    feed = destination(server, sent_before={result().result_id: first}.get)
    second = feed.compose(result(), artefacts(signed()))

    def meanwhile(seen: Seen) -> None:
        if seen.body == second:
            edited(server, report_address(), conclusion="words of a radiologist")

    server.before = meanwhile
    with pytest.raises(DeliveryFailed, match="status 412: error conflict") as failed:
        feed.send(second)
    assert type(failed.value) is DeliveryFailed
    with pytest.raises(DeliveryRefused, match="changed there"):
        feed.send(second)
    assert server.current(report_address())["conclusion"] == "words of a radiologist"


def test_a_sign_off_is_never_taken_for_the_first_message(server: FhirServerStub) -> None:
    destination(server).send(composed(server))
    theirs = edited(server, report_address(), conclusion="words of a radiologist")
    feed = destination(server)  # which was not told what was sent before
    with pytest.raises(DeliveryRefused, match="changed there"):
        feed.send(feed.compose(result(), artefacts(signed())))
    assert server.current(report_address()) == theirs


def test_only_the_first_attempt_of_a_first_message_does_not_look(server: FhirServerStub) -> None:
    feed = destination(server)
    first = feed.compose(result(), artefacts())
    server.seen.clear()
    feed.send(first)
    assert len(server.seen) == 1
    told = destination(server, sent_before={result().result_id: first}.get)
    again = told.compose(result(), artefacts())
    server.seen.clear()
    told.send(again)
    assert json.loads(server.seen[0].body)["type"] == "batch"


def test_a_sign_off_whose_answer_was_lost_is_not_a_conflict_with_itself(
    server: FhirServerStub,
) -> None:
    first = composed(server)
    destination(server).send(first)
    feed = destination(server, sent_before={result().result_id: first}.get)
    second = feed.compose(result(), artefacts(signed()))
    server.faults.extend([fine, lost])
    with pytest.raises(DestinationUnavailable):
        feed.send(second)
    feed.send(second)
    assert len(server.stored[report_address()].versions) == 2


def test_a_server_that_cannot_say_what_is_there_gets_nothing(server: FhirServerStub) -> None:
    for body in (b"secret", b"{}", b'{"resourceType":"Bundle","type":"batch-response","entry":[]}'):
        server.faults.append(answers(200, body, JSON))
        with pytest.raises(DeliveryFailed, match="what is there already"):
            destination(server).send(bundle())
    server.faults.append(answers(400))
    with pytest.raises(DeliveryRefused, match="what is there already"):
        destination(server).send(bundle())
    for entry in (
        {"response": {"status": "403"}},
        {"response": {"status": "200"}},
        {"response": {"status": "200"}, "resource": patient()},
    ):
        told = {"resourceType": "Bundle", "type": "batch-response"}
        count = len(json.loads(bundle())["entry"])
        server.faults.append(instead(answer(200, {**told, "entry": [entry] * count})))
        with pytest.raises(DeliveryFailed, match="does not say whether"):
            destination(server).send(bundle())
    assert server.transactions() == []
