"""The server as one command: what arrives in the archive is on the worklist soon after."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import sample


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """A running server over an empty folder."""
    archive, port = tmp_path / "archive", free_port()
    archive.mkdir()
    variables = {
        **os.environ,
        "RADCDS_ARCHIVE": str(archive),
        "RADCDS_DATA_DIR": str(tmp_path / "data"),
        "RADCDS_POLL_INTERVAL_S": "0.3",
        "RADCDS_BASE_URL": f"http://127.0.0.1:{port}",
        "RADCDS_ORU_FOLDER": str(tmp_path / "oru"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "cds_server.cli", "serve", "--port", str(port)], env=variables
    ) as running:
        yield f"http://127.0.0.1:{port}", archive, running
        if running.poll() is None:
            running.kill()


def get(url: str, token: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(follow_redirects=False, timeout=30) as client:
        yield client


def signed_in(client: httpx.Client, address: str, token: str) -> httpx.Client:
    """Sign in as the operator who started the server."""
    own = {"Origin": address}
    answer = client.post(f"{address}/sign-in", data={"token": token}, headers=own)
    assert answer.status_code == 303
    cookie = answer.headers["Set-Cookie"]
    for attribute in ("__Host-", "Secure", "HttpOnly", "SameSite=None", "Partitioned", "Path=/"):
        assert attribute in cookie
    client.headers["Cookie"] = cookie.split(";")[0]
    client.base_url = httpx.URL(f"{address}{answer.headers['Location'].removesuffix('/worklist')}")
    return client


def eventually(holds: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)


def verified(*arguments: str) -> int:
    """Count the audit events."""
    command = [sys.executable, "-m", "cds_server.cli", "audit", "verify", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    return int(json.loads(done.stdout)["events"])


def test_a_study_that_arrives_is_read_delivered_and_shown(
    served: tuple[str, Path, subprocess.Popen[bytes]], client: httpx.Client, tmp_path: Path
) -> None:
    address, archive, running = served
    eventually(lambda: json.loads(get(f"{address}/readyz")) == {"database": "ok"})
    token = (tmp_path / "data" / "sign-in-token").read_text()
    assert (tmp_path / "data" / "sign-in-token").stat().st_mode & 0o777 == 0o600
    session = signed_in(client, address, token)
    assert "No study matches" in session.get("/worklist").text
    shutil.copy(sample("RG1_UNCR.dcm"), archive)
    eventually(lambda: "delivered" in session.get("/worklist").text)
    page = session.get("/worklist").text
    assert "RG1 CompressedSamples" in page
    study = page.partition("/studies/")[2].partition('"')[0]
    images = session.get(f"/studies/{study}/images").json()["images"]
    first = images[0]
    pixels = session.get(f"/studies/{study}/images/0").content
    assert len(pixels) == first["rows"] * first["columns"] * 2
    call = {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": "9RG1"},
    }
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{address}/cds-services/radcds-patient-view",
        json.dumps(call).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        assert len(json.load(answer)["cards"]) == 1
    found = json.loads(get(f"{address}/fhir/DiagnosticReport?patient=9RG1", token))
    assert found["total"] == 1
    assert len(list((tmp_path / "oru").iterdir())) == 1
    data = ["--data-dir", str(tmp_path / "data")]
    before = verified(*data)
    (archive / "broken.dcm").write_bytes(b"not DICOM at all")
    eventually(lambda: verified(*data) > before)
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    assert not (tmp_path / "data" / "sign-in-token").exists()


def test_killed_with_9_no_orphan_keeps_the_port(
    served: tuple[str, Path, subprocess.Popen[bytes]],
) -> None:
    address, _, running = served
    eventually(lambda: bool(get(f"{address}/livez")))
    running.kill()
    running.wait()
    port = int(address.rpartition(":")[2])

    def free() -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        return True

    eventually(free)
