"""A real FHIR server on loopback: sekmet-fhir, which keeps its resources in a folder."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthanc import free_ports

PROGRAM = Path(sys.executable).parent / "sekmet"


@dataclass(frozen=True)
class Sekmet:
    """A running FHIR server.

    ``url`` is its FHIR address; ``token`` opens it, where it asks who one is.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    token: str = ""

    def ask(self, path: str, resource: Mapping[str, Any] | None = None, method: str = "") -> Any:
        """Ask, and give the JSON of the answer."""
        content = json.dumps(resource).encode() if resource is not None else None
        headers = {"Content-Type": "application/fhir+json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        asked = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/{path}", content, headers, method=method or None
        )
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - loopback
            content = answer.read()
        return json.loads(content) if content else None

    def put(self, resource: Mapping[str, Any]) -> None:
        """Store a resource under its id."""
        self.ask(f"{resource['resourceType']}/{resource['id']}", resource, "PUT")

    def count(self, resource_type: str) -> int:
        """Say how many there are of a type."""
        return int(self.ask(f"{resource_type}?_summary=count")["total"])

    def versions(self, address: str) -> int:
        """Say how many versions a resource has."""
        return int(self.ask(f"{address}/_history")["total"])

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def sekmet(folder: Path, *, port: int = 0, token: str = "", **settings: Any) -> Iterator[Sekmet]:
    """Run a FHIR server that keeps its resources in ``folder``; it has ended when this is over."""
    port = port or free_ports(1)[0]
    auth = {"types": ["bearer", "smart"], "tokens": [token]} if token else {"types": ["none"]}
    configuration = {
        "base_url": f"http://127.0.0.1:{port}/fhir",
        "db_path": str(folder / "sekmet.db"),
        "simulator": {"enabled": False},
        "server_auth": {**auth, **settings.pop("server_auth", {})},
        **settings,
    }
    path = folder / "settings.yaml"
    path.write_text(json.dumps(configuration))  # JSON is YAML
    command = [PROGRAM, "serve", "--config", path, "--host", "127.0.0.1", "--port", str(port)]
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process,
    ):
        server = Sekmet(configuration["base_url"], process, token)
        try:
            _wait_for(server)
            yield server
        finally:
            server.kill()


def _wait_for(server: Sekmet) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.process.poll() is None, "the FHIR server ended at its start"
        try:
            server.ask("metadata")
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, "the FHIR server did not start"
            time.sleep(0.05)
        else:
            return
