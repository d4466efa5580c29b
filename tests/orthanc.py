"""A real PACS on loopback: Orthanc with its DICOMweb plugin."""

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

AE_TITLE = "ORTHANC"


@dataclass(frozen=True)
class Orthanc:
    """A running PACS.

    ``url`` is its DICOMweb address, ``rest`` its own interface, ``dicom_port`` where ``storescu``
    sends to with ``AE_TITLE`` (0 without DICOM), ``user`` and ``password`` empty where it does not
    ask who one is.
    """

    rest: str
    dicom_port: int = 0
    user: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        return f"{self.rest}/dicom-web"

    def ask(self, path: str, content: bytes | None = None, method: str | None = None) -> bytes:
        """Ask its own interface, as someone who may."""
        secret = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {secret}"} if self.user else {}
        address = f"{self.rest}{path}"
        request = urllib.request.Request(address, content, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
            return bytes(answer.read())

    def upload(self, content: bytes) -> str:
        """Store a file, and give the id that Orthanc has for it."""
        return str(json.loads(self.ask("/instances", content))["ID"])

    def find(self, **query: str) -> list[str]:
        """Give the ids of the instances that match."""
        asked = json.dumps({"Level": "Instance", "Query": query}).encode()
        return list(json.loads(self.ask("/tools/find", asked)))

    def file(self, identifier: str) -> bytes:
        """Give the file of an instance, as it is stored."""
        return self.ask(f"/instances/{identifier}/file")

    def delete_everything(self) -> None:
        """Delete every patient."""
        for patient in json.loads(self.ask("/patients")):
            self.ask(f"/patients/{patient}", method="DELETE")


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def orthanc(
    folder: Path,
    *,
    user: str = "",
    password: str = "",
    dicom: bool = False,
    lua: str = "",
    **settings: Any,
) -> Iterator[Orthanc]:
    """Run a PACS that keeps its studies in ``folder``; it has ended when this is over."""
    program = which("Orthanc")
    assert program, "the PACS is missing: run scripts/install_system.sh orthanc"
    http_port, dicom_port = free_ports(2)
    pacs = Orthanc(f"http://127.0.0.1:{http_port}", dicom_port if dicom else 0, user, password)
    scripts = [folder / "hook.lua"] if lua else []
    for script in scripts:
        script.write_text(lua)
    configuration = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": bool(user),
        "RegisteredUsers": {user: password} if user else {},
        "DicomServerEnabled": dicom,
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "DicomAlwaysAllowStore": True,
        "LuaScripts": [str(script) for script in scripts],
        "StableAge": 1,
        "Plugins": [_plugin()],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Host": f"127.0.0.1:{http_port}"},
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with subprocess.Popen(
        [program, folder / "orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            _wait_for(pacs, running)
            yield pacs
        finally:
            running.terminate()


def _plugin() -> str:
    found = sorted(Path("/usr").glob("**/plugins/libOrthancDicomWeb.so"))
    assert found, "the DICOMweb plugin is missing: run scripts/install_system.sh orthanc"
    return str(found[0])


def _wait_for(pacs: Orthanc, running: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while True:
        assert running.poll() is None, "the PACS ended at its start"
        try:
            pacs.ask("/dicom-web/studies")
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, "the PACS did not start"
            time.sleep(0.05)
        else:
            return
