"""Studies, results and artefacts in SQL; results and their audit leaves in one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, insert, select, update
from sqlalchemy.exc import DatabaseError

from cds_server.adapters.result_json import decode, encode
from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_schema import artefact, delivery, result, study
from cds_server.errors import AuditUnavailable, ResultNotFound
from cds_server.ports import StoredResult, StudyEntry, StudyState
from fhir_mappers.report_context import ReportSet


@contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    """Write in one transaction.

    Raises
    ------
    AuditUnavailable
        If it cannot be made durable.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DatabaseError as error:
        msg = f"the database cannot be written ({error.orig})"
        raise AuditUnavailable(msg) from error


class SqlResultStore:
    """The result store on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with the audit trail, so that a result and its leaf commit together.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def notice(self, result_id: str, study_instance_uid: str, noticed_at: datetime) -> bool:
        """Remember that a study arrived; ``False`` if it was known already.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with _writing(self._engine) as connection:
            known = connection.scalar(
                select(study.c.result_id).where(study.c.result_id == result_id)
            )
            if known is None:
                connection.execute(
                    insert(study).values(
                        result_id=result_id,
                        study_instance_uid=study_instance_uid,
                        noticed_at=noticed_at.isoformat(),
                    )
                )
            return known is None

    def save(
        self,
        stored: StoredResult,
        artefacts: ReportSet,
        *,
        original_png: bytes | None,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
    ) -> None:
        """Store result, artefacts, audit leaves and pending deliveries in one transaction.

        Raises
        ------
        AuditUnavailable
            If any of it cannot be written; then nothing is.
        """
        files = artefacts.files() | ({"original.png": original_png} if original_png else {})
        with _writing(self._engine) as connection:
            if connection.scalar(
                select(result.c.result_id).where(result.c.result_id == stored.result_id)
            ):
                return
            connection.execute(
                insert(result).values(
                    result_id=stored.result_id,
                    patient_id=stored.study.patient.patient_id,
                    stored_at=stored.stored_at.isoformat(),
                    content=encode(stored),
                )
            )
            for name, content in files.items():
                connection.execute(
                    insert(artefact).values(result_id=stored.result_id, name=name, content=content)
                )
            for name in destinations:
                connection.execute(
                    insert(delivery).values(
                        result_id=stored.result_id, destination=name, delivered=0
                    )
                )
            append(connection, audit_events)

    def mark_delivered(self, result_id: str, destination: str) -> None:
        """Note that a destination acknowledged.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with _writing(self._engine) as connection:
            connection.execute(
                update(delivery)
                .where(delivery.c.result_id == result_id, delivery.c.destination == destination)
                .values(delivered=1)
            )

    def entry(self, result_id: str) -> StudyEntry:
        """Give the worklist line of one study.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        """
        found = self._entries(_LINES.where(study.c.result_id == result_id))
        if not found:
            msg = "no study is known under this identifier"
            raise ResultNotFound(msg)
        return found[0]

    def entries(self) -> Sequence[StudyEntry]:
        """Give every study: urgent first, then flagged, not analysed, normal, queued."""
        entries = self._entries(_LINES)
        return sorted(entries, key=lambda entry: (entry.rank, entry.noticed_at))

    def entries_of_patient(self, patient_id: str) -> Sequence[StudyEntry]:
        """Give the studies of one patient, latest first."""
        entries = self._entries(_LINES.where(result.c.patient_id == patient_id))
        return sorted(entries, key=lambda entry: entry.noticed_at, reverse=True)

    def artefact(self, result_id: str, name: str) -> bytes:
        """Give the stored bytes of an artefact.

        Raises
        ------
        ResultNotFound
            If there is no such result or artefact.
        """
        query = select(artefact.c.content).where(
            artefact.c.result_id == result_id, artefact.c.name == name
        )
        with self._engine.connect() as connection:
            content = connection.scalar(query)
        if content is None:
            msg = "this study has no such artefact"
            raise ResultNotFound(msg)
        return bytes(content)

    def artefacts(self, result_id: str) -> ReportSet:
        """Give the stored report set, byte for byte.

        Raises
        ------
        ResultNotFound
            If there is no such result.
        """
        query = select(artefact.c.name, artefact.c.content).where(artefact.c.result_id == result_id)
        with self._engine.connect() as connection:
            files = {row.name: bytes(row.content) for row in connection.execute(query)}
        if not files:
            msg = "no result is stored under this identifier"
            raise ResultNotFound(msg)
        return ReportSet(
            bundle=files["bundle.json"],
            oru=files["oru.hl7"],
            card=files["card.json"],
            overlay_png=files.get("overlay.png"),
            secondary_capture=files.get("secondary-capture.dcm"),
        )

    def _entries(self, query: Select[Any]) -> list[StudyEntry]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
            return [_entry(row, _deliveries(connection, row.result_id)) for row in rows]


_LINES: Select[Any] = select(study, result.c.content).select_from(study.outerjoin(result))


def _deliveries(connection: Connection, result_id: str) -> dict[str, bool]:
    query = select(delivery).where(delivery.c.result_id == result_id)
    return {row.destination: bool(row.delivered) for row in connection.execute(query)}


def _entry(row: Row[Any], delivered: Mapping[str, bool]) -> StudyEntry:
    stored = decode(row.content) if row.content else None
    state = StudyState.QUEUED
    if stored:
        state = StudyState.PUBLISHED if all(delivered.values()) else StudyState.READ
    return StudyEntry(
        result_id=row.result_id,
        study_instance_uid=row.study_instance_uid,
        noticed_at=datetime.fromisoformat(row.noticed_at),
        state=state,
        result=stored,
        delivered=delivered,
    )
