"""Whatever another server does, a request ends in time, in bounds, and tells nothing."""

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.errors import PeerUnavailable

pytestmark = pytest.mark.alone

URL = "https://peer.example.org/Patient/secret-path?token=secret-query"


def served(answer: httpx.Response | Exception) -> tuple[BoundedHttp, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return BoundedHttp(httpx.MockTransport(handle), largest_bytes=1000), asked


def test_an_answer_is_given_as_it_is() -> None:
    http, asked = served(httpx.Response(404, content=b"x" * 1000, headers={"X-One": "1"}))
    answer = http.get(URL, headers={"Accept": "application/json"})
    assert (answer.status, answer.content, answer.headers["x-one"]) == (404, b"x" * 1000, "1")
    assert asked[0].headers["accept"] == "application/json"
    assert asked[0].headers["accept-encoding"] == "identity"


def test_a_form_is_sent_as_a_form() -> None:
    http, asked = served(httpx.Response(200))
    http.post_form(URL, {"a": "1 &", "b": "ü"})
    assert asked[0].content == b"a=1+%26&b=%C3%BC"
    assert asked[0].headers["content-type"] == "application/x-www-form-urlencoded"


def test_a_redirect_is_not_followed() -> None:
    http, asked = served(httpx.Response(302, headers={"Location": "http://169.254.169.254/"}))
    assert http.get(URL).status == 302
    assert len(asked) == 1


def test_no_cookie_is_kept_for_the_next_user() -> None:
    http, asked = served(httpx.Response(200, headers={"Set-Cookie": "session=1; Path=/"}))
    http.get(URL)
    http.get(URL)
    assert "cookie" not in asked[1].headers


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(lambda peer: peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert BoundedHttp().get(f"http://127.0.0.1:{port}/").status == 204


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=b"x" * 1001),
        httpx.Response(
            200, content=gzip.compress(b"x" * 10_000), headers={"Content-Encoding": "gzip"}
        ),
        httpx.Response(200, content=gzip.compress(b"x"), headers={"Content-Encoding": "gzip"}),
        httpx.ConnectTimeout("secret-cause"),
        httpx.ReadTimeout("secret-cause"),
        httpx.ConnectError("secret-cause"),
        httpx.RemoteProtocolError("secret-cause"),
        httpx.UnsupportedProtocol("secret-cause"),
        httpx.TooManyRedirects("secret-cause"),
        httpx.InvalidURL("secret-cause"),
        httpx.StreamConsumed(),
    ],
)
def test_a_failure_tells_the_host_and_nothing_else(answer: httpx.Response | Exception) -> None:
    http, _ = served(answer)
    with pytest.raises(PeerUnavailable, match=r"^peer\.example\.org ") as failed:
        http.post_form(URL, {"token": "secret-form"}, headers={"Authorization": "secret-token"})
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://peer.example.org/", {}),
        ("peer.example.org", {}),
        ("https://", {}),
        ("https://[::1/secret", {}),
        ("https://peer.example.org:secret/", {}),
        ("https://peer.example.org/\n", {}),
        ("https://xn--\u0378.example.org/", {}),
        ("https://127.0.0.1:9/", {"Authorization": "Bearer sécret"}),
        ("http://127.0.0.1:9/", {"Authorization": "Bearer secret\r\nX: 1"}),
    ],
)
def test_a_request_that_cannot_be_sent_is_a_failure_too(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(PeerUnavailable) as failed:
        BoundedHttp().get(url, headers=headers)
    assert "secret" not in str(failed.value)


def test_a_transport_that_drips_is_cut_at_the_deadline() -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.02)
            yield b"x"

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=drops()))
    with pytest.raises(PeerUnavailable, match="in time"):
        BoundedHttp(transport, timeout_s=0.1).get(URL)


# --- over real sockets


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections on loopback until the test is over."""
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(peer: socket.socket) -> None:
        with peer:
            try:
                peer.recv(65536)
                serve(peer)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def dripping(start: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def serve(peer: socket.socket) -> None:
        peer.sendall(start)
        for _ in range(200):
            time.sleep(0.05)
            peer.sendall(drop)

    return serve


@pytest.mark.parametrize(
    "serve",
    [
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"x"),
        dripping(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        lambda peer: peer.recv(1),
    ],
    ids=["body", "header", "chunks", "interim", "silence"],
)
def test_a_slow_drip_is_cut_at_the_deadline(serve: Callable[[socket.socket], None]) -> None:
    with listening(serve) as port:
        http = BoundedHttp(timeout_s=0.4)
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="in time"):
            http.get(f"http://127.0.0.1:{port}/secret")
        assert 0.3 < time.monotonic() - started < 1.5


def test_the_last_wait_is_no_longer_than_what_is_left() -> None:
    def late(peer: socket.socket) -> None:
        time.sleep(0.8)
        peer.sendall(b"HTTP/1.1 200 OK\r\n")
        peer.recv(1)

    with listening(late) as port:
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="in time"):
            BoundedHttp(timeout_s=1.0).get(f"http://127.0.0.1:{port}/")
        assert time.monotonic() - started < 1.6


@pytest.mark.parametrize(
    "sent", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx"]
)
def test_a_broken_answer_is_a_failure(sent: bytes) -> None:
    with listening(lambda peer: peer.sendall(sent)) as port, pytest.raises(PeerUnavailable):
        BoundedHttp().get(f"http://127.0.0.1:{port}/")


def test_an_endless_answer_is_cut_at_the_limit() -> None:
    def flood(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    with listening(flood) as port, pytest.raises(PeerUnavailable, match="too large"):
        BoundedHttp(largest_bytes=200_000).get(f"http://127.0.0.1:{port}/")


def test_a_server_without_tls_is_not_spoken_to_in_the_clear() -> None:
    with (
        listening(lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as port,
        pytest.raises(PeerUnavailable, match="cannot be asked"),
    ):
        BoundedHttp().get(f"https://127.0.0.1:{port}/")


def test_nobody_listening_is_a_failure() -> None:
    with listening(socket.socket.close) as port:
        pass
    with pytest.raises(PeerUnavailable, match=r"^127\.0\.0\.1 cannot be asked \(ConnectError\)$"):
        BoundedHttp().get(f"http://127.0.0.1:{port}/")


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let a name have these addresses, of which only 127.0.0.1 ever answers."""
    genuine, connect = socket.getaddrinfo, socket.socket.connect

    def looked_up(host: str, *asked: int, **kind: int) -> list[object]:
        names = addresses if host == "peer.example.org" else [host]
        return [found for each in names for found in genuine(each, *asked, **kind)]

    def connected(self: socket.socket, address: tuple[str, int]) -> None:
        if address[0] != "127.0.0.1":
            time.sleep(self.gettimeout() or 10)
            raise TimeoutError
        connect(self, address)

    monkeypatch.setattr("socket.getaddrinfo", looked_up)
    monkeypatch.setattr("socket.socket.connect", connected)


def test_the_addresses_of_a_host_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, *(f"127.0.0.{number}" for number in range(2, 6)))
    started = time.monotonic()
    with pytest.raises(PeerUnavailable, match="in time"):
        BoundedHttp(timeout_s=0.4).get("http://peer.example.org/")
    assert 0.3 < time.monotonic() - started < 0.8


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening(lambda peer: peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
        url = f"http://peer.example.org:{port}/"
        assert BoundedHttp(timeout_s=1.0).get(url).status == 204


def test_a_name_without_an_address_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(PeerUnavailable, match=r"cannot be asked \(ConnectError\)"):
        BoundedHttp().get("http://peer.example.org/")


def test_threads_share_it_and_each_has_its_own_deadline() -> None:
    def late(peer: socket.socket) -> None:
        for _ in range(3):
            time.sleep(0.2)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            peer.recv(65536)

    with listening(late) as port:
        http = BoundedHttp(timeout_s=0.6)
        answers: list[bytes] = []

        def ask() -> None:
            for _ in range(3):
                answers.append(http.get(f"http://127.0.0.1:{port}/").content)  # noqa: PERF401

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"ok"] * 15


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself, with its key, in one file."""
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
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def listening_with_tls(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        try:
            with context.wrap_socket(peer, server_side=True) as speaking:
                speaking.recv(65536)
                speaking.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        thread.join()
        listener.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with (
        listening_with_tls(certificate) as port,
        pytest.raises(PeerUnavailable, match=r"cannot be asked \(ConnectError\)"),
    ):
        BoundedHttp().get(f"https://127.0.0.1:{port}/")


def test_the_authority_of_a_hospital_is_trusted_where_it_is_named(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with listening_with_tls(certificate) as port:
        assert BoundedHttp().get(f"https://127.0.0.1:{port}/").content == b"ok"


def test_a_certificate_for_another_name_is_refused(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with listening_with_tls(certificate) as port, pytest.raises(PeerUnavailable):
        BoundedHttp().get(f"https://localhost:{port}/")


def test_a_handshake_that_never_ends_is_cut_at_the_deadline() -> None:
    with listening(lambda peer: peer.recv(65536)) as port:
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="in time"):
            BoundedHttp(timeout_s=0.4).get(f"https://127.0.0.1:{port}/")
        assert time.monotonic() - started < 1.5
