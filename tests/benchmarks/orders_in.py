"""How fast orders are taken by MLLP; prints the table for docs/benchmarks.md.

One ORM^O01 at a time, each with a control id of its own, each answered before the next. Each
receiver runs in a process of its own, and reads the whole message; what else it does is said.
``--messages 50`` is a quick look.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from hl7_samples import orm
from mllp_peers import CR, FS, ack, frame
from pacs_peers import DidNotRun, installed
from running import free_port, machine

ROOT = Path(__file__).parents[2]

_HL7APY = "hl7apy 1.3.5, its own server: parsed, kept nowhere, a connection for each message"
_BRIDGE = "hl7v2-fhir-bridge 0.1.0: parsed, mapped, validated, the bundle written"
_KEPT = "radcds: parsed, flushed to the disk"
_PROCESSED = "radcds: the same, and processed meanwhile"
_START_S = 60.0


@dataclass(frozen=True)
class Receiver:
    """A receiver that runs: where, and whether it hangs up after each message."""

    port: int
    hangs_up: bool = False


def command_of(name: str, folder: Path, port: int) -> Sequence[str | Path]:
    """Give the command that starts a receiver.

    Raises
    ------
    DidNotRun
        If it cannot be installed.
    """
    if name == _HL7APY:
        return [sys.executable, __file__, "--hl7apy", str(port)]
    if name == _BRIDGE:
        bridge = installed("hl7v2-fhir-bridge==0.1.0") / "hl7v2-fhir-bridge"
        return [bridge, "serve", "--port", str(port), "--out", folder / "bundles"]
    how = "keep" if name == _KEPT else "process"
    return [sys.executable, ROOT / "tests" / "killed_inbox.py", folder, str(port), how]


@contextmanager
def receiving(name: str, folder: Path) -> Iterator[Receiver]:
    """Run a receiver until the block ends.

    Raises
    ------
    DidNotRun
        If it does not start.
    """
    port = free_port()
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        command_of(name, folder, port),
        env={**os.environ, "PYTHONPATH": "" if name == _BRIDGE else path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        yield Receiver(port, hangs_up=name == _HL7APY)
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    msg = "it does not start"
    raise DidNotRun(msg)


def answer(connection: socket.socket, message: bytes) -> bytes:
    """Send a message, and give what is answered.

    Raises
    ------
    DidNotRun
        If nothing is.
    """
    connection.sendall(frame(message))
    held = b""
    while FS + CR not in held:
        piece = connection.recv(65536)
        if not piece:
            msg = "it hangs up without an answer"
            raise DidNotRun(msg)
        held += piece
    return held


def raced(name: str, count: int, folder: Path) -> str:
    """Send, and give a line of the table."""
    took, connection = [], None
    with receiving(name, folder) as receiver:
        for number in range(count):
            message = orm().replace(b"|MSG1|", b"|ORDER%d|" % number, 1)
            began = time.perf_counter()
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=30)
            if b"MSA|AA|" not in answer(connection, message):
                msg = "it refuses the message"
                raise DidNotRun(msg)
            if receiver.hangs_up:
                connection.close()
                connection = None
            took.append((time.perf_counter() - began) * 1000)
        if connection:
            connection.close()
    slow = statistics.quantiles(took, n=20)[-1]
    return (
        f"| {name} | {count / sum(took) * 1000:,.0f} | {statistics.median(took):.1f} | {slow:.1f} |"
    )


class Takes(AbstractHandler):  # type: ignore[misc]
    """Reads the whole message, and accepts it."""

    def reply(self) -> str:
        """Give the acknowledgement, framed."""
        control_id = parse_message(self.incoming_message).msh.msh_10.value
        return frame(ack("AA", control_id)).decode()


def serve_hl7apy(port: int) -> None:
    """Run the server of hl7apy with a handler that reads the whole message."""
    MLLPServer(
        "127.0.0.1", port, {"ORM^O01^ORM_O01": (Takes,), "ORM^O01": (Takes,)}
    ).serve_forever()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=1_000, help="in each line")
    options.add_argument("--hl7apy", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.hl7apy:
        serve_hl7apy(given.hl7apy)
    print(f"{machine()}; {datetime.now(UTC).date()}\n")
    print(f"| receiver of {given.messages:,} orders | a second | p50 ms | p95 ms |")
    print("|---|---|---|---|")
    for name in (_KEPT, _PROCESSED, _HL7APY, _BRIDGE):
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(raced(name, given.messages, Path(folder)), flush=True)
            except DidNotRun as error:
                print(f"| {name} | {error} | | |", flush=True)


if __name__ == "__main__":
    main()
