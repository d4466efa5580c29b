"""Receiving: what is acknowledged was handled first, and nobody holds up the others."""

import contextlib
import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mllp_peers import CR, FS, VT, ack, frame, oru

from cds_server.errors import AuditUnavailable, InvalidSettings
from cds_server.mllp.connection import MllpConnection
from cds_server.mllp.endpoint import Endpoint, Listening
from cds_server.mllp.server import Handler, Limits, MllpServer, NotAcknowledged, Peer

pytestmark = pytest.mark.alone

HASTY = Limits(message_bytes=10_000, message_s=0.5, idle_s=1.0, answer_s=0.5)


def control_id(message: bytes) -> str:
    return message.split(b"|")[9].decode()


def accepts(message: bytes, _: Peer) -> bytes:
    return ack("AA", control_id(message))


@contextmanager
def serving(
    handler: Handler = accepts, *, limits: Limits = HASTY, **listening: object
) -> Iterator[tuple[MllpServer, list[str]]]:
    notices: list[str] = []
    where = Listening(port=0, **listening)  # type: ignore[arg-type]
    with MllpServer(where, handler, limits=limits, notice=notices.append) as server:
        yield server, notices


def connected(server: MllpServer, source: str = "127.0.0.1") -> socket.socket:
    found = socket.create_connection(
        ("127.0.0.1", server.port), timeout=5, source_address=(source, 0)
    )
    found.settimeout(5)
    return found


def answer(client: socket.socket) -> bytes:
    held = b""
    with contextlib.suppress(ConnectionError):
        while FS + CR not in held and (piece := client.recv(65536)):
            held += piece
    return held


def drip(client: socket.socket, content: bytes) -> None:
    for byte in content:
        client.sendall(bytes([byte]))
        time.sleep(0.05)


def hung_up(client: socket.socket) -> bool:
    """Say whether the server closed the connection, without a byte of an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def works(server: MllpServer, source: str = "127.0.0.1") -> bool:
    with connected(server, source) as client, contextlib.suppress(ConnectionError):
        client.sendall(frame(oru("WORKS")))
        return answer(client) == frame(ack("AA", "WORKS"))
    return False


def wait_for(what: list[str], text: str) -> None:
    until = time.monotonic() + 5
    while not any(text in each for each in what):
        assert time.monotonic() < until, what
        time.sleep(0.01)


def test_nothing_is_acknowledged_before_the_handler_is_through() -> None:
    durable = threading.Event()

    def keeps(message: bytes, peer: Peer) -> bytes:
        durable.wait(5)
        return accepts(message, peer)

    with serving(keeps) as (server, _), connected(server) as client:
        client.sendall(frame(oru("ID1")))
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        durable.set()
        client.settimeout(5)
        assert answer(client) == frame(ack("AA", "ID1"))


@pytest.mark.parametrize("error", [NotAcknowledged("not now"), AuditUnavailable("disk full")])
def test_what_could_not_be_kept_is_not_acknowledged(error: Exception) -> None:
    def fails(_: bytes, __: Peer) -> bytes:
        raise error

    with serving(fails) as (server, notices):
        with connected(server) as client:
            client.sendall(frame(oru("ID1")))
            assert hung_up(client)
        wait_for(notices, f"nothing was acknowledged: {error}")


def test_a_handler_with_a_defect_acknowledges_nothing_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: queue.Queue[type[BaseException]] = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", lambda told_of: told.put(told_of.exc_type))

    def breaks(message: bytes, peer: Peer) -> bytes:
        if control_id(message) == "BAD":
            raise ZeroDivisionError
        return accepts(message, peer)

    with serving(breaks) as (server, _):
        with connected(server) as client:
            client.sendall(frame(oru("BAD")))
            assert hung_up(client)
        assert works(server)
        assert told.get(timeout=10) is ZeroDivisionError


def test_a_message_that_asks_for_no_acknowledgement_gets_none() -> None:
    with serving(lambda message, peer: b"") as (server, _), connected(server) as client:  # noqa: ARG005
        client.sendall(frame(oru("ID1")))
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_an_acknowledgement_that_would_break_out_of_its_frame_is_not_sent() -> None:
    with serving(lambda message, peer: b"MSH|\x1c\r") as (server, notices):  # noqa: ARG005
        with connected(server) as client:
            client.sendall(frame(oru("ID1")))
            assert hung_up(client)
        wait_for(notices, "0x0B or 0x1C")


def test_messages_that_come_together_are_handled_one_after_another() -> None:
    running, most = 0, 0

    def counts(message: bytes, peer: Peer) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1
        return accepts(message, peer)

    with serving(counts) as (server, _), connected(server) as client:
        ids = [f"ID{number}" for number in range(5)]
        client.sendall(b"".join(frame(oru(each)) for each in ids))
        held = b""
        wanted = b"".join(frame(ack("AA", each)) for each in ids)
        while len(held) < len(wanted):
            held += client.recv(65536)
        assert held == wanted
        assert most == 1


def test_who_sends_faster_than_messages_are_handled_has_to_wait() -> None:
    go = threading.Event()
    handled: list[bytes] = []

    def waits(message: bytes, peer: Peer) -> bytes:
        handled.append(message)
        go.wait(10)
        return accepts(message, peer)

    large = Limits(message_bytes=1_000_000)
    with serving(waits, limits=large) as (server, _), connected(server) as client:
        client.settimeout(0.5)
        message = frame(oru("ID1") + b"x" * 900_000)
        with pytest.raises(TimeoutError):
            client.sendall(message * 50)
        assert len(handled) == 1
        go.set()


def test_a_message_that_drips_is_cut_off() -> None:
    with serving() as (server, notices), connected(server) as client:
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            drip(client, VT + b"x" * 100)
        assert time.monotonic() - began < 4
        wait_for(notices, "in time")


def test_a_frame_without_end_is_cut_off() -> None:
    with serving() as (server, _), connected(server) as client:
        client.sendall(VT + oru("ID1"))
        assert hung_up(client)


def test_a_huge_frame_is_cut_off_at_the_limit() -> None:
    handled: list[bytes] = []

    def keeps(message: bytes, peer: Peer) -> bytes:
        handled.append(message)
        return accepts(message, peer)

    with serving(keeps) as (server, notices):
        with connected(server) as client, pytest.raises(ConnectionError):
            client.sendall(VT + b"x" * 50_000_000)
        wait_for(notices, "larger than 10,000 bytes")
        assert not handled
        assert works(server)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("160301020001000001fc0303"),
        b"\0" * 5000,
        b"MSH|^~\\&|no frame\r",
        VT + b"a" + VT + b"b" + FS + CR,
        FS + CR,
    ],
)
def test_garbage_ends_its_own_connection_alone(garbage: bytes) -> None:
    with serving() as (server, notices), connected(server) as good:
        with connected(server) as client:
            client.sendall(garbage)
            assert hung_up(client)
        wait_for(notices, "was cut off")
        good.sendall(frame(oru("ID1")))
        assert answer(good) == frame(ack("AA", "ID1"))


def test_an_idle_connection_is_closed_so_that_others_find_room() -> None:
    with serving(limits=Limits(idle_s=0.2)) as (server, _), connected(server) as client:
        assert hung_up(client)


def test_line_ends_do_not_keep_an_idle_connection_open() -> None:
    hasty = Limits(idle_s=0.5)
    with (
        serving(limits=hasty) as (server, _),
        connected(server) as client,
        pytest.raises(ConnectionError),
    ):
        drip(client, b"\r\n" * 50)


def test_a_flood_from_one_address_leaves_room_for_another() -> None:
    limits = Limits(connections=20, connections_of_one=5, idle_s=5)
    with serving(limits=limits) as (server, notices):
        flood = [connected(server) for _ in range(60)]
        assert works(server, "127.0.0.2")
        open_still = 0
        for each in flood:
            each.settimeout(0.05)
            try:
                open_still += each.recv(1) != b""
            except TimeoutError:
                open_still += 1
            except ConnectionError:
                pass
        assert open_still == 5
        wait_for(notices, "5 connections of its own are open")
        for each in flood:
            each.close()
        wait_until_works(server)


def wait_until_works(server: MllpServer) -> None:
    until = time.monotonic() + 5
    while not works(server):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_flood_from_everywhere_takes_no_more_than_the_limit() -> None:
    limits = Limits(connections=6, connections_of_one=2)
    with serving(limits=limits) as (server, notices):
        before = threading.active_count()
        flood = [connected(server, f"127.0.0.{number}") for number in range(1, 40)]
        time.sleep(0.2)
        assert threading.active_count() - before <= 6
        wait_for(notices, "6 connections are open")
        for each in flood:
            each.close()
        wait_until_works(server)


def test_a_system_without_threads_refuses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (server, notices):
        start = threading.Thread.start

        def refused(thread: threading.Thread) -> None:
            if thread.name == "mllp connection":
                raise RuntimeError
            start(thread)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            assert not works(server)
        wait_for(notices, "no thread can be started")
        assert works(server)


def test_who_is_not_allowed_is_not_let_in() -> None:
    allowed = (ipaddress.ip_network("127.0.0.2/32"),)
    with serving(allowed=allowed) as (server, notices):
        assert works(server, "127.0.0.2")
        with connected(server) as client:
            assert hung_up(client)
        wait_for(notices, "127.0.0.1 was not let in: its address is not allowed")


def test_the_handler_is_told_who_sends() -> None:
    peers: list[Peer] = []

    def keeps(message: bytes, peer: Peer) -> bytes:
        peers.append(peer)
        return accepts(message, peer)

    with serving(keeps) as (server, _):
        works(server, "127.0.0.3")
    assert peers == [Peer("127.0.0.3")]


def test_stopping_finishes_the_message_in_hand_and_takes_no_other() -> None:
    begun = threading.Event()
    handled: list[str] = []

    def slow(message: bytes, peer: Peer) -> bytes:
        begun.set()
        time.sleep(0.4)
        handled.append(control_id(message))
        return accepts(message, peer)

    with serving(slow) as (server, _), connected(server) as client, connected(server) as idle:
        client.sendall(frame(oru("ID1")) + frame(oru("ID2")))
        begun.wait(5)
        port = server.port
        server.stop()
        assert handled == ["ID1"]
        assert client.recv(65536) == frame(ack("AA", "ID1"))
        assert hung_up(client)
        assert hung_up(idle)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_stopping_waits_no_longer_than_its_patience() -> None:
    go = threading.Event()

    def stuck(message: bytes, peer: Peer) -> bytes:
        go.wait(10)
        return accepts(message, peer)

    with serving(stuck) as (server, _), connected(server) as client:
        client.sendall(frame(oru("ID1")))
        time.sleep(0.1)
        began = time.monotonic()
        server.stop(patience_s=0.3)
        assert time.monotonic() - began < 5
        assert hung_up(client)
        go.set()


def test_a_server_beside_another_on_the_same_port_does_not_start() -> None:
    with serving() as (server, _):
        second = MllpServer(Listening(port=server.port), accepts, notice=print)
        with pytest.raises(InvalidSettings, match="cannot be listened on"):
            second.start()


def test_one_address_may_be_v6() -> None:
    with serving(host="::1") as (server, _):
        connection = MllpConnection(Endpoint("::1", server.port))
        assert connection.exchange(oru()).code == "AA"
        connection.close()


ANYONE = "0.0.0.0"  # noqa: S104
LAN = (ipaddress.ip_network("10.0.0.0/8"),)


def test_nothing_is_taken_in_the_clear_from_beyond_this_machine_unless_that_is_said() -> None:
    with pytest.raises(InvalidSettings, match="in the clear"):
        Listening(ANYONE, allowed=LAN)
    assert Listening(ANYONE, clear_text=True, allowed=LAN).clear_text


def test_who_listens_beyond_this_machine_says_who_may_send() -> None:
    with pytest.raises(InvalidSettings, match="say who may send"):
        Listening(ANYONE, clear_text=True)


def test_both_sides_of_our_own_work_together(tmp_path: Path) -> None:
    def keeps(message: bytes, peer: Peer) -> bytes:
        (tmp_path / control_id(message)).write_bytes(message)
        return accepts(message, peer)

    with serving(keeps, limits=Limits()) as (server, _):
        connection = MllpConnection(Endpoint("127.0.0.1", server.port))
        for number in range(50):
            message = oru(f"ID{number}") + b"x" * 100_000
            assert connection.exchange(message).code == "AA"
            assert (tmp_path / f"ID{number}").read_bytes() == message
        connection.close()
