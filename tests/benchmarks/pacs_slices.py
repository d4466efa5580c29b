"""A CT of many slices: how long until the decision, and in how much memory."""

import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pacs_race import SHORTEST_S, Started, ours, p50_p95, until_listed
from pacs_studies import SentStudy
from rich.progress import Progress
from running import resident_mb

WORKER, SANDBOX = "\0worker\0", "sandbox_child"
BOUNDARY = "radcds-benchmark-of-the-pacs"
SAMPLE_EVERY_S = 0.05


@dataclass
class Peaks:
    """Resident memory in MB: of the worker, and of the processes that open images."""

    worker_mb: float = 0.0
    sandbox_mb: float = 0.0


def decided(studies: Sequence[SentStudy], progress: Progress, *, stand_in: bool) -> list[str]:
    """Give the line of one reader; the first study warms up and does not count."""
    name = "a stand-in reads every slice" if stand_in else "the shipped model declines it"
    task = progress.add_task(f"CT, {name}", total=len(studies))
    with (
        tempfile.TemporaryDirectory() as folder,
        ours(Path(folder), settle_s=SHORTEST_S, stand_in=stand_in) as started,
        _watched(started.pid) as peaks,
    ):
        times = []
        for study in studies:
            times.append(_stored_and_listed(study, started))
            progress.advance(task)
    progress.remove_task(task)
    stow = p50_p95([each[0] for each in times[1:]])
    listed = p50_p95([each[1] for each in times[1:]])
    cells = [name, *(f"{value:.2f}" for value in (*stow, *listed))]
    cells += [f"{peaks.worker_mb:.0f}", f"{peaks.sandbox_mb:.0f}"]
    return [f"| {' | '.join(cells)} |"]


def _stored_and_listed(study: SentStudy, started: Started) -> tuple[float, float]:
    """Store a study by STOW-RS; give the seconds until it is stored and until its SR is listed."""
    address = f"{started.pacs.url}/studies/{study.study_instance_uid}"
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
        "Accept": "application/dicom+json",
    }
    request = urllib.request.Request(address, _packed(study), headers)  # noqa: S310 - loopback
    start = time.perf_counter()
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        answer.read()
    return time.perf_counter() - start, until_listed(study, started.pacs, start)


def _packed(study: SentStudy) -> bytes:
    opening = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    parts = b"\r\n".join(opening + path.read_bytes() for path in study.files)
    return parts + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def _watched(root: int) -> Iterator[Peaks]:
    """Watch the memory of a server while the block runs."""
    peaks, done = Peaks(), threading.Event()

    def look() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            peaks.worker_mb = max(peaks.worker_mb, resident_mb(root, WORKER))
            peaks.sandbox_mb = max(peaks.sandbox_mb, resident_mb(root, SANDBOX))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()
