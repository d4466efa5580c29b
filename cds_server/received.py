"""Takes what comes in by HL7 v2: kept first, acknowledged then.

==========================================  ==============  =================================
what comes                                  original mode   enhanced mode, as MSH-15 and -16 ask
==========================================  ==============  =================================
an order, a change of a patient, a report   AA              CA, then AA
the same bytes again                        AA              CA, then AA; taken once
what is no message, or not supported        AR              CR
what cannot be understood                   AE              CE
other bytes under an id that was used       AE              CE
what cannot be kept now                     AE              CE
==========================================  ==============  =================================

The sender keeps what was answered with AE and sends it again.

References
----------
HL7 v2.5.1 ch. 2.9.2 (original mode), 2.9.3 (enhanced mode), 2.15.9.15, 2.15.9.16; table 0155.
"""

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from cds_server.errors import AuditUnavailable
from cds_server.inbound_content import Content, content_of
from cds_server.inbox import InboundMessage, Inbox, Taken
from cds_server.mllp.server import NotAcknowledged, Peer
from cds_server.operations import Operations
from cds_server.ports import Clock
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.hl7_inbound.acknowledgement import (
    AcknowledgementCode,
    ReceivedError,
    acknowledgement,
)
from fhir_mappers.hl7_inbound.escapes import Separators
from fhir_mappers.hl7_inbound.hl7_message import (
    ErrorCode,
    HL7Message,
    MessageHeader,
    Place,
    UnreadableMessage,
)
from fhir_mappers.hl7_inbound.reading import read_header, read_message
from fhir_mappers.report_context import Site

RECEIVING = "messages in"
_MOST_TROUBLES = 20
_LONGEST_HEADER = 4_096
_UNSUPPORTED = frozenset(
    {ErrorCode.UNSUPPORTED_TYPE, ErrorCode.UNSUPPORTED_EVENT, ErrorCode.UNSUPPORTED_VERSION}
)
_HEADER = re.compile(r"MSH[!-/:-@\[-`{-~]")
_CONTROL_ID = re.compile(r"[!-~]{1,199}")
_NOT_WANTED = {"NE": (True, False), "ER": (True,), "SU": (False,), "": (True, False)}
"""For which outcomes a value of table 0155 wants no answer; an unknown one wants each."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What is taken.

    Parameters
    ----------
    processing_ids
        MSH-11.1: ``P`` for production, ``T`` for training, ``D`` for debugging. Others are refused,
        so that an exercise moves no patient.
    most_waiting
        Messages that wait to be processed; beyond, none is taken.
    """

    processing_ids: frozenset[str] = frozenset({"P"})
    most_waiting: int = 100_000


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a message is not taken: what its sender is told, without patient data."""

    code: AcknowledgementCode
    says: str
    error: ReceivedError

    @classmethod
    def of(cls, error: UnreadableMessage) -> "_Refusal":
        """Give that of a message that cannot be understood."""
        unsupported = error.code in _UNSUPPORTED
        code = AcknowledgementCode.AR if unsupported else AcknowledgementCode.AE
        return cls(code, str(error), ReceivedError.of(error))

    @classmethod
    def now(cls, why: str) -> "_Refusal":
        """Give that of a message that cannot be kept."""
        says = f"{why}; keep the message and send it again"
        error = ReceivedError(Place(), ErrorCode.APPLICATION_ERROR)
        return cls(AcknowledgementCode.AE, says, error)


class Received:
    """The handler of the MLLP server. Threads may share it.

    Parameters
    ----------
    inbox
        Where messages are kept, with their audit events.
    site, clock
        Whose server this is, and what time it is.
    operations
        Told of a sender that uses an id twice.
    notice
        Told, in words without patient data, of each message that is refused.
    intake
        What is taken.
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        site: Site,
        clock: Clock,
        operations: Operations,
        notice: Callable[[str], None],
        intake: Intake | None = None,
    ) -> None:
        self._inbox = inbox
        self._site = site
        self._clock = clock
        self._operations = operations
        self._notice = notice
        self._intake = intake or Intake()
        self._zone = ZoneInfo(site.timezone)
        self._troubles: dict[tuple[str, str], str] = {}
        self._told: str | None = None
        self._lock = threading.Lock()

    def __call__(self, content: bytes, peer: Peer) -> tuple[bytes, ...]:
        """Take a message, and give the acknowledgements that it asks for, in their order.

        Raises
        ------
        NotAcknowledged
            If it has no header at all that could be answered.
        """
        refusal: _Refusal | None
        try:
            message = read_message(content)
        except UnreadableMessage as error:
            header = _answerable(content, error)
            refusal = replace(_Refusal.of(error), code=AcknowledgementCode.AR)
        else:
            header = message.header
            refusal = self._refusal(message, content, peer)
        now = self._clock.now()
        if refusal is None:
            codes = _codes(header, AcknowledgementCode.AA)
            return tuple(acknowledgement(header, code, at=now) for code in codes)
        self._notice(f"{peer}: a message was refused ({refusal.code}): {refusal.says}")
        return tuple(
            acknowledgement(header, code, refusal.says, refusal.error, at=now)
            for code in _codes(header, refusal.code)
        )

    def _refusal(self, message: HL7Message, content: bytes, peer: Peer) -> _Refusal | None:
        """Keep a message; say why where it is not kept."""
        try:
            said = content_of(message, zone=self._zone)
        except UnreadableMessage as error:
            return _Refusal.of(error)
        if message.header.processing_id not in self._intake.processing_ids:
            allowed = ", ".join(sorted(self._intake.processing_ids))
            return _Refusal(
                AcknowledgementCode.AR,
                f"MSH-11: not of the processing that this server does; send {allowed}",
                ReceivedError(Place("MSH", 1, 11), ErrorCode.TABLE_VALUE),
            )
        try:
            if self._inbox.backlog().waiting >= self._intake.most_waiting:
                return _Refusal.now("too many messages wait to be processed")
            taken = self._kept(message, content, said, peer)
        except AuditUnavailable:
            return _Refusal.now("nothing can be kept now")
        self._tell(message.header.sender, peer, taken)
        if taken is not Taken.CONTRADICTION:
            return None
        return _Refusal(
            AcknowledgementCode.AE,
            "MSH-10: another message came under this control id; send each under its own",
            ReceivedError(Place("MSH", 1, 10), ErrorCode.APPLICATION_ERROR),
        )

    def _kept(self, message: HL7Message, content: bytes, said: Content, peer: Peer) -> Taken:
        """Keep a message together with its audit event.

        Raises
        ------
        AuditUnavailable
            If either cannot be made durable; then neither is.
        """
        header = message.header
        inbound = InboundMessage(
            header.sender,
            header.control_id,
            f"{header.message_type}^{header.event}",
            self._clock.now(),
            content,
        )
        return self._inbox.keep(inbound, audit_events=[self._leaf(inbound, said, peer)])

    def _leaf(self, message: InboundMessage, said: Content, peer: Peer) -> bytes:
        patient = said.patients[0].identifiers[0]
        fact = AuditFact(
            kind=AuditKind.RECEIVE,
            recorded=message.received,
            user=str(peer),
            address=peer.address,
            study_instance_uid=said.study_instance_uid or None,
            patient_id=patient.value,
            patient_issuer=next(iter(patient.authorities), ""),
            detail={
                "message": message.kind,
                "message-sha256": message.sha256,
            },
        )
        return audit_event(fact, self._site)

    def _tell(self, sender: tuple[str, str], peer: Peer, taken: Taken) -> None:
        """Tell operations of senders that use an id twice, until they send something else.

        The message is kept or refused already, whether or not that can be told.
        """
        with self._lock, contextlib.suppress(AuditUnavailable):
            if taken is not Taken.CONTRADICTION:
                self._troubles.pop(sender, None)
            elif len(self._troubles) < _MOST_TROUBLES:
                self._troubles[sender] = (
                    f"{peer} used a control id (MSH-10) for two messages; the second is refused"
                )
            trouble = "; ".join(sorted(set(self._troubles.values())))
            if trouble != self._told:
                self._operations.note(RECEIVING, trouble)
                self._told = trouble


def _codes(header: MessageHeader, code: AcknowledgementCode) -> list[AcknowledgementCode]:
    """Give the answers that a message asks for, where the outcome is AA, AE or AR.

    What is refused is refused once: by the mailbox, where that is asked.
    """
    if not header.enhanced:
        return [code]
    wanted = [
        (header.accept_acknowledgement, AcknowledgementCode(f"C{code[1]}")),
        (header.application_acknowledgement, code),
    ]
    given = [each for when, each in wanted if code.accepted not in _NOT_WANTED.get(when, ())]
    return given if code.accepted else given[:1]


def _answerable(content: bytes, error: UnreadableMessage) -> MessageHeader:
    """Give what there is of the header of a message that cannot be read.

    Raises
    ------
    NotAcknowledged
        If there is none.
    """
    with contextlib.suppress(UnreadableMessage):
        return read_header(content)
    first = content[:_LONGEST_HEADER].replace(b"\n", b"\r").partition(b"\r")[0].decode("latin-1")
    if not _HEADER.match(first):
        raise NotAcknowledged(str(error)) from error
    _, *fields = first.split(first[3])
    control_id, accept, application = (
        fields[number - 2] if number - 2 < len(fields) else "" for number in (10, 15, 16)
    )
    return MessageHeader(
        separators=Separators(),
        codec="ascii",
        character_set="",
        sender=("", ""),
        receiver=("", ""),
        message_type="",
        event="",
        structure="",
        control_id=control_id if _CONTROL_ID.fullmatch(control_id) else "",
        processing_id="P",
        version="2.5.1",
        accept_acknowledgement=accept,
        application_acknowledgement=application,
    )
