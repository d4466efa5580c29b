"""The real server with two worker processes, beside the mock EHR: what only shows over sockets."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import sample

from mock_ehr.local_server import LocalServer
from mock_ehr.records import patient, practitioner
from mock_ehr.registration import AppRegistration
from mock_ehr.server import MockEhr

PATH = "/cds-services/radcds-patient-view"


@dataclass
class Running:
    """A server with one study, and the EHR that it trusts."""

    base: str
    ehr: MockEhr
    folder: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gunicorn")
    office, port = LocalServer(), free_port()
    base = f"http://127.0.0.1:{port}"
    app = AppRegistration(
        "radcds",
        f"{base}/launch",
        (f"{base}/callback",),
        f"{base}/.well-known/jwks.json",
        frozenset({"openid", "fhirUser", "launch", "patient/Patient.r", "user/Practitioner.r"}),
        base,
    )
    known = [("urn:radcds:accession", "9RG1")]
    people = [
        patient("p1", family="TEST", given="One", birth_date="1940-03-05", identifiers=known),
        practitioner("radiologist-1", family="READER", given="Test"),
    ]
    ehr = MockEhr(office.base_url, app, people)
    office.start(ehr.app)
    (folder / "network.toml").write_text(f"""
[[ehr]]
name = "Test EHR"
fhir_base_url = "{ehr.fhir_base_url}"
cds = {{ issuer = "{ehr.cds_issuer}", jwks_url = "{office.base_url}/cds-jwks.json" }}
smart = {{ client_id = "radcds", roles = {{ "Practitioner/radiologist-1" = "radiologist" }} }}
""")
    archive = folder / "archive"
    archive.mkdir()
    shutil.copy(sample("RG1_UNCR.dcm"), archive)
    variables = {
        **os.environ,
        "RADCDS_ARCHIVE": str(archive),
        "RADCDS_DATA_DIR": str(folder / "data"),
        "RADCDS_NETWORK": str(folder / "network.toml"),
        "RADCDS_BASE_URL": base,
        "RADCDS_POLL_INTERVAL_S": "0.3",
    }
    command = [sys.executable, "-m", "cds_server.cli", "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        served = Running(base, ehr, folder, process)
        _wait_for_a_card(served)
        yield served
        process.terminate()
        assert process.wait(30) == 0
    office.stop()
    ehr.close()
    assert ehr.violations == []
    assert b"9RG1" not in (folder / "log").read_bytes()


def _wait_for_a_card(served: Running) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if hook(served).json()["cards"]:
                return
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(0.3)
    raise AssertionError((served.folder / "log").read_text())


def body(**changes: Any) -> dict[str, Any]:
    context = {"userId": "Practitioner/radiologist-1", "patientId": "p1"}
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": context,
        **changes,
    }


def hook(served: Running) -> httpx.Response:
    context = {"userId": "Practitioner/radiologist-1", "patientId": "p1"}
    return served.ehr.call_hook("radcds-patient-view", "patient-view", context)


def raw(base: str, request: bytes) -> bytes:
    host, port = base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        connection.settimeout(20)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_one_token_is_taken_once_by_all_workers_together(running: Running) -> None:
    known = {"patient": None, "studies": None}
    for _ in range(5):
        token = running.ehr.cds_token(f"{running.base}{PATH}")
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}

        def call(_: int, headers: dict[str, str] = headers) -> int:
            answer = httpx.post(
                f"{running.base}{PATH}", json=body(prefetch=known), headers=headers, timeout=30
            )
            return answer.status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(call, range(8)))
        assert sorted(statuses) == [200, *[401] * 7]


def test_a_chunked_body_is_answered_whole_and_one_beyond_the_limit_is_413(running: Running) -> None:
    def chunked(pieces: list[bytes]) -> bytes:
        token = running.ehr.cds_token(f"{running.base}{PATH}")
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
            "Connection: close\r\n\r\n"
        )
        parts = [f"{len(each):x}\r\n".encode() + each + b"\r\n" for each in [*pieces, b""]]
        return raw(running.base, head.encode() + b"".join(parts))

    known = {"patient": None, "studies": None}
    whole = json.dumps(body(prefetch=known)).encode()
    small = chunked([whole[:50], whole[50:]])
    assert small.startswith(b"HTTP/1.1 200")
    assert b'{"cards":[]}' in small
    padded = json.dumps(body(prefetch=known, extension={"org.example.x": "y" * 9_000_000})).encode()
    try:
        large = chunked([padded])
    except ConnectionError:
        large = b"HTTP/1.1 413 (connection closed while sending)"
    assert large.startswith(b"HTTP/1.1 413")


def test_a_body_of_12_megabytes_is_refused_before_it_is_read(running: Running) -> None:
    token = running.ehr.cds_token(f"{running.base}{PATH}")
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {12 * 1024 * 1024}\r\nConnection: close\r\n\r\n"
    )
    assert raw(running.base, head.encode()).startswith(b"HTTP/1.1 413")


def launched(running: Running) -> tuple[httpx.Response, dict[str, str]]:
    """Launch from the EHR; give the page at the end, and the headers of the session."""
    launch = running.ehr.new_launch(patient="p1", user="Practitioner/radiologist-1")
    cookies: dict[str, str] = {}
    url = running.ehr.launch_url(launch)
    while True:
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "Sec-Fetch-Dest": "document",
            "Connection": "close",
        }
        answer = httpx.get(url, headers=headers, timeout=30)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.split(";")[0].partition("=")
            cookies[name] = value
        if "location" not in answer.headers:
            return answer, headers
        url = str(httpx.URL(url).join(answer.headers["location"]))


def test_a_launch_opens_the_page_through_any_worker(running: Running) -> None:
    answer, _ = launched(running)
    assert answer.status_code == 200
    assert "RG1 CompressedSamples" in answer.text
    assert len(list((running.folder / "data" / "keys").iterdir())) == 2


def workers(running: Running) -> list[str]:
    """Find the worker processes of this web service, and of no other."""
    command = ["ps", "-eo", "pid,ppid,args"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [line.split() for line in listed.splitlines() if "gunicorn wsgi:app" in line]
    masters = {line[0] for line in found if line[1] == str(running.process.pid)}
    return [line[0] for line in found if line[1] in masters]


def test_workers_that_are_killed_lose_no_session_and_no_answer(running: Running) -> None:
    answer, headers = launched(running)
    page = str(answer.url)
    before = workers(running)
    assert len(before) >= 2
    subprocess.run(["kill", "-9", *before], check=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            again = httpx.get(page, headers=headers, timeout=30)
            cards = hook(running).json()["cards"]
        except httpx.HTTPError:
            time.sleep(0.2)
            continue
        assert again.status_code == 200
        assert "RG1 CompressedSamples" in again.text
        assert len(cards) == 1
        assert not set(before) & set(workers(running))
        return
    raise AssertionError((running.folder / "log").read_text())


def test_the_doctor_asks_the_ehr_and_says_what_is_wrong(running: Running) -> None:
    def examined(network: str) -> dict[str, Any]:
        variables = {
            **os.environ,
            "RADCDS_ARCHIVE": str(running.folder / "archive"),
            "RADCDS_DATA_DIR": str(running.folder / "doctor"),
            "RADCDS_NETWORK": network,
        }
        command = [sys.executable, "-m", "cds_server.cli", "doctor", "--json"]
        done = subprocess.run(command, env=variables, capture_output=True, check=False)
        return {each["name"]: each for each in json.loads(done.stdout)}

    good = running.folder / "network.toml"
    assert examined(str(good))["EHR Test EHR"]["passed"]
    silent = running.folder / "silent.toml"
    silent.write_text(
        good.read_text().replace(f"{running.ehr.fhir_base_url}", "http://127.0.0.1:9/f")
    )
    told = examined(str(silent))["EHR Test EHR"]
    assert not told["passed"]
    assert "127.0.0.1" in told["says"]
    silent.write_text("[[ehrs]]")
    told = examined(str(silent))
    assert not told["network"]["passed"]
    assert "unknown key" in told["network"]["says"]
