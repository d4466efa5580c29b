"""The process that runs the network, one on a host: ``python -m ai_engine.inference_child``.

It takes its orders and the graph on standard input, listens on a socket in a folder, and answers
one request after another. A file lock sees to it that there is one: a second one ends at once. It
ends when nobody is connected any more. It belongs to nobody: the process that was started
only waits until it listens, or says why it does not.

A message is a line of JSON and then the bytes of its arrays, never a pickle.
"""

import fcntl
import json
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ai_engine.errors import ModelUnavailable

MOST_BYTES = 512 * 1024 * 1024
REFUSED = 3
_DIED = 1
_FIRST_S = 30.0
_MB = 1024 * 1024


def main(given: BinaryIO) -> int:
    """Start the process that serves; give 0 once one listens, or ``REFUSED``."""
    orders = json.loads(given.readline())
    graph = given.read()
    said, saying = os.pipe()
    if os.fork():
        os.close(saying)
        code = os.read(said, 1)
        return code[0] if code else _DIED
    os.close(said)
    _run(orders, graph, saying)
    return 0


def _run(orders: dict[str, Any], graph: bytes, saying: int) -> None:
    """Serve until nobody is connected any more, if nobody else does."""
    limit = orders["memory_mb"] * _MB
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(BlockingIOError), _only_one(Path(orders["lock"])):
        try:
            from ai_engine.runtime import compiled  # noqa: PLC0415 - after the limit of memory

            network = compiled(graph, orders["precision"], orders["threads"])
        except (ModelUnavailable, MemoryError, ImportError) as error:
            sys.stderr.write(str(error) or f"{orders['memory_mb']} MB of memory do not suffice")
            sys.stderr.flush()
            os.write(saying, bytes([REFUSED]))
            return
        del graph
        with _listening(orders["socket"]) as listener:
            os.write(saying, bytes([0]))
            os.close(saying)
            _leave_the_terminal()
            _serve(listener, network, orders["idle_s"])
        return
    os.write(saying, bytes([0]))


def _leave_the_terminal() -> None:
    """Close what was inherited, so that whoever waits for the end of it need not."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)


def _serve(listener: socket.socket, network: Any, idle_s: float) -> None:  # noqa: ANN401 - OpenVINO has no types
    connections: list[Connection] = []
    patience_s: float | None = _FIRST_S
    while ready := wait([listener, *connections], patience_s):
        if listener in ready:
            connections.append(Connection(listener.accept()[0].detach()))
        for each in [each for each in connections if each in ready]:
            try:
                each.send_bytes(_answer(network, each.recv_bytes(MOST_BYTES)))
            except (EOFError, OSError):
                each.close()
                connections.remove(each)
        patience_s = None if connections else idle_s


def _answer(network: Any, message: bytes) -> bytes:  # noqa: ANN401 - OpenVINO has no types
    head, _, content = message.partition(b"\n")
    shape = json.loads(head)["shape"]
    try:
        outputs = network([np.frombuffer(content, np.float32).reshape(shape)])
    except (RuntimeError, ValueError, MemoryError) as error:
        return json.dumps({"failed": str(error).strip().partition("\n")[0][:200]}).encode()
    logits, maps = (np.ascontiguousarray(outputs[each][0], np.float32) for each in (0, 1))
    said = json.dumps({"logits": logits.shape, "maps": maps.shape}).encode()
    return b"\n".join((said, logits.tobytes() + maps.tobytes()))


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the lock while the block runs.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    """Listen for this user's processes alone while the block runs."""
    os.umask(0o177)
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - of a process that was killed
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, in_its_folder(path) as name:
        listener.bind(name)
        listener.listen()
        try:
            yield listener
        finally:
            os.unlink(path)  # noqa: PTH108 - a path of text


@contextmanager
def in_its_folder(path: str) -> Iterator[str]:
    """Name a socket in a way that is short enough, however long its path is.

    References
    ----------
    unix(7): a path of at most 107 bytes.
    """
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer))
