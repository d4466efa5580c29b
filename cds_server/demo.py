"""The demonstration: a real radiograph and a real head CT, from the archive to every artefact."""

import http.client
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ai_engine.result import TriageResult
from cds_server.batch import BatchReport, Progress, batch_settings, read_batch
from cds_server.config import Settings
from cds_server.errors import InvalidSettings
from cds_server.ports import StudyEntry
from cds_server.serve import check_port, processes

_SAMPLES = ("RG1_UNCR.dcm", "693_UNCR.dcm")
_START_TIMEOUT_S = 30.0


@contextmanager
def demonstration(
    out: Path, settings: Settings, *, port: int, progress: Progress
) -> Iterator[tuple[BatchReport, str]]:
    """Read the samples, serve the results until the block ends, and give the address to open.

    Raises
    ------
    InvalidSettings
        If the sample images are not installed.
    PortInUse
        If something else listens on the port.
    """
    host = "127.0.0.1"
    port = port or _free_port(host)
    check_port(host, port)
    settings = replace(
        batch_settings(settings, out),
        base_url=f"http://{host}:{port}",
        oru_folder=out / "oru-outbox",
        result_archive=out / "result-archive",
    )
    report = read_batch(_samples(), settings, progress=progress)
    with processes(settings, host=host, port=port, worker=False):
        _wait_until_alive(host, port)
        yield report, f"{settings.base_url}{_page(report.studies)}"


def artefact_paths(report: BatchReport, out: Path) -> Sequence[Path]:
    """List every file that was written for the studies of a report."""
    folders = [out / entry.study_instance_uid for entry in report.studies]
    return [path for folder in folders for path in sorted(folder.iterdir())]


def _samples() -> Sequence[Path]:
    try:
        from pydicom.data import get_testdata_file  # noqa: PLC0415 - only the demo needs it
    except ImportError as error:
        msg = "the sample images are missing; pip install pydicom-data"
        raise InvalidSettings(msg) from error
    found = [get_testdata_file(name, download=False) for name in _SAMPLES]
    if not all(found):
        msg = "the sample images are missing; pip install pydicom-data"
        raise InvalidSettings(msg)
    return [Path(str(path)) for path in found]


def _page(studies: Sequence[StudyEntry]) -> str:
    """Give the page of the first analysed study."""
    for entry in studies:
        if entry.result and isinstance(entry.result.outcome, TriageResult):
            return f"/studies/{entry.result_id}"
    return "/"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _wait_until_alive(host: str, port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=1.0)
        try:
            connection.request("GET", "/livez")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError as error:
            if time.monotonic() > deadline:
                msg = f"the web service did not start within {_START_TIMEOUT_S:.0f} s"
                raise InvalidSettings(msg) from error
        finally:
            connection.close()
        time.sleep(0.1)
