"""A socket that carries frames; whatever it does ends in time."""

import socket
import ssl
import time
import weakref

from cds_server.mllp.framing import FrameBuffer, framed

_PIECE_BYTES = 64 * 1024
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


def prepare(plain: socket.socket) -> None:
    """Let the system find out within a minute when the other side is gone, and send at once."""
    for option in _KEEPALIVE:
        plain.setsockopt(*option)


def secured(
    plain: socket.socket, context: ssl.SSLContext, *, timeout_s: float, client_of: str | None = None
) -> ssl.SSLSocket:
    """Put TLS on a connection, as the client of a named server or as a server.

    Raises
    ------
    OSError
        If there is no agreement in time, or the other side is not who it has to be; the
        connection is closed then.
    """
    plain.settimeout(timeout_s)
    secure = context.wrap_socket(
        plain,
        server_side=client_of is None,
        server_hostname=client_of,
        do_handshake_on_connect=False,
    )
    try:
        secure.do_handshake()
    except OSError:
        secure.close()
        raise
    return secure


class Wire:
    """One connection.

    Parameters
    ----------
    connected
        The socket; closed with this, at the latest when nobody holds this any more.
    largest_bytes
        Of one message that is received.
    """

    def __init__(self, connected: socket.socket, *, largest_bytes: int) -> None:
        self._socket = connected
        self._arrived = FrameBuffer(largest_bytes)
        self._closing = weakref.finalize(self, connected.close)

    def send(self, message: bytes, *, timeout_s: float) -> None:
        """Send one message, in one piece where the system takes it so.

        Raises
        ------
        FrameFault
            If it would break out of its frame; then nothing is sent.
        OSError
            If the connection is lost; a ``TimeoutError`` if the time is over.
        """
        left = memoryview(framed(message))
        until_s = time.monotonic() + timeout_s
        while left:
            self._allow(until_s)
            left = left[self._socket.send(left) :]

    def await_start(self, *, timeout_s: float) -> bool:
        """Wait until something of a message is there; ``False`` if the other side hung up.

        Raises
        ------
        FrameFault
            If it is no frame.
        OSError
            If the connection is lost; a ``TimeoutError`` if nothing comes in time.
        """
        until_s = time.monotonic() + timeout_s
        while not self._arrived.begun:
            if not self._read(until_s):
                return False
        return True

    def receive(self, *, until_s: float) -> bytes:
        """Receive one message.

        Parameters
        ----------
        until_s
            Monotonic time when the whole of it has to be there.

        Raises
        ------
        FrameFault
            If it is too large, or no frame.
        ConnectionError
            If the other side hung up.
        OSError
            If the connection is lost; a ``TimeoutError`` if the time is over.
        """
        while (message := self._arrived.take()) is None:
            if not self._read(until_s):
                msg = "hung up"
                raise ConnectionError(msg)
        return message

    def idle(self) -> int | None:
        """Look, without waiting, whether the connection can be used for a new exchange.

        Returns
        -------
        int | None
            How many messages had come unasked, which are thrown away; ``None`` if the connection
            is lost, or out of step: it has to be closed.

        Raises
        ------
        FrameFault
            If what came unasked is no frame.
        """
        unasked = 0
        self._socket.settimeout(0)
        try:
            while True:
                while self._arrived.take() is not None:
                    unasked += 1
                piece = self._socket.recv(_PIECE_BYTES)
                if not piece:
                    return None
                self._arrived.add(piece)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None if self._arrived.begun else unasked
        except OSError:
            return None

    def _read(self, until_s: float) -> bool:
        """Read what is there, or wait for it; ``False`` if the other side hung up.

        Raises
        ------
        TimeoutError
            If the time is over.
        """
        self._allow(until_s)
        # A receiver that sends CA and AA apart holds AA back until CA is seen to have come.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        piece = self._socket.recv(_PIECE_BYTES)
        self._arrived.add(piece)
        return bool(piece)

    def _allow(self, until_s: float) -> None:
        """Let the next operation last as long as there is time.

        Raises
        ------
        TimeoutError
            If the time is over.
        """
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)

    def close(self) -> None:
        """Close the connection."""
        self._closing()
