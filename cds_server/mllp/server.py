"""The receiving side: what is acknowledged was kept first.

One thread a connection. It reads a message, gives it to the handler, and sends what the handler
gives back, before it reads the next: who sends faster than messages are handled has to wait.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cds_server.errors import CdsServerError, InvalidSettings
from cds_server.mllp.endpoint import Listening
from cds_server.mllp.framing import FrameFault
from cds_server.mllp.open_connections import OpenConnection, OpenConnections
from cds_server.mllp.tls import verified_name
from cds_server.mllp.wire import Wire, prepare, secured

_WAITING = 32
_PAUSE_S = 0.1
_BETWEEN_ANSWERS_S = 0.05
"""Some senders take CA and AA that come together for one answer."""


class NotAcknowledged(CdsServerError):
    """A message is not acknowledged: the connection is closed, and its sender sends it again."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sends.

    Parameters
    ----------
    address
        From where.
    name
        The name in the verified certificate; empty without one.
    """

    address: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.name else self.address


Handler = Callable[[bytes, Peer], bytes | tuple[bytes, ...]]
"""Takes a message, and gives the acknowledgement once the message is durable; empty where the
message asks for none, several where it asks for CA and AA. Called in the thread of the connection,
at the same time for several.

Raises ``NotAcknowledged``, or any error of the server, where nothing can be said: nothing is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sender may take.

    Parameters
    ----------
    connections, connections_of_one
        At a time: in all, and from one address.
    message_bytes
        Largest message.
    message_s
        From the first byte of a message to its last; and for TLS to be agreed on.
    idle_s
        Without any message.
    answer_s
        For the sender to take its acknowledgement.
    """

    connections: int = 32
    connections_of_one: int = 8
    message_bytes: int = 4 * 1024 * 1024
    message_s: float = 30.0
    idle_s: float = 600.0
    answer_s: float = 10.0


class MllpServer:
    """Takes messages from ``start`` to ``stop``.

    Parameters
    ----------
    listening
        Where, and from whom.
    handler
        See ``Handler``.
    limits
        See there.
    notice
        Told, in words without patient data, when a connection is refused or cut off.
    """

    def __init__(
        self,
        listening: Listening,
        handler: Handler,
        *,
        limits: Limits | None = None,
        notice: Callable[[str], None],
    ) -> None:
        self._listening = listening
        self._handler = handler
        self._limits = limits or Limits()
        self._notice = notice
        self._open = OpenConnections(
            most=self._limits.connections, most_of_one=self._limits.connections_of_one
        )
        self._listener: socket.socket | None = None
        self._accepting = threading.Thread(target=self._accept, name="mllp", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not."""
        return int(self._listener.getsockname()[1]) if self._listener else 0

    def start(self) -> None:
        """Listen.

        Raises
        ------
        InvalidSettings
            If that is not possible there.
        """
        where = self._listening
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        try:
            self._listener = socket.create_server(
                (where.host, where.port), family=family, backlog=_WAITING
            )
        except OSError as error:
            msg = f"{where} cannot be listened on ({error.strerror}); choose another port"
            raise InvalidSettings(msg) from error
        self._accepting.start()

    def stop(self, *, patience_s: float = 20.0) -> None:
        """Take no more; messages that are being handled are still acknowledged.

        Parameters
        ----------
        patience_s
            How long the handlers may take; then their connections are cut, unacknowledged.
        """
        if self._listener is None:
            return
        self._open.end()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._accepting.join()
        self._listener.close()
        self._listener = None
        self._open.wait(patience_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and not self._open.ended:
            try:
                plain, (address, *_) = listener.accept()
            except OSError:  # too many open files, or the end
                time.sleep(0 if self._open.ended else _PAUSE_S)
                continue
            self._admit(OpenConnection(str(address), plain))

    def _admit(self, connection: OpenConnection) -> None:
        address = connection.address
        refusal = "" if self._listening.admits(address) else "its address is not allowed"
        refusal = refusal or self._open.add(connection)
        if refusal:
            connection.connected.close()
            self._notice(f"{address} was not let in: {refusal}")
            return
        connection.thread = threading.Thread(
            target=self._serve, args=(connection,), name="mllp connection", daemon=True
        )
        try:
            connection.thread.start()
        except RuntimeError:  # the system has no more threads; later it may have
            self._open.remove(connection)
            self._notice(f"{address} was not let in: no thread can be started")

    def _serve(self, connection: OpenConnection) -> None:
        """Serve a connection to its end; whatever goes wrong ends this one alone."""
        try:
            why = self._end_of(connection)
        finally:
            self._open.remove(connection)
        if why and not self._open.ended:
            self._notice(f"{connection.address} was cut off: {why}")

    def _end_of(self, connection: OpenConnection) -> str:
        """Converse, and say why that ended; empty where the sender hung up between messages."""
        try:
            self._converse(connection)
        except FrameFault as fault:
            return str(fault)
        except TimeoutError:
            return "nothing whole came, or was taken, in time"
        except ssl.SSLError as error:
            return f"no TLS 1.3 with a certificate that is trusted ({error.reason or 'hung up'})"
        except OSError:
            return "it broke off within a message"
        except CdsServerError as error:
            return f"nothing was acknowledged: {error}"
        return ""

    def _converse(self, connection: OpenConnection) -> None:
        limits = self._limits
        name = self._secure(connection)
        peer = Peer(connection.address, name)
        wire = Wire(connection.connected, largest_bytes=limits.message_bytes)
        while not self._open.ended and wire.await_start(timeout_s=limits.idle_s):
            message = wire.receive(until_s=time.monotonic() + limits.message_s)
            answer = self._handler(message, peer)
            for number, each in enumerate(answer if isinstance(answer, tuple) else (answer,)):
                time.sleep(_BETWEEN_ANSWERS_S if number else 0)
                if each:
                    wire.send(each, timeout_s=limits.answer_s)

    def _secure(self, connection: OpenConnection) -> str:
        """Put TLS on, where it is asked for; give the name of the other side."""
        prepare(connection.connected)
        tls = self._listening.tls
        if tls is None:
            return ""
        secure = secured(connection.connected, tls.server(), timeout_s=self._limits.message_s)
        self._open.secure(connection, secure)
        return verified_name(secure)
