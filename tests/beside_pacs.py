"""A worker beside a PACS that a test spoils, and what can be seen of both."""

import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from strict_pacs import StrictPacs
from studies import STUDY_UID, chest_instance

from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_component_store import SqlComponentStore
from cds_server.adapters.sql_outbox import SqlOutbox
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.ports import StudyState

PATIENCE_S = 60.0


def file_of(number: int, **changes: object) -> bytes:
    """Give a study of one image as a file."""
    study = f"{STUDY_UID}.{number}"
    dataset = chest_instance(
        StudyInstanceUID=study,
        SeriesInstanceUID=f"{study}.1",
        SOPInstanceUID=f"{study}.1.1",
        AccessionNumber=f"ACC{number}",
        **changes,
    )
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()


class Watcher:
    """What can be seen of the server from outside: its stores."""

    def __init__(self, data: Path) -> None:
        engine = open_engine(data / "radcds.sqlite")
        self.results = SqlResultStore(engine)
        self.components = SqlComponentStore(engine)
        self.outbox = SqlOutbox(engine)
        self.trail = SqlAuditTrail(engine)

    def published(self) -> int:
        return sum(each.state is StudyState.PUBLISHED for each in self.results.entries())

    def trouble(self) -> str:
        (archive,) = self.components.components()
        return archive.trouble

    def outcomes(self, subtype: str) -> list[str]:
        events = [json.loads(each) for each in self.trail.events()]
        return [e["outcome"] for e in events if e["subtype"][0]["code"] == subtype]


@contextmanager
def worker(port: int, data: Path, *, killed: bool = False, **changes: str) -> Iterator[Watcher]:
    """Run the worker until the block ends, or kill it then without a word."""
    data.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{port}/v2"
    variables = {
        **os.environ,
        "RADCDS_ARCHIVE": url,
        "RADCDS_RESULT_ARCHIVE": url,
        "RADCDS_DATA_DIR": str(data),
        "RADCDS_WATCH_DAYS": "0",
        "RADCDS_POLL_INTERVAL_S": "0.5",
        "RADCDS_ARCHIVE_TIMEOUT_S": "2",
        **changes,
    }
    command = [sys.executable, "-m", "cds_server.cli", "worker"]
    with subprocess.Popen(command, env=variables) as running:
        try:
            yield Watcher(data)
        finally:
            (running.kill if killed else running.terminate)()
            running.wait(30)


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def results_of(pacs: StrictPacs, number: int) -> Counter[str]:
    own = [each for each in pacs.kept.values() if each.study == f"{STUDY_UID}.{number}"]
    return Counter(each.metadata["00080060"]["Value"][0] for each in own)
