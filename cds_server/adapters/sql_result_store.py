"""Studies, results and artefacts in SQL; results and their audit leaves in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    func,
    insert,
    or_,
    select,
    update,
)

from cds_server.adapters.result_json import decode, encode
from cds_server.adapters.sql_amendment_store import amended_artefacts, files_of_amendment
from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_orders import accession_of, orders_of
from cds_server.adapters.sql_outbox import add_deliveries, delivered_of
from cds_server.adapters.sql_schema import (
    SCHEMA_VERSION,
    amendment,
    artefact,
    result,
    schema_version,
    study,
    worklist_line,
)
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.errors import ResultNotFound
from cds_server.outbox import Publication
from cds_server.ports import StoredResult, StudyEntry, StudyState
from cds_server.worklist import Placing, Show, WorklistPage, WorklistQuery
from fhir_mappers.report_context import ReportSet

_UNKNOWN = "no study is known under this identifier"


class SqlResultStore:
    """The result store on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with the audit trail, so that a result and its leaf commit together.
    placing
        Says whose a study is and when it is due.
    """

    def __init__(self, engine: Engine, placing: Placing | None = None) -> None:
        self._engine = engine
        self._placing = placing or Placing()
        self._place_older_lines()

    def _place_older_lines(self) -> None:
        """Give the studies of a database of version 1 their place in the worklist."""
        with writing(self._engine) as connection:
            if connection.scalar(select(schema_version.c.version)) == SCHEMA_VERSION:
                return
            older = _LINES.where(worklist_line.c.result_id.is_(None)).order_by(study.c.noticed_at)
            rows = connection.execute(older).all()
            latest = {row.study_instance_uid: row.result_id for row in rows}
            for row in rows:
                stored = decode(row.content) if row.content else None
                noticed_at = datetime.fromisoformat(row.noticed_at)
                uid = row.study_instance_uid
                connection.execute(
                    insert(worklist_line).values(
                        result_id=row.result_id,
                        superseded=int(latest[uid] != row.result_id),
                        **self._place(connection, uid, noticed_at, stored),
                    )
                )
            connection.execute(update(schema_version).values(version=SCHEMA_VERSION))

    def _place(
        self,
        connection: Connection,
        study_instance_uid: str,
        noticed_at: datetime,
        stored: StoredResult | None,
    ) -> dict[str, object]:
        """Give the values of a line that follow from what is known of the study."""
        orders = orders_of(connection, study_instance_uid, accession_of(stored))
        due = self._placing.due(noticed_at, stored, orders)
        state = StudyState.READ if stored else StudyState.QUEUED
        probe = StudyEntry("", "", noticed_at, state, stored, {}, due)
        return {
            "centre": self._placing.centre(stored),
            "rank": probe.rank,
            "due": int(due.timestamp()),
            "progress": state.value,
        }

    def notice(self, result_id: str, study_instance_uid: str, noticed_at: datetime) -> bool:
        """Remember that a study arrived; ``False`` if it was known already.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
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
                connection.execute(
                    insert(worklist_line).values(
                        result_id=result_id,
                        superseded=0,
                        **self._place(connection, study_instance_uid, noticed_at, None),
                    )
                )
                earlier = select(study.c.result_id).where(
                    study.c.study_instance_uid == study_instance_uid,
                    study.c.result_id != result_id,
                )
                connection.execute(
                    update(worklist_line)
                    .where(worklist_line.c.result_id.in_(earlier))
                    .values(superseded=1)
                )
            return known is None

    def save(
        self,
        stored: StoredResult,
        artefacts: ReportSet,
        *,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
        order_key: str = "",
    ) -> None:
        """Store result, artefacts, audit leaves and pending deliveries in one transaction.

        Raises
        ------
        AuditUnavailable
            If any of it cannot be written; then nothing is.
        """
        files = artefacts.files()
        if artefacts.original_png:
            files["original.png"] = artefacts.original_png
        with writing(self._engine) as connection:
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
            noticed = connection.execute(
                select(study).where(study.c.result_id == stored.result_id)
            ).one()
            noticed_at = datetime.fromisoformat(noticed.noticed_at)
            place = self._place(connection, noticed.study_instance_uid, noticed_at, stored)
            connection.execute(
                update(worklist_line)
                .where(worklist_line.c.result_id == stored.result_id)
                .values(place)
            )
            for name, content in files.items():
                connection.execute(
                    insert(artefact).values(result_id=stored.result_id, name=name, content=content)
                )
            publication = Publication(
                stored.result_id,
                stored.result_id,
                stored.study.study_instance_uid,
                order_key or stored.result_id,
                stored.stored_at,
            )
            add_deliveries(connection, publication, destinations)
            append(connection, audit_events)

    def progress(self, result_id: str, state: StudyState) -> None:
        """Note that a study is being fetched or analysed.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(
                update(worklist_line)
                .where(
                    worklist_line.c.result_id == result_id,
                    worklist_line.c.progress.in_(_NOT_READ),
                )
                .values(progress=state.value)
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
            raise ResultNotFound(_UNKNOWN)
        return found[0]

    def study_of(self, result_id: str) -> str:
        """Give the Study Instance UID of a result.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        """
        query = select(study.c.study_instance_uid).where(study.c.result_id == result_id)
        with reading(self._engine) as connection:
            found = connection.scalar(query)
        if found is None:
            raise ResultNotFound(_UNKNOWN)
        return str(found)

    def entries(self) -> Sequence[StudyEntry]:
        """Give every study: urgent first, then flagged, not analysed, normal, queued."""
        entries = self._entries(_LINES)
        return sorted(entries, key=lambda entry: (entry.rank, entry.noticed_at))

    def entries_of_patient(self, patient_id: str) -> Sequence[StudyEntry]:
        """Give the studies of one patient, latest first."""
        entries = self._entries(_LINES.where(result.c.patient_id == patient_id))
        return sorted(entries, key=lambda entry: entry.noticed_at, reverse=True)

    def entries_of_study(self, study_instance_uid: str) -> Sequence[StudyEntry]:
        """Give every result of one study, latest first."""
        entries = self._entries(_LINES.where(study.c.study_instance_uid == study_instance_uid))
        return sorted(entries, key=lambda entry: entry.noticed_at, reverse=True)

    def worklist(self, query: WorklistQuery) -> WorklistPage:
        """Give the lines of a worklist in the order of reading."""
        by_rank = select(worklist_line.c.rank, func.count())
        with reading(self._engine) as connection:
            counted = connection.execute(
                _narrowed(by_rank, query).group_by(worklist_line.c.rank)
            ).all()
            counts = {row[0]: row[1] for row in counted}
            places = (worklist_line.c.due, worklist_line.c.rank, worklist_line.c.result_id)
            latest_first = query.show is not Show.OPEN
            lines = _narrowed(_LINES, query).order_by(
                *(place.desc() if latest_first else place for place in places)
            )
            rows = connection.execute(lines.limit(query.limit)).all()
            entries = _entries(connection, rows)
        return WorklistPage(entries, sum(counts.values()) - len(entries), counts)

    def artefact(self, result_id: str, name: str) -> bytes:
        """Give the stored bytes of an artefact.

        Raises
        ------
        ResultNotFound
            If there is no such result or artefact.
        """
        found = self.artefact_of_each(name, [result_id])
        if result_id not in found:
            msg = "this study has no such artefact"
            raise ResultNotFound(msg)
        return found[result_id]

    def artefact_of_each(self, name: str, result_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Give the stored bytes of one artefact of each result that has it."""
        query = select(artefact.c.result_id, artefact.c.content).where(
            artefact.c.name == name, artefact.c.result_id.in_(result_ids)
        )
        with reading(self._engine) as connection:
            first = {row.result_id: bytes(row.content) for row in connection.execute(query)}
            return {**first, **amended_artefacts(connection, name, result_ids)}

    def artefacts(self, publication_id: str) -> ReportSet:
        """Give the report set of a publication, byte for byte.

        Raises
        ------
        ResultNotFound
            If there is no such result.
        """
        query = select(artefact.c.name, artefact.c.content).where(
            artefact.c.result_id == publication_id
        )
        with reading(self._engine) as connection:
            files = {row.name: bytes(row.content) for row in connection.execute(query)}
            files = files or dict(files_of_amendment(connection, publication_id))
        if not files:
            msg = "no result is stored under this identifier"
            raise ResultNotFound(msg)
        return ReportSet.of_files(files)

    def _entries(self, query: Select[Any]) -> list[StudyEntry]:
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            return _entries(connection, rows)


_STUDIES = study.outerjoin(result).outerjoin(
    worklist_line, worklist_line.c.result_id == study.c.result_id
)
_LINES: Select[Any] = select(
    study,
    result.c.content,
    *(column for column in worklist_line.c if column.name != "result_id"),
    select(amendment.c.number)
    .where(amendment.c.result_id == study.c.result_id, amendment.c.recalls == 1)
    .exists()
    .label("recalled"),
).select_from(_STUDIES)


_NOT_READ = (StudyState.QUEUED, StudyState.FETCHING, StudyState.ANALYSING)


def _narrowed(lines: Select[Any], query: WorklistQuery) -> Select[Any]:
    """Keep the lines that ``WorklistQuery.admits``."""
    line = worklist_line.c
    if query.centres:
        lines = lines.where(or_(line.progress.in_(_NOT_READ), line.centre.in_(query.centres)))
    if query.ranks:
        lines = lines.where(line.rank.in_(query.ranks))
    if query.due_after is not None:
        lines = lines.where(line.due >= query.due_after.timestamp())
    if query.show is Show.ALL:
        return lines
    closed = line.closed_at.is_(None) if query.show is Show.OPEN else line.closed_at.is_not(None)
    return lines.where(line.superseded == 0, closed)


def _entries(connection: Connection, rows: Sequence[Row[Any]]) -> list[StudyEntry]:
    """Give the lines of rows, with what was delivered of each."""
    delivered = delivered_of(connection, [row.result_id for row in rows])
    return [_entry(row, delivered[row.result_id]) for row in rows]


def _entry(row: Row[Any], delivered: Mapping[str, bool]) -> StudyEntry:
    stored = decode(row.content) if row.content else None
    state = StudyState(row.progress)
    if stored:
        state = StudyState.PUBLISHED if all(delivered.values()) else StudyState.READ
    return StudyEntry(
        result_id=row.result_id,
        study_instance_uid=row.study_instance_uid,
        noticed_at=datetime.fromisoformat(row.noticed_at),
        state=state,
        result=stored,
        delivered=delivered,
        due=datetime.fromtimestamp(row.due, UTC),
        centre=row.centre,
        closed_at=datetime.fromisoformat(row.closed_at) if row.closed_at else None,
        superseded=bool(row.superseded),
        recalled=bool(row.recalled),
    )
