"""What came in by HL7 v2, in memory, for tests and development."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cds_server.errors import ResultNotFound
from cds_server.inbound_content import Content, numbers_named, without_patient_data
from cds_server.inbox import (
    InboundMessage,
    InboxBacklog,
    KeptMessage,
    KeptReport,
    KnownChange,
    MessageState,
    Taken,
)
from cds_server.order_book import Order, known_order, ordered
from cds_server.ports import AuditTrail, StudyEntry
from cds_server.worklist import Placing

_WAITING, _DONE, _FAILED = MessageState.WAITING, MessageState.DONE, MessageState.FAILED


@dataclass
class InMemoryInbox:
    """An inbox whose audit leaves go to the given trail."""

    trail: AuditTrail
    placing: Placing = field(default_factory=Placing)
    kept: dict[int, KeptMessage] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    book: list[Order] = field(default_factory=list)
    known: list[tuple[int, KnownChange]] = field(default_factory=list)
    reported: list[KeptReport] = field(default_factory=list)
    looked_at: dict[int, datetime] = field(default_factory=dict)

    def keep(self, message: InboundMessage, *, audit_events: Sequence[bytes]) -> Taken:
        """Keep a message, unless it is a repeat or contradicts another."""
        same = [
            each
            for each in self.kept.values()
            if (each.sender, each.control_id) == (message.sender, message.control_id)
        ]
        if any(each.sha256 == message.sha256 for each in same):
            return Taken.REPEAT
        if any(each.sequence in self.contents for each in same):
            return Taken.CONTRADICTION
        self.trail.record(audit_events)
        sequence = len(self.kept) + 1
        self.contents[sequence] = message.content
        self.kept[sequence] = KeptMessage(
            sequence,
            message.sender,
            message.control_id,
            message.kind,
            message.received,
            message.sha256,
        )
        return Taken.NEW

    def waiting(self, *, limit: int) -> Sequence[KeptMessage]:
        """Give messages that wait, in the order of arrival."""
        return self._of(_WAITING)[:limit]

    def content(self, sequence: int) -> bytes:
        """Give the bytes of a message.

        Raises
        ------
        ResultNotFound
            If there are none any more.
        """
        if sequence not in self.contents:
            msg = "the message is not kept any more"
            raise ResultNotFound(msg)
        return self.contents[sequence]

    def finish(self, sequence: int, content: Content, *, at: datetime) -> None:
        """Let what a message says take effect, and settle it."""
        message = self.kept[sequence]
        if message.state is not _WAITING:
            return
        for said in content.orders:
            known = known_order(self.book, message.sender, said)
            order = ordered(known, said, sender=message.sender, at=message.received)
            if known is None:
                self.book.append(order)
            else:
                self.book[self.book.index(known)] = order
        for change in content.changes:
            self.known.append((sequence, KnownChange(change, message.received)))
        for report in content.reports:
            self.reported.append(KeptReport(len(self.reported) + 1, report, message.received))
        self.kept[sequence] = replace(message, state=_DONE, settled=at)

    def fail(self, sequence: int, says: str, *, at: datetime) -> None:
        """Note that a message that waits cannot do what it says."""
        if self.kept[sequence].state is _WAITING:
            failed = replace(self.kept[sequence], state=_FAILED, says=says, settled=at)
            self.kept[sequence] = failed

    def again(self, sequence: int, *, audit_events: Sequence[bytes]) -> bool:
        """Let a failed message wait once more."""
        if sequence not in self.kept or self.kept[sequence].state is not _FAILED:
            return False
        self.trail.record(audit_events)
        self.kept[sequence] = replace(self.kept[sequence], state=_WAITING, says="", settled=None)
        return True

    def failed(self, *, limit: int) -> Sequence[KeptMessage]:
        """Give failed messages, the latest first."""
        return self._of(_FAILED)[::-1][:limit]

    def backlog(self) -> InboxBacklog:
        """Say what waits and what failed."""
        waiting = self._of(_WAITING)
        oldest = waiting[0].received if waiting else None
        return InboxBacklog(len(waiting), len(self._of(_FAILED)), oldest)

    def orders(self, *, study_instance_uid: str, accession_number: str) -> Sequence[Order]:
        """Give the orders of a study, the earliest first."""
        return [each for each in self.book if each.is_of(study_instance_uid, accession_number)]

    def placed(self, entry: StudyEntry) -> StudyEntry:
        """Give an open line of the worklist with the deadline that it has by its orders."""
        if entry.closed_at:
            return entry
        accession_number = entry.result.study.accession_number if entry.result else ""
        orders = self.orders(
            study_instance_uid=entry.study_instance_uid, accession_number=accession_number
        )
        return replace(entry, due=self.placing.due(entry.noticed_at, entry.result, orders))

    def changes(self, patient_id: str) -> Sequence[KnownChange]:
        """Give what is known of every patient with that number, in the order of arrival."""
        return [each for _, each in self.known if patient_id in numbers_named(each.change)]

    def reports(self, *, limit: int) -> Sequence[KeptReport]:
        """Give reports that nobody has looked at yet, in the order of arrival."""
        left = [each for each in self.reported if each.report_id not in self.looked_at]
        return left[:limit]

    def settle_report(self, report_id: int, *, at: datetime) -> None:
        """Note that a report was looked at."""
        self.looked_at.setdefault(report_id, at)

    def forget(self, before: datetime, *, limit: int) -> int:
        """Drop the patient data of what was settled before then; say of how many messages."""
        old = [
            each.sequence
            for each in self._of(_DONE)
            if each.sequence in self.contents and each.settled and each.settled < before
        ][:limit]
        for sequence in old:
            del self.contents[sequence]
        self.known = [
            (sequence, left)
            for sequence, each in self.known
            if (left := _forgotten(each) if sequence in old else each) is not None
        ]
        return len(old)

    def _of(self, state: MessageState) -> list[KeptMessage]:
        return [each for each in self.kept.values() if each.state is state]


def _forgotten(known: KnownChange) -> KnownChange | None:
    left = without_patient_data(known.change)
    return replace(known, change=left) if left else None
