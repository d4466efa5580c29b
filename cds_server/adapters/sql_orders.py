"""Orders in SQL, within a transaction of the caller's: the result store and the inbox share them.

An order changes the deadline of its studies, and a study finds its orders when it comes.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from cds_server.adapters.result_json import decode
from cds_server.adapters.sql_schema import (
    ACCESSION_NUMBER,
    imaging_order,
    result,
    study,
    worklist_line,
)
from cds_server.order_book import Order, known_order, ordered
from cds_server.ports import StoredResult
from cds_server.worklist import Placing
from fhir_mappers.hl7_inbound.orders import InboundOrder, Procedure

_ORDER = imaging_order.c
_STUDIES = study.join(worklist_line).outerjoin(result, result.c.result_id == study.c.result_id)
_OPEN: Select[Any] = (
    select(study, result.c.content).select_from(_STUDIES).where(worklist_line.c.closed_at.is_(None))
)


def accession_of(stored: StoredResult | None) -> str:
    """Give the accession number of a study; empty where it is not read yet."""
    return stored.study.accession_number if stored else ""


def orders_of(
    connection: Connection, study_instance_uid: str, accession_number: str
) -> list[Order]:
    """Give the orders of a study, the earliest first."""
    named = or_(
        and_(_ORDER.study_instance_uid != "", _ORDER.study_instance_uid == study_instance_uid),
        and_(_ORDER.accession_number != "", _ORDER.accession_number == accession_number),
    )
    query = select(imaging_order).where(named).order_by(_ORDER.id)
    return [_order(row) for row in connection.execute(query)]


def apply_order(
    connection: Connection,
    said: InboundOrder,
    *,
    sender: tuple[str, str],
    at: datetime,
    placing: Placing,
) -> None:
    """Note what a message says of an order, and give its studies the deadline that they have now.

    Parameters
    ----------
    connection
        Under way.
    said
        What it says.
    sender, at
        Who said so, and when it came.
    placing
        Says when a study is due.
    """
    rows = {_order(row): row.id for row in connection.execute(_candidates(sender, said))}
    known = known_order(rows, sender, said)
    order = ordered(known, said, sender=sender, at=at)
    if known is None:
        connection.execute(insert(imaging_order).values(_values(order)))
    else:
        changed = update(imaging_order).where(_ORDER.id == rows[known])
        connection.execute(changed.values(_values(order)))
        _place_again(connection, known, placing)
    _place_again(connection, order, placing)


def _place_again(connection: Connection, order: Order, placing: Placing) -> None:
    """Give the open studies of an order the deadline that they have now."""
    for row in _lines(connection, order):
        stored = decode(row.content) if row.content else None
        orders = orders_of(connection, row.study_instance_uid, accession_of(stored))
        due = placing.due(datetime.fromisoformat(row.noticed_at), stored, orders)
        connection.execute(
            update(worklist_line)
            .where(worklist_line.c.result_id == row.result_id)
            .values(due=int(due.timestamp()))
        )


def _lines(connection: Connection, order: Order) -> Iterator[Row[Any]]:
    if order.study_instance_uid:
        named = study.c.study_instance_uid == order.study_instance_uid
        yield from connection.execute(_OPEN.where(named)).all()
    if order.accession_number:
        numbered = (
            select(result.c.result_id)
            .where(literal_column(ACCESSION_NUMBER) == order.accession_number)
            .correlate(None)
        )
        yield from connection.execute(_OPEN.where(study.c.result_id.in_(numbered))).all()


def _candidates(sender: tuple[str, str], said: InboundOrder) -> Select[Any]:
    """Give the orders that ``known_order`` chooses from."""
    numbers: list[ColumnElement[bool]] = []
    if said.placer_number.value:
        numbers.append(_ORDER.placer_number == said.placer_number.value)
    if said.filler_number.value:
        numbers.append(_ORDER.filler_number == said.filler_number.value)
    if not numbers:
        numbers.append(_ORDER.accession_number == said.accession_number)
    return (
        select(imaging_order)
        .where(_ORDER.application == sender[0], _ORDER.facility == sender[1], or_(*numbers))
        .order_by(_ORDER.id)
    )


def _order(row: Row[Any]) -> Order:
    return Order(
        sender=(row.application, row.facility),
        placer_number=row.placer_number,
        filler_number=row.filler_number,
        accession_number=row.accession_number,
        study_instance_uid=row.study_instance_uid,
        procedure=Procedure(row.procedure_code, row.procedure_text, row.procedure_system),
        modality=row.modality,
        priority=row.priority,
        since=datetime.fromisoformat(row.since),
        patient=(row.patient_issuer, row.patient_id),
        cancelled=bool(row.cancelled),
    )


def _values(order: Order) -> dict[str, object]:
    return {
        "application": order.sender[0],
        "facility": order.sender[1],
        "placer_number": order.placer_number,
        "filler_number": order.filler_number,
        "accession_number": order.accession_number,
        "study_instance_uid": order.study_instance_uid,
        "procedure_code": order.procedure.code,
        "procedure_text": order.procedure.text,
        "procedure_system": order.procedure.system,
        "modality": order.modality,
        "priority": order.priority,
        "since": order.since.isoformat(),
        "patient_issuer": order.patient[0],
        "patient_id": order.patient[1],
        "cancelled": int(order.cancelled),
    }
