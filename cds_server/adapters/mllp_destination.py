"""Delivery of HL7 messages over MLLP: a result is delivered once its receiver said so."""

import threading
import time
from collections.abc import Callable

from cds_server.errors import DeliveryFailed, DeliveryRefused
from cds_server.mllp.connection import MllpConnection
from cds_server.ports import StoredResult
from fhir_mappers.report_context import ReportSet

Compose = Callable[[StoredResult, ReportSet], bytes]


class MllpDestination:
    """Sends one message a result to one receiver; threads may share it.

    Parameters
    ----------
    name
        Short name of the destination.
    connection
        The way to the receiver.
    compose
        Makes the message; raises ``DeliveryRefused`` or ``DeliveryFailed`` where it cannot.
    messages_per_s
        Most messages a second, each at its own time; ``None`` sends as fast as they are answered.
    monotonic, sleep
        Time, in seconds.
    """

    at_once = 1

    def __init__(
        self,
        name: str,
        connection: MllpConnection,
        *,
        compose: Compose,
        messages_per_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._connection = connection
        self._compose = compose
        self._interval_s = 1 / messages_per_s if messages_per_s else 0.0
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next_s = float("-inf")

    def probe(self) -> str:
        """Connect, and say to whom."""
        return f"{self._connection.probe()} takes connections"

    def compose(self, result: StoredResult, artefacts: ReportSet) -> bytes:
        """Give the message."""
        return self._compose(result, artefacts)

    def send(self, message: bytes) -> None:
        """Send a message; it was acknowledged with ``AA`` or ``CA`` when this returns.

        Raises
        ------
        DeliveryRefused
            If the receiver says ``AR`` or ``CR``, or it cannot be sent at all.
        DeliveryFailed
            If it says ``AE`` or ``CE``; a ``DestinationUnavailable`` if it says nothing to it.
        """
        self._wait_for_its_time()
        code = self._connection.exchange(message).code
        if code.rejected:
            msg = f"the receiver refuses the message ({code}); sent again it would refuse it again"
            raise DeliveryRefused(msg)
        if not code.accepted:
            msg = f"the receiver could not process the message ({code})"
            raise DeliveryFailed(msg)

    def _wait_for_its_time(self) -> None:
        with self._lock:
            now_s = self._monotonic()
            at_s = max(now_s, self._next_s)
            self._next_s = at_s + self._interval_s
        if at_s > now_s:
            self._sleep(at_s - now_s)
