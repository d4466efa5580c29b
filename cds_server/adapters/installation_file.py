"""The secret that tells this installation from every other, in a file of the data folder."""

import os
import uuid
from pathlib import Path

from cds_server.errors import InvalidSettings


def installation_id(path: Path) -> uuid.UUID:
    """Give the secret, made at random when it is asked for the first time.

    Raises
    ------
    InvalidSettings
        If the file cannot be written, or holds something else.
    """
    try:
        if not path.exists():
            _make(path)
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    except (ValueError, UnicodeDecodeError) as error:
        msg = f"data_dir: {path} does not hold what radcds wrote; restore it from a backup"
        raise InvalidSettings(msg) from error
    except OSError as error:
        msg = f"data_dir: {path} cannot be used ({error.strerror})"
        raise InvalidSettings(msg) from error


def _make(path: Path) -> None:
    """Write a new secret, unless another process has."""
    fresh = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(str(uuid.uuid4()))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
