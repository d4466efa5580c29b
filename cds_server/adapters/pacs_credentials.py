"""Who this server is for a PACS."""

import base64
import re
from pathlib import Path
from typing import Protocol

from cds_server.errors import ArchiveUnreachable, InvalidSettings

_LARGEST_BYTES = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Credentials(Protocol):
    """Gives what a PACS wants to see. Threads may share it."""

    def authorization(self) -> str:
        """Give the value of the ``Authorization`` header.

        Raises
        ------
        ArchiveUnreachable
            If there is none to be had now.
        """
        ...

    def refresh(self) -> None:
        """Forget what is kept: the PACS has just refused it."""
        ...


class BasicCredentials:
    """User and password in a file: ``user:password``, in one line.

    The file is read for each request: a new password counts from then on.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InvalidSettings
        If it cannot be read, or does not hold that.

    References
    ----------
    RFC 7617.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _check(self)

    def authorization(self) -> str:
        """Give the header.

        Raises
        ------
        ArchiveUnreachable
            If the file cannot be read, or does not hold user and password.
        """
        line = _line(self._path)
        user, colon, password = line.partition(":")
        if not (user and colon and password):
            msg = f"{self._path} does not hold user:password in one line"
            raise ArchiveUnreachable(msg)
        return f"Basic {base64.b64encode(line.encode()).decode('ascii')}"

    def refresh(self) -> None:
        """Do nothing: nothing is kept."""


class BearerCredentials:
    """A token in a file, which something else renews.

    The file is read for each request: a new token counts from then on.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InvalidSettings
        If it cannot be read, or holds no token.

    References
    ----------
    RFC 6750 2.1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _check(self)

    def authorization(self) -> str:
        """Give the header.

        Raises
        ------
        ArchiveUnreachable
            If the file cannot be read, or holds no token.
        """
        token = _line(self._path)
        if not _TOKEN.fullmatch(token):
            msg = f"{self._path} does not hold a bearer token in one line"
            raise ArchiveUnreachable(msg)
        return f"Bearer {token}"

    def refresh(self) -> None:
        """Do nothing: nothing is kept."""


def _check(credentials: Credentials) -> None:
    """Refuse to start with a file that is not good.

    Raises
    ------
    InvalidSettings
        Saying what is wrong with it.
    """
    try:
        credentials.authorization()
    except ArchiveUnreachable as error:
        raise InvalidSettings(str(error)) from None


def _line(path: Path) -> str:
    """Read a file of one line.

    Raises
    ------
    ArchiveUnreachable
        If it cannot be read, or is anything else. Names the file, never what it holds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1).decode("utf-8").removesuffix("\n")
    except OSError as error:
        msg = f"the credentials for the archive, {path}, cannot be read ({error.strerror})"
        raise ArchiveUnreachable(msg) from None
    except UnicodeDecodeError:
        content = ""
    line = content.removesuffix("\r")
    if not line or not line.isprintable() or len(line) > _LARGEST_BYTES:
        msg = f"{path} does not hold one line of text"
        raise ArchiveUnreachable(msg)
    return line
