"""What came in by HL7 v2, in which order, and what became of it.

::

    keep ─► WAITING ─► DONE        it does what it says
               └─────► FAILED      it cannot: a person looks at it, and may let it be tried again

A message is kept together with its audit event, before it is acknowledged. What it says takes
effect in the transaction that settles it, so that it does so once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from cds_server.inbound_content import Content
from cds_server.order_book import Order
from fhir_mappers.hl7_inbound.patient_changes import PatientChange
from fhir_mappers.hl7_inbound.reported import InboundReport


class MessageState(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Taken(StrEnum):
    """What became of a message when it was given to be kept."""

    NEW = "new"
    REPEAT = "repeat"
    """The same bytes are kept already; nothing is written."""
    CONTRADICTION = "contradiction"
    """Other bytes came under its id; it is not kept."""


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message that is to be kept.

    Parameters
    ----------
    sender
        MSH-3 and MSH-4 as sent.
    control_id
        MSH-10.
    kind
        Such as ``ORM^O01``.
    received
        When.
    content
        Its bytes.
    """

    sender: tuple[str, str]
    control_id: str
    kind: str
    received: datetime
    content: bytes

    @property
    def sha256(self) -> str:
        """Digest of its bytes."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message that is kept, without its bytes.

    Parameters
    ----------
    sequence
        Its place in the order of arrival.
    sender, control_id, kind, received, sha256
        As of ``InboundMessage``.
    state
        Where it stands.
    says
        Why it failed, in words without patient data; else empty.
    settled
        When it was done or failed, or ``None``.
    """

    sequence: int
    sender: tuple[str, str]
    control_id: str
    kind: str
    received: datetime
    sha256: str
    state: MessageState = MessageState.WAITING
    says: str = ""
    settled: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboxBacklog:
    """What is in the inbox.

    Parameters
    ----------
    waiting, failed
        How many messages stand so.
    oldest
        Since when the oldest of those waiting does, or ``None``.
    """

    waiting: int = 0
    failed: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class KnownChange:
    """A change of a patient, and when it came."""

    change: PatientChange
    received: datetime


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report of a reporting system that nobody has looked at yet.

    Parameters
    ----------
    report_id
        Of this report here.
    report
        What it says.
    received
        When it came.
    """

    report_id: int
    report: InboundReport
    received: datetime


class Inbox(Protocol):
    """Durable record of what came in. Processes may share it.

    Whatever writes raises ``AuditUnavailable`` where that cannot be made durable.
    """

    def keep(self, message: InboundMessage, *, audit_events: Sequence[bytes]) -> Taken:
        """Keep a message with its audit events, unless it is a repeat or contradicts another.

        An id whose first message lost its bytes by ``forget`` may be used again.
        """
        ...

    def waiting(self, *, limit: int) -> Sequence[KeptMessage]:
        """Give messages that wait, in the order of arrival."""
        ...

    def content(self, sequence: int) -> bytes:
        """Give the bytes of a message.

        Raises
        ------
        ResultNotFound
            If there are none any more, or not those that came.
        """
        ...

    def finish(self, sequence: int, content: Content, *, at: datetime) -> None:
        """Let what a message says take effect, and settle it; nothing if it does not wait.

        Orders change the deadline of their studies in the worklist.
        """
        ...

    def fail(self, sequence: int, says: str, *, at: datetime) -> None:
        """Note that a message that waits cannot do what it says."""
        ...

    def again(self, sequence: int, *, audit_events: Sequence[bytes]) -> bool:
        """Let a failed message wait once more; ``False`` if it is not a failed one."""
        ...

    def failed(self, *, limit: int) -> Sequence[KeptMessage]:
        """Give failed messages, the latest first."""
        ...

    def backlog(self) -> InboxBacklog:
        """Say what waits and what failed."""
        ...

    def orders(self, *, study_instance_uid: str, accession_number: str) -> Sequence[Order]:
        """Give the orders of a study, the earliest first; either number may be empty."""
        ...

    def changes(self, patient_id: str) -> Sequence[KnownChange]:
        """Give what is known of every patient with that number, in the order of arrival."""
        ...

    def reports(self, *, limit: int) -> Sequence[KeptReport]:
        """Give reports that nobody has looked at yet, in the order of arrival."""
        ...

    def settle_report(self, report_id: int, *, at: datetime) -> None:
        """Note that a report was looked at."""
        ...

    def forget(self, before: datetime, *, limit: int) -> int:
        """Drop the patient data of what was settled before then; say of how many messages.

        Of messages that are done the bytes; of patients what was known of them, but which numbers
        were merged; and the reports that were looked at. Ids, digests and times stay.

        Parameters
        ----------
        before
            When.
        limit
            Of how many messages at most.
        """
        ...
