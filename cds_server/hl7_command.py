"""``radcds hl7``: for those who connect systems: send a message, take messages, look at one."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cds_server.errors import DeliveryFailed, InvalidSettings
from cds_server.hl7_files import UnusableFile, keep, message_in
from cds_server.mllp.acknowledgement import asked_for
from cds_server.mllp.connection import Limits, MllpConnection
from cds_server.mllp.endpoint import Endpoint, Listening, Network
from cds_server.mllp.server import MllpServer, NotAcknowledged, Peer
from cds_server.mllp.tls import TlsFiles
from cds_server.serve import wait_for_signal
from fhir_mappers.hl7_explained import explain as explained
from fhir_mappers.hl7_inbound.acknowledgement import AcknowledgementCode, acknowledgement
from fhir_mappers.hl7_inbound.hl7_message import UnreadableMessage
from fhir_mappers.hl7_inbound.reading import read_header
from fhir_mappers.hl7_validation import validate as faults_of

_NOT_DONE, _REFUSED = 1, 3
_SHOWN_CHARACTERS = 200
_ACCEPT, _APPLICATION = 14, 15

hl7 = typer.Typer(help="HL7 v2 messages and their way (MLLP).", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="File with one message.")]
Tls = Annotated[bool, typer.Option("--tls", help="Use TLS 1.3; naming a certificate implies it.")]
Ca = Annotated[Path | None, typer.Option(help="Authorities that the other side comes from, PEM.")]
Certificate = Annotated[Path | None, typer.Option(help="Own certificate, PEM.")]
Key = Annotated[Path | None, typer.Option(help="Its private key, PEM, without a passphrase.")]
ClearText = Annotated[
    bool, typer.Option("--clear-text", help="Without TLS beyond this machine: on a private line.")
]


class Answered(StrEnum):
    """What a listener says to each message."""

    AA = "AA"
    AE = "AE"
    AR = "AR"


@hl7.callback()
def _group() -> None:
    """HL7 v2 messages and their way (MLLP)."""


@hl7.command()
def send(  # noqa: PLR0913, PLR0917 - options of the command
    file: File,
    to: Annotated[str, typer.Option(metavar="HOST:PORT", help="The receiver.")],
    tls: Tls = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    enhanced: Annotated[
        bool, typer.Option("--enhanced", help="Ask for both acknowledgements (MSH-15, MSH-16 AL).")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="For the answer, in seconds.")] = 30.0,
    clear_text: ClearText = False,
) -> None:
    """Send the message of a file, and print the acknowledgement; 0 if it is AA or CA.

    Raises
    ------
    typer.Exit
        With 1 if it was not acknowledged so; with 3 if it would not be safe to send it.
    """
    host, port = _host_and_port(to)
    with _refusals(file):
        message = message_in(file)
        limits = Limits(connect_s=timeout_s, send_s=timeout_s, acknowledgement_s=timeout_s)
        endpoint = Endpoint(host, port, _tls(tls, ca, certificate, key), clear_text)
        connection = MllpConnection(endpoint, limits)
        answer = connection.exchange(_asking_for_both(message) if enhanced else message)
        connection.close()
    _print_message(answer.content)
    if not answer.code.accepted:
        raise typer.Exit(_NOT_DONE)


@hl7.command()
def listen(  # noqa: PLR0913, PLR0917 - options of the command
    out: Annotated[Path, typer.Option(help="Folder for the messages, one a file.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 2575,
    tls: Tls = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="Who may connect; all by default.")
    ] = None,
    answer: Annotated[Answered, typer.Option(help="What each message is told.")] = Answered.AA,
    clear_text: ClearText = False,
) -> None:
    """Take messages until stopped: keep each in a file, print it, and acknowledge it."""
    allowed = tuple(_network(each) for each in allow or ())
    inbox = _Inbox(out, AcknowledgementCode(answer))
    with _refusals(out):
        where = Listening(host, port, _tls(tls, ca, certificate, key), clear_text, allowed)
        with MllpServer(where, inbox.take, notice=_say) as server:
            _say(f"listening on {host}, port {server.port}  (Ctrl-C stops it)")
            wait_for_signal()


@hl7.command()
def validate(file: File) -> None:
    """Check the message of a file; print each fault, and exit with 1 if there is any.

    Raises
    ------
    typer.Exit
        With 1 if there is any fault.
    """
    with _refusals(file):
        faults = faults_of(message_in(file))
    for each in faults:
        typer.echo(str(each))
    if faults:
        raise typer.Exit(_NOT_DONE)


@hl7.command()
def explain(file: File) -> None:
    """Say in words what each field of a message holds; patient data too."""
    with _refusals(file):
        lines = explained(message_in(file))
    for line in lines:
        typer.echo(line)


class _Inbox:
    """Keeps what a listener takes.

    Parameters
    ----------
    folder
        Where.
    code
        What each message is told.
    """

    def __init__(self, folder: Path, code: AcknowledgementCode) -> None:
        self._folder = folder
        self._code = code
        self._lock = threading.Lock()

    def take(self, message: bytes, peer: Peer) -> bytes:
        """Keep a message, print it, and give the acknowledgement that its header asks for.

        Raises
        ------
        NotAcknowledged
            If it cannot be kept, or has no header that could be answered.
        """
        try:
            header = read_header(message)
            kept = keep(self._folder, header.control_id, message)
        except (UnreadableMessage, UnusableFile) as error:
            raise NotAcknowledged(str(error)) from error
        code = asked_for(
            header.accept_acknowledgement, header.application_acknowledgement, self._code
        )
        with self._lock:
            typer.echo(f"from {peer}, kept as {kept}, answered {code or 'with nothing'}:")
            _print_message(message)
        kept_at = datetime.fromtimestamp(kept.stat().st_mtime, tz=UTC)
        return acknowledgement(header, code, at=kept_at) if code else b""


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn what goes wrong into one line and an exit code; never a traceback.

    Raises
    ------
    typer.Exit
        With 1 if a file or the receiver is at fault, with 3 if it would not be safe.
    """
    try:
        yield
    except InvalidSettings as error:
        _say(f"radcds refuses: {error}")
        raise typer.Exit(_REFUSED) from error
    except (UnusableFile, UnreadableMessage) as error:
        _say(f"{path}: {error}")
        raise typer.Exit(_NOT_DONE) from error
    except DeliveryFailed as error:
        _say(str(error))
        raise typer.Exit(_NOT_DONE) from error


def _tls(
    wanted: bool,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> TlsFiles | None:
    return TlsFiles(ca, certificate, key) if wanted or ca or certificate or key else None


def _asking_for_both(message: bytes) -> bytes:
    """Put ``AL`` into MSH-15 and MSH-16."""
    first, end, others = message.partition(b"\r")
    fields = first.split(first[3:4])
    fields += [b""] * (_APPLICATION + 1 - len(fields))
    fields[_ACCEPT] = fields[_APPLICATION] = b"AL"
    return first[3:4].join(fields) + end + others


def _host_and_port(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``; an address of IPv6 stands in brackets.

    Raises
    ------
    typer.BadParameter
        If it is none.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isdecimal() or (":" in host and not bracketed):
        msg = "write HOST:PORT, such as ris.example.org:2575 or [::1]:2575"
        raise typer.BadParameter(msg)
    return host.strip("[]"), int(port)


def _network(text: str) -> Network:
    """Read an address or a network.

    Raises
    ------
    typer.BadParameter
        If it is none.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        msg = f"{text} is no network: write such as 10.1.2.0/24"
        raise typer.BadParameter(msg) from error


def _print_message(content: bytes) -> None:
    """Print the segments, long ones cut, without what would move a terminal's cursor."""
    for segment in content.decode("utf-8", "replace").replace("\n", "\r").split("\r"):
        plain = "".join(each if each.isprintable() else "�" for each in segment)
        more = len(plain) - _SHOWN_CHARACTERS
        rest = f"… ({more:,} characters more)" if more > 0 else ""
        if plain:
            typer.echo(f"{plain[:_SHOWN_CHARACTERS]}{rest}")


def _say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
