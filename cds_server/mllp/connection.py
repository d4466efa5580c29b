"""The sending side: one message at a time, each answered before the next.

A message is sent again at once in one case alone: a connection that was kept turns out to be lost
before any answer came. The receiver may have got it already; what is sent again is the same message
byte for byte, with the same MSH-10, by which a receiver knows a repeat.
"""

import contextlib
import threading
import time
from dataclasses import dataclass

from cds_server.errors import DeliveryRefused, DestinationUnavailable, InvalidSettings
from cds_server.mllp.acknowledgement import Answer, Header, answer_of, header_of
from cds_server.mllp.endpoint import Endpoint
from cds_server.mllp.framing import FrameFault, framed
from cds_server.mllp.opening import broken_off, not_opened, opened
from cds_server.mllp.wire import Wire
from fhir_mappers.hl7_inbound.acknowledgement import AcknowledgementCode


@dataclass(frozen=True, slots=True)
class Limits:
    """How long what may last, and how large an answer may be.

    Parameters
    ----------
    connect_s
        Connecting, TLS included. Looking up a name is bounded by the resolver alone.
    send_s
        Sending the whole message.
    acknowledgement_s
        From then until the last acknowledgement that is waited for.
    answer_bytes
        Largest acknowledgement.
    """

    connect_s: float = 10.0
    send_s: float = 30.0
    acknowledgement_s: float = 30.0
    answer_bytes: int = 256 * 1024


class MllpConnection:
    """Sends messages to one receiver over one connection, which is kept; threads may share it.

    Parameters
    ----------
    endpoint
        The receiver.
    limits
        See there.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits | None = None) -> None:
        self._endpoint = endpoint
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._strays = 0

    @property
    def strays(self) -> int:
        """How many answers came that were about no message in hand; none of them was believed."""
        return self._strays

    def exchange(self, message: bytes) -> Answer:
        """Send a message, and give what the receiver said to it.

        MSH-15 and MSH-16 say what is waited for. Both empty: the application's answer, ``AA``,
        ``AE`` or ``AR``. MSH-15 alone: that of the mailbox, ``CA``, ``CE`` or ``CR``. MSH-16 ``AL``
        or ``SU``: the application's, and a ``CA`` before it is not enough. An answer of the
        application is the last word also where none of the mailbox came, and so is ``CE`` or
        ``CR``. An application that answers on errors alone (``ER``) is not waited for.

        Parameters
        ----------
        message
            The message, without frame.

        Raises
        ------
        DeliveryRefused
            If it cannot be sent: no HL7, no MSH-10, no answer asked for, or a character in it that
            ends a frame. Nothing was sent.
        DestinationUnavailable
            If there is no answer to this message: no connection, no trust, too late, or no HL7.
            The connection is closed, so that an answer that comes late meets nobody.
        """
        header = header_of(message)
        try:
            framed(message)
        except FrameFault as fault:
            msg = f"{fault}; it is not sent"
            raise DeliveryRefused(msg) from None
        with self._lock:
            if self._kept():
                with contextlib.suppress(_Lost):
                    return self._asked(message, header)
            try:
                return self._asked(message, header)
            except _Lost as lost:
                raise self._unavailable(str(lost)) from None

    def probe(self) -> str:
        """Connect where there is no connection, and say to whom.

        Raises
        ------
        DestinationUnavailable
            If there is none to be had, or the receiver cannot be trusted.
        """
        with self._lock:
            if not self._kept():
                self._wire = self._opened()
        return str(self._endpoint)

    def close(self) -> None:
        """Close the connection, once the exchange in hand is over; another opens it again."""
        with self._lock:
            self._drop()

    def _kept(self) -> bool:
        """Say whether the connection of the last exchange is still good; what is not is closed."""
        if self._wire is None:
            return False
        try:
            unasked = self._wire.idle()
        except FrameFault:
            unasked = None
        self._strays += unasked or 0
        if unasked is None:
            self._drop()
        return unasked is not None

    def _asked(self, message: bytes, header: Header) -> Answer:
        """Exchange over the connection, opened where there is none.

        It is closed after any fault, and where an answer about another message came: a receiver
        that is out of step begins anew.

        Raises
        ------
        DestinationUnavailable
            If there is no answer that can be read, or no connection.
        _Lost
            If the connection is lost before any answer.
        """
        wire = self._wire = self._wire or self._opened()
        strays, in_step = self._strays, False
        try:
            self._sent(wire, message)
            answer = self._last_word(wire, header)
            in_step = self._strays == strays
        finally:
            if not in_step:
                self._drop()
        return answer

    def _sent(self, wire: Wire, message: bytes) -> None:
        """Send it.

        Raises
        ------
        DestinationUnavailable
            If the receiver does not take it in time.
        _Lost
            If the connection is lost.
        """
        try:
            wire.send(message, timeout_s=self._limits.send_s)
        except TimeoutError:
            says = f"does not take the message within {self._limits.send_s:g} s"
            raise self._unavailable(says) from None
        except OSError as error:
            raise _Lost(broken_off(error, self._endpoint)) from None

    def _last_word(self, wire: Wire, header: Header) -> Answer:
        """Wait for the acknowledgement that decides.

        Raises
        ------
        DestinationUnavailable
            If it does not come, or cannot be read.
        _Lost
            If the connection is lost before any acknowledgement of this message.
        """
        until_s = time.monotonic() + self._limits.acknowledgement_s
        mailbox_has_it = False
        while True:
            try:
                content = wire.receive(until_s=until_s)
            except FrameFault as fault:
                says = f"answers with what is no acknowledgement: {fault}"
                raise self._unavailable(says) from None
            except OSError as error:
                raise self._silence(error, mailbox_has_it=mailbox_has_it) from None
            answer = self._understood(content)
            if answer.control_id != header.control_id:
                self._strays += 1
            elif answer.code is AcknowledgementCode.CA and header.awaits_application:
                mailbox_has_it = True
            else:
                return answer

    def _understood(self, content: bytes) -> Answer:
        """Read an answer.

        Raises
        ------
        DestinationUnavailable
            If it is no acknowledgement.
        """
        try:
            return answer_of(content)
        except ValueError:
            says = "answers with what is no acknowledgement"
            raise self._unavailable(says) from None

    def _silence(self, error: OSError, *, mailbox_has_it: bool) -> Exception:
        if isinstance(error, TimeoutError):
            waited = f"within {self._limits.acknowledgement_s:g} s"
            if mailbox_has_it:
                says = f"took the message (CA), and its application says nothing {waited}"
                return self._unavailable(says)
            return self._unavailable(f"does not acknowledge {waited}")
        if mailbox_has_it:
            return self._unavailable(
                f"took the message (CA), then {broken_off(error, self._endpoint)}"
            )
        return _Lost(broken_off(error, self._endpoint))

    def _opened(self) -> Wire:
        """Open a connection.

        Raises
        ------
        DestinationUnavailable
            If there is none, or the receiver cannot be trusted.
        """
        try:
            connected = opened(self._endpoint, timeout_s=self._limits.connect_s)
        except InvalidSettings as error:
            says = f"is not asked: {error}"
            raise self._unavailable(says) from error
        except OSError as error:
            raise self._unavailable(not_opened(error)) from None
        return Wire(connected, largest_bytes=self._limits.answer_bytes)

    def _unavailable(self, says: str) -> DestinationUnavailable:
        return DestinationUnavailable(f"the receiver {self._endpoint} {says}")

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class _Lost(Exception):
    """The connection is lost, and nothing was answered."""
