"""HL7 peers of somebody else on loopback, and a raw socket that keeps no rule at all."""

import base64
import contextlib
import hashlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from certificates import Certificate
from judges import _MODULES

_PEERS = Path(__file__).parent / "contract" / "peers"
VT, FS, CR = b"\x0b", b"\x1c", b"\x0d"


def frame(content: bytes) -> bytes:
    return VT + content + FS + CR


def ack(code: str, control_id: str) -> bytes:
    return f"MSH|^~\\&|B|B|A|A|20261120||ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r".encode()


def oru(control_id: str = "ID1", *, accept: str = "", application: str = "") -> bytes:
    header = f"MSH|^~\\&|A|A|B|B|20261120||ORU^R01^ORU_R01|{control_id}|P|2.5.1"
    return f"{header}|||{accept}|{application}\rOBX|1|ST|A||B||||||P\r".encode()


def overlay_sha256(message: bytes) -> str:
    """Give the digest of the picture in a message, found without any parser."""
    found = re.search(rb"\^JPEG\^Base64\^([^|\r]+)", message)
    assert found
    return hashlib.sha256(base64.b64decode(found[1])).hexdigest()


@dataclass
class NpmReceiver:
    """A receiver of npm in its own process."""

    port: int
    _output: Iterator[str]

    def decoded(self) -> dict[str, Any]:
        """Give what it decoded of the next message."""
        line = next(self._output)
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def npm_receiver(
    receiver: str, *, tls: Certificate | None = None, ca: Path | None = None, **asked: object
) -> Iterator[NpmReceiver]:
    """Run one; ``mllp_receiver.js`` says what may be asked."""
    if tls is not None:
        files = {"key": str(tls.key), "cert": str(tls.certificate), "ca": str(ca)}
        asked["tls"] = files
    with _node("mllp_receiver.js", {"receiver": receiver, **asked}) as running:
        assert running.stdout
        port = json.loads(next(running.stdout))["port"]
        yield NpmReceiver(port, running.stdout)


def npm_sender(sender: str, port: int, messages: list[bytes], **asked: object) -> list[Any]:
    """Send messages one after another; give what the sender made of each acknowledgement."""
    texts = [message.decode() for message in messages]
    with _node("mllp_sender.js", {"sender": sender, "port": port, **asked}) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(json.dumps(texts) + "\n")
        running.stdin.flush()
        found: list[Any] = json.loads(next(running.stdout))
        return found


@contextmanager
def _node(script: str, asked: object) -> Iterator["subprocess.Popen[str]"]:
    assert _MODULES.is_dir(), "the peers are not installed: run scripts/install_judges.sh"
    with subprocess.Popen(
        ["node", _PEERS / script, _MODULES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdin
            running.stdin.write(json.dumps(asked) + "\n")
            running.stdin.flush()
            yield running
            with contextlib.suppress(BrokenPipeError):
                running.stdin.close()
            assert running.wait(10) == 0
        finally:
            running.kill()


Script = Callable[[socket.socket, Callable[[], bytes]], object]


@dataclass
class RawPeer:
    """Serves each connection with the next of its scripts, and keeps what it received."""

    listener: socket.socket
    received: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            try:
                connected, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connected, contextlib.suppress(OSError):
                script(connected, partial(self._message, connected, bytearray()))

    def _message(self, connected: socket.socket, held: bytearray) -> bytes:
        while FS + CR not in held:
            piece = connected.recv(65536)
            if not piece:
                raise ConnectionError
            held.extend(piece)
        whole, _, rest = bytes(held).partition(FS + CR)
        held[:] = rest
        self.received.append(whole.removeprefix(VT))
        return self.received[-1]


@contextmanager
def raw_peer(*scripts: Script) -> Iterator[RawPeer]:
    """Listen; a script gets the socket, and what reads one message from it."""
    peer = RawPeer(socket.create_server(("127.0.0.1", 0)))
    thread = threading.Thread(target=peer.serve, args=(scripts,), daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        with contextlib.suppress(OSError):
            peer.listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        peer.listener.close()
