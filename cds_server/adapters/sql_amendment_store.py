"""Amendments of results in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, update
from sqlalchemy.dialects.sqlite import insert

from cds_server.adapters.amendment_json import decode, encode
from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_outbox import add_deliveries
from cds_server.adapters.sql_schema import (
    amendment,
    amendment_artefact,
    recalled_model,
    result,
    sign_off_request,
    study,
    worklist_line,
)
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.amendments import Amendment, RecallAsked, SignOffAsked
from cds_server.outbox import Publication
from cds_server.ports import TAKEN_BACK_RANK
from fhir_mappers.report_context import Recall, ReportSet, SignOff


class SqlAmendmentStore:
    """The amendment store on the engine of ``sql_schema.open_engine``.

    Parameters
    ----------
    engine
        Shared with result store, outbox and audit trail, so that they commit together.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def amend(
        self,
        amended: Amendment,
        artefacts: ReportSet,
        *,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
    ) -> None:
        """Keep an amendment; one that is kept already stays.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        publication = amended.publication
        said = amended.signed or amended.recall
        assert said is not None, "an amendment says something"  # noqa: S101 - of its own type
        with writing(self._engine) as connection:
            kept = connection.execute(
                insert(amendment)
                .values(
                    publication_id=publication.publication_id,
                    result_id=publication.result_id,
                    number=amended.number,
                    created=publication.created.isoformat(),
                    order_key=publication.order_key,
                    recalls=int(amended.recall is not None),
                    content=encode(said),
                )
                .on_conflict_do_nothing(index_elements=["publication_id"])
            ).rowcount
            if not kept:
                return
            for name, content in artefacts.files().items():
                connection.execute(
                    insert(amendment_artefact).values(
                        publication_id=publication.publication_id, name=name, content=content
                    )
                )
            if amended.recall is not None:
                connection.execute(
                    update(worklist_line)
                    .where(worklist_line.c.result_id == publication.result_id)
                    .values(rank=TAKEN_BACK_RANK)
                )
            add_deliveries(connection, publication, destinations)
            append(connection, audit_events)

    def amendment(self, publication_id: str) -> Amendment | None:
        """Give an amendment, ``None`` where a publication is none."""
        query = _AMENDMENTS.where(amendment.c.publication_id == publication_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return _amendment(row) if row else None

    def amendments(self, result_id: str) -> Sequence[Amendment]:
        """Give the amendments of a result, oldest first."""
        query = _AMENDMENTS.where(amendment.c.result_id == result_id).order_by(amendment.c.number)
        with reading(self._engine) as connection:
            return [_amendment(row) for row in connection.execute(query)]

    def ask_sign_off(self, asked: SignOffAsked, *, audit_events: Sequence[bytes]) -> None:
        """Keep a radiologist's word until it is published.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            add_request(connection, asked)
            append(connection, audit_events)

    def sign_offs_asked(self) -> Sequence[SignOffAsked]:
        """Give every word that is not published yet, oldest first."""
        query = select(sign_off_request).where(sign_off_request.c.answered == 0)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(sign_off_request.c.id)).all()
        found = [(row, decode(row.content)) for row in rows]
        return [
            SignOffAsked(str(row.id), row.result_id, said, row.source)
            for row, said in found
            if isinstance(said, SignOff)
        ]

    def answer_sign_off(self, request_id: str) -> None:
        """Note that a word was published, or cannot be.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            connection.execute(
                update(sign_off_request)
                .where(sign_off_request.c.id == int(request_id))
                .values(answered=1)
            )

    def ask_recall(self, asked: RecallAsked, *, audit_events: Sequence[bytes]) -> bool:
        """Keep that a model version is recalled; ``False`` if it was before.

        Raises
        ------
        AuditUnavailable
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            kept = connection.execute(
                insert(recalled_model)
                .values(
                    model_sha256=asked.model_sha256,
                    recalled_by=asked.by,
                    reason=asked.recall.reason,
                    at=asked.recall.at.isoformat(),
                )
                .on_conflict_do_nothing()
            ).rowcount
            if kept:
                append(connection, audit_events)
        return bool(kept)

    def recalls(self) -> Sequence[RecallAsked]:
        """Give every recalled model version."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(recalled_model).order_by(recalled_model.c.at)).all()
        return [
            RecallAsked(
                row.model_sha256,
                Recall(row.reason, datetime.fromisoformat(row.at)),
                row.recalled_by,
            )
            for row in rows
        ]

    def to_recall(self, model_sha256: str) -> Sequence[str]:
        """Give the published results of a model version that are not taken back, oldest first."""
        taken_back = select(amendment.c.result_id).where(amendment.c.recalls == 1)
        query = select(result.c.result_id).where(
            func.json_extract(result.c.content, "$.outcome.model.sha256") == model_sha256,
            func.coalesce(func.json_extract(result.c.content, "$.shadow"), 0) == 0,
            result.c.result_id.not_in(taken_back),
        )
        with reading(self._engine) as connection:
            return list(connection.scalars(query.order_by(result.c.stored_at)).all())


def add_request(connection: Connection, asked: SignOffAsked) -> None:
    """Keep a radiologist's word in a transaction that is under way."""
    connection.execute(
        insert(sign_off_request).values(
            result_id=asked.result_id, source=asked.source, content=encode(asked.signed), answered=0
        )
    )


def files_of_amendment(connection: Connection, publication_id: str) -> Mapping[str, bytes]:
    """Give the artefacts of an amendment by name; none where it is none."""
    query = select(amendment_artefact.c.name, amendment_artefact.c.content).where(
        amendment_artefact.c.publication_id == publication_id
    )
    return {row.name: bytes(row.content) for row in connection.execute(query)}


def amended_artefacts(
    connection: Connection, name: str, result_ids: Sequence[str]
) -> Mapping[str, bytes]:
    """Give one artefact of the latest amendment that has it, of each result with such a one."""
    query = (
        select(amendment.c.result_id, amendment_artefact.c.content)
        .join(amendment_artefact, amendment_artefact.c.publication_id == amendment.c.publication_id)
        .where(amendment_artefact.c.name == name, amendment.c.result_id.in_(result_ids))
        .order_by(amendment.c.number)
    )
    return {row.result_id: bytes(row.content) for row in connection.execute(query)}


_AMENDMENTS = select(amendment, study.c.study_instance_uid).join(
    study, study.c.result_id == amendment.c.result_id
)


def _amendment(row: Row[Any]) -> Amendment:
    said = decode(row.content)
    publication = Publication(
        row.publication_id,
        row.result_id,
        row.study_instance_uid,
        row.order_key,
        datetime.fromisoformat(row.created),
    )
    made = Amendment(publication, row.number)
    return replace(made, signed=said) if isinstance(said, SignOff) else replace(made, recall=said)
