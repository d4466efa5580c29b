"""The peers of the race: installed on first use, each in a virtual environment of its own."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from orthanc import AE_TITLE, Orthanc, free_ports

HERE = Path(__file__).parent
PEERS = HERE.parent.parent / ".cache" / "peers"
ROUTER = "dicom-ai-router==0.3.0"
MONAI = "monai-deploy-app-sdk==4.0.0"
WITH_MONAI = ("pydicom==3.0.2",)
SALT = "0123456789abcdef" * 2
_START_TIMEOUT_S = 60.0
_ANSWER = {
    "model": "stand-in",
    "model_version": "1",
    "result": "NEGATIVE",
    "summary_lines": [["Result", "No finding detected by model"]],
    "key_sop_instance_uid": None,
    "overlays": [],
    "display_window": [40, 400],
}


class DidNotRun(Exception):
    """What was to be measured cannot be installed, does not start, or gives no result."""


@dataclass(frozen=True)
class Listener:
    """Where ``storescu`` sends to."""

    port: int
    ae_title: str


def installed(requirement: str, *more: str) -> Path:
    """Give the folder of a peer's programs, made where it is missing.

    Raises
    ------
    DidNotRun
        If it cannot be installed.
    """
    folder = PEERS / requirement.replace("==", "-")
    done = folder / "installed"
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "-qq", requirement, *more]
        for command in ([sys.executable, "-m", "venv", "--clear", folder], install):
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                why = (ended.stderr.strip() or "pip failed").splitlines()[-1]
                msg = f"{requirement} cannot be installed: {why}"
                raise DidNotRun(msg)
        done.touch()
    return folder / "bin"


# ── dicom-ai-router ──────────────────────────────────────────────────────────────────────────────


class _Model(BaseHTTPRequestHandler):
    """The router's model: reads what it is sent and answers at once."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(_ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def router(pacs: Orthanc, folder: Path, quiet_s: float | None) -> Iterator[list[Listener]]:
    """Run the router with the configuration that it ships; ``quiet_s`` changes its timer alone.

    Raises
    ------
    DidNotRun
        If it does not start.
    """
    programs = installed(ROUTER)
    (port,) = free_ports(1)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as model:
        threading.Thread(target=model.serve_forever, daemon=True).start()
        changes = {
            "port: 11112": f"port: {port}",
            "bind_address: 0.0.0.0": "bind_address: 127.0.0.1",
            "workdir: ./data": f"workdir: {folder / 'work'}",
            "ae_title: PACS": f"ae_title: {AE_TITLE}",
            "port: 11113": f"port: {pacs.dicom_port}",
            "127.0.0.1:8500/infer/lung-nodule": f"127.0.0.1:{model.server_port}/",
        }
        if quiet_s is not None:
            changes["study_quiet_seconds: 3"] = f"study_quiet_seconds: {quiet_s}"
        configuration = folder / "router.yaml"
        configuration.write_text(_configuration(programs, changes), encoding="utf-8")
        command = [programs / "dicom-ai-router", "serve", "--config", configuration]
        with _listening(command, port, folder / "router.log", AIROUTER_DEID_SALT=SALT):
            yield [Listener(port, "AIROUTER")]
        model.shutdown()


def _configuration(programs: Path, changes: Mapping[str, str]) -> str:
    """Give the configuration that the router ships, with changes."""
    (shipped,) = programs.parent.glob("lib/python*/site-packages/airouter/_data/router.yaml")
    text = shipped.read_text(encoding="utf-8")
    for written, change in changes.items():
        assert written in text, f"the router's configuration has no {written!r} any more"
        text = text.replace(written, change)
    return text


def readings(folder: Path) -> int:
    """Say how many times the router took a study for complete."""
    lines = (folder / "work" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["step"] == "study_complete" for line in lines)


# ── MONAI Deploy App SDK ─────────────────────────────────────────────────────────────────────────


@contextmanager
def monai(pacs: Orthanc, folder: Path, quiet_s: int, at_once: int) -> Iterator[list[Listener]]:
    """Run the application on each study that DCMTK's ``storescp`` has received.

    The SDK has no receiver, and the project's own (Informatics Gateway) is a .NET service. So
    ``storescp`` waits as long as that one does, runs the application as its documentation does, and
    ``storescu`` sends the SR. A receiver takes a study for complete when another one begins; so
    there are as many receivers as studies on the way.

    Raises
    ------
    DidNotRun
        If it does not run.
    """
    programs = installed(MONAI, *WITH_MONAI)
    ports = free_ports(at_once)
    run = (
        f"mkdir '#p.out' && '{programs / 'python'}' '{HERE / 'pacs_monai_app.py'}' "
        f"-i '#p' -o '#p.out' >'#p.log' 2>&1 && "
        f"storescu +sd -aec {AE_TITLE} 127.0.0.1 {pacs.dicom_port} '#p.out'"
    )
    with ExitStack() as receivers:
        for port in ports:
            received = folder / str(port)
            received.mkdir()
            command = ["storescp", "-od", received, "-su", "study", "-tos", str(quiet_s)]
            command += ["-xcs", run, str(port)]
            receivers.enter_context(_listening(command, port, folder / f"{port}.log"))
        yield [Listener(port, "MONAI") for port in ports]


@contextmanager
def _listening(
    command: Sequence[str | Path], port: int, log: Path, **environment: str
) -> Iterator[None]:
    """Run a receiver of DICOM until the block ends.

    Raises
    ------
    DidNotRun
        If it does not listen.
    """
    with (
        log.open("wb") as told,
        subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=told, stderr=told
        ) as process,
    ):
        try:
            _wait(process, port, log)
            yield
        finally:
            process.terminate()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    msg = f"{Path(str(process.args[0])).name} does not listen: {' '.join(last)}"
    raise DidNotRun(msg)
