"""How fast a CDS hook is answered: ``make bench`` prints the table of docs/benchmarks.md.

radcds runs as ``radcds serve`` does, with two web workers, over a store of 1,000 studies of 300
patients, beside the mock EHR whose tokens it checks. The peer is healthchain on uvicorn, in a
virtual environment of its own. Both get the same calls from the same load generator, one server at
a time. ``--seconds 6`` is a quick look; 60 gives the figures.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from running import free_port, machine, radcds, resident_mb, running

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_image, chest_instance, chest_study

from ai_engine.result import TriageResult
from cds_server import bootstrap
from cds_server.config import Settings
from cds_server.outbox import DeliveryState
from cds_server.ports import StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportContext
from fhir_mappers.report_set import report_set
from fhir_mappers.study import Patient, PersonName
from mock_ehr.local_server import LocalServer
from mock_ehr.registration import AppRegistration
from mock_ehr.server import MockEhr

HERE = Path(__file__).parent
PEER = HERE.parent.parent / ".cache" / "healthchain"
PEER_VERSION = "0.16.1"
STUDIES, PATIENTS, MOST_OF_ONE = 1000, 300, 5
SERVICE = "/cds-services/radcds-patient-view"
NAMESPACE = Settings().accession_issuer
OPEN_RATE, OPEN_SECONDS, CLOSED_SECONDS = 20.0, 60.0, 8.0
OPEN_CONNECTIONS = 64
MOST_PER_SECOND = 500
"""Tokens are signed for at most so many calls; a closed loop that used them up ends earlier."""
WARM_UP_CALLS, WARM_UP_CONNECTIONS = 200, 16
LOOK_EVERY_S, PATIENCE_S = 0.5, 120.0
Call = tuple[str, str]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Phase:
    """One kind of load."""

    name: str
    connections: int
    seconds: float
    rate: float = 0.0

    @property
    def most(self) -> int:
        """How many calls it can make."""
        return math.ceil(self.seconds * (self.rate * 1.5 if self.rate else MOST_PER_SECOND)) + 20


@dataclass(frozen=True)
class Server:
    """What is put under load."""

    name: str
    port: int
    path: str
    calls: Callable[[int], Sequence[Call]]
    again: bool
    memory: Callable[[], float]


def phases(seconds: float) -> Sequence[Phase]:
    closed = max(1.0, CLOSED_SECONDS * seconds / OPEN_SECONDS)
    return (
        Phase(f"open loop, {OPEN_RATE:.0f}/s", OPEN_CONNECTIONS, seconds, OPEN_RATE),
        Phase("closed loop, 1 connection", 1, closed),
        Phase("closed loop, 16 connections", 16, closed),
    )


# ── The store ────────────────────────────────────────────────────────────────────────────────────


def of_whom() -> Sequence[int]:
    """Say whose each study is: everybody has one to five."""
    drawn, patients = random.Random("studies"), list(range(PATIENTS))
    count = Counter(patients)
    while len(patients) < STUDIES:
        number = drawn.randrange(PATIENTS)
        if count[number] < MOST_OF_ONE:
            count[number] += 1
            patients.append(number)
    return patients


def fill(settings: Settings, advance: Advance) -> None:
    """Store the studies as the worker does, artefacts and FHIR resources included."""
    services = bootstrap.services(settings)
    names = list(OUTCOMES)
    for number, whose in enumerate(of_whom()):
        uid, outcome = f"{STUDY_UID}.{number + 1}", OUTCOMES[names[number % len(names)]]
        identifier = result_id(uid, MODEL.sha256)
        taken = ISSUED + timedelta(minutes=number)
        person = Patient(f"P{whose:04d}", "", PersonName("TEST", f"P{whose}"), "1970-01-01", "F")
        study = chest_study(
            study_instance_uid=uid,
            accession_number=f"A{number:05d}",
            patient=person,
            started=taken,
        )
        context = ReportContext(identifier, settings.site, MODEL, taken, "0", {"status": "bench"})
        source = chest_instance(
            StudyInstanceUID=uid, PatientID=person.patient_id, IssuerOfPatientID=None
        )
        analysed = isinstance(outcome, TriageResult)
        artefacts = report_set(
            study,
            outcome,
            context=context,
            source=source if analysed else None,
            image=chest_image() if analysed else None,
        )
        services.store.notice(identifier, uid, taken)
        services.store.save(
            StoredResult(identifier, study, outcome, taken, {}, str(source.SOPInstanceUID)),
            artefacts,
            audit_events=[],
            destinations=("fhir",),
        )
        services.repository.transaction(artefacts.bundle)
        services.outbox.settle(identifier, "fhir", DeliveryState.DELIVERED, at=taken)
        advance(number + 1)


def body(whose: int) -> str:
    """Give a call with everything prefetched: the patient, and that the EHR lists no study."""
    identifier = {"system": NAMESPACE, "value": f"P{whose:04d}"}
    patient_id = f"p{whose}"
    call = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": patient_id},
        "prefetch": {
            "patient": {
                "resourceType": "Patient",
                "id": patient_id,
                "identifier": [identifier],
                "name": [{"family": "TEST", "given": [f"P{whose}"]}],
                "birthDate": "1970-01-01",
            },
            "studies": {"resourceType": "Bundle", "type": "searchset", "total": 0},
        },
    }
    return orjson.dumps(call).decode()


# ── The servers ──────────────────────────────────────────────────────────────────────────────────


@contextmanager
def our_server(folder: Path, progress: Progress) -> Iterator[Server]:
    """Run radcds over a full store, and the EHR that signs for its calls."""
    office, port = LocalServer(), free_port()
    base = f"http://127.0.0.1:{port}"
    keys = f"{base}/.well-known/jwks.json"
    app = AppRegistration("radcds", f"{base}/launch", (), keys, frozenset(), base)
    with MockEhr(office.base_url, app, []) as ehr:
        office.start(ehr.app)
        network = folder / "network.toml"
        network.write_text(f"""
[[ehr]]
name = "Mock EHR"
fhir_base_url = "{ehr.fhir_base_url}"
cds = {{ issuer = "{ehr.cds_issuer}", jwks_url = "{office.base_url}/cds-jwks.json" }}
""")
        archive, data = folder / "archive", folder / "data"
        archive.mkdir()
        variables = {
            "RADCDS_ARCHIVE": str(archive),
            "RADCDS_DATA_DIR": str(data),
            "RADCDS_NETWORK": str(network),
            "RADCDS_BASE_URL": base,
        }
        settings = replace(Settings(), data_dir=data, network=network, base_url=base)
        task = progress.add_task("filling the store", total=STUDIES)
        fill(settings, lambda done: progress.update(task, completed=done))
        progress.remove_task(task)

        def signed(count: int) -> Sequence[Call]:
            drawn, until = random.Random(f"calls {count}"), int(time.time()) + 3000
            task = progress.add_task("signing the tokens", total=count)
            calls = []
            for _ in range(count):
                token = ehr.cds_token(f"{base}{SERVICE}", exp=until)
                calls.append((token, body(drawn.randrange(PATIENTS))))
                progress.advance(task)
            progress.remove_task(task)
            return calls

        log = folder / "radcds.log"
        with running(radcds(port), f"{base}/readyz", log, variables) as process:
            yield Server(
                "radcds, gunicorn, 2 workers",
                port,
                SERVICE,
                signed,
                again=False,
                memory=lambda: resident_mb(process.pid, "gunicorn"),
            )
        office.stop()


@contextmanager
def peer(folder: Path, workers: int) -> Iterator[Server]:
    """Run the peer."""
    port = free_port()
    command: list[str | Path] = [
        PEER / "bin" / "python",
        "-m",
        "uvicorn",
        "healthchain_service:app",
    ]
    command += ["--app-dir", HERE, "--port", str(port), "--workers", str(workers)]
    command += ["--log-level", "warning"]
    alive, log = f"http://127.0.0.1:{port}/cds/cds-discovery", folder / f"peer-{workers}.log"

    def calls(count: int) -> Sequence[Call]:
        drawn = random.Random(f"calls {count}")
        return [("", body(drawn.randrange(PATIENTS))) for _ in range(min(count, 500))]

    with running(command, alive, log) as process:
        yield Server(
            f"healthchain {PEER_VERSION}, uvicorn, {workers} worker{'s' * (workers > 1)}",
            port,
            "/cds/cds-services/patient-view",
            calls,
            again=True,
            memory=lambda: resident_mb(process.pid),
        )


def install_peer() -> None:
    """Make the peer's virtual environment where it is missing."""
    done = PEER / f"{PEER_VERSION}.stamp"
    if done.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
    install: list[str | Path] = [PEER / "bin" / "python", "-m", "pip", "install", "-qq"]
    subprocess.run([*install, f"healthchain=={PEER_VERSION}"], check=True)
    done.touch()


# ── The load ─────────────────────────────────────────────────────────────────────────────────────


def under_load(server: Server, phase: Phase, progress: Progress) -> dict[str, Any]:
    """Run one phase in a process of its own, and watch the server's memory meanwhile."""
    plan = {
        "host": "127.0.0.1",
        "port": server.port,
        "path": server.path,
        "connections": phase.connections,
        "rate": phase.rate,
        "seconds": phase.seconds,
        "requests": server.calls(phase.most),
        "again": server.again,
    }
    task = progress.add_task(f"{server.name}: {phase.name}", total=phase.seconds)
    command: list[str | Path] = [sys.executable, HERE / "load.py"]
    peak, start = server.memory(), time.monotonic()
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told) as generator,
    ):
        assert generator.stdin is not None
        generator.stdin.write(orjson.dumps(plan))
        generator.stdin.close()
        while generator.poll() is None:
            time.sleep(LOOK_EVERY_S)
            peak, took = max(peak, server.memory()), time.monotonic() - start
            progress.update(task, completed=took)
            if took > phase.seconds + PATIENCE_S:
                generator.kill()
        assert generator.returncode == 0, f"{server.name} does not answer any more"
        told.seek(0)
        outcome: dict[str, Any] = json.load(told)
    progress.remove_task(task)
    return {**outcome, "peak_mb": peak}


def measured(server: Server, seconds: float, progress: Progress) -> list[str]:
    """Give the lines of one server."""
    warm_up = replace(server, calls=lambda _: server.calls(WARM_UP_CALLS), again=False)
    under_load(warm_up, Phase("warming up", WARM_UP_CONNECTIONS, 20.0), progress)
    found = [(phase, under_load(server, phase, progress)) for phase in phases(seconds)]
    return [line(server.name, phase.name, outcome) for phase, outcome in found]


def line(server: str, phase: str, outcome: dict[str, Any]) -> str:
    times = sorted(outcome["milliseconds"])

    def at(share: float) -> str:
        value = times[min(len(times) - 1, math.ceil(share * len(times)) - 1)]
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"

    statuses = Counter({int(status): count for status, count in outcome["statuses"].items()})
    refused = statuses.total() - statuses[200]
    cards = sorted(int(number) for number in outcome["cards"])
    shown = " to ".join(str(each) for each in dict.fromkeys((cards[0], cards[-1])))
    per_second = len(times) / outcome["seconds"]
    cells = [server, phase, f"{per_second:.0f}", *(at(each) for each in (0.5, 0.95, 0.99, 1))]
    cells += [str(refused), shown, f"{outcome['peak_mb']:.0f}"]
    return f"| {' | '.join(cells)} |"


def events_that_verify(data: Path) -> int:
    command = [sys.executable, "-m", "cds_server.cli", "audit", "verify", "--json"]
    done = subprocess.run(
        [*command, "--data-dir", data], capture_output=True, check=True, timeout=300
    )
    return int(json.loads(done.stdout)["events"])


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=OPEN_SECONDS, help="of the open loop")
    seconds = options.parse_args().seconds
    named, today = machine(), datetime.now(UTC).date()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    lines: list[str] = []
    with (
        tempfile.TemporaryDirectory() as name,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        folder = Path(name)
        with our_server(folder, progress) as server:
            lines += measured(server, seconds, progress)
        task = progress.add_task("verifying the audit trail", total=None)
        events = events_that_verify(folder / "data")
        progress.remove_task(task)
        task = progress.add_task("installing the peer", total=None)
        install_peer()
        progress.remove_task(task)
        for workers in (1, 2):
            with peer(folder, workers) as server:
                lines += measured(server, seconds, progress)
    print(f"{named}; {today}\n")
    print(
        "| server | load | requests/s | p50 ms | p95 ms | p99 ms | max ms | not 200 | cards "
        "| peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", *lines, sep="\n")
    print(f"""
Each call of radcds checks an ES384 token and remembers it, reads a store of {STUDIES:,} studies of
{PATIENTS} patients, and writes the audit trail before it answers: {events:,} events were recorded,
and all verify. The peer does none of the three: it checks no token, reads no store and writes no
audit, and answers one fixed card. The load generator shares the cores with the server. Memory is
the sum of the resident sizes of the web processes, shared pages counted in each.""")
    if seconds < OPEN_SECONDS:
        print(f"\nA quick look of {seconds:.0f} s; {OPEN_SECONDS:.0f} s give the figures.")


if __name__ == "__main__":
    main()
