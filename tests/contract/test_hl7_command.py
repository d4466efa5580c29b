"""``radcds hl7`` for those who connect systems: plain words, plain exit codes, no traceback."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from click.testing import Result
from mllp_peers import CR, FS, VT, ack, frame, npm_receiver, npm_sender, oru, raw_peer
from studies import OUTCOMES, chest_study, context
from typer.testing import CliRunner

from cds_server.cli import app
from cds_server.hl7_command import hl7
from fhir_mappers.oru_r01 import control_id, oru_r01

CONTROL_ID = control_id(context().result_id)


@pytest.fixture
def message() -> bytes:
    return oru_r01(
        chest_study(), OUTCOMES["flagged"], context=context(), overlay_jpeg=b"\xff\xd8\xff" * 1000
    )


@pytest.fixture
def file(tmp_path: Path, message: bytes) -> Path:
    path = tmp_path / "report.hl7"
    path.write_bytes(message)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(hl7, [str(each) for each in words])


@contextmanager
def answering(code: str) -> Iterator[tuple[str, list[bytes]]]:
    def script(connected: socket.socket, message: Callable[[], bytes]) -> None:
        about = message().split(b"|")[9].decode()
        connected.sendall(frame(ack(code, about)))
        message()

    with raw_peer(script) as peer:
        yield f"127.0.0.1:{peer.port}", peer.received


@pytest.mark.parametrize(
    ("code", "exit_code"), [("AA", 0), ("CA", 1), ("AE", 1), ("AR", 1), ("CE", 1), ("CR", 1)]
)
def test_send_prints_the_acknowledgement_and_succeeds_only_where_it_was_accepted(
    file: Path, code: str, exit_code: int
) -> None:
    """Our message asks for the application's answer: CA alone is none."""
    with answering(code) as (address, _):
        done = run("send", file, "--to", address, "--timeout-s", "0.5")
    assert done.exit_code == exit_code, done.output
    if code != "CA":
        assert f"MSA|{code}|{CONTROL_ID}" in done.stdout.splitlines()
    assert "Traceback" not in done.output


def test_send_sends_the_file_as_it_is(file: Path, message: bytes) -> None:
    with answering("AA") as (address, received):
        assert run("send", file, "--to", address).exit_code == 0
    assert received == [message]


@pytest.mark.parametrize(
    "edited",
    [
        lambda message: VT + message + FS + CR,
        lambda message: message.replace(b"\r", b"\n"),
        lambda message: message.replace(b"\r", b"\r\n"),
        lambda message: b"\xef\xbb\xbf" + message.rstrip(b"\r"),
        lambda message: message + b"\n\n",
    ],
    ids=["framed", "editor", "windows", "byte order mark", "blank lines"],
)
def test_send_takes_a_file_as_people_have_it(
    file: Path, message: bytes, edited: Callable[[bytes], bytes]
) -> None:
    file.write_bytes(edited(message))
    with answering("AA") as (address, received):
        assert run("send", file, "--to", address).exit_code == 0
    assert received == [message]


def test_send_enhanced_asks_for_both_acknowledgements(tmp_path: Path) -> None:
    file = tmp_path / "plain.hl7"
    file.write_bytes(oru("ID1").replace(b"|||||\r", b"\r"))
    with npm_receiver("medplum", enhanced=True) as peer:
        done = run("send", file, "--to", f"127.0.0.1:{peer.port}", "--enhanced")
        assert done.exit_code == 0, done.output
        assert "MSA|AA|ID1" in done.stdout
    with answering("AA") as (address, received):
        assert run("send", file, "--to", address, "--enhanced").exit_code == 0
    fields = received[0].split(b"\r")[0].split(b"|")
    assert fields[14:16] == [b"AL", b"AL"]


def test_send_goes_over_tls_with_a_certificate(file: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own, client = authority.server("127.0.0.1"), authority.client("radcds")
    with npm_receiver("node-hl7-server", tls=own, ca=authority.file) as peer:
        to = ("send", file, "--to", f"127.0.0.1:{peer.port}", "--ca", authority.file)
        done = run(*to, "--certificate", client.certificate, "--key", client.key)
        assert done.exit_code == 0, done.output
        done = run(*to, "--timeout-s", "5")
        assert done.exit_code == 1
        assert "the certificate of this server" in done.stderr
        done = run("send", file, "--to", f"127.0.0.1:{peer.port}", "--tls")
        assert done.exit_code == 1
        assert "not trusted" in done.stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (("--to", "nowhere"), 2, "HOST:PORT"),
        (("--to", "::1:2575"), 2, "HOST:PORT"),
        (("--to", "127.0.0.1:99999"), 3, "no address"),
        (("--to", "10.0.0.1:2575"), 3, "in the clear"),
        (("--to", "127.0.0.1:1"), 1, "refuses the connection"),
        (("--to", "[::1]:1"), 1, "refuses the connection"),
        (("--to", "127.0.0.1:1", "--ca", "/nowhere/ca.pem"), 3, "cannot be used"),
        (("--to", "no-such-host.invalid:1", "--clear-text"), 1, "no address"),
    ],
)
def test_what_send_cannot_do_is_said_in_one_line(
    file: Path, words: tuple[str, ...], exit_code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror

    if "invalid" in words[1]:
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    done = run("send", file, *words)
    assert done.exit_code == exit_code
    assert says in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "does not start with MSH"),
        (b"PID|1", "does not start with MSH"),
        (oru("ID1") + oru("ID2"), "holds several messages"),
        (b"x" * (16 * 1024 * 1024 + 1), "larger than"),
        (b"MSH|^~\\&|A\r", "MSH-10"),
        (oru("ID1", accept="NE", application="NE"), "asks for no answer"),
        (oru("ID1").replace(b"OBX", b"O\x1cX"), "0x0B or 0x1C"),
    ],
    ids=["empty", "no header", "two", "huge", "no id", "no answer", "end of frame"],
)
def test_a_file_that_is_no_message_to_send_is_said(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "bad.hl7").write_bytes(content)
    done = run("send", tmp_path / "bad.hl7", "--to", "127.0.0.1:1")
    assert done.exit_code == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["validate", "explain"])
@pytest.mark.parametrize("name", ["missing.hl7", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, command: str, name: str) -> None:
    done = run(command, tmp_path / name)
    assert done.exit_code == 1
    assert str(tmp_path / name) in done.stderr
    assert "cannot be read" in done.stderr


def test_validate_is_silent_on_our_own_message(file: Path) -> None:
    done = run("validate", file)
    assert (done.exit_code, done.output) == (0, "")


def test_validate_prints_each_fault_on_a_line(file: Path, message: bytes) -> None:
    file.write_bytes(message.replace(b"|P\r", b"|Q\r").replace(b"PID|1|", b"PID|one|"))
    done = run("validate", file)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("PID-1:") for line in lines)
    assert any(re.match(r"OBX\[\d+\]-11", line) for line in lines)


def test_explain_says_what_the_fields_hold(file: Path) -> None:
    done = run("explain", file)
    assert done.exit_code == 0
    assert "MSH-10" in done.stdout
    assert CONTROL_ID in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) < 400


def test_a_terminal_is_not_told_what_to_do_by_an_answer(file: Path) -> None:
    def script(connected: socket.socket, message: Callable[[], bytes]) -> None:
        message()
        connected.sendall(frame(ack("AA", CONTROL_ID) + b"NTE|1||\x1b[2J\x07\r"))
        message()

    with raw_peer(script) as peer:
        done = run("send", file, "--to", f"127.0.0.1:{peer.port}")
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert "\x07" not in done.output


@contextmanager
def listener(
    out: Path, *words: object, stopped_by: int = signal.SIGTERM
) -> Iterator[tuple[int, list[str]]]:
    program = Path(sys.executable).with_name("radcds")
    printed: list[str] = []
    with subprocess.Popen(
        [program, "hl7", "listen", "--out", out, "--port", "0", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as running:
        try:
            assert running.stderr
            started = running.stderr.readline()
            found = re.search(r"port (\d+)", started)
            assert found, started
            yield int(found[1]), printed
            running.send_signal(stopped_by)
            told, complained = running.communicate(timeout=20)
            printed += [*told.splitlines(), *complained.splitlines()]
            assert running.returncode == 0
            assert "Traceback" not in complained
        finally:
            running.kill()


def test_listen_keeps_every_message_prints_it_and_acknowledges(
    tmp_path: Path, message: bytes
) -> None:
    out = tmp_path / "in"
    with listener(out) as (port, printed):
        sent = [message, oru("ID2"), message]
        answers = npm_sender("node-hl7-client", port, sent)
        assert answers == [["AA", CONTROL_ID], ["AA", "ID2"], ["AA", CONTROL_ID]]
        kept = {path.read_bytes().rstrip(b"\r") for path in out.iterdir()}
        assert kept == {message.rstrip(b"\r"), oru("ID2").rstrip(b"\r")}
        assert {path.name[:3] for path in out.iterdir()} == {CONTROL_ID[:3], "ID2"}
    assert any("answered AA" in line for line in printed)
    assert any(line.startswith("OBX|1|ST|A") for line in printed)
    assert any("characters more" in line for line in printed)


@pytest.mark.parametrize("code", ["AE", "AR"])
def test_listen_answers_what_it_was_told_to(tmp_path: Path, code: str, file: Path) -> None:
    with listener(tmp_path / "in", "--answer", code, stopped_by=signal.SIGINT) as (port, _):
        done = run("send", file, "--to", f"127.0.0.1:{port}")
        assert done.exit_code == 1
        assert f"MSA|{code}|{CONTROL_ID}" in done.stdout


@pytest.mark.parametrize(
    ("accept", "application", "answered"),
    [
        ("", "", "AA"),
        ("AL", "AL", "AA"),
        ("AL", "NE", "CA"),
        ("NE", "AL", "AA"),
        ("SU", "ER", "CA"),
    ],
)
def test_listen_gives_the_acknowledgement_that_is_asked_for(
    tmp_path: Path, accept: str, application: str, answered: str
) -> None:
    (tmp_path / "a.hl7").write_bytes(oru("ID1", accept=accept, application=application))
    with listener(tmp_path / "in") as (port, _):
        done = run("send", tmp_path / "a.hl7", "--to", f"127.0.0.1:{port}")
        assert done.exit_code == 0, done.output
        assert f"MSA|{answered}|ID1" in done.stdout


def test_listen_acknowledges_nothing_that_it_could_not_keep(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "in"
    out.write_text("a file in the way")
    with listener(out) as (port, printed):
        done = run("send", file, "--to", f"127.0.0.1:{port}", "--timeout-s", "2")
        assert done.exit_code == 1
        assert "without an answer" in done.stderr
    assert any("cannot be written" in line for line in printed)


def test_listen_lets_a_name_of_a_message_out_of_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "a" / "in"
    with listener(out) as (port, _):
        (tmp_path / "evil.hl7").write_bytes(oru("../../evil"))
        assert run("send", tmp_path / "evil.hl7", "--to", f"127.0.0.1:{port}").exit_code == 0
    (kept,) = out.iterdir()
    assert kept.name.startswith("______evil-")


def test_listen_survives_garbage(tmp_path: Path, file: Path) -> None:
    with listener(tmp_path / "in") as (port, printed):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", frame(b"what?"), frame(b"MSH|^~\\&|A\r")):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(garbage)
                assert client.recv(1) == b""
        assert run("send", file, "--to", f"127.0.0.1:{port}").exit_code == 0
    assert sum("was cut off" in line for line in printed) == 3


def test_listen_with_tls_wants_a_certificate_of_whoever_sends(tmp_path: Path, file: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own, client = authority.server("127.0.0.1"), authority.client("ris")
    shown = ("--ca", authority.file, "--certificate", own.certificate, "--key", own.key)
    with listener(tmp_path / "in", *shown) as (port, printed):
        to = ("send", file, "--to", f"127.0.0.1:{port}", "--ca", authority.file)
        done = run(*to, "--certificate", client.certificate, "--key", client.key)
        assert done.exit_code == 0, done.output
        assert run(*to).exit_code == 1
    assert any("from ris (127.0.0.1)" in line for line in printed)


@pytest.mark.parametrize(
    ("words", "exit_code", "says"),
    [
        (("--host", "0.0.0.0"), 3, "in the clear"),  # noqa: S104
        (("--host", "0.0.0.0", "--clear-text"), 3, "say who may send"),  # noqa: S104
        (("--tls",), 3, "has a certificate"),
        (("--allow", "everybody"), 2, "is no network"),
        (("--port", "1", "--host", "127.0.0.300"), 3, "cannot be listened on"),
    ],
)
def test_listen_refuses_to_start_where_it_would_not_be_safe(
    tmp_path: Path, words: tuple[str, ...], exit_code: int, says: str
) -> None:
    if words[-1].endswith("300"):
        words = ("--port", "1", "--host", "127.0.0.300", "--clear-text", "--allow", "127.0.0.1")
    done = run("listen", "--out", tmp_path, *words)
    assert done.exit_code == exit_code
    assert says in done.stderr
    assert "Traceback" not in done.output


def test_the_commands_stand_in_the_help_of_radcds() -> None:
    done = CliRunner().invoke(app, ["hl7", "--help"])
    for each in ("send", "listen", "validate", "explain"):
        assert each in done.output
