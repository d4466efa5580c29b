"""What changes a published result afterwards: a radiologist signs it, or its model is recalled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cds_server.outbox import Publication
from cds_server.ports import StoredResult
from fhir_mappers.report_context import Recall, ReportSet, SignOff


@dataclass(frozen=True, slots=True)
class Amendment:
    """A later publication of a result.

    Parameters
    ----------
    publication
        What is published.
    number
        Which amendment of its result it is, from 1.
    signed, recall
        What it says; exactly one of them.
    """

    publication: Publication
    number: int
    signed: SignOff | None = None
    recall: Recall | None = None


@dataclass(frozen=True, slots=True)
class SignOffAsked:
    """A radiologist's word that is to be published.

    Parameters
    ----------
    request_id
        Of the request; empty until it is kept.
    result_id
        Of which result.
    signed
        The word; its number is given when it is published.
    source
        Where it came from, such as ``viewer``.
    """

    request_id: str
    result_id: str
    signed: SignOff
    source: str


@dataclass(frozen=True, slots=True)
class RecallAsked:
    """A model version whose results are to be taken back.

    Parameters
    ----------
    model_sha256
        Which model version.
    recall
        Why, and when.
    by
        Who asked for it.
    """

    model_sha256: str
    recall: Recall
    by: str


def amended(result: StoredResult, history: Sequence[Amendment], number: int) -> StoredResult:
    """Give a result as one of its amendments publishes it.

    Parameters
    ----------
    result
        As it was stored.
    history
        Its amendments, oldest first.
    number
        Of the amendment: what was signed before it stays said.
    """
    until = [each for each in history if each.number <= number]
    signed = next((each.signed for each in reversed(until) if each.signed), None)
    return replace(result, signed=signed, recall=until[-1].recall if until else None)


class AmendmentStore(Protocol):
    """Durable record of amendments, and of those that are asked for. Processes may share it.

    Whatever writes raises ``AuditUnavailable`` where that cannot be made durable.
    """

    def amend(
        self,
        amendment: Amendment,
        artefacts: ReportSet,
        *,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
    ) -> None:
        """Keep an amendment with its artefacts, audit leaves and deliveries, in one transaction.

        From then on its artefacts are those of the result. One that is kept already stays.
        """
        ...

    def amendment(self, publication_id: str) -> Amendment | None:
        """Give an amendment, ``None`` where a publication is none."""
        ...

    def amendments(self, result_id: str) -> Sequence[Amendment]:
        """Give the amendments of a result, oldest first."""
        ...

    def ask_sign_off(self, asked: SignOffAsked, *, audit_events: Sequence[bytes]) -> None:
        """Keep a radiologist's word until it is published."""
        ...

    def sign_offs_asked(self) -> Sequence[SignOffAsked]:
        """Give every word that is not published yet, oldest first."""
        ...

    def answer_sign_off(self, request_id: str) -> None:
        """Note that a word was published, or cannot be."""
        ...

    def ask_recall(self, asked: RecallAsked, *, audit_events: Sequence[bytes]) -> bool:
        """Keep that a model version is recalled; ``False`` if it was before."""
        ...

    def recalls(self) -> Sequence[RecallAsked]:
        """Give every recalled model version; a result that it gives later is taken back too."""
        ...

    def to_recall(self, model_sha256: str) -> Sequence[str]:
        """Give the published results of a model version that are not taken back, oldest first."""
        ...
