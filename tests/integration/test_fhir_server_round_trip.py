"""A real FHIR server: each result is there once, whole, whoever is killed in between."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dicom_files import result
from joserfc.jwk import ECKey
from orthanc import free_ports
from sekmet import Sekmet, sekmet
from standing_clock import StandingClock
from studies import OUTCOMES, chest_image, chest_instance, chest_study, context

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.fhir_credentials import SmartBackendCredentials
from cds_server.adapters.fhir_server import FhirServerDestination
from cds_server.adapters.system_clock import SystemClock
from cds_server.errors import DeliveryRefused, DestinationUnavailable
from cds_server.oauth.signing_keys import KeyRing
from fhir_mappers.report_context import ReportSet
from fhir_mappers.report_set import report_set

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [
        {
            "system": "https://radcds.example.org/identifier/Example%20Trust",
            "value": "MRN 123456",
        }
    ],
}
ORDER = {
    "resourceType": "ServiceRequest",
    "id": "o1",
    "status": "active",
    "intent": "order",
    "subject": {"reference": "Patient/p1"},
    "identifier": [{"system": "urn:oid:2.999.1", "value": "ACC1001"}],
}


@pytest.fixture(scope="module")
def artefacts() -> ReportSet:
    return report_set(
        chest_study(),
        OUTCOMES["flagged"],
        context=context(),
        source=chest_instance(),
        image=chest_image(),
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sekmet]:
    with sekmet(tmp_path) as running:
        running.put(PATIENT)
        running.put(ORDER)
        yield running


def destination(url: str, **options: Any) -> FhirServerDestination:
    settings = {
        "http": BoundedHttp(timeout_s=30),
        "credentials": None,
        "clock": StandingClock(),
        **options,
    }
    return FhirServerDestination("fhirserver", url, **settings)


def addresses(message: bytes) -> list[str]:
    return [each["request"]["url"] for each in json.loads(message)["entry"]]


def one_of_each(server: Sekmet, message: bytes) -> bool:
    """Say whether everything is there, and nothing twice."""
    expected: dict[str, int] = {}
    for address in addresses(message):
        kind = address.partition("/")[0]
        expected[kind] = expected.get(kind, 0) + 1
    return {kind: server.count(kind) for kind in expected} == expected


def test_the_same_result_three_times_is_there_once_and_is_found_from_its_patient(
    server: Sekmet, artefacts: ReportSet
) -> None:
    feed = destination(server.url)
    message = feed.compose(result(), artefacts)
    for _ in range(3):
        feed.send(message)
    assert one_of_each(server, message)
    assert {server.versions(each) for each in addresses(message)} == {1}
    for search in (
        "subject=Patient/p1",
        "based-on=ServiceRequest/o1",
        "subject.identifier=MRN 123456",
    ):
        found = server.ask(f"DiagnosticReport?{search.replace(' ', '%20')}")
        assert found["total"] == 1, search
    (report,) = (each["resource"] for each in found["entry"])
    assert report["subject"]["identifier"]["value"] == "MRN 123456", "both stay"
    sent = next(
        e["resource"] for e in json.loads(message)["entry"] if e["resource"]["id"] == report["id"]
    )
    meta = {"versionId": "1", "lastUpdated": report["meta"]["lastUpdated"]}
    assert report == {**sent, "meta": {**sent["meta"], **meta}}


def test_eight_workers_at_once_leave_one_report(server: Sekmet, artefacts: ReportSet) -> None:
    start = threading.Barrier(8)

    def work(_: int) -> bytes:
        feed = destination(server.url)
        message = feed.compose(result(), artefacts)
        start.wait()
        for _ in range(3):
            feed.send(message)
        return message

    with ThreadPoolExecutor(8) as workers:
        (message,) = set(workers.map(work, range(8)))
    assert one_of_each(server, message)


def test_one_bad_entry_and_nothing_is_there(server: Sekmet, artefacts: ReportSet) -> None:
    broken = json.loads(artefacts.bundle)
    del broken["entry"][-1]["resource"]["target"]
    with pytest.raises(DeliveryRefused, match="status 400"):
        destination(server.url).send(json.dumps(broken).encode())
    for kind in {each.partition("/")[0] for each in addresses(artefacts.bundle)}:
        assert server.count(kind) == 0, kind


def test_an_ambiguous_patient_is_refused(server: Sekmet, artefacts: ReportSet) -> None:
    server.put({**PATIENT, "id": "p2"})
    with pytest.raises(DeliveryRefused, match="more than one Patient"):
        destination(server.url).compose(result(), artefacts)


def test_somebody_elses_change_and_deletion_stay(server: Sekmet, artefacts: ReportSet) -> None:
    feed = destination(server.url)
    message = feed.compose(result(), artefacts)
    feed.send(message)
    report = next(each for each in addresses(message) if each.startswith("DiagnosticReport/"))
    server.put({**server.ask(report), "conclusion": "of a radiologist"})
    with pytest.raises(DeliveryRefused, match="changed there"):
        feed.send(message)
    assert server.ask(report)["conclusion"] == "of a radiologist"
    server.ask(report, method="DELETE")
    with pytest.raises(DeliveryRefused, match="deleted there"):
        feed.send(message)


def test_a_sign_off_replaces_the_version_that_was_sent(
    server: Sekmet, artefacts: ReportSet
) -> None:
    first = destination(server.url).compose(result(), artefacts)
    destination(server.url).send(first)
    feed = destination(server.url, sent_before={result().result_id: first}.get)
    signed = ReportSet(
        bundle=artefacts.bundle.replace(b'"preliminary"', b'"final"'), oru=b"MSH", card=b"{}"
    )
    second = feed.compose(result(), signed)
    feed.send(second)
    assert one_of_each(server, second)
    (report,) = server.ask("DiagnosticReport")["entry"]
    assert report["resource"]["status"] == "final"
    assert report["resource"]["meta"]["versionId"] == "2"


# --- killed in between


@contextmanager
def cutting(port: int, keep_bytes: int, cut: Callable[[], None]) -> Iterator[str]:
    """Stand before a server: let one request through, and after some bytes of its answer cut."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer, socket.create_connection(("127.0.0.1", port)) as behind:
            pump = threading.Thread(target=_forward, args=(peer, behind), daemon=True)
            pump.start()
            received = b""
            while len(received) < keep_bytes:
                received += behind.recv(keep_bytes - len(received))
            cut()
            peer.sendall(received)
            peer.shutdown(socket.SHUT_RDWR)
            pump.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"
    finally:
        thread.join()
        listener.close()


def _forward(peer: socket.socket, behind: socket.socket) -> None:
    try:
        while chunk := peer.recv(65536):
            behind.sendall(chunk)
    except OSError:
        return


@pytest.mark.parametrize("keep_bytes", [1, 150, 600])
def test_a_server_killed_in_the_middle_of_its_answer_has_one_of_each_after_the_next_attempt(
    tmp_path: Path, artefacts: ReportSet, keep_bytes: int
) -> None:
    (port,) = free_ports(1)
    with sekmet(tmp_path, port=port) as first:
        message = destination(first.url).compose(result(), artefacts)
        with (
            cutting(port, keep_bytes, first.kill) as between,
            pytest.raises(DestinationUnavailable),
        ):
            destination(between).send(message)
    with pytest.raises(DestinationUnavailable):
        destination(first.url).send(message)
    with sekmet(tmp_path, port=port) as again:
        destination(again.url).send(message)
        assert one_of_each(again, message)
        assert {again.versions(each) for each in addresses(message)} == {1}


@pytest.mark.parametrize("sent_bytes", [300, 20_000])
def test_a_server_killed_in_the_middle_of_the_request_has_one_of_each_after_the_next_attempt(
    tmp_path: Path, artefacts: ReportSet, sent_bytes: int
) -> None:
    (port,) = free_ports(1)
    with sekmet(tmp_path, port=port) as first:
        message = destination(first.url).compose(result(), artefacts)
        head = b"POST /fhir HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"
        length = f"Content-Length: {len(message)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall((head + length + message)[:sent_bytes])
            first.kill()
    with sekmet(tmp_path, port=port) as again:
        assert again.count("DiagnosticReport") == 0
        destination(again.url).send(message)
        assert one_of_each(again, message)


# --- who this server is


def test_a_server_that_asks_for_smart_backend_services_is_delivered_to(
    tmp_path: Path, artefacts: ReportSet
) -> None:
    keys = KeyRing({"ES384": ECKey.generate_key("P-384")})
    client = {"client_id": "radcds", "jwks": keys.public_jwks(), "scopes": "system/*.*"}
    auth = {"smart_clients": [client], "token_lifetime": 4}
    with sekmet(tmp_path, token="of-the-test", server_auth=auth) as server:  # noqa: S106 - a test's
        server.put(PATIENT)
        with pytest.raises(DestinationUnavailable, match="credentials"):
            destination(server.url).compose(result(), artefacts)
        credentials = SmartBackendCredentials(
            server.url,
            client_id="radcds",
            scopes=["system/*.cruds"],
            http=BoundedHttp(),
            keys=keys,
            jwks_url="https://radcds.example.org/.well-known/jwks.json",
            clock=SystemClock(),
        )
        feed = destination(server.url, credentials=credentials)
        message = feed.compose(result(), artefacts)
        feed.send(message)
        assert one_of_each(server, message)
        used = credentials.authorization()
        threading.Event().wait(4)
        feed.send(message)
        assert credentials.authorization() != used
