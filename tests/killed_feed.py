"""A feed whose sender and receiver are killed without a word, and what arrives in spite of it.

As a command it is one of the two: ``python tests/killed_feed.py send FOLDER | receive FILE PORT``.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orthanc import free_ports
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study

from ai_engine.image import Image
from ai_engine.result import ModelIdentity, Outcome
from cds_server import bootstrap
from cds_server.adapters.sql_outbox import SqlOutbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.config import Settings
from cds_server.durable import running
from cds_server.mllp.endpoint import Listening
from cds_server.mllp.server import MllpServer, Peer
from cds_server.ports import StoredResult
from fhir_mappers.hl7_inbound.acknowledgement import AcknowledgementCode, acknowledgement
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

ROOT = Path(__file__).parents[1]
_OF_ONE_ORDER = 4


@dataclass(frozen=True)
class Arrived:
    """One message that the receiver took, as it noted it."""

    control_id: str
    accession_number: str
    sha256: str


@dataclass
class Report:
    """What became of a feed."""

    sent: Sequence[tuple[str, str]]
    arrived: Sequence[Arrived]
    kills: dict[str, int]
    seconds: float
    parked: int

    @property
    def lost(self) -> int:
        """How many results never arrived."""
        return len({control for control, _ in self.sent} - {a.control_id for a in self.arrived})

    @property
    def repeats(self) -> int:
        """How many messages arrived more than once."""
        return len(self.arrived) - len({each.control_id for each in self.arrived})

    @property
    def changed_repeats(self) -> int:
        """How many of the repeats were not the same bytes."""
        return len({(each.control_id, each.sha256) for each in self.arrived}) - len(
            {each.control_id for each in self.arrived}
        )

    @property
    def out_of_order(self) -> int:
        """How many messages arrived after a later one of their accession number."""
        place = {control: number for number, (control, _) in enumerate(self.sent)}
        latest: dict[str, int] = {}
        wrong = 0
        for each in self.arrived:
            number = place[each.control_id]
            wrong += number < latest.get(each.accession_number, -1)
            latest[each.accession_number] = max(number, latest.get(each.accession_number, -1))
        return wrong


def feed(
    folder: Path,
    *,
    results: int,
    kills: int,
    every_s: tuple[float, float] = (0.5, 3.5),
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> Report:
    """Store results, and kill sender and receiver at random times until all have arrived."""
    (port,) = free_ports(1)
    write_settings(folder, {"ris": port})
    sent = store(folder, results, ["ris"])
    chance = random.Random(seed)
    done = {"sender": 0, "receiver": 0}
    began = time.monotonic()
    sender, receiver = Process("send", folder), Process("receive", folder / "arrived", port)
    outbox = outbox_of(folder)
    with sender.running(), receiver.running():
        while (waiting := outbox.backlogs()["ris"].waiting) or sum(done.values()) < kills:
            advance(results - waiting, results)
            if sum(done.values()) < kills:
                time.sleep(chance.uniform(*every_s))
                which = chance.choice(["sender", "receiver"])
                (sender if which == "sender" else receiver).kill_and_start()
                done[which] += 1
            else:
                time.sleep(0.2)
    parked = outbox.backlogs()["ris"].parked
    return Report(sent, _arrived(folder), done, time.monotonic() - began, parked)


@dataclass(frozen=True)
class NobodyReads:
    """An engine that has nothing to read."""

    model: ModelIdentity = MODEL
    model_card: dict[str, object] = field(default_factory=dict)
    modalities: frozenset[str] = frozenset()

    def read(self, images: Sequence[Image]) -> Outcome:
        raise AssertionError(images)


@dataclass
class Process:
    """One of the two, which is killed with -9 and started again."""

    role: str
    folder: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._end(signal.SIGTERM)

    def kill_and_start(self) -> None:
        self._end(signal.SIGKILL)
        self._start()

    def _start(self) -> None:
        command = [sys.executable, __file__, self.role, str(self.folder), str(self.port)]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})

    def _end(self, how: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"the {self.role} process ended by itself"
        self.process.send_signal(how)
        self.process.wait(60)


def write_settings(folder: Path, ports: Mapping[str, int]) -> None:
    """Name the receivers, each by its port."""
    (folder / "destinations.toml").write_text(
        "".join(
            f'[[hl7]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\ntimeout_s = 3\n'
            for name, port in ports.items()
        )
    )


def _settings(folder: Path) -> Settings:
    return replace(Settings(), data_dir=folder / "data", destinations=folder / "destinations.toml")


def outbox_of(folder: Path) -> SqlOutbox:
    """Give what waits in a folder."""
    return SqlOutbox(open_engine(folder / "data" / "radcds.sqlite"))


def store(
    folder: Path,
    results: int,
    destinations: Sequence[str],
    advance: Callable[[], object] = lambda: None,
) -> list[tuple[str, str]]:
    """Store results, four of each accession number, and give their control ids in order."""
    (folder / "data").mkdir()
    results_store = SqlResultStore(open_engine(folder / "data" / "radcds.sqlite"))
    artefacts = ReportSet(b"{}", b"MSH", b"{}")
    sent = []
    for number in range(results):
        accession = f"ACC{number % max(1, results // _OF_ONE_ORDER)}"
        uid = f"{STUDY_UID}.{number}"
        identifier = result_id(uid, MODEL.sha256)
        study = chest_study(study_instance_uid=uid, accession_number=accession)
        results_store.notice(identifier, uid, ISSUED)
        stored_at = ISSUED + timedelta(seconds=number)
        outcome = OUTCOMES[("urgent", "flagged", "normal", "not_analysed")[number % 4]]
        results_store.save(
            StoredResult(identifier, study, outcome, stored_at, {}),
            artefacts,
            audit_events=[],
            destinations=destinations,
            order_key=accession,
        )
        advance()
        sent.append((identifier.replace("-", "")[:20].upper(), accession))
    return sent


def _arrived(folder: Path) -> list[Arrived]:
    lines = (folder / "arrived").read_text().splitlines()
    return [Arrived(*line.split("|")) for line in lines if line.count("|") == 2]


def _send(folder: Path) -> None:
    """Deliver what waits, as the worker does, until told to stop."""
    settings = _settings(folder)
    services = bootstrap.services(settings)
    receivers = [each for each in bootstrap.destinations(services) if each.name.startswith("ris")]
    triage = bootstrap.triage(
        services,
        archive=bootstrap.folder_archive([]),
        reader=NobodyReads(),
        destinations=receivers,
    )
    with running(triage, settings.data_dir / "workflow.sqlite", poll_interval_s=0.05):
        _until_told()


def _receive(file: Path, port: int) -> None:
    """Note every message durably, then acknowledge it."""
    lock = threading.Lock()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def take(content: bytes, _: Peer) -> bytes:
        message = read_message(content)
        accession = message.required("OBR").part(18)
        digest = hashlib.sha256(content).hexdigest()
        with lock:
            os.write(descriptor, f"{message.header.control_id}|{accession}|{digest}\n".encode())
            os.fsync(descriptor)
        return acknowledgement(message, AcknowledgementCode.AA, at=datetime.now(UTC))

    server = MllpServer(Listening(port=port), take, notice=lambda _: None)
    deadline = time.monotonic() + 10
    while True:
        try:
            server.start()
            break
        except OSError:
            assert time.monotonic() < deadline, "the port stays taken"
            time.sleep(0.05)
    _until_told()
    server.stop()


def _until_told() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()


if __name__ == "__main__":
    role, path, port = sys.argv[1:]
    _send(Path(path)) if role == "send" else _receive(Path(path), int(port))
