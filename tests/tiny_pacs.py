"""A second vendor's PACS on loopback: tiny-pacs, whose DICOMweb lacks much of the standard."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orthanc import free_ports

_CONFIGURATION = """
ae:
  ae_title: [TINY_PACS]
  port: {dicom_port}
log: {{version: 1, disable_existing_loggers: true}}
components:
  HttpServer: {{"on": true, host: 127.0.0.1, port: {http_port}, allow_remote: false}}
  DICOMWeb: {{"on": true, prefix: /dicomweb, auth: none}}
"""


@contextmanager
def tiny_pacs(folder: Path) -> Iterator[str]:
    """Run a PACS that keeps its studies in memory; give its DICOMweb address."""
    dicom_port, http_port = free_ports(2)
    configuration = folder / "tiny-pacs.yaml"
    configuration.write_text(_CONFIGURATION.format(dicom_port=dicom_port, http_port=http_port))
    program = Path(sys.executable).with_name("tiny-pacs")
    url = f"http://127.0.0.1:{http_port}/dicomweb"
    log = folder / "tiny-pacs.log"
    with (
        log.open("wb") as written,
        subprocess.Popen(
            [program, "run", "-c", configuration],
            cwd=folder,
            stdout=written,
            stderr=subprocess.STDOUT,
        ) as running,
    ):
        try:
            _wait_for(f"{url}/studies", running, log)
            yield url
        finally:
            running.kill()


def _wait_for(url: str, running: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 20
    accept = {"Accept": "application/dicom+json"}
    asked = urllib.request.Request(url, headers=accept)  # noqa: S310 - loopback
    while True:
        assert running.poll() is None, f"the PACS ended at its start: {log.read_text()}"
        try:
            urllib.request.urlopen(asked).close()  # noqa: S310 - loopback
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, f"the PACS did not start: {log.read_text()}"
            time.sleep(0.05)
        else:
            return
