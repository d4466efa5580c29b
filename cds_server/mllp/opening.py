"""Connecting to a receiver in time, with TLS where that is asked for; and words for what fails."""

import socket
import ssl
import time

from cds_server.mllp.endpoint import Endpoint
from cds_server.mllp.wire import prepare, secured

_SHORTEST_S = 0.001


def opened(endpoint: Endpoint, *, timeout_s: float) -> socket.socket:
    """Connect; the certificates are read first.

    Raises
    ------
    InvalidSettings
        If the certificates cannot be used.
    OSError
        If there is no connection in time, or the receiver is not who it has to be.
    """
    until_s = time.monotonic() + timeout_s
    context = endpoint.tls.client() if endpoint.tls else None
    plain = _connected(endpoint, until_s)
    prepare(plain)
    if context is None:
        return plain
    left_s = max(until_s - time.monotonic(), _SHORTEST_S)
    return secured(plain, context, timeout_s=left_s, client_of=endpoint.host)


def _connected(endpoint: Endpoint, until_s: float) -> socket.socket:
    """Connect to the first address that answers; each has its share of the time that is left.

    Raises
    ------
    OSError
        If none does, as the last one failed.
    """
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    fault = OSError()
    addresses = [(str(address[0]), endpoint.port) for *_, address in found]
    for tried, address in enumerate(addresses):
        share_s = max((until_s - time.monotonic()) / (len(addresses) - tried), _SHORTEST_S)
        try:
            return socket.create_connection(address, timeout=share_s)
        except OSError as error:
            fault = error
    raise fault


def not_opened(error: OSError) -> str:
    """Say why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"shows a certificate that is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"agrees on no TLS 1.3 ({error.reason or 'it hung up'})"
    if isinstance(error, socket.gaierror):
        return "cannot be found: its name has no address"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection: nothing listens there"
    if isinstance(error, TimeoutError):
        return "does not answer in time (no connection)"
    return f"cannot be reached ({error.strerror or 'it hung up'})"


def broken_off(error: OSError, endpoint: Endpoint) -> str:
    """Say how a connection was lost.

    With TLS 1.3 a server that refuses the client's certificate says so only after the client
    believes to be connected; and where it closes at once, that is all that can be seen.
    """
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in str(error.reason):
        return f"refuses the certificate of this server ({error.reason})"
    says = "broke off the connection without an answer"
    return f"{says}; it may refuse the certificate of this server" if endpoint.tls else says
