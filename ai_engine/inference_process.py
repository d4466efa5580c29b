"""The network in a process of its own: warm, bounded, and started again when it dies."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_engine.bundle import Bundle
from ai_engine.errors import ModelFailed, ModelUnavailable
from ai_engine.inference import Inferred, Precision, checked
from ai_engine.inference_child import MOST_BYTES, REFUSED, in_its_folder

_TRIES, _STARTS = 2, 3
_LOOK_AGAIN_S = 0.02
_PEER = struct.Struct("3i")
_TIME = struct.Struct("ll")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the process may take.

    Parameters
    ----------
    timeout_s
        Of one inference, waiting for those before it included. Then the process is killed.
    start_s
        Until it listens, the graph compiled.
    idle_s
        That it stays when nobody is connected any more.
    memory_mb
        MiB of data, beyond the files that it maps.

    References
    ----------
    getrlimit(2), RLIMIT_DATA.
    """

    timeout_s: float = 60.0
    start_s: float = 120.0
    idle_s: float = 0.2
    memory_mb: int = 4096


class InferenceProcess:
    """Runs a bundle's graph in the one process of this host that does; threads may share it.

    No process that serves or works loads the runtime itself: nothing of it can be inherited by a
    fork, and what crashes in it takes no job along. All workers that use the same folder, model and
    precision share one process. It is started when it is needed. If it dies or hangs over an image
    it is started again and the image is tried once more.

    Parameters
    ----------
    bundle
        The verified model.
    folder
        For its socket and its lock; made if needed, for this user alone.
    precision
        Arithmetic.
    threads
        Of one inference.
    bounds
        What it may take.
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        *,
        precision: Precision = "f32",
        threads: int = 2,
        bounds: Bounds | None = None,
    ) -> None:
        self._bundle = bundle
        self._folder = folder
        self._precision: Precision = precision
        self._threads = threads
        self._bounds = bounds or Bounds()
        self._name = f"{bundle.identity.sha256[:16]}-{precision}-{threads}"
        self._one_at_a_time = threading.Lock()
        self._connection: Connection | None = None

    def infer(self, network_input: NDArray[np.float32]) -> Inferred:
        """Run the graph once, as ``Runtime`` says.

        Raises
        ------
        ModelFailed
            If the process died or hung twice over this input, or what it gave is no answer.
        ModelUnavailable
            If the process cannot be started.
        """
        head = json.dumps({"shape": network_input.shape}).encode()
        message = head + b"\n" + np.ascontiguousarray(network_input, np.float32).tobytes()
        with self._one_at_a_time:
            for _ in range(_TRIES):
                try:
                    answer = self._asked(message)
                except (EOFError, OSError):
                    self._drop()
                else:
                    return checked(_inferred(answer), self._bundle.head_bias, self._precision)
        msg = f"the process that runs the network died or hung {_TRIES} times over this image"
        raise ModelFailed(msg)

    def close(self) -> None:
        """Take leave of the process; it ends when nobody else is connected."""
        with self._one_at_a_time:
            self._drop()

    def warm(self) -> None:
        """Have the process running before the first image comes.

        Raises
        ------
        ModelUnavailable
            If it cannot be started.
        """
        with self._one_at_a_time:
            self._connected()

    @property
    def pid(self) -> int:
        """Process id of the process that runs the network, started if needed.

        Raises
        ------
        ModelUnavailable
            If it cannot be started.
        """
        with self._one_at_a_time:
            return _peer(self._connected())

    def _asked(self, message: bytes) -> bytes:
        """Send a request and wait for the answer.

        Raises
        ------
        EOFError
            If the process was killed because it took too long, or, as any ``OSError``, died.
        """
        connection = self._connected()
        try:
            connection.send_bytes(message)
            return connection.recv_bytes(MOST_BYTES)
        except BlockingIOError as error:
            _kill(connection)
            raise EOFError from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        """Give the connection, made where there is none, to a process started where there is none.

        Raises
        ------
        ModelUnavailable
            If none can be had in time.
        """
        if self._connection is not None:
            return self._connection
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = str(self._folder.absolute() / f"{self._name}.sock")
        give_up, deaths = time.monotonic() + self._bounds.start_s, 0
        while time.monotonic() < give_up:
            if (connection := _connect(path, self._bounds.timeout_s)) is not None:
                self._connection = connection
                return connection
            died = self._start(path)
            if died and (deaths := deaths + 1) == _STARTS:
                raise ModelUnavailable(died)
            time.sleep(_LOOK_AGAIN_S)
        raise ModelUnavailable(self._late())

    def _start(self, path: str) -> str:
        """Start a process, with nothing of this one but the modules it may import, and the graph.

        Returns
        -------
        str
            How it died before it listened, or nothing.

        Raises
        ------
        ModelUnavailable
            If it refuses the graph, or takes too long.
        """
        modules = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
        orders = {
            "socket": path,
            "lock": path.removesuffix(".sock") + ".lock",
            "precision": self._precision,
            "threads": self._threads,
            "idle_s": self._bounds.idle_s,
            "memory_mb": self._bounds.memory_mb,
        }
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "ai_engine.inference_child"],
            cwd="/",
            env={"PYTHONPATH": modules, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            given = json.dumps(orders).encode() + b"\n" + self._bundle.graph
            try:
                _, words = process.communicate(given, self._bounds.start_s)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                raise ModelUnavailable(self._late()) from error
        said = words.decode(errors="replace").strip()
        if process.returncode == REFUSED:
            raise ModelUnavailable(said)
        last = said.splitlines()[-1][:200] if said else f"exit code {process.returncode}"
        died = f"the process that runs the network ended before it listened ({last})"
        return died if process.returncode else ""

    def _late(self) -> str:
        return f"the process that runs the network does not start within {self._bounds.start_s:g} s"


def _connect(path: str, timeout_s: float) -> Connection | None:
    """Connect to a process that listens, if there is one.

    What it does not take or give in time raises ``BlockingIOError``.

    References
    ----------
    socket(7), SO_RCVTIMEO and SO_SNDTIMEO.
    """
    patience = _TIME.pack(int(timeout_s), int(timeout_s % 1 * 1e6))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link, in_its_folder(path) as name:
        try:
            link.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        for which in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            link.setsockopt(socket.SOL_SOCKET, which, patience)
        return Connection(link.detach())


def _peer(connection: Connection) -> int:
    """Give the process id at the other end.

    References
    ----------
    unix(7), SO_PEERCRED.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as link:
        said = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(said)[0])


def _kill(connection: Connection) -> None:
    """Kill the process at the other end, and wait until it listens no more."""
    with contextlib.suppress(EOFError, OSError):
        os.kill(_peer(connection), signal.SIGKILL)
        while True:
            connection.recv_bytes(MOST_BYTES)


def _inferred(answer: bytes) -> Inferred:
    """Take an answer apart.

    Raises
    ------
    ModelFailed
        If the network failed, or it is no answer.
    """
    head, _, content = answer.partition(b"\n")
    said = json.loads(head)
    if "failed" in said:
        msg = f"the network gave no answer ({said['failed']})"
        raise ModelFailed(msg)
    values = np.frombuffer(content, np.float32)
    logits, maps = tuple(said["logits"]), tuple(said["maps"])
    if values.size != np.prod(logits) + np.prod(maps):
        msg = "the process that runs the network gave no whole answer"
        raise ModelFailed(msg)
    findings = int(np.prod(logits))
    return values[:findings].reshape(logits).copy(), values[findings:].reshape(maps).copy()
