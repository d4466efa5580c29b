"""What came in by HL7 v2, in SQL."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_orders import apply_order, orders_of
from cds_server.adapters.sql_schema import (
    inbound_message,
    inbound_report,
    patient_change,
    patient_change_of,
)
from cds_server.adapters.sql_transaction import reading, writing
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
from cds_server.order_book import Order
from cds_server.worklist import Placing
from fhir_mappers.hl7_inbound.patient_changes import PatientChange
from fhir_mappers.hl7_inbound.reported import InboundReport

_MESSAGE = inbound_message.c
_WAITING = _MESSAGE.state == MessageState.WAITING.value
_ROWS: Select[Any] = select(*(each for each in _MESSAGE if each.name != "content"))
_CHANGE: TypeAdapter[PatientChange] = TypeAdapter(PatientChange)
_REPORT: TypeAdapter[InboundReport] = TypeAdapter(InboundReport)


class SqlInbox:
    """The inbox on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with result store and audit trail, so that they commit together.
    placing
        Of the result store: says when a study is due.
    """

    def __init__(self, engine: Engine, placing: Placing | None = None) -> None:
        self._engine = engine
        self._placing = placing or Placing()

    def keep(self, message: InboundMessage, *, audit_events: Sequence[bytes]) -> Taken:
        """Keep a message with its audit events, unless it is a repeat or contradicts another.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            query = select(_MESSAGE.sha256, _MESSAGE.content.is_not(None).label("held"))
            rows = connection.execute(query.where(_same_id(message))).all()
            if any(row.sha256 == message.sha256 for row in rows):
                return Taken.REPEAT
            if any(row.held for row in rows):
                return Taken.CONTRADICTION
            connection.execute(
                insert(inbound_message).values(
                    application=message.sender[0],
                    facility=message.sender[1],
                    control_id=message.control_id,
                    sha256=message.sha256,
                    kind=message.kind,
                    received=_utc(message.received),
                    state=MessageState.WAITING.value,
                    says="",
                    content=message.content,
                )
            )
            append(connection, audit_events)
        return Taken.NEW

    def waiting(self, *, limit: int) -> Sequence[KeptMessage]:
        """Give messages that wait, in the order of arrival."""
        return self._found(_ROWS.where(_WAITING).order_by(_MESSAGE.sequence).limit(limit))

    def content(self, sequence: int) -> bytes:
        """Give the bytes of a message.

        Raises
        ------
        ResultNotFound
            If there are none any more, or not those that came.
        """
        query = select(inbound_message).where(_MESSAGE.sequence == sequence)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.content is None:
            msg = "the message is not kept any more"
            raise ResultNotFound(msg)
        content = bytes(row.content)
        if hashlib.sha256(content).hexdigest() != row.sha256:
            msg = "the message was changed in the database; it is not processed"
            raise ResultNotFound(msg)
        return content

    def finish(self, sequence: int, content: Content, *, at: datetime) -> None:
        """Let what a message says take effect, and settle it; nothing if it does not wait.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written; then none of it is.
        """
        with writing(self._engine) as connection:
            waits = _ROWS.where(_MESSAGE.sequence == sequence, _WAITING)
            row = connection.execute(waits).one_or_none()
            if row is None:
                return
            kept = _message(row)
            for order in content.orders:
                apply_order(
                    connection, order, sender=kept.sender, at=kept.received, placing=self._placing
                )
            for number, change in enumerate(content.changes):
                _add_change(connection, kept, number, change)
            for report in content.reports:
                _add_report(connection, kept, report)
            _settle(connection, sequence, MessageState.DONE, "", at)

    def fail(self, sequence: int, says: str, *, at: datetime) -> None:
        """Note that a message that waits cannot do what it says.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            _settle(connection, sequence, MessageState.FAILED, says, at)

    def again(self, sequence: int, *, audit_events: Sequence[bytes]) -> bool:
        """Let a failed message wait once more; ``False`` if it is not a failed one.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        failed = _MESSAGE.state == MessageState.FAILED.value
        with writing(self._engine) as connection:
            changed = connection.execute(
                update(inbound_message)
                .where(_MESSAGE.sequence == sequence, failed)
                .values(state=MessageState.WAITING.value, says="", settled=None)
            ).rowcount
            if changed:
                append(connection, audit_events)
        return bool(changed)

    def failed(self, *, limit: int) -> Sequence[KeptMessage]:
        """Give failed messages, the latest first."""
        failed = _MESSAGE.state == MessageState.FAILED.value
        return self._found(_ROWS.where(failed).order_by(_MESSAGE.sequence.desc()).limit(limit))

    def backlog(self) -> InboxBacklog:
        """Say what waits and what failed."""
        query = (
            select(_MESSAGE.state, func.count(), func.min(_MESSAGE.sequence))
            .where(_MESSAGE.state.in_([MessageState.WAITING.value, MessageState.FAILED.value]))
            .group_by(_MESSAGE.state)
        )
        with reading(self._engine) as connection:
            counted = {state: (count, first) for state, count, first in connection.execute(query)}
            waiting, first = counted.get(MessageState.WAITING.value, (0, 0))
            oldest = connection.scalar(select(_MESSAGE.received).where(_MESSAGE.sequence == first))
        failed, _ = counted.get(MessageState.FAILED.value, (0, 0))
        return InboxBacklog(waiting, failed, datetime.fromisoformat(oldest) if oldest else None)

    def orders(self, *, study_instance_uid: str, accession_number: str) -> Sequence[Order]:
        """Give the orders of a study, the earliest first; either number may be empty."""
        with reading(self._engine) as connection:
            return orders_of(connection, study_instance_uid, accession_number)

    def changes(self, patient_id: str) -> Sequence[KnownChange]:
        """Give what is known of every patient with that number, in the order of arrival."""
        query = (
            select(patient_change.c.content, _MESSAGE.received)
            .select_from(patient_change_of.join(patient_change).join(inbound_message))
            .where(patient_change_of.c.patient_id == patient_id)
            .order_by(patient_change.c.sequence, patient_change.c.number)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            KnownChange(_CHANGE.validate_json(row.content), datetime.fromisoformat(row.received))
            for row in rows
        ]

    def reports(self, *, limit: int) -> Sequence[KeptReport]:
        """Give reports that nobody has looked at yet, in the order of arrival."""
        query = (
            select(inbound_report.c.id, inbound_report.c.content, _MESSAGE.received)
            .select_from(inbound_report.join(inbound_message))
            .where(inbound_report.c.settled.is_(None))
            .order_by(inbound_report.c.id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            KeptReport(
                row.id, _REPORT.validate_json(row.content), datetime.fromisoformat(row.received)
            )
            for row in rows
        ]

    def settle_report(self, report_id: int, *, at: datetime) -> None:
        """Note that a report was looked at.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(
                update(inbound_report)
                .where(inbound_report.c.id == report_id, inbound_report.c.settled.is_(None))
                .values(settled=_utc(at))
            )

    def forget(self, before: datetime, *, limit: int) -> int:
        """Drop the patient data of what was settled before then; say of how many messages.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        done = and_(_MESSAGE.state == MessageState.DONE.value, _MESSAGE.settled < _utc(before))
        held = select(_MESSAGE.sequence).where(done, _MESSAGE.content.is_not(None))
        with writing(self._engine) as connection:
            forgotten = connection.scalars(held.order_by(_MESSAGE.sequence).limit(limit)).all()
            for sequence in forgotten:
                _forget_changes(connection, sequence)
                message = update(inbound_message).where(_MESSAGE.sequence == sequence)
                connection.execute(message.values(content=None))
            old = inbound_report.c.settled < _utc(before)
            connection.execute(delete(inbound_report).where(old))
        return len(forgotten)

    def _found(self, query: Select[Any]) -> Sequence[KeptMessage]:
        with reading(self._engine) as connection:
            return [_message(row) for row in connection.execute(query)]


def _settle(
    connection: Connection, sequence: int, state: MessageState, says: str, at: datetime
) -> None:
    connection.execute(
        update(inbound_message)
        .where(_MESSAGE.sequence == sequence, _WAITING)
        .values(state=state.value, says=says, settled=_utc(at))
    )


def _add_change(
    connection: Connection, kept: KeptMessage, number: int, change: PatientChange
) -> None:
    key = {"sequence": kept.sequence, "number": number}
    content = _CHANGE.dump_json(change).decode()
    connection.execute(insert(patient_change).values(content=content, **key))
    for patient_id in numbers_named(change):
        connection.execute(insert(patient_change_of).values(patient_id=patient_id, **key))


def _add_report(connection: Connection, kept: KeptMessage, report: InboundReport) -> None:
    connection.execute(
        insert(inbound_report).values(
            sequence=kept.sequence,
            accession_number=report.accession_number,
            study_instance_uid=report.study_instance_uid,
            content=_REPORT.dump_json(report).decode(),
        )
    )


def _forget_changes(connection: Connection, sequence: int) -> None:
    """Keep of what a message said of patients no more than which numbers were merged."""
    query = select(patient_change).where(patient_change.c.sequence == sequence)
    for row in connection.execute(query).all():
        key = {"sequence": sequence, "number": row.number}
        left = without_patient_data(_CHANGE.validate_json(row.content))
        if left is None:
            connection.execute(delete(patient_change_of).filter_by(**key))
            connection.execute(delete(patient_change).filter_by(**key))
        else:
            content = _CHANGE.dump_json(left).decode()
            connection.execute(update(patient_change).filter_by(**key).values(content=content))


def _same_id(message: InboundMessage) -> ColumnElement[bool]:
    return and_(
        _MESSAGE.application == message.sender[0],
        _MESSAGE.facility == message.sender[1],
        _MESSAGE.control_id == message.control_id,
    )


def _message(row: Row[Any]) -> KeptMessage:
    return KeptMessage(
        row.sequence,
        (row.application, row.facility),
        row.control_id,
        row.kind,
        datetime.fromisoformat(row.received),
        row.sha256,
        MessageState(row.state),
        row.says,
        datetime.fromisoformat(row.settled) if row.settled else None,
    )


def _utc(moment: datetime) -> str:
    """Write a time so that the order of texts is that of times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
