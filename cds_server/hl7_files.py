"""HL7 messages in files: one to send or to look at, and those that were received."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from cds_server.errors import CdsServerError

_LARGEST_BYTES = 16 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FRAME = b"\x0b\x1c\r\n"


class UnusableFile(CdsServerError):
    """A file cannot be read or written, or is no single message."""


def message_in(path: Path) -> bytes:
    """Read the one message of a file, as it is sent: segments ended by CR, without a frame.

    An editor's line ends are taken for ends of segments.

    Raises
    ------
    UnusableFile
        If it cannot be read, is too large, or is not one message.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        msg = f"cannot be read ({error.strerror})"
        raise UnusableFile(msg) from error
    if len(content) > _LARGEST_BYTES:
        msg = f"is larger than {_LARGEST_BYTES:,} bytes"
        raise UnusableFile(msg)
    message = content.removeprefix(_BYTE_ORDER_MARK).strip(_FRAME)
    message = message.replace(b"\r\n", b"\r")
    if b"\r" not in message:
        message = message.replace(b"\n", b"\r")
    if not message.startswith(b"MSH"):
        msg = "is no HL7 v2 message: it does not start with MSH"
        raise UnusableFile(msg)
    if re.search(rb"[\r\x1c\x0b]MSH\W", message):
        msg = "holds several messages: put each in a file of its own"
        raise UnusableFile(msg)
    return message + b"\r"


def keep(folder: Path, control_id: str, message: bytes) -> Path:
    """Write a message durably; the same message again is the same file.

    Raises
    ------
    UnusableFile
        If the folder cannot be written.
    """
    named = re.sub(r"[^A-Za-z0-9_-]", "_", control_id)[:40]
    path = folder / f"{named}-{hashlib.sha256(message).hexdigest()[:12]}.hl7"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(message)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
        _make_names_durable(folder)
    except OSError as error:
        msg = f"{path.name} cannot be written into {folder} ({error.strerror})"
        raise UnusableFile(msg) from error
    return path


def _make_names_durable(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
