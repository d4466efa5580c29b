"""What people say of results, in SQL, each with its audit leaf in the same transaction."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime

import orjson
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from cds_server.adapters.sql_amendment_store import add_request
from cds_server.adapters.sql_audit_trail import append
from cds_server.adapters.sql_schema import card_feedback, issued_card, verdict, worklist_line
from cds_server.adapters.sql_transaction import reading, writing
from cds_server.amendments import SignOffAsked
from cds_server.feedback import Agreement, CardFeedback, IssuedCard, Verdict


class SqlFeedbackStore:
    """Feedback on the engine of ``sql_schema.open_engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def issue(self, cards: Sequence[IssuedCard], audit_events: Sequence[bytes]) -> None:
        """Remember cards that are about to be shown.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept; then no card may be shown.
        """
        with writing(self._engine) as connection:
            if cards:
                connection.execute(
                    sqlite_insert(issued_card).on_conflict_do_nothing(),
                    [asdict(card) for card in cards],
                )
            append(connection, audit_events)

    def card(self, uuid: str) -> IssuedCard | None:
        """Give a card that was shown."""
        with reading(self._engine) as connection:
            row = connection.execute(select(issued_card).where(issued_card.c.uuid == uuid)).first()
        return IssuedCard(*row) if row else None

    def add_feedback(
        self, items: Sequence[CardFeedback], leaf: Callable[[CardFeedback], bytes]
    ) -> int:
        """Keep what is new of it, each with its audit leaf, and give how many were.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept; then nothing is.
        """
        new = 0
        with writing(self._engine) as connection:
            for item in items:
                done = connection.execute(
                    sqlite_insert(card_feedback)
                    .values(
                        card=item.card,
                        outcome=item.outcome,
                        at=item.at.isoformat(),
                        content=orjson.dumps(asdict(item)).decode(),
                    )
                    .on_conflict_do_nothing()
                )
                if done.rowcount:
                    append(connection, [leaf(item)])
                    new += 1
        return new

    def feedback(self, card: str) -> Sequence[CardFeedback]:
        """Give what was said of one card, oldest first."""
        query = select(card_feedback.c.content).where(card_feedback.c.card == card)
        with reading(self._engine) as connection:
            found = [
                orjson.loads(each)
                for each in connection.scalars(query.order_by(card_feedback.c.at)).all()
            ]
        return [
            CardFeedback(
                **{
                    **each,
                    "at": datetime.fromisoformat(each["at"]),
                    "accepted": tuple(each["accepted"]),
                }
            )
            for each in found
        ]

    def add_verdict(
        self, verdict_: Verdict, audit_events: Sequence[bytes], asked: SignOffAsked | None = None
    ) -> None:
        """Keep a verdict, and take the study off the open worklist.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept; then nothing is.
        """
        with writing(self._engine) as connection:
            connection.execute(
                insert(verdict).values({**asdict(verdict_), "at": verdict_.at.isoformat()})
            )
            connection.execute(
                update(worklist_line)
                .where(
                    worklist_line.c.result_id == verdict_.result_id,
                    worklist_line.c.closed_at.is_(None),
                )
                .values(closed_at=verdict_.at.isoformat())
            )
            if asked is not None:
                add_request(connection, asked)
            append(connection, audit_events)

    def verdicts(self, result_id: str) -> Sequence[Verdict]:
        """Give what readers said of one result, oldest first."""
        query = select(verdict).where(verdict.c.result_id == result_id).order_by(verdict.c.id)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            Verdict(
                result_id=row.result_id,
                user=row.user,
                at=datetime.fromisoformat(row.at),
                agreement=Agreement(row.agreement),
                radpeer=row.radpeer,
                reason=row.reason,
                comment=row.comment,
            )
            for row in rows
        ]
