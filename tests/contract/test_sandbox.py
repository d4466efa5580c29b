"""What opens foreign bytes can do nothing else, and nobody believes it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import sample
from hostile import HOSTILE, honest
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_server.adapters import sandboxed_decoder
from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.adapters.sandboxed_decoder import DecoderUnavailable, SandboxedDecoder
from cds_server.errors import ArchiveUnreachable, InstanceUnreadable
from fhir_mappers.errors import ImageDeclined

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent.parent
SLOW = "half a million fragments"


@pytest.fixture
def ct() -> bytes:
    return sample("693_UNCR.dcm").read_bytes()


@pytest.fixture
def decoder() -> Iterator[SandboxedDecoder]:
    with SandboxedDecoder() as opened:
        yield opened


def keeper_of(decoder: SandboxedDecoder) -> int:
    keeper = decoder._slots.queue[-1]
    assert keeper is not None
    return keeper.pid


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment},
    )


# ── It can do nothing else ───────────────────────────────────────────────────────────────────────


ESCAPE = """
import ctypes, os, resource, signal, socket, subprocess, sys
from cds_server.adapters.confinement import Limits, confine
victim, parent = sys.argv[1], os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
inherited = os.open("/dev/null", os.O_WRONLY)
confine(Limits(memory_mb=64, timeout_s=5.0, answer_mb=1))
attempts = {
    "read a file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "write a file": lambda: os.open(victim + ".new", os.O_WRONLY | os.O_CREAT),
    "delete a file": lambda: os.unlink(victim),
    "rename a file": lambda: os.rename(victim, victim + ".gone"),
    "list a folder": lambda: os.listdir("/"),
    "open a socket": lambda: socket.socket(),
    "open a local socket": lambda: socket.socketpair(),
    "fork": lambda: os.fork(),
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "kill the server": lambda: os.kill(parent, 0),
    "trace the server": lambda: os.close(-1) if libc.ptrace(16, parent, 0, 0) == 0 else 1 / 0,
    "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "escape the clock": lambda: signal.setitimer(signal.ITIMER_REAL, 0),
    "duplicate a descriptor": lambda: os.dup(inherited),
}
done = []
for what, attempt in attempts.items():
    try:
        attempt()
    except (OSError, ValueError, ZeroDivisionError):
        continue
    done.append(what)
os.write(1, repr(done).encode())
"""


def test_a_confined_process_reaches_no_file_no_network_and_no_other_process(tmp_path: Path) -> None:
    victim = tmp_path / "audit.db"
    victim.write_text("leaves")
    escaped = python(ESCAPE, victim)
    assert escaped.stdout == "[]", escaped
    assert victim.read_text() == "leaves"
    assert list(tmp_path.iterdir()) == [victim]


@pytest.mark.parametrize(
    ("taking", "signalled"),
    [
        ("bytearray(256 << 20)", None),
        ("exec('while True: pass')", signal.SIGXCPU),
        ("os.write(1, b'a' * (2 << 20))", None),
    ],
)
def test_a_confined_process_takes_no_more_than_it_may(
    tmp_path: Path, taking: str, signalled: signal.Signals | None
) -> None:
    code = f"""
import os
from cds_server.adapters.confinement import Limits, confine
os.dup2(os.open({str(tmp_path / "answer")!r}, os.O_WRONLY | os.O_CREAT), 1)
confine(Limits(memory_mb=64, timeout_s=1.0, answer_mb=1))
try:
    print(len({taking} or b""))
except MemoryError:
    os._exit(7)
"""
    ended = python(code)
    if signalled is None:
        assert ended.returncode == 7 or (tmp_path / "answer").stat().st_size == 1 << 20, ended
    else:
        assert -ended.returncode in {signalled, signal.SIGALRM}


def test_a_system_call_by_other_numbers_ends_the_process() -> None:
    code = """
import ctypes, mmap
from cds_server.adapters.confinement import Limits, confine
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # getpid by the 32-bit gate
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
confine(Limits(memory_mb=64, timeout_s=5.0, answer_mb=1))
call()
print("alive")
"""
    ended = python(code)
    assert ended.stdout == ""
    assert ended.returncode in {-signal.SIGSYS, -signal.SIGSEGV}


def test_no_secret_of_the_server_is_handed_down(ct: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADCDS_TOKEN", "very-secret")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "very-secret")
    with SandboxedDecoder() as decoder:
        decoder.decode(ct)
        given = Path(f"/proc/{keeper_of(decoder)}/environ").read_bytes()
        descriptors = Path(f"/proc/{keeper_of(decoder)}/fd")
        deadline = time.monotonic() + 5
        while len(list(descriptors.iterdir())) > 4:
            assert time.monotonic() < deadline, "more than standard streams and the control"
            time.sleep(0.01)
        where = Path(f"/proc/{keeper_of(decoder)}/cwd").readlink()
    names = {each.partition(b"=")[0] for each in given.split(b"\0")}
    assert names == {b"PYTHONPATH", b"OMP_NUM_THREADS", b"OPENBLAS_NUM_THREADS", b""}
    assert where == Path("/")


def test_it_starts_without_the_model_the_web_and_the_database() -> None:
    loaded = python(
        "import sys, cds_server.adapters.sandbox_child; print(*sorted(sys.modules))"
    ).stdout.split()
    assert "pydicom" in loaded
    assert not {"openvino", "flask", "sqlalchemy", "dbos", "httpx", "torch"} & set(loaded)


# ── It lives and dies with the server ────────────────────────────────────────────────────────────


SERVER = """
import os, sys
from cds_server.adapters.sandboxed_decoder import SandboxedDecoder
decoder = SandboxedDecoder()
decoder.decode(open(sys.argv[1], "rb").read())
print(decoder._slots.queue[-1].pid, flush=True)
sys.stdin.read()
"""


def test_it_dies_with_the_server_however_that_dies() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, sample("693_UNCR.dcm")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    ) as server:
        assert server.stdout is not None
        keeper = int(server.stdout.readline())
        assert is_running(keeper)
        server.kill()
        server.wait()
    deadline = time.monotonic() + 5
    while is_running(keeper):
        assert time.monotonic() < deadline, "it outlived the server"
        time.sleep(0.01)


def test_it_ends_when_it_is_closed_and_starts_when_it_is_needed(
    decoder: SandboxedDecoder, ct: bytes
) -> None:
    decoder.decode(ct)
    first = keeper_of(decoder)
    decoder.decode(ct)
    assert keeper_of(decoder) == first
    decoder.close()
    assert not is_running(first)
    assert decoder.decode(ct).image.pixels.any()


def test_one_that_was_killed_is_replaced(decoder: SandboxedDecoder, ct: bytes) -> None:
    expected = decoder.decode(ct).image.pixels
    os.kill(keeper_of(decoder), signal.SIGKILL)
    while is_running(keeper_of(decoder)):
        time.sleep(0.001)
    assert np.array_equal(decoder.decode(ct).image.pixels, expected)


def test_one_that_is_killed_at_work_is_no_fault_of_the_image(ct: bytes) -> None:
    with SandboxedDecoder() as decoder:
        decoder.decode(ct)
        pid = keeper_of(decoder)
        killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(DecoderUnavailable, match="from outside"):
            decoder.decode(HOSTILE[SLOW].make())
        killer.join()
        assert decoder.decode(ct).image.pixels.any()


def test_where_none_can_be_started_the_image_is_not_at_fault(
    ct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with SandboxedDecoder() as decoder:
        with pytest.raises(DecoderUnavailable, match="does not start"):
            decoder.decode(ct)
        monkeypatch.setattr(sys, "executable", "/nowhere")
        with pytest.raises(ArchiveUnreachable, match="cannot be had"):
            decoder.decode(ct)
        monkeypatch.undo()
        assert decoder.decode(ct).image.pixels.any()


# ── It has limits ────────────────────────────────────────────────────────────────────────────────


def test_an_instance_that_takes_too_long_is_given_up(ct: bytes) -> None:
    with SandboxedDecoder(timeout_s=0.4) as decoder:
        decoder.decode(ct)
        began = time.monotonic()
        with pytest.raises(InstanceUnreadable, match="more time than it may"):
            decoder.decode(HOSTILE[SLOW].make())
        assert time.monotonic() - began < 2
        assert decoder.decode(ct).image.pixels.any()


def test_an_instance_that_never_answers_is_given_up(
    ct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    subverted(monkeypatch, "time.sleep(60)")
    with SandboxedDecoder(timeout_s=0.1) as decoder:
        with pytest.raises(InstanceUnreadable, match="more time than it may"):
            decoder.decode(ct)
        monkeypatch.undo()
        decoder.pixels(ct, 0)


def test_an_instance_that_takes_too_much_memory_is_given_up(ct: bytes) -> None:
    with SandboxedDecoder(memory_mb=16) as decoder:
        with pytest.raises(InstanceUnreadable, match="more memory than it may"):
            decoder.decode(sample("RG1_UNCR.dcm").read_bytes())
        assert decoder.decode(ct).image.pixels.any()


def test_threads_share_it_and_each_gets_its_own_image() -> None:
    files = [sample(name).read_bytes() for name in ("693_UNCR.dcm", "MR_small.dcm")]
    expected = [InProcessDecoder().decode(file).image.pixels for file in files]
    with SandboxedDecoder(slots=2) as decoder, ThreadPoolExecutor(6) as threads:
        asked = [number % 2 for number in range(40)]
        found = threads.map(lambda number: decoder.decode(files[number]).image.pixels, asked)
        for number, pixels in zip(asked, found, strict=True):
            assert np.array_equal(pixels, expected[number])


def test_who_waits_too_long_for_a_slot_is_told_to_come_back(ct: bytes) -> None:
    with SandboxedDecoder(wait_s=0.1) as decoder, ThreadPoolExecutor(1) as threads:
        decoder.decode(ct)
        busy = threads.submit(decoder.decode, HOSTILE[SLOW].make())
        while decoder._slots.qsize():
            time.sleep(0.001)
        with pytest.raises(DecoderUnavailable, match="busy"):
            decoder.decode(ct)
        assert isinstance(busy.exception(), ImageDeclined)


# ── Nobody believes it ───────────────────────────────────────────────────────────────────────────


SUBVERTED = """
import json, os, socket, sys, time
control = socket.socket(fileno=int(sys.argv[1]))
control.send(b"ready")
while True:
    message, given, _, _ = socket.recv_fds(control, 65536, 3)
    if not message:
        break
    with socket.socket(fileno=given[0]) as answer:
        {does}
    os.close(given[1])
    os.close(given[2])
"""


def subverted(monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """Let a program of somebody else's stand where the keeper stood."""

    def start(descriptor: int, _: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", SUBVERTED.format(does=does), str(descriptor)],
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    monkeypatch.setattr(sandboxed_decoder, "_start", start)


GOOD = {
    "rows": 2,
    "columns": 3,
    "transfer_syntax": "1.2.840.10008.1.2.1",
    "implicit_vr": False,
    "little_endian": True,
    "subject": "CT slice",
    "view": "PA",
    "age_band": "adult",
    "pixel_spacing_mm": None,
}
LIES = {
    "rows beyond the file": {"rows": 2000},
    "no rows": {"rows": 0},
    "rows below zero": {"rows": -2, "columns": -3},
    "rows that are true": {"rows": True, "columns": 6},
    "rows of a fraction": {"rows": 2.0},
    "a view of nobody": {"view": "<script>"},
    "a spacing of no number": {"pixel_spacing_mm": [1.0, float("nan")]},
    "half a spacing": {"pixel_spacing_mm": [1.0]},
    "a syntax of nobody": {"transfer_syntax": "../../etc/passwd"},
    "words with a line break": {"declined": "UNREADABLE", "detail": "no\nMSH|forged"},
    "very many words": {"unreadable": "no " * 200},
    "words of no text": {"unreadable": {"no": 1}},
    "a reason of nobody": {"declined": "NORMAL", "detail": "all is well"},
}


def header_bytes() -> bytes:
    """Give the attributes of an honest instance, without file meta information."""
    file = honest(PixelData=None)
    return file[file.index(b"\x08\x00\x05\x00CS") :]


def answering(monkeypatch: pytest.MonkeyPatch, said: bytes, content: bytes) -> None:
    subverted(monkeypatch, f"os.write(given[2], {content!r}); answer.send({said!r})")


def test_an_answer_of_the_right_shape_is_taken(ct: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.linspace(0, 1, 6, dtype=np.float32)
    answering(monkeypatch, json.dumps(GOOD).encode(), pixels.tobytes() + header_bytes())
    with SandboxedDecoder() as decoder:
        assert np.array_equal(decoder.decode(ct).image.pixels.ravel(), pixels)


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_no_answer(name: str, ct: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({**GOOD, **LIES[name]}).encode()
    answering(monkeypatch, said, b"\x00" * 24 + header_bytes())
    with (
        SandboxedDecoder() as decoder,
        pytest.raises(InstanceUnreadable, match="no answer came back"),
    ):
        decoder.decode(ct)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 24,
        b"\xff" * 24 + header_bytes(),
        np.full(6, 2.0, np.float32).tobytes() + header_bytes(),
        b"\x00" * 24 + b"\x00" * (3 << 20),
        b"\x00" * 24 + header_bytes().replace(b"1.2.826", b"../../x"),
        b"\x00" * 24
        + b"\x09\x00\x10\x10SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 2000,
    ],
    ids=["none", "no header", "no numbers", "beyond 0 to 1", "too long", "a path", "very deep"],
)
def test_content_that_is_none_is_no_answer(
    content: bytes, ct: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = tmp_path / "content"
    kept.write_bytes(content)
    said = json.dumps(GOOD).encode()
    subverted(
        monkeypatch,
        f"os.write(given[2], open({str(kept)!r}, 'rb').read()); answer.send({said!r})",
    )
    with SandboxedDecoder() as decoder, pytest.raises(InstanceUnreadable):
        decoder.decode(ct)


def test_content_that_can_still_be_changed_is_no_answer(
    ct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, content = json.dumps(GOOD).encode(), b"\x00" * 24 + header_bytes()
    subverted(
        monkeypatch,
        f"import mmap; os.write(given[2], {content!r}); "
        f"held = mmap.mmap(given[2], 24); answer.send({said!r}); time.sleep(1)",
    )
    with (
        SandboxedDecoder() as decoder,
        pytest.raises(InstanceUnreadable, match="no answer came back"),
    ):
        decoder.decode(ct)


_words = st.sampled_from([*GOOD, "declined", "detail", "unreadable"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=9),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | _json.map(lambda each: json.dumps(each).encode()))
def test_whatever_it_says_the_server_stands(message: bytes) -> None:
    with sandboxed_decoder._memory_file() as content:
        os.write(content, b"\x00" * 24 + header_bytes())
        with pytest.raises((InstanceUnreadable, ImageDeclined, *sandboxed_decoder._BAD_ANSWER)):
            sandboxed_decoder._opened(message, content).decoded()
