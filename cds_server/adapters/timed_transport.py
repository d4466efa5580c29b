"""A transport of httpx whose every read, also of a header line, ends at one moment.

The timeouts of httpx are per operation: a server that sends one byte of a header every four
seconds holds a thread for days, and no timeout of five seconds ever passes.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import httpcore
import httpx

_PIECE_BYTES = 64 * 1024
_SHORTEST_S = 0.001


class Deadline(threading.local):
    """When the request of this thread has to be over."""

    at_s: float = float("inf")

    def start(self, seconds: float) -> None:
        """Let the request of this thread end in so many seconds."""
        self.at_s = time.monotonic() + seconds

    def left(self, timeout_s: float | None) -> float:
        """Give how long one operation may last.

        Raises
        ------
        httpcore.ReadTimeout
            If the time is over.
        """
        left_s = self.at_s - time.monotonic()
        if left_s <= 0:
            msg = "the whole answer took too long"
            raise httpcore.ReadTimeout(msg)
        return left_s if timeout_s is None else min(left_s, timeout_s)


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE_BYTES):
            piece = buffer[start : start + _PIECE_BYTES]
            self._stream.write(piece, self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left_s = self._deadline.left(timeout)
        return _TimedStream(
            self._stream.start_tls(ssl_context, server_hostname, left_s), self._deadline
        )

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _TimedBackend(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._backend = httpcore.SyncBackend()
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers; each has its share of the time that is left.

        Raises
        ------
        httpcore.ConnectError, httpcore.ConnectTimeout
            If none does, as the last one failed.
        """
        fault: Exception = httpcore.ConnectError("the name has no address")
        addresses = _addresses(host, port)
        until_s = time.monotonic() + self._deadline.left(timeout)
        for tried, address in enumerate(addresses):
            share_s = max((until_s - time.monotonic()) / (len(addresses) - tried), _SHORTEST_S)
            try:
                stream = self._backend.connect_tcp(
                    address, port, share_s, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
            else:
                return _TimedStream(stream, self._deadline)
        raise fault


def _addresses(host: str, port: int) -> Sequence[str]:
    """Look up a host's name.

    Raises
    ------
    httpcore.ConnectError
        If it has no address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


@contextmanager
def _told_as_httpx() -> Iterator[None]:
    """Raise what httpcore raises as httpx would.

    Raises
    ------
    httpx.ReadTimeout
        If the time is over.
    httpx.ConnectError
        If there is no connection.
    httpx.ReadError
        If there is no good answer for another reason.
    """
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.ReadTimeout(str(error)) from error
    except httpcore.ConnectError as error:
        raise httpx.ConnectError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.ReadError(str(error)) from error


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _told_as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class TimedTransport(httpx.BaseTransport):
    """HTTP/1.1 with verified TLS; connections are kept and shared by threads.

    The trusted authorities are those of certifi, or of ``SSL_CERT_FILE`` where a network has its
    own.

    Parameters
    ----------
    deadline
        Started before each request by whoever sends it.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=32,
            max_keepalive_connections=8,
            keepalive_expiry=5.0,
            network_backend=_TimedBackend(deadline),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; whatever goes wrong is raised as httpx raises it."""
        asked = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.read(),
            extensions=request.extensions,
        )
        with _told_as_httpx():
            answer = self._pool.handle_request(asked)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
