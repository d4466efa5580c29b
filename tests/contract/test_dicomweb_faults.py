"""Whatever a PACS does, the answer comes in time, in bounds, and is never taken for another."""

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dicom_files import SERIES_UID, artefacts, dicom_file, result
from orthanc import free_ports
from standing_clock import StandingClock
from strict_pacs import (
    Answer,
    Connection,
    Fault,
    StrictPacs,
    Work,
    answers,
    as_type,
    changed,
    dripping,
    dripping_headers,
    fine,
    flooding,
    instead,
    late,
    multipart,
    packed,
    strict_pacs,
    thief,
    truncated,
    with_header,
)
from studies import ISSUED, STUDY_UID

from cds_server.adapters.circuit_breaker import CircuitBreaker, CircuitState
from cds_server.adapters.dicomweb_archive import DicomWebArchive
from cds_server.adapters.dicomweb_destination import DicomWebDestination
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.json_door import LARGEST_JSON
from cds_server.adapters.pacs_credentials import BasicCredentials
from cds_server.adapters.pacs_link import SLOWEST_BYTES_PER_S, PacsLink, Question
from cds_server.errors import (
    ArchiveError,
    ArchiveUnreachable,
    DeliveryFailed,
    InstanceUnreadable,
    InvalidSettings,
    StudyNotFound,
)

pytestmark = pytest.mark.alone

UIDS = (STUDY_UID, SERIES_UID, f"{SERIES_UID}.1")
TIMEOUT_S = 0.4
Ask = Callable[[DicomWebArchive], object]
ASKS: dict[str, Ask] = {
    "arrivals": lambda archive: archive.arrivals(),
    "metadata": lambda archive: archive.metadata(STUDY_UID),
    "instance": lambda archive: archive.instance(*UIDS),
}


@pytest.fixture
def pacs() -> Iterator[StrictPacs]:
    with strict_pacs() as running:
        running.add(dicom_file())
        yield running


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return ASKS[request.param]


def service(url: str, **options: object) -> DicomWebService:
    settings = {"clock": StandingClock(), "timeout_s": TIMEOUT_S, **options}
    return DicomWebService(url, **settings)  # type: ignore[arg-type]


def archive_of(url: str, **options: object) -> DicomWebArchive:
    return DicomWebArchive(service(url, **options))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


# --- in time


@pytest.mark.parametrize(
    "fault", [late(5), dripping(), dripping_headers()], ids=["silence", "body", "header"]
)
def test_a_pacs_that_drips_holds_nobody(pacs: StrictPacs, ask: Ask, fault: Fault) -> None:
    pacs.faults.append(fault)
    archive = archive_of(pacs.url)
    with (
        within(2),
        pytest.raises(ArchiveUnreachable, match=r"^the archive does not answer in time$"),
    ):
        ask(archive)
    pacs.faults.clear()
    assert ask(archive)


def test_a_pacs_that_is_late_but_in_time_is_heard(pacs: StrictPacs, ask: Ask) -> None:
    pacs.faults.append(late(TIMEOUT_S / 2))
    assert ask(archive_of(pacs.url))


def test_a_large_answer_has_the_time_that_its_size_takes(pacs: StrictPacs) -> None:
    """Slower than the time-out as a whole, and faster than the slowest rate that is allowed."""
    kept = pacs.add(dicom_file(size=100_000))

    def steady(piece: int) -> Fault:
        def fault(connection: Connection, work: Work) -> None:
            answer = work()
            connection.head(answer)
            for start in range(0, len(answer.body), piece):
                connection.pause(0.1)
                connection.raw(answer.body[start : start + piece])

        return fault

    archive = archive_of(pacs.url, slowest_bytes_per_s=100_000)
    pacs.faults.append(steady(12_500))
    start = time.monotonic()
    assert archive.instance(*UIDS) == kept.content
    assert time.monotonic() - start > 0.6 > TIMEOUT_S
    pacs.faults.append(steady(1_000))
    with within(2), pytest.raises(ArchiveUnreachable, match="in time"):
        archive.instance(*UIDS)
    pacs.faults.append(steady(12_500))
    with within(1), pytest.raises(ArchiveUnreachable, match="in time"):
        archive_of(pacs.url, slowest_bytes_per_s=100_000_000).instance(*UIDS)


def test_the_slowest_pacs_that_is_read_is_stated() -> None:
    assert SLOWEST_BYTES_PER_S == 256 * 1024
    for told in (PacsLink, DicomWebService):
        assert "slowest_bytes_per_s" in str(told.__doc__)


@pytest.mark.parametrize("sip", [1_000, 100_000], ids=["in drops", "in sips"])
def test_a_pacs_that_takes_a_body_too_slowly_holds_nobody(sip: int) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drink() -> None:
            peer, _ = listener.accept()
            with peer:
                while not done.wait(0.02):
                    peer.recv(sip, socket.MSG_WAITALL)

        drinking = threading.Thread(target=drink)
        drinking.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with within(2), pytest.raises(ArchiveUnreachable, match="in time"):
                service(url, slowest_bytes_per_s=100_000_000).store(STUDY_UID, b"x" * 40_000_000)
        finally:
            done.set()
            drinking.join()


# --- in bounds, and what it is


def test_an_answer_that_breaks_off_is_tried_again(pacs: StrictPacs, ask: Ask) -> None:
    pacs.faults.append(truncated(30))
    with pytest.raises(ArchiveUnreachable, match="broke off its answer"):
        ask(archive_of(pacs.url))


def test_an_object_that_is_cut_off_in_a_whole_answer_is_unreadable(pacs: StrictPacs) -> None:
    archive = archive_of(pacs.url)
    for keep in (40, 1000, -10):
        pacs.faults.append(changed(lambda body, keep=keep: body[:keep]))
        with pytest.raises(InstanceUnreadable, match=r"cut off|holds no object"):
            archive.instance(*UIDS)


@pytest.mark.parametrize(
    "fault",
    [
        answers(200, b"<html><form>Sign in</form></html>", "text/html"),
        answers(200, b"<xml/>", "application/dicom+xml"),
        answers(200, b"x", ""),
        as_type("text/plain"),
    ],
)
def test_a_page_in_the_way_is_no_answer(pacs: StrictPacs, ask: Ask, fault: Fault) -> None:
    pacs.faults.append(fault)
    with pytest.raises(ArchiveUnreachable, match="is a proxy or a sign-in page in the way"):
        ask(archive_of(pacs.url))


@pytest.mark.parametrize("name", ["arrivals", "metadata"])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'"text"',
        b"5",
        b"null",
        b"[1]",
        b'[{"a": 1}, "b"]',
        b"[" * 200_000,
        b'[{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "M\xfcLLER"}]}}]',
    ],
)
def test_what_is_not_dicom_json_is_said(pacs: StrictPacs, name: str, body: bytes) -> None:
    pacs.faults.append(answers(200, body, "application/dicom+json"))
    with pytest.raises(ArchiveUnreachable, match=r"not DICOM JSON|not in UTF-8"):
        ASKS[name](archive_of(pacs.url))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (multipart([b"not DICOM at all"]), "not a DICOM object"),
        (multipart([]), "holds no object"),
        (multipart([dicom_file(), dicom_file(2)]), "several objects"),
        (Answer(200, dicom_file(), "multipart/related"), "told apart"),
        (Answer(200, b"MZ" + b"x" * 200, "application/dicom"), "not a DICOM object"),
        (Answer(200, b"", "application/dicom"), "not a DICOM object"),
        (Answer(206, dicom_file()[:500], "application/dicom"), "status 206"),
        (Answer(406), "status 406"),
        (Answer(400, b"PatientName=DOE", "text/plain"), "status 400"),
    ],
)
def test_what_is_no_dicom_object_is_said_of_that_object(
    pacs: StrictPacs, answer: Answer, says: str
) -> None:
    pacs.faults.append(instead(answer))
    with pytest.raises(InstanceUnreadable, match=says) as failed:
        archive_of(pacs.url).instance(*UIDS)
    assert "DOE" not in str(failed.value)


def test_an_answer_without_end_is_cut_at_the_limit(
    pacs: StrictPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_server.adapters.json_door.LARGEST_JSON", 200_000)
    archive = archive_of(pacs.url, largest_bytes=200_000)
    pacs.faults.extend([flooding(), flooding(), flooding("application/dicom")])
    with within(2), pytest.raises(ArchiveUnreachable, match="too large"):
        archive.arrivals()
    with within(2), pytest.raises(InstanceUnreadable, match="in more than radcds reads"):
        archive.metadata(STUDY_UID)
    with within(2), pytest.raises(InstanceUnreadable, match="larger than"):
        archive.instance(*UIDS)
    pacs.faults.append(flooding())
    with within(2), pytest.raises(DeliveryFailed, match="too large"):
        DicomWebDestination(service(pacs.url)).deliver(result(), artefacts(report=dicom_file()))


OPENS_TO_FAR_MORE = {
    "objects": b"[" + b"{}," * 1_000_000 + b"{}]",
    "lists": b"[" + b"[]," * 1_000_000 + b"{}]",
    "both": b"[" + b'{"a":[]},' * 500_000 + b"{}]",
    "values": b'[{"a":[' + b'"ab",' * 4_000_001 + b'"ab"]}]',
}


@pytest.mark.parametrize("content", OPENS_TO_FAR_MORE.values(), ids=OPENS_TO_FAR_MORE)
def test_an_answer_that_opens_to_far_more_than_its_size_is_not_opened(
    pacs: StrictPacs, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("requests.Response.json", lambda _: pytest.fail("it was opened"))
    given = service(pacs.url, timeout_s=5.0)
    archive = DicomWebArchive(given)
    for name, kind, says in (
        ("arrivals", ArchiveUnreachable, "sends an answer that is too large"),
        ("metadata", InstanceUnreadable, r"^The archive describes the study in more than radcds "),
    ):
        pacs.faults.append(answers(200, content, "application/dicom+json"))
        with pytest.raises(kind, match=says):
            ASKS[name](archive)
    assert given.circuit == CircuitState()


def test_the_description_of_a_study_of_thousands_of_images_is_read(pacs: StrictPacs) -> None:
    uid = f'{{"0020000D":{{"vr":"UI","Value":["{STUDY_UID}"]}}'.encode()
    each = uid + b"".join(b',"%08X":{"vr":"LO","Value":["a,b"]}' % tag for tag in range(98)) + b"}"
    content = b"[" + b",".join([each] * 5000) + b"]"
    assert 0.5 < len(content) / LARGEST_JSON < 1
    pacs.faults.append(answers(200, content, "application/dicom+json"))
    assert len(archive_of(pacs.url, timeout_s=5.0).metadata(STUDY_UID)) == 5000


def test_the_answer_to_a_store_tells_of_one_object_and_is_not_long(pacs: StrictPacs) -> None:
    pacs.faults.append(answers(200, b" " * (1024 * 1024 + 1), "application/dicom+json"))
    with pytest.raises(ArchiveUnreachable, match="too large"):
        service(pacs.url, timeout_s=5.0).store(STUDY_UID, dicom_file(2))


@pytest.mark.parametrize("name", ["arrivals", "metadata"])
@pytest.mark.parametrize("content_type", ["application/dicom+json", "text/html", ""])
@pytest.mark.parametrize("status", [200, 201, 202, 205])
def test_nothing_at_all_is_no_empty_archive(
    pacs: StrictPacs, name: str, content_type: str, status: int
) -> None:
    pacs.faults.append(answers(status, b"", content_type))
    with pytest.raises(ArchiveUnreachable, match=f"nothing at all .status {status}"):
        ASKS[name](archive_of(pacs.url))


def test_no_content_is_how_a_pacs_says_that_it_has_nothing(pacs: StrictPacs) -> None:
    pacs.faults.append(answers(204, b"", ""))
    assert list(archive_of(pacs.url).arrivals()) == []


def test_an_object_whose_length_is_too_large_is_not_even_begun(pacs: StrictPacs) -> None:
    def boast(connection: Connection, _: Work) -> None:
        connection.head(Answer(200, b"", "application/dicom"), Content_Length="9" * 15)
        connection.pause(5)

    pacs.faults.append(boast)
    with within(TIMEOUT_S), pytest.raises(InstanceUnreadable, match="larger than 512 MB"):
        archive_of(pacs.url).instance(*UIDS)


def test_a_packed_answer_is_not_unpacked(pacs: StrictPacs, ask: Ask) -> None:
    pacs.faults.append(packed(50_000_000))
    with within(2), pytest.raises(ArchiveUnreachable, match="compressed answer"):
        ask(archive_of(pacs.url))
    assert {each.headers["accept-encoding"] for each in pacs.seen} == {"identity"}


def test_a_description_of_another_study_is_not_believed(pacs: StrictPacs) -> None:
    pacs.faults.append(changed(lambda body: body.replace(STUDY_UID.encode(), b"1.2.3")))
    with pytest.raises(ArchiveUnreachable, match="answers about another study"):
        archive_of(pacs.url).metadata(STUDY_UID)


def test_a_row_without_a_uid_is_left_out_and_the_log_names_nobody(pacs: StrictPacs) -> None:
    rows = (
        b'[{"0020000D":{"vr":"UI","Value":["../../evil"]},'
        b'"00100010":{"vr":"PN","Value":[{"Alphabetic":"DOE^JANE"}]}},{},'
        b'{"0020000D":{"vr":"UI","Value":["1.2.3"]},"00201208":{"vr":"IS","Value":["-4"]},'
        b'"00080061":{"vr":"CS","Value":["CR",null,5,"<script>"]}}]'
    )
    pacs.faults.append(answers(200, rows, "application/json"))
    pacs.kept.clear()
    with structlog.testing.capture_logs() as log:
        (arrival,) = archive_of(pacs.url).arrivals()
    assert (arrival.study_instance_uid, arrival.number_of_instances) == ("1.2.3", None)
    assert arrival.modalities == ("5", "CR")
    (line,) = [each for each in log if each["log_level"] == "warning"]
    assert line["count"] == 2
    assert "DOE" not in str(log)
    assert "evil" not in str(log)


def test_a_page_of_nothing_but_bad_rows_ends(pacs: StrictPacs) -> None:
    pacs.faults.extend([answers(200, b"[{}]", "application/json")] * 2)
    assert list(archive_of(pacs.url).arrivals()) == []
    assert len(pacs.seen) == 2


def test_a_warning_is_noted_and_its_text_is_not(
    pacs: StrictPacs, caplog: pytest.LogCaptureFixture
) -> None:
    pacs.faults.append(with_header("Warning", '299 pacs "more of DOE^JANE"'))
    with caplog.at_level(logging.INFO), structlog.testing.capture_logs() as log:
        assert archive_of(pacs.url).arrivals()
    assert [each["event"] for each in log] == ["the archive adds a warning to its answer"]
    assert "DOE" not in caplog.text


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408, 424, 401, 403])
def test_what_a_pacs_writes_about_a_failure_is_not_passed_on(
    pacs: StrictPacs, ask: Ask, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    pacs.faults.append(answers(status, b"cannot open study of DOE^JANE, 1970-01-01"))
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(ArchiveUnreachable, match=f"status {status}") as failed,
    ):
        ask(archive_of(pacs.url))
    assert "DOE" not in str(failed.value)
    assert "DOE" not in caplog.text


@pytest.mark.parametrize("status", [400, 404, 406, 410])
def test_a_search_that_is_refused_is_no_empty_archive(pacs: StrictPacs, status: int) -> None:
    pacs.faults.append(answers(status))
    with pytest.raises(ArchiveUnreachable, match=f"does not search for studies .status {status}"):
        archive_of(pacs.url).arrivals()


def test_a_description_that_is_refused_is_no_missing_study(pacs: StrictPacs) -> None:
    pacs.faults.append(answers(406))
    with pytest.raises(ArchiveUnreachable, match=r"lists the study but does not describe.*406"):
        archive_of(pacs.url).metadata(STUDY_UID)
    pacs.faults.extend([answers(400), answers(400)])
    with pytest.raises(ArchiveUnreachable, match=r"does not describe the study .status 400"):
        archive_of(pacs.url).metadata(STUDY_UID)


# --- one among others


def test_one_bad_instance_spoils_no_other(pacs: StrictPacs) -> None:
    pacs.add(dicom_file(2))
    archive = archive_of(pacs.url)
    pacs.faults.append(changed(lambda body: body[:300]))
    with pytest.raises(InstanceUnreadable):
        archive.instance(*UIDS)
    assert archive.instance(STUDY_UID, SERIES_UID, f"{SERIES_UID}.2") == dicom_file(2)


def test_a_study_that_is_deleted_before_its_image_is_fetched_is_not_there(pacs: StrictPacs) -> None:
    archive = archive_of(pacs.url)
    assert archive.metadata(STUDY_UID)
    pacs.kept.clear()
    with pytest.raises(StudyNotFound, match="no such instance"):
        archive.instance(*UIDS)


# --- to nobody else


@pytest.fixture
def secret(tmp_path: Path) -> BasicCredentials:
    (tmp_path / "secret").write_text("cds:the-password")
    return BasicCredentials(tmp_path / "secret")


def test_a_redirect_is_not_followed(pacs: StrictPacs, ask: Ask, secret: BasicCredentials) -> None:
    with thief() as (url, heard):
        pacs.faults.append(answers(307, Location=f"{url}/v2/studies"))
        with pytest.raises(ArchiveUnreachable, match="redirects elsewhere") as failed:
            ask(archive_of(pacs.url, credentials=secret))
        assert url not in str(failed.value)
    assert heard == []
    assert pacs.seen[0].headers["authorization"].startswith("Basic ")


def test_an_address_in_an_answer_is_never_asked(pacs: StrictPacs, secret: BasicCredentials) -> None:
    with thief() as (url, heard):
        pacs.retrieve_url = url
        given = service(pacs.url, credentials=secret)
        archive = DicomWebArchive(given)
        assert url in str(archive.metadata(STUDY_UID))
        for ask in ASKS.values():
            ask(archive)
        destination = DicomWebDestination(given)
        destination.deliver(result(), artefacts(report=dicom_file(7)))
        destination.deliver(result(), artefacts(report=dicom_file(7)))
    assert heard == []


def test_a_library_that_asks_elsewhere_is_refused_before_it_connects(
    pacs: StrictPacs, secret: BasicCredentials
) -> None:
    with thief() as (url, heard):
        client = service(pacs.url, credentials=secret)._client
        with pytest.raises(ArchiveUnreachable, match="outside of the archive's own"):
            client.retrieve_bulkdata(f"{url}/bulk")
        with pytest.raises(ArchiveUnreachable, match="outside of the archive's own"):
            client.retrieve_bulkdata(f"{pacs.url}-evil/bulk")
    assert heard == []
    assert pacs.seen == []


def test_every_address_but_the_services_own_is_refused(
    pacs: StrictPacs, secret: BasicCredentials
) -> None:
    breaker = CircuitBreaker(StandingClock(), failures=1)
    link = PacsLink(pacs.url, breaker=breaker, credentials=secret)
    port = pacs.url.split(":")[2].split("/")[0]
    with thief() as (url, heard):
        there = url.removeprefix("http://")
        for address in [
            url,
            f"{url}/v2/studies",
            f"//{there}/v2/studies",
            f"http://127.0.0.1:{port}@{there}/v2/studies",
            f"http://user:password@127.0.0.1:{port}/v2/studies",
            f"http://127.0.0.1:{port}\\@{there}/v2/studies",
            f"https://127.0.0.1:{port}/v2/studies",
            f"http://localhost:{port}/v2/studies",
            f"http://127.0.0.1:{port}/v2",
            f"http://127.0.0.1:{port}/v2/",
            f"http://127.0.0.1:{port}/v2studies",
            f"http://127.0.0.1:{port}/v3/studies",
            f"http://127.0.0.1:{port}/v2/../admin",
            f"http://127.0.0.1:{port}/v2/%2e%2e/admin",
            f"http://127.0.0.1:{port}/v2/..%2fadmin",
            f"http://127.0.0.1:{port}/v2/.../admin",
            f"http://127.0.0.1:{port}/v2/studies/..",
            f"http://127.0.0.1:{port}/v2/studies/1.2\r\nX: 1",
            f"http://127.0.0.1:{port}/v2//studies",
            "http://[::1/v2/studies",
            "file:///etc/passwd",
            "",
            "x" * 100_000,
        ]:
            with pytest.raises(ArchiveUnreachable, match="outside of the archive's own") as failed:
                link.exchange(Question("GET", address), largest_bytes=1000)
            assert "password" not in str(failed.value)
    assert heard == []
    assert pacs.seen == []
    assert breaker.state == CircuitState()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pacs.example.org",
        "ftp://pacs.example.org/",
        "https://",
        "https://user:the-password@pacs.example.org/dicom-web",
        "https://pacs.example.org/dicom-web?key=the-password",
        "https://pacs.example.org/dicom-web#the-password",
        "https://[::1/",
        "https://pacs.example.org:port/",
        "https://pacs..example.org/dicom-web",
        "https://.example.org/dicom-web",
        f"https://{'a' * 64}.example.org/dicom-web",
        "https://xn--.example.org/dicom-web",
        "https://xn--a-.example.org/dicom-web",
    ],
)
def test_an_address_that_is_no_plain_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(InvalidSettings, match="the address of a PACS is like") as failed:
        service(url)
    assert "the-password" not in str(failed.value)


def test_credentials_do_not_travel_in_the_clear(secret: BasicCredentials) -> None:
    for url in ("http://pacs.example.org/dicom-web", "http://127.0.0.1.example.org/"):
        with pytest.raises(InvalidSettings, match="over https"):
            service(url, credentials=secret)
    for url in ("https://pacs.example.org/dicom-web", "http://localhost:8042", "http://[::1]:80/x"):
        assert service(url, credentials=secret)
    assert service("http://pacs.example.org/dicom-web")


def test_nothing_of_the_environment_is_used(
    pacs: StrictPacs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login stolen password stolen\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with thief() as (url, heard):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, url)
        for ask in ASKS.values():
            assert ask(archive_of(pacs.url))
    assert heard == []
    assert all("authorization" not in each.headers for each in pacs.seen)


def test_no_cookie_is_kept(pacs: StrictPacs) -> None:
    archive = archive_of(pacs.url)
    for ask in ASKS.values():
        pacs.faults.append(with_header("Set-Cookie", "session=1; Path=/"))
        assert ask(archive)
    assert all("cookie" not in each.headers for each in pacs.seen)


def test_the_host_is_named_with_its_port(pacs: StrictPacs) -> None:
    for ask in ASKS.values():
        ask(archive_of(pacs.url))
    assert {each.headers["host"] for each in pacs.seen} == {pacs.url[7:].split("/")[0]}


def test_a_certificate_that_is_not_trusted_is_said(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "server.pem").write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                context.wrap_socket(peer, server_side=True).close()

        greeting = threading.Thread(target=greet)
        greeting.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ArchiveUnreachable, match="a certificate that is not trusted"):
            archive_of(url, timeout_s=5.0).arrivals()
        greeting.join()


# --- away, and back


class Stopwatch:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def fail(archive: DicomWebArchive, times: int) -> list[str]:
    said = []
    for _ in range(times):
        with pytest.raises(ArchiveUnreachable) as failed:
            archive.arrivals()
        said.append(str(failed.value))
    return said


def test_a_pacs_that_is_down_is_left_alone_and_heard_when_it_is_back() -> None:
    (port,) = free_ports(1)
    stopwatch, clock = Stopwatch(), StandingClock()
    given = service(f"http://127.0.0.1:{port}/v2", monotonic=stopwatch, clock=clock)
    archive = DicomWebArchive(given)
    assert given.circuit == CircuitState(open=False, since=None, says="")
    fail(archive, 4)
    assert not given.circuit.open
    clock.time += timedelta(minutes=1)
    fail(archive, 1)
    assert given.circuit == CircuitState(
        open=True, since=ISSUED, says="the archive does not answer (no connection)"
    )
    with strict_pacs(port) as pacs:
        pacs.add(dicom_file())
        with within(1):
            said = fail(archive, 50)
        assert set(said) == {
            "the archive does not answer (no connection); so it is since 2026-11-20 09:30:04 UTC"
        }
        assert pacs.seen == []
        stopwatch.now_s += 5
        assert archive.arrivals()
        assert given.circuit == CircuitState()
        assert archive.metadata(STUDY_UID)


def test_the_pause_grows_up_to_a_quarter_of_a_minute_while_each_trial_fails(
    pacs: StrictPacs,
) -> None:
    stopwatch = Stopwatch()
    archive = archive_of(pacs.url, monotonic=stopwatch)
    pacs.faults.extend([answers(503)] * 20)
    fail(archive, 5)
    for pause in (5, 10, 15, 15):
        asked = len(pacs.seen)
        stopwatch.now_s += pause - 0.1
        fail(archive, 2)
        assert len(pacs.seen) == asked
        stopwatch.now_s += 0.2
        fail(archive, 2)
        assert len(pacs.seen) == asked + 1
    pacs.faults.clear()
    stopwatch.now_s += 60
    assert archive.arrivals()
    pacs.faults.extend([answers(503)] * 5)
    fail(archive, 6)
    stopwatch.now_s += 5
    assert archive.arrivals()


def test_one_of_many_threads_tries_and_the_others_do_not_wait(pacs: StrictPacs) -> None:
    stopwatch = Stopwatch()
    archive = archive_of(pacs.url, monotonic=stopwatch, timeout_s=5.0)
    pacs.faults.extend([answers(503)] * 5)
    fail(archive, 5)
    stopwatch.now_s += 5
    pacs.faults.append(late(0.5))
    trial = threading.Thread(target=archive.arrivals)
    trial.start()
    while len(pacs.seen) < 6:
        time.sleep(0.01)
    with within(0.4):
        fail(archive, 20)
    assert len(pacs.seen) == 6
    trial.join()
    assert archive.arrivals()


@pytest.mark.parametrize("status", [401, 403, 408, 424, 429, 500, 503, 302])
def test_a_status_that_is_not_about_the_question_cuts_the_way(
    pacs: StrictPacs, status: int
) -> None:
    pacs.faults.extend([answers(status, Location="http://x.y/")] * 5)
    given = service(pacs.url)
    fail(DicomWebArchive(given), 5)
    assert given.circuit.open


@pytest.mark.parametrize("status", [400, 404, 406, 409, 410, 415])
def test_a_status_about_the_question_does_not_cut_the_way(pacs: StrictPacs, status: int) -> None:
    given = service(pacs.url)
    archive = DicomWebArchive(given)
    for _ in range(10):
        pacs.faults.append(answers(status))
        with pytest.raises(ArchiveError):
            archive.instance(*UIDS)
    pacs.faults.extend([answers(404), changed(lambda _: b"x"), fine] * 4)
    for _ in range(8):
        with pytest.raises(ArchiveError):
            archive.instance(*UIDS)
        if len(pacs.faults) % 3 == 1:
            archive.instance(*UIDS)
    assert given.circuit == CircuitState()


def test_failures_that_are_not_in_a_row_do_not_cut_the_way(pacs: StrictPacs) -> None:
    given = service(pacs.url)
    archive = DicomWebArchive(given)
    for _ in range(3):
        pacs.faults.extend([answers(503)] * 4)
        fail(archive, 4)
        assert archive.metadata(STUDY_UID)
    assert not given.circuit.open


def test_deliveries_wait_at_the_same_breaker(pacs: StrictPacs) -> None:
    given = service(pacs.url)
    pacs.faults.extend([answers(503)] * 5)
    fail(DicomWebArchive(given), 5)
    with pytest.raises(DeliveryFailed, match=r"^report\.dcm: .*503; so it is since 2026-11-20"):
        DicomWebDestination(given).deliver(result(), artefacts(report=dicom_file(9)))
    assert len(pacs.seen) == 5


def test_threads_share_one_service(pacs: StrictPacs) -> None:
    archive = archive_of(pacs.url, timeout_s=10.0)
    content = dicom_file()
    good: list[bool] = []

    def work() -> None:
        for _ in range(20):
            same = archive.instance(*UIDS) == content
            good.append(same and bool(archive.arrivals()) and bool(archive.metadata(STUDY_UID)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 120
