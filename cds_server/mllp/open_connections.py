"""The connections of a server: how many there may be, and their end."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class OpenConnection:
    """One that was let in.

    Parameters
    ----------
    address
        Of the other side.
    connected
        The socket; another one once TLS is on.
    thread
        Serves it.
    """

    address: str
    connected: socket.socket
    thread: threading.Thread | None = None

    def shutdown(self, how: int) -> None:
        """End one direction or both, below TLS, which stays on: what is sent stays encrypted."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connected, how)


class OpenConnections:
    """Counts connections; threads share it.

    Parameters
    ----------
    most, most_of_one
        At a time: in all, and from one address.
    """

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._lock = threading.Lock()
        self._open: set[OpenConnection] = set()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be read."""
        return self._ended

    def add(self, connection: OpenConnection) -> str:
        """Let a connection in; else say why not."""
        with self._lock:
            if self._ended:
                return "the server stops"
            if len(self._open) >= self._most:
                return f"{self._most} connections are open"
            others = sum(each.address == connection.address for each in self._open)
            if others >= self._most_of_one:
                return f"{others} connections of its own are open"
            self._open.add(connection)
            return ""

    def secure(self, connection: OpenConnection, connected: socket.socket) -> None:
        """Take note of the socket with TLS."""
        with self._lock:
            connection.connected = connected
            if self._ended:
                connection.shutdown(socket.SHUT_RD)

    def remove(self, connection: OpenConnection) -> None:
        """Close a connection that is over."""
        with self._lock:
            self._open.discard(connection)
            connection.connected.close()

    def end(self) -> None:
        """Let nobody in, and let whoever waits for a message see the end."""
        with self._lock:
            self._ended = True
            for each in self._open:
                each.shutdown(socket.SHUT_RD)

    def wait(self, patience_s: float) -> None:
        """Wait until the messages in hand are answered; what takes longer is cut off."""
        until_s = time.monotonic() + patience_s
        with self._lock:
            left = list(self._open)
        for each in left:
            if each.thread is not None and each.thread.is_alive():
                each.thread.join(max(until_s - time.monotonic(), 0))
        with self._lock:
            for each in self._open:
                each.shutdown(socket.SHUT_RDWR)
