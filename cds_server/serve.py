"""Web service and worker in one command, each a process of its own."""

import ctypes
import functools
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields

from cds_server import bootstrap
from cds_server.config import Settings
from cds_server.errors import CdsServerError, InvalidSettings
from cds_server.model_in_use import bundle_in_use
from cds_server.network_file import read_network

_WEB_THREADS = 8
_STOP_TIMEOUT_S = 20.0
_PR_SET_PDEATHSIG = 1


class PortInUse(CdsServerError):
    """Something else listens on the port. Refuse to start."""


def serve_until_stopped(
    settings: Settings, *, host: str, port: int, insecure: bool, started: Callable[[str, str], None]
) -> str | None:
    """Run web service and worker until SIGTERM or SIGINT, or until either of them ends.

    ``started`` is told the address, and the token that signs in on this machine: a new one at each
    start, or none where the server can be reached from elsewhere.

    Returns
    -------
    str | None
        The process that ended by itself, if one did.

    Raises
    ------
    InvalidSettings
        If no archive is set, or the address is beyond loopback and ``insecure`` is not.
    ModelUnavailable
        If the model bundle is missing or damaged.
    PortInUse
        If something else listens there.
    """
    trusts_somebody = settings.network is not None and bool(read_network(settings.network).ehrs)
    check_address(host, insecure=insecure or trusts_somebody)
    check_port(host, port)
    bootstrap.archive(settings)
    bundle_in_use(settings)
    with (
        local_sign_in(settings, host) as token,
        processes(settings, host=host, port=port) as running,
    ):
        started(f"http://{host}:{port}", token)
        return wait_for_signal(running)


@contextmanager
def local_sign_in(settings: Settings, host: str) -> Iterator[str]:
    """Let whoever starts the server sign in with a token while the block runs.

    Beyond loopback there is no such token: people sign in through an EHR.

    Raises
    ------
    InvalidSettings
        If the data folder cannot be written.
    """
    token_file = bootstrap.local_token(settings)
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        msg = f"data_dir: {settings.data_dir} cannot be made ({error.strerror}); choose another"
        raise InvalidSettings(msg) from error
    token_file.remove()
    try:
        yield token_file.renew() if is_loopback(host) else ""
    finally:
        token_file.remove()


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine alone.

    Raises
    ------
    ValueError
        If it is no address.
    """
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def check_address(host: str, *, insecure: bool) -> None:
    """Refuse any address but loopback where no EHR is trusted: nobody could sign in.

    Raises
    ------
    InvalidSettings
        If ``host`` is not a loopback address, and nothing allows another.
    """
    try:
        loopback = is_loopback(host)
    except ValueError as error:
        msg = f"host: {host!r} is no address; write one such as 127.0.0.1"
        raise InvalidSettings(msg) from error
    if not (loopback or insecure):
        msg = (
            f"host: {host} can be reached from outside, and no EHR is trusted to sign people in; "
            "name one in RADCDS_NETWORK, keep 127.0.0.1, or say --insecure"
        )
        raise InvalidSettings(msg)


def check_port(host: str, port: int) -> None:
    """Find out whether the port is free.

    Raises
    ------
    PortInUse
        If it is not, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            msg = (
                f"port {port} on {host} is not free ({error.strerror}); choose another with --port"
            )
            raise PortInUse(msg) from error


@contextmanager
def processes(
    settings: Settings,
    *,
    host: str,
    port: int,
    worker: bool = True,
    beside: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Mapping[str, subprocess.Popen[bytes]]]:
    """Run the processes until the block ends, then stop them and wait.

    ``beside`` names further ones, each with its arguments for Python.
    """
    environment = {**os.environ, **as_environment(settings)}  # noqa: TID251 - handed down, not read
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    web = ["gunicorn", "wsgi:app", "--bind", address, "--worker-class", "gthread"]
    web += ["--workers", str(settings.web_workers), "--threads", str(_WEB_THREADS)]
    web += ["--no-control-socket", "--log-level", "warning"]
    commands: dict[str, Sequence[str]] = {"web": ["-m", *web], **(beside or {})}
    if worker:
        commands["worker"] = ["-m", "cds_server.cli", "worker"]
    end_with_parent = _ending_with_parent()
    started = {
        name: subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.DEVNULL if name in (beside or {}) else None,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - nothing but one system call
        )
        for name, command in commands.items()
    }
    try:
        yield started
    finally:
        for process in started.values():
            process.send_signal(signal.SIGTERM)
        for process in started.values():
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ending_with_parent() -> Callable[[], object]:
    """Give the call by which a child asks the kernel for SIGTERM when its parent dies.

    However the parent dies, no orphan keeps the port or the data folder.

    References
    ----------
    prctl(2) PR_SET_PDEATHSIG.
    """
    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGTERM)


def as_environment(settings: Settings) -> dict[str, str]:
    """Write settings as the variables that ``Settings.from_environment`` reads."""
    variables = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is not None:
            variables[f"RADCDS_{each.name.upper()}"] = str(value)
    return variables


def wait_for_signal(running: Mapping[str, subprocess.Popen[bytes]] | None = None) -> str | None:
    """Wait for SIGTERM or SIGINT, or give the name of a process that ended by itself."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stop.append(received))
    while not stop:
        for name, process in (running or {}).items():
            if process.poll() is not None:
                return name
        time.sleep(0.2)
    return None
