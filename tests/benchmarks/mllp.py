"""How fast messages go over one MLLP connection: prints the table for docs/benchmarks.md.

One message of the largest overlay at a time, each with a control id of its own, each answered
before the next. The receiver of radcds reads no more than the control id and, where that is said,
flushes each message to the disk first; the others parse it and decode the overlay. Stray answers
are about another message. ``--messages 20`` is a quick look; 500 give the figures.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from running import machine

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from certificates import Authority
from mllp_peers import ack, npm_receiver
from studies import OUTCOMES, chest_study, context

from cds_server.errors import DestinationUnavailable
from cds_server.hl7_files import keep
from cds_server.mllp.connection import Limits, MllpConnection
from cds_server.mllp.endpoint import Endpoint, Listening
from cds_server.mllp.server import Handler, MllpServer, Peer
from cds_server.mllp.tls import TlsFiles
from fhir_mappers.oru_r01 import OVERLAY_JPEG_BYTES, control_id, oru_r01

MESSAGES = 500
RECEIVERS = (
    "radcds",
    "radcds, kept on disk",
    "radcds, kept on disk, TLS 1.3 both ways",
    "simple-hl7 3.3.0",
    "@medplum/hl7 4.5.2",
    "node-hl7-server 2.5.0",
)


def template() -> bytes:
    """Give the largest message."""
    picture = b"\xff\xd8\xff\xe0" + os.urandom(OVERLAY_JPEG_BYTES - 4)
    return oru_r01(chest_study(), OUTCOMES["flagged"], context=context(), overlay_jpeg=picture)


@contextmanager
def receiving(name: str, folder: Path) -> Iterator[Endpoint]:
    """Run a receiver."""
    with ExitStack() as stack:
        if name.startswith("radcds"):
            sent_to, listening = None, None
            if "TLS" in name:
                authority = Authority(folder / "ca")
                own, client = authority.server("127.0.0.1"), authority.client("radcds")
                listening = TlsFiles(authority.file, own.certificate, own.key)
                sent_to = TlsFiles(authority.file, client.certificate, client.key)
            handler = kept(folder) if "disk" in name else answered
            server = MllpServer(Listening(port=0, tls=listening), handler, notice=print)
            port = stack.enter_context(server).port
            yield Endpoint("127.0.0.1", port, sent_to)
        else:
            receiver = "medplum" if "medplum" in name else name.split(maxsplit=1)[0]
            yield Endpoint("127.0.0.1", stack.enter_context(npm_receiver(receiver)).port)


def answered(message: bytes, _: Peer) -> bytes:
    """Acknowledge a message."""
    return ack("AA", message.split(b"|", 10)[9].decode())


def kept(folder: Path) -> Handler:
    """Keep each message before it is acknowledged."""

    def handler(message: bytes, peer: Peer) -> bytes:
        keep(folder, "message", message)
        return answered(message, peer)

    return handler


def raced(name: str, count: int, message: bytes, folder: Path) -> str:
    """Send, and give a line of the table."""
    own_id = control_id(context().result_id).encode()
    took = []
    with receiving(name, folder) as endpoint:
        connection = MllpConnection(endpoint, Limits(acknowledgement_s=60))
        for number in range(count):
            one = message.replace(own_id, b"%020d" % number, 1)
            began = time.perf_counter()
            try:
                connection.exchange(one)
            except DestinationUnavailable:
                return f"| {name} | {number} of {count} | - | - | - |"
            took.append(time.perf_counter() - began)
        strays = connection.strays
        connection.close()
    middle, slow = statistics.median(took) * 1000, statistics.quantiles(took, n=20)[-1] * 1000
    rate = count / sum(took)
    return f"| {name} | {count} | {rate:,.0f} | {middle:.1f} | {slow:.1f} | {strays:,} |"


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=MESSAGES, help="in each line")
    count = options.parse_args().messages
    message = template()
    print(f"{machine()}; {datetime.now(UTC).date()}\n")
    print(f"| receiver of {len(message):,} bytes | messages | a second | p50 ms | p95 ms | stray |")
    print("|---|---|---|---|---|---|")
    for name in RECEIVERS:
        with tempfile.TemporaryDirectory() as folder:
            print(raced(name, count, message, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
