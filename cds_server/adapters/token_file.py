"""The token of whoever started the server, in a file that only they can read."""

import hmac
import os
import secrets
from pathlib import Path

from cds_server.errors import InvalidSettings

_SHORTEST = 32


class TokenFile:
    """A token in a file of the data folder; made anew at each start of ``radcds serve``.

    Parameters
    ----------
    path
        The file. Where it is missing, nothing opens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def renew(self) -> str:
        """Make a new token and give it; the old one opens nothing any more.

        Raises
        ------
        InvalidSettings
            If the file cannot be written.
        """
        token = secrets.token_urlsafe(32)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(token)
            fresh.replace(self._path)
        except OSError as error:
            msg = f"data_dir: {self._path} cannot be written ({error.strerror})"
            raise InvalidSettings(msg) from error
        return token

    def remove(self) -> None:
        """Let nothing open any more."""
        self._path.unlink(missing_ok=True)

    @property
    def available(self) -> bool:
        """Whether there is one: not where the server was started without ``radcds serve``."""
        return self._path.exists()

    def opens(self, token: str) -> bool:
        """Say whether it is the one; compared in constant time."""
        try:
            kept = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return False
        return len(kept) >= _SHORTEST and hmac.compare_digest(kept.encode(), token.encode())
