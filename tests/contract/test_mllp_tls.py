"""TLS 1.3, both ways: who is not who it has to be gets no message, and sends none."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority, Certificate
from mllp_peers import ack, frame, oru

from cds_server.errors import DestinationUnavailable, InvalidSettings
from cds_server.mllp.connection import Limits, MllpConnection
from cds_server.mllp.endpoint import Endpoint, Listening
from cds_server.mllp.server import Limits as ServerLimits
from cds_server.mllp.server import MllpServer, Peer
from cds_server.mllp.tls import TlsFiles

WAITS = Limits(connect_s=10, send_s=10, acknowledgement_s=10)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other", "Other CA")


def files(made: Certificate | None = None, *, ca: Path | None = None) -> TlsFiles:
    return TlsFiles(ca, made.certificate if made else None, made.key if made else None)


@contextmanager
def listening(tls: TlsFiles) -> Iterator[tuple[MllpServer, list[Peer], list[str]]]:
    peers: list[Peer] = []
    notices: list[str] = []

    def handler(message: bytes, peer: Peer) -> bytes:
        peers.append(peer)
        return ack("AA", message.split(b"|")[9].decode())

    server = MllpServer(
        Listening(port=0, tls=tls),
        handler,
        limits=ServerLimits(message_s=1.0),
        notice=notices.append,
    )
    with server:
        yield server, peers, notices


def send(port: int, tls: TlsFiles, host: str = "localhost") -> str:
    connection = MllpConnection(Endpoint(host, port, tls), WAITS)
    try:
        return connection.exchange(oru()).code
    finally:
        connection.close()


def test_both_sides_show_a_certificate_and_the_sender_is_known_by_name(
    authority: Authority,
) -> None:
    server = files(authority.server("localhost"), ca=authority.file)
    with listening(server) as (running, peers, _):
        client = files(authority.client("radcds.north"), ca=authority.file)
        assert send(running.port, client) == "AA"
        assert peers == [Peer("127.0.0.1", "radcds.north")]


def test_without_a_client_certificate_nothing_is_delivered(authority: Authority) -> None:
    server = files(authority.server("localhost"), ca=authority.file)
    with listening(server) as (running, peers, _):
        with pytest.raises(
            DestinationUnavailable, match=r"refuses? the certificate of this server"
        ):
            send(running.port, files(ca=authority.file))
        assert not peers


def test_a_client_certificate_of_another_authority_delivers_nothing(
    authority: Authority, stranger: Authority
) -> None:
    server = files(authority.server("localhost"), ca=authority.file)
    with listening(server) as (running, peers, _):
        with pytest.raises(DestinationUnavailable):
            send(running.port, files(stranger.client("radcds"), ca=authority.file))
        assert not peers


def test_a_server_certificate_does_not_pass_for_a_client(authority: Authority) -> None:
    own = authority.server("localhost")
    with listening(files(own, ca=authority.file)) as (running, peers, _):
        with pytest.raises(DestinationUnavailable):
            send(running.port, files(own, ca=authority.file))
        assert not peers


@pytest.mark.parametrize("case", ["another authority", "another name", "expired", "a client's"])
def test_a_receiver_that_cannot_be_trusted_gets_no_message(
    authority: Authority, stranger: Authority, case: str
) -> None:
    shown = {
        "another authority": lambda: stranger.server("localhost"),
        "another name": lambda: authority.server("ris.example.org"),
        "expired": lambda: authority.server("localhost", expired=True),
        "a client's": lambda: authority.client("localhost"),
    }[case]()
    with listening(files(shown)) as (running, peers, _):
        with pytest.raises(DestinationUnavailable, match="certificate that is not trusted"):
            send(running.port, files(ca=authority.file))
        assert not peers


def test_an_address_has_to_stand_in_the_certificate_as_an_address(authority: Authority) -> None:
    with listening(files(authority.server("127.0.0.1"))) as (running, _, __):
        assert send(running.port, files(ca=authority.file), "127.0.0.1") == "AA"
    with (
        listening(files(authority.server("localhost"))) as (running, _, __),
        pytest.raises(DestinationUnavailable, match="not trusted"),
    ):
        send(running.port, files(ca=authority.file), "127.0.0.1")


def test_the_authorities_of_the_system_do_not_trust_a_private_one(authority: Authority) -> None:
    with (
        listening(files(authority.server("localhost"))) as (running, _, __),
        pytest.raises(DestinationUnavailable, match="not trusted"),
    ):
        send(running.port, TlsFiles())


def old_receiver(made: Certificate, version: ssl.TLSVersion) -> tuple[int, threading.Thread]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            plain, _ = listener.accept()
            try:
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_receiver_with_an_older_tls_gets_no_message(authority: Authority) -> None:
    port, thread = old_receiver(authority.server("localhost"), ssl.TLSVersion.TLSv1_2)
    with pytest.raises(DestinationUnavailable, match=r"agrees on no TLS 1\.3"):
        send(port, files(ca=authority.file))
    thread.join()


def test_a_sender_with_an_older_tls_is_not_let_in(authority: Authority) -> None:
    with listening(files(authority.server("localhost"))) as (running, peers, _):
        old = ssl.create_default_context(cafile=authority.file)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", running.port)) as plain,
            pytest.raises(ssl.SSLError),
        ):
            old.wrap_socket(plain, server_hostname="localhost")
        assert not peers


def test_a_sender_without_tls_is_cut_off_and_stops_nobody(authority: Authority) -> None:
    with listening(files(authority.server("localhost"))) as (running, peers, notices):
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as plain:
            plain.sendall(frame(oru()))
            with contextlib.suppress(ConnectionError):
                while plain.recv(100):
                    pass
        assert send(running.port, files(ca=authority.file)) == "AA"
        assert len(peers) == 1
        assert any("no TLS 1.3" in each for each in notices)


def test_who_begins_tls_and_says_no_more_is_cut_off(authority: Authority) -> None:
    with listening(files(authority.server("localhost"))) as (running, _, __):
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as plain:
            plain.sendall(b"\x16\x03\x01\x02\x00")
            assert plain.recv(1) == b""
        assert send(running.port, files(ca=authority.file)) == "AA"


def test_a_receiver_without_tls_gets_no_message(authority: Authority) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []

    def serve() -> None:
        with listener:
            plain, _ = listener.accept()
            with plain:
                got.append(plain.recv(65536))
                plain.sendall(frame(ack("AA", "ID1")))

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(DestinationUnavailable, match=r"agrees on no TLS 1\.3"):
        send(listener.getsockname()[1], files(ca=authority.file))
    thread.join()
    assert b"MSH" not in got[0]


def test_certificates_are_replaced_while_both_sides_run(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """The next connection uses the new files; nothing is started again."""
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "own.pem", "own.key"))

    def put(by: Authority) -> None:
        made = by.server("localhost")
        ca.write_bytes(by.file.read_bytes())
        certificate.write_bytes(made.certificate.read_bytes())
        key.write_bytes(made.key.read_bytes())

    put(authority)
    with listening(TlsFiles(None, certificate, key)) as (running, _, __):
        connection = MllpConnection(Endpoint("localhost", running.port, TlsFiles(ca)), limits=WAITS)
        assert connection.exchange(oru()).code == "AA"
        put(stranger)
        assert send(running.port, files(ca=stranger.file)) == "AA"
        connection.close()
        assert connection.exchange(oru()).code == "AA"
        ca.write_text("half a fi")
        connection.close()
        with pytest.raises(DestinationUnavailable, match=r"TLS files .*ca\.pem cannot be used"):
            connection.exchange(oru())
        put(authority)
        assert connection.exchange(oru()).code == "AA"
        connection.close()


def test_stopping_answers_the_message_in_hand_over_tls(authority: Authority) -> None:
    go = threading.Event()

    def slow(message: bytes, _: Peer) -> bytes:
        go.wait(5)
        return ack("AA", message.split(b"|")[9].decode())

    where = Listening(port=0, tls=files(authority.server("localhost")))
    server = MllpServer(where, slow, notice=print)
    server.start()
    found: list[str] = []
    tls = files(ca=authority.file)
    sender = threading.Thread(target=lambda: found.append(send(server.port, tls)))
    sender.start()
    threading.Timer(0.5, go.set).start()
    threading.Event().wait(0.3)
    server.stop()
    sender.join()
    assert found == ["AA"]


@pytest.mark.parametrize("case", ["missing", "no PEM", "another's key", "passphrase", "a folder"])
def test_certificates_that_cannot_be_used_are_refused_at_the_start(
    authority: Authority, tmp_path: Path, case: str
) -> None:
    good, other = authority.client("radcds"), authority.client("radcds")
    (tmp_path / "no.pem").write_text("no certificate")
    wrong = {
        "missing": TlsFiles(authority.file, tmp_path / "nowhere.pem", good.key),
        "no PEM": TlsFiles(tmp_path / "no.pem"),
        "another's key": TlsFiles(authority.file, good.certificate, other.key),
        "passphrase": files(authority.client("x", passphrase=b"secret"), ca=authority.file),
        "a folder": TlsFiles(tmp_path),
    }[case]
    with pytest.raises(InvalidSettings, match="cannot be used"):
        Endpoint("localhost", 2575, wrong)


def test_who_listens_with_tls_has_a_certificate(authority: Authority) -> None:
    with pytest.raises(InvalidSettings, match="has a certificate"):
        Listening(tls=TlsFiles(authority.file))
