"""What every benchmark of a running server needs: the server, its memory, the machine's name."""

import os
import platform
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def machine() -> str:
    """Name the machine that the figures come from."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    busy = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{model}, {os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}; load average at the start {busy}"
    )


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path],
    alive: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; ``alive`` is the address that answers once it is up."""
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=told, stderr=told
        )
    try:
        _wait(process, alive, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def radcds(port: int) -> list[str]:
    """Give the command that serves radcds on a port."""
    return [sys.executable, "-m", "cds_server.cli", "serve", "--port", str(port)]


def _wait(process: subprocess.Popen[bytes], alive: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(alive, timeout=5) as answer:  # noqa: S310 - loopback
                answer.read()
                return
        except OSError:
            time.sleep(0.2)
    msg = f"{alive} does not answer: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
    raise RuntimeError(msg)


def resident_mb(root: int, word: str = "") -> float:
    """Add up the resident memory of a process and all below it whose command holds a word."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    total = 0
    for pid in family:
        with suppress(OSError, StopIteration):
            folder = Path("/proc") / str(pid)
            if word.encode() in (folder / "cmdline").read_bytes():
                lines = (folder / "status").read_text(encoding="utf-8").splitlines()
                total += next(int(each.split()[1]) for each in lines if each.startswith("VmRSS"))
    return total / 1024
