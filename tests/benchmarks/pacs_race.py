"""The race: from the first byte that a modality sends to the report that the PACS lists."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pacs_peers as peers
from orthanc import AE_TITLE, Orthanc, orthanc
from pacs_peers import DidNotRun, Listener
from pacs_studies import SentStudy
from rich.progress import Progress
from running import free_port, radcds, running

from cds_server import bootstrap
from cds_server.config import Settings
from cds_server.serve import as_environment

HERE = Path(__file__).parent
HOOK = HERE.parents[1] / "deploy" / "orthanc" / "radcds.lua"
EVENTS = "/etc/orthanc/radcds-events"
TOKEN = "0123456789abcdef" * 4
LOOK_EVERY_S, PATIENCE_S = 0.02, 60.0
SHORTEST_S = 0.25
"""How often the router looks at its timers; here one slice follows the other within 20 ms."""


@dataclass(frozen=True)
class Started:
    """What runs: the PACS, where studies are sent to, how often one was taken for complete."""

    pacs: Orthanc
    listeners: Sequence[Listener]
    readings: Callable[[], int] | None = None
    pid: int = 0


@dataclass(frozen=True)
class Entrant:
    """One line of the table.

    ``every_s`` sends the next study while others still wait for their timers, at a pace at which
    work hardly meets work; 0 sends it when the one before is done.
    """

    name: str
    waits: str
    says: str
    start: Callable[[Path], AbstractContextManager[Started]]
    quiet_s: float = 0.0
    every_s: float = 0.0


@contextmanager
def ours(
    folder: Path, *, settle_s: float | None = None, stand_in: bool = False
) -> Iterator[Started]:
    """Run Orthanc with the hook, and radcds beside it: results go where the images are."""
    port, token, events = free_port(), folder / "token", folder / "radcds-events"
    base = f"http://127.0.0.1:{port}"
    token.write_text(TOKEN)
    events.write_text(f"{base}\n{TOKEN}\n")
    command = radcds(port)
    if stand_in:
        command = [sys.executable, str(HERE / "pacs_stand_in.py"), "serve", "--port", str(port)]
    hook = HOOK.read_text(encoding="utf-8").replace(EVENTS, str(events))
    with orthanc(folder, dicom=True, lua=hook) as pacs:
        settings = replace(
            Settings(),
            archive=pacs.url,
            result_archive=pacs.url,
            pacs_events_token=token,
            watch_days=0.0,
            data_dir=folder / "data",
            base_url=base,
            settle_s=Settings().settle_s if settle_s is None else settle_s,
        )
        alive, log = f"{base}/readyz", folder / "radcds.log"
        with running(command, alive, log, as_environment(settings)) as process:
            store = bootstrap.services(settings).store
            listeners = [Listener(pacs.dicom_port, AE_TITLE)]
            yield Started(pacs, listeners, lambda: len(store.entries()), process.pid)


@contextmanager
def router(folder: Path, *, quiet_s: float | None = None) -> Iterator[Started]:
    """Run Orthanc and the router."""
    with (
        orthanc(folder, dicom=True) as pacs,
        peers.router(pacs, folder, quiet_s) as listeners,
    ):
        yield Started(pacs, listeners, partial(peers.readings, folder))


@contextmanager
def monai(folder: Path, *, quiet_s: int, at_once: int) -> Iterator[Started]:
    """Run Orthanc and the MONAI application."""
    with (
        orthanc(folder, dicom=True) as pacs,
        peers.monai(pacs, folder, quiet_s, at_once) as listeners,
    ):
        yield Started(pacs, listeners)


DECLINED = "not analysed: the shipped model reads no CT"
STAND_IN = "what a stand-in for a model says at once"
ROUTER, MONAI = "dicom-ai-router 0.3.0", "MONAI Deploy App SDK 4.0.0"
RADIOGRAPHS = (Entrant("radcds, RG1", "none, default", "what the shipped model found", ours),)
CT_SERIES = (
    Entrant("radcds", "10 s, default", DECLINED, ours, 10.0, 1.25),
    Entrant("radcds", "3 s", DECLINED, partial(ours, settle_s=3.0), 3.0, 1.0),
    Entrant("radcds", "0.25 s", DECLINED, partial(ours, settle_s=SHORTEST_S), SHORTEST_S),
    Entrant(
        "radcds",
        "0.25 s",
        STAND_IN,
        partial(ours, settle_s=SHORTEST_S, stand_in=True),
        SHORTEST_S,
    ),
    Entrant(ROUTER, "3 s, default", STAND_IN, router, 3.0, 1.0),
    Entrant(ROUTER, "0.25 s", STAND_IN, partial(router, quiet_s=SHORTEST_S), SHORTEST_S),
    Entrant(MONAI, "5 s, default", STAND_IN, partial(monai, quiet_s=5, at_once=5), 5.0, 1.25),
    Entrant(MONAI, "1 s", STAND_IN, partial(monai, quiet_s=1, at_once=1), 1.0),
)


@dataclass(frozen=True)
class Run:
    """Seconds of one study: until everything was sent, and until its SR was listed."""

    sent_s: float
    listed_s: float


def raced(entrant: Entrant, studies: Sequence[SentStudy], progress: Progress) -> str:
    """Give the line of one entrant; the first study warms up and does not count."""
    name = f"{entrant.name}, quiet time {entrant.waits}"
    task = progress.add_task(name, total=len(studies))
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            entrant.start(Path(folder)) as started,
        ):
            runs = _runs(entrant, started, studies, lambda: progress.advance(task))
            read = started.readings() if started.readings else len(studies)
    except DidNotRun as why:
        return f"| {entrant.name} | {entrant.waits} | {why} | | | |"
    finally:
        progress.remove_task(task)
    says = entrant.says
    if read > len(studies):
        says += f"; {read - len(studies)} of {len(studies)} read before all of it was there"
    sent = statistics.median(run.sent_s for run in runs)
    p50, p95 = p50_p95([run.listed_s for run in runs])
    return f"| {entrant.name} | {entrant.waits} | {says} | {sent:.2f} | {p50:.2f} | {p95:.2f} |"


def p50_p95(values: Sequence[float]) -> tuple[float, float]:
    """Give the median, and what 19 of 20 do not exceed."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def _runs(
    entrant: Entrant, started: Started, studies: Sequence[SentStudy], advance: Callable[[], None]
) -> list[Run]:
    warm_up, *counted = studies
    _run(warm_up, started, started.listeners[0], entrant.quiet_s)
    advance()
    with ThreadPoolExecutor(len(studies)) as pool:
        futures = []
        for number, study in enumerate(counted):
            listener = started.listeners[number % len(started.listeners)]
            future = pool.submit(_run, study, started, listener, entrant.quiet_s)
            future.add_done_callback(lambda _: advance())
            futures.append(future)
            time.sleep(entrant.every_s)
            if not entrant.every_s:
                future.result()
        return [future.result() for future in futures]


def _run(study: SentStudy, started: Started, listener: Listener, quiet_s: float) -> Run:
    """Send a study and look for its SR; not during the quiet time, so as to disturb nobody.

    Raises
    ------
    DidNotRun
        If it is not taken, or gives no SR.
    """
    address = ["-aec", listener.ae_title, "127.0.0.1", str(listener.port)]
    start = time.perf_counter()
    command: list[str | Path] = ["storescu", "+sd", *address, study.folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        msg = f"{listener.ae_title} does not take a study"
        raise DidNotRun(msg)
    sent = time.perf_counter() - start
    time.sleep(quiet_s)
    return Run(sent, until_listed(study, started.pacs, start))


def until_listed(study: SentStudy, pacs: Orthanc, start: float) -> float:
    """Wait until QIDO lists an SR of a study; give the seconds since the start.

    Raises
    ------
    DidNotRun
        If it never does.
    """
    path = f"/dicom-web/studies/{study.study_instance_uid}/series?Modality=SR"
    while not json.loads(pacs.ask(path)):
        if time.perf_counter() - start > PATIENCE_S:
            msg = f"no result of a study after {PATIENCE_S:.0f} s"
            raise DidNotRun(msg)
        time.sleep(LOOK_EVERY_S)
    return time.perf_counter() - start
