"""A server that takes HL7 messages, and is killed without a word.

As a command it is that server: ``python tests/killed_inbox.py FOLDER PORT keep|process``.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mllp_peers import CR, FS, frame
from studies import site as example_site

from cds_server.adapters.sql_arrival_store import SqlArrivalStore
from cds_server.adapters.sql_component_store import SqlComponentStore
from cds_server.adapters.sql_inbox import SqlInbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.system_clock import SystemClock
from cds_server.destinations_file import Receivers
from cds_server.inbound import inbound_of, patients_of
from cds_server.mllp.endpoint import Listening
from cds_server.network import Network
from cds_server.operations import Operations

ROOT = Path(__file__).parents[1]


@dataclass
class Serving:
    """What takes messages, and what lets them take effect, over one database."""

    folder: Path
    port: int = 0

    def __post_init__(self) -> None:
        engine = open_engine(self.folder / "radcds.sqlite")
        clock, site = SystemClock(), example_site()
        self.inbox = SqlInbox(engine)
        self.results = SqlResultStore(engine)
        self.patients = patients_of(self.inbox, Network(), site)
        both = inbound_of(
            Receivers(inbound=Listening(port=self.port)),
            self.inbox,
            arrivals=SqlArrivalStore(engine),
            results=self.results,
            in_archive=lambda _: True,
            patients=self.patients,
            operations=Operations(SqlComponentStore(engine), site=site, clock=clock),
            site=site,
            clock=clock,
            notice=lambda _: None,
        )
        assert both.server
        self.server, self.orders = both.server, both.orders

    @contextmanager
    def listening(self) -> Iterator[int]:
        with self.server:
            yield self.server.port


class Killable:
    """The server in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, how: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        command = [sys.executable, __file__, str(self._folder), str(self._port), how]
        self._process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})

    def kill(self) -> None:
        assert self._process
        assert self._process.poll() is None, "it ended by itself"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)


class Sender:
    """Sends one message at a time, again and again until it is acknowledged."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self.repeats = 0

    def send(self, message: bytes, *, within_s: float = 30.0) -> bytes:
        deadline = time.monotonic() + within_s
        while True:
            try:
                return self._once(message)
            except OSError:
                self.close()
                self.repeats += 1
                assert time.monotonic() < deadline, "nothing is acknowledged any more"
                time.sleep(0.02)

    def _once(self, message: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._socket.sendall(frame(message))
        held = b""
        while FS + CR not in held:
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionResetError
            held += piece
        return held

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _serve(folder: Path, port: int, how: str) -> None:
    serving = Serving(folder, port)
    with serving.listening():
        while True:
            if how == "process":
                serving.orders.look()
            time.sleep(0.005)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
