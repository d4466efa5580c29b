"""What people say of a result: feedback on a card, a reader's verdict. Values and their port."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from cds_server.amendments import SignOffAsked


class Agreement(StrEnum):
    """Whether a reader agrees with the result."""

    AGREE = "agree"
    DISAGREE = "disagree"


RADPEER = ("1", "2a", "2b", "3a", "3b")
"""Scores of agreement: ACR RADPEER 2016: 1 concur, 2 minor, 3 major; b is clinically important."""

DISAGREEMENTS = {
    "false-positive": "The finding is not there",
    "missed-finding": "A finding was missed",
    "wrong-finding": "There is a finding, but another one",
    "wrong-place": "The finding is somewhere else",
    "wrong-priority": "The priority is wrong",
    "poor-image": "The image cannot be judged",
    "known-before": "Known from before, not new",
    "other": "Another reason, told in the comment",
}


@dataclass(frozen=True, slots=True)
class IssuedCard:
    """A card that was shown by a CDS client.

    Parameters
    ----------
    uuid
        Of the card.
    result_id
        The result it is about.
    service_id
        The service that answered.
    client
        Issuer of the CDS client.
    """

    uuid: str
    result_id: str
    service_id: str
    client: str


@dataclass(frozen=True, slots=True)
class CardFeedback:
    """One outcome of one card.

    Parameters
    ----------
    card
        Its UUID.
    outcome
        ``accepted`` or ``overridden``.
    at
        When, with an offset.
    reason_system, reason_code, comment
        Why it was overridden; empty where not said.
    accepted
        UUIDs of the accepted suggestions.

    References
    ----------
    CDS Hooks 2.0, Feedback.
    """

    card: str
    outcome: str
    at: datetime
    reason_system: str = ""
    reason_code: str = ""
    comment: str = ""
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader says of a result.

    Parameters
    ----------
    result_id
        Of which result.
    user
        Who.
    at
        When, with an offset.
    agreement
        With the result.
    radpeer
        One of ``RADPEER``.
    reason
        Key of ``DISAGREEMENTS``, or empty where the reader agrees.
    comment
        Free text for people; never logged, never in the audit trail.
    """

    result_id: str
    user: str
    at: datetime
    agreement: Agreement
    radpeer: str
    reason: str = ""
    comment: str = ""


class FeedbackStore(Protocol):
    """Durable record of what people said. Every write carries its audit leaves with it."""

    def issue(self, cards: Sequence[IssuedCard], audit_events: Sequence[bytes]) -> None:
        """Remember cards that are about to be shown; one that was shown before stays.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept; then no card may be shown.
        """
        ...

    def card(self, uuid: str) -> IssuedCard | None:
        """Give a card that was shown."""
        ...

    def add_feedback(
        self, items: Sequence[CardFeedback], leaf: Callable[[CardFeedback], bytes]
    ) -> int:
        """Keep what is new of it, each with its audit leaf, and give how many were.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept; then nothing is.
        """
        ...

    def feedback(self, card: str) -> Sequence[CardFeedback]:
        """Give what was said of one card, oldest first."""
        ...

    def add_verdict(
        self, verdict: Verdict, audit_events: Sequence[bytes], asked: SignOffAsked | None = None
    ) -> None:
        """Keep a verdict, and take the study off the open worklist; with a sign-off asked for.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept; then nothing is.
        """
        ...

    def verdicts(self, result_id: str) -> Sequence[Verdict]:
        """Give what readers said of one result, oldest first."""
        ...
