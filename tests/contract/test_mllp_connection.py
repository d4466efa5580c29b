"""Sending: only an acknowledgement of this very message is believed."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mllp_peers import RawPeer, Script, ack, frame, oru, raw_peer

from cds_server.errors import DeliveryRefused, DestinationUnavailable, InvalidSettings
from cds_server.mllp.connection import Limits, MllpConnection
from cds_server.mllp.endpoint import Endpoint

pytestmark = pytest.mark.alone

Message = Callable[[], bytes]
PATIENT = Limits(acknowledgement_s=20, answer_bytes=1000)
HASTY = Limits(connect_s=1, send_s=1, acknowledgement_s=0.4, answer_bytes=1000)


def says(*answers: bytes, then: float = 0.0) -> Script:
    """A peer that answers each message with the next bytes, then hangs up."""

    def script(connected: socket.socket, message: Message) -> None:
        for answer in answers:
            message()
            connected.sendall(answer)
        if then:
            time.sleep(then)

    return script


def stays(*answers: bytes) -> Script:
    """A peer that answers, and keeps the connection until the other side closes it."""

    def script(connected: socket.socket, message: Message) -> None:
        says(*answers)(connected, message)
        message()

    return script


@contextmanager
def sending(*scripts: Script, limits: Limits = PATIENT) -> Iterator[tuple[MllpConnection, RawPeer]]:
    with raw_peer(*scripts) as peer:
        connection = MllpConnection(Endpoint("127.0.0.1", peer.port), limits=limits)
        try:
            yield connection, peer
        finally:
            connection.close()


@pytest.mark.parametrize("code", ["AA", "AE", "AR"])
def test_the_receiver_is_quoted_as_it_answered(code: str) -> None:
    with sending(says(frame(ack(code, "ID1")))) as (connection, peer):
        answer = connection.exchange(oru())
        assert (answer.code, answer.control_id) == (code, "ID1")
        assert answer.content == ack(code, "ID1")
    assert peer.received == [oru()]


def test_a_connection_is_kept_for_the_next_message() -> None:
    answers = [frame(ack("AA", each)) for each in ("ID1", "ID2", "ID3")]
    with sending(stays(*answers)) as (connection, peer):
        for each in ("ID1", "ID2", "ID3"):
            assert connection.exchange(oru(each)).control_id == each
        assert peer.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"MSH|^~\\&|||||||ACK||P|\rMSA|AA|ID1",
        b"MSH|^~\\&|\rMSA|AA|ID1|Ank\xf6mmling\r",
        b"MSH|^~\\&|A\nMSA|AA|ID1\n",
        b"MSH|^~\\&|A\r\nERR|x\r\nMSA|AA|ID1\r\n",
        b"MSH#^~\\&#A\rMSA#AA#ID1#\r",
    ],
)
def test_an_answer_counts_whatever_is_missing_in_its_header(answer: bytes) -> None:
    with sending(says(frame(answer))) as (connection, _):
        assert connection.exchange(oru()).code == "AA"


@pytest.mark.parametrize(
    ("accept", "application", "answers", "last_word"),
    [
        ("", "", ["AA"], "AA"),
        ("", "", ["CA", "AA"], "AA"),
        ("AL", "", ["CA"], "CA"),
        ("AL", "NE", ["CA"], "CA"),
        ("AL", "ER", ["CA"], "CA"),
        ("SU", "NE", ["CA"], "CA"),
        ("AL", "NE", ["AA"], "AA"),
        ("AL", "AL", ["CA", "AA"], "AA"),
        ("AL", "AL", ["CA", "AE"], "AE"),
        ("AL", "AL", ["AA", "CA"], "AA"),
        ("AL", "AL", ["CE"], "CE"),
        ("AL", "AL", ["CR"], "CR"),
        ("NE", "AL", ["AA"], "AA"),
        ("NE", "AL", ["CA", "AA"], "AA"),
        ("ER", "SU", ["AA"], "AA"),
    ],
)
def test_what_is_waited_for_is_what_msh_15_and_16_ask(
    accept: str, application: str, answers: list[str], last_word: str
) -> None:
    both = b"".join(frame(ack(code, "ID1")) for code in answers)
    message = oru(accept=accept, application=application)
    with sending(says(both, then=0.2)) as (connection, _):
        assert connection.exchange(message).code == last_word


@pytest.mark.parametrize(("accept", "application"), [("", ""), ("AL", "AL"), ("NE", "AL")])
def test_a_mailbox_that_took_it_is_not_the_application(accept: str, application: str) -> None:
    message = oru(accept=accept, application=application)
    with (
        sending(stays(frame(ack("CA", "ID1"))), limits=HASTY) as (connection, _),
        pytest.raises(DestinationUnavailable, match="its application says nothing"),
    ):
        connection.exchange(message)


def test_a_mailbox_that_took_it_and_hung_up_is_not_asked_again_at_once() -> None:
    first, second = frame(ack("AA", "ID1")), frame(ack("CA", "ID2"))
    with sending(says(first, second), says()) as (connection, peer):
        connection.exchange(oru())
        with pytest.raises(DestinationUnavailable, match=r"took the message \(CA\)"):
            connection.exchange(oru("ID2", accept="AL", application="AL"))
        assert peer.connections == 1


@pytest.mark.parametrize(
    ("accept", "application"), [("NE", "NE"), ("NE", ""), ("ER", "ER"), ("ER", "NE"), ("NE", "ER")]
)
def test_a_message_that_nobody_would_acknowledge_is_not_sent(accept: str, application: str) -> None:
    with sending() as (connection, peer):
        with pytest.raises(DeliveryRefused, match="asks for no answer"):
            connection.exchange(oru(accept=accept, application=application))
        assert peer.connections == 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"MSH",
        b"MSH|^~\\&|A",
        b"FHS|^~\\&|A|B|C|D|E|F|G|ID1",
        oru().replace(b"|ID1|", b"||"),
        oru().replace(b"|ID1|", b"|\xe9\xff|"),
        oru().replace(b"OBX", b"OB\x0bX"),
        oru().replace(b"OBX", b"OB\x1c\rX"),
    ],
)
def test_what_is_no_message_or_would_break_out_of_its_frame_is_not_sent(message: bytes) -> None:
    with sending() as (connection, peer):
        with pytest.raises(DeliveryRefused):
            connection.exchange(message)
        assert peer.connections == 0


def test_an_acknowledgement_of_another_message_is_silence() -> None:
    with sending(stays(frame(ack("AA", "ID0"))), limits=HASTY) as (connection, _):
        with pytest.raises(DestinationUnavailable, match=r"does not acknowledge within 0\.4 s"):
            connection.exchange(oru())
        assert connection.strays == 1


def test_the_right_acknowledgement_is_found_among_others() -> None:
    stray = frame(ack("AR", "ID0")) + frame(ack("AA", ""))
    with sending(says(stray + frame(ack("AE", "ID1")))) as (connection, _):
        assert connection.exchange(oru()).code == "AE"
        assert connection.strays == 2


def test_a_receiver_that_answers_an_earlier_message_again_gets_a_new_connection() -> None:
    both = frame(ack("AA", "ID1")) + frame(ack("AA", "ID2"))

    def out_of_step(connected: socket.socket, message: Message) -> None:
        message()
        connected.sendall(frame(ack("AA", "ID1")))
        message()
        connected.sendall(both)
        message()

    with sending(out_of_step, stays(frame(ack("AA", "ID3")))) as (connection, peer):
        for each in ("ID1", "ID2", "ID3"):
            assert connection.exchange(oru(each)).control_id == each
        assert (connection.strays, peer.connections) == (1, 2)


def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_message() -> None:
    def late(connected: socket.socket, message: Message) -> None:
        message()
        time.sleep(0.6)
        connected.sendall(frame(ack("AA", "ID1")))

    with sending(late, says(frame(ack("AR", "ID1"))), limits=HASTY) as (connection, peer):
        with pytest.raises(DestinationUnavailable):
            connection.exchange(oru())
        time.sleep(0.4)
        assert connection.exchange(oru()).code == "AR"
        assert peer.connections == 2
        assert peer.received == [oru(), oru()]


def test_an_answer_that_nobody_waited_for_is_thrown_away_before_the_next_message() -> None:
    """A second AA to a message that is sent again would be believed before it is looked at."""
    twice = frame(ack("AA", "ID1")) + frame(ack("AA", "ID1"))
    with sending(stays(twice, frame(ack("AR", "ID1")))) as (connection, peer):
        assert connection.exchange(oru()).code == "AA"
        assert connection.exchange(oru()).code == "AR"
        assert (connection.strays, peer.connections) == (1, 1)


def test_an_answer_in_pieces_of_one_byte_is_read() -> None:
    def piecewise(connected: socket.socket, message: Message) -> None:
        message()
        for byte in frame(ack("AA", "ID1")):
            connected.sendall(bytes([byte]))
            time.sleep(0.001)

    with sending(piecewise) as (connection, _):
        assert connection.exchange(oru()).code == "AA"


def test_an_answer_of_one_byte_now_and_then_is_cut_off() -> None:
    def dripping(connected: socket.socket, message: Message) -> None:
        message()
        for byte in frame(ack("AA", "ID1")):
            connected.sendall(bytes([byte]))
            time.sleep(0.1)

    began = time.monotonic()
    with sending(dripping, limits=HASTY) as (connection, _):
        with pytest.raises(DestinationUnavailable, match="does not acknowledge"):
            connection.exchange(oru())
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(b"what?"),
        frame(b"\x06"),
        b"\x15",
        frame(b"MSA|AA|ID1"),
        frame(ack("XX", "ID1")),
        frame(ack("AA", "ID1").replace(b"MSA|", b"NTE|")),
        frame(b"MSH\rMSA|AA|ID1"),
        b"\x0b" + ack("AA", "ID1") + b"\x1c\x1c\r",
    ],
)
def test_garbage_is_no_acknowledgement(garbage: bytes) -> None:
    with (
        sending(stays(garbage)) as (connection, _),
        pytest.raises(DestinationUnavailable, match="what is no acknowledgement"),
    ):
        connection.exchange(oru())


def test_an_answer_of_ten_megabytes_is_not_read_to_its_end() -> None:
    def endless(connected: socket.socket, message: Message) -> None:
        message()
        connected.sendall(b"\x0bMSH|" + b"x" * 10_000_000)

    with (
        sending(endless) as (connection, _),
        pytest.raises(DestinationUnavailable, match="larger than 1,000 bytes"),
    ):
        connection.exchange(oru())


def test_a_receiver_that_hangs_up_after_the_message_has_not_acknowledged() -> None:
    with sending(says(b"")) as (connection, peer):
        with pytest.raises(DestinationUnavailable, match="broke off the connection"):
            connection.exchange(oru())
        assert peer.connections == 1


def reset(connected: socket.socket, message: Message) -> None:
    message()
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def test_a_reset_is_no_acknowledgement() -> None:
    with (
        sending(reset) as (connection, _),
        pytest.raises(DestinationUnavailable, match="broke off the connection"),
    ):
        connection.exchange(oru())


def test_a_kept_connection_that_the_receiver_has_closed_meanwhile_is_opened_again() -> None:
    with sending(says(frame(ack("AA", "ID1"))), says(frame(ack("AA", "ID2")))) as (
        connection,
        peer,
    ):
        connection.exchange(oru())
        time.sleep(0.1)
        assert connection.exchange(oru("ID2")).code == "AA"
        assert peer.received == [oru(), oru("ID2")]


def test_a_kept_connection_lost_under_the_message_gives_one_repeat_byte_for_byte() -> None:
    def loses_the_second(connected: socket.socket, message: Message) -> None:
        says(frame(ack("AA", "ID1")))(connected, message)
        reset(connected, message)

    with sending(loses_the_second, says(frame(ack("AA", "ID2")))) as (connection, peer):
        connection.exchange(oru())
        assert connection.exchange(oru("ID2")).code == "AA"
        assert peer.received == [oru(), oru("ID2"), oru("ID2")]


def test_there_is_never_a_second_repeat() -> None:
    def loses_the_second(connected: socket.socket, message: Message) -> None:
        says(frame(ack("AA", "ID1")))(connected, message)
        message()

    with sending(loses_the_second, says(b""), says(b"")) as (connection, peer):
        connection.exchange(oru())
        with pytest.raises(DestinationUnavailable):
            connection.exchange(oru("ID2"))
        assert peer.received == [oru(), oru("ID2"), oru("ID2")]


def test_a_receiver_that_does_not_read_is_given_up_in_time() -> None:
    over = threading.Event()
    began = time.monotonic()
    with sending(lambda _, __: over.wait(10), limits=HASTY) as (connection, _):
        with pytest.raises(DestinationUnavailable, match="does not take the message within 1 s"):
            connection.exchange(oru() + b"x" * 50_000_000)
        assert time.monotonic() - began < 8
        over.set()


def test_a_port_where_nobody_listens_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    connection = MllpConnection(Endpoint("127.0.0.1", port), HASTY)
    with pytest.raises(DestinationUnavailable, match=f"127.0.0.1:{port} refuses the connection"):
        connection.exchange(oru())


def test_a_receiver_whose_queue_is_full_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", port))
        connection = MllpConnection(Endpoint("127.0.0.1", port), HASTY)
        began = time.monotonic()
        with pytest.raises(DestinationUnavailable, match="does not answer in time"):
            connection.exchange(oru())
        assert time.monotonic() - began < 8
        for each in held:
            each.close()


def test_threads_take_turns_on_one_connection() -> None:
    def one_at_a_time(connected: socket.socket, message: Message) -> None:
        for _ in range(20):
            control_id = message().split(b"|")[9].decode()
            time.sleep(0.005)
            connected.sendall(frame(ack("AA", control_id)))

    with sending(one_at_a_time) as (connection, peer):
        found: list[str] = []

        def send(number: int) -> None:
            for each in range(5):
                found.append(connection.exchange(oru(f"T{number}M{each}")).control_id)  # noqa: PERF401

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(found) == [f"T{number}M{each}" for number in range(4) for each in range(5)]
        assert (peer.connections, connection.strays) == (1, 0)


@pytest.mark.parametrize("host", ["10.0.0.1", "ris.example.org", "0.0.0.0", "::"])  # noqa: S104
def test_nothing_is_sent_in_the_clear_beyond_this_machine_unless_that_is_said(host: str) -> None:
    with pytest.raises(InvalidSettings, match="in the clear"):
        Endpoint(host, 2575)
    assert Endpoint(host, 2575, clear_text=True).clear_text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_may_be_sent_to_in_the_clear(host: str) -> None:
    assert Endpoint(host, 2575).tls is None


@pytest.mark.parametrize(
    ("host", "port"), [("", 1), (".example.org", 1), ("x" * 64, 1), ("localhost", 65536)]
)
def test_what_is_no_address_is_refused(host: str, port: int) -> None:
    with pytest.raises(InvalidSettings):
        Endpoint(host, port, clear_text=True)


def test_an_error_quotes_nothing_that_the_receiver_said() -> None:
    secret = frame(b"PID|1||SECRET")
    with sending(stays(secret)) as (connection, _):
        with pytest.raises(DestinationUnavailable) as caught:
            connection.exchange(oru())
        assert "SECRET" not in str(caught.value)
