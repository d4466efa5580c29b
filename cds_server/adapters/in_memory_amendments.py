"""Amendments of results in memory, for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ai_engine.result import TriageResult
from cds_server.adapters.in_memory import InMemoryFeedbackStore, InMemoryResultStore
from cds_server.amendments import Amendment, RecallAsked, SignOffAsked
from fhir_mappers.report_context import ReportSet


@dataclass
class InMemoryAmendmentStore:
    """An amendment store beside an in-memory result store, over the same trail and outbox."""

    results: InMemoryResultStore
    feedback: InMemoryFeedbackStore
    kept: dict[str, Amendment] = field(default_factory=dict)
    asked: dict[str, SignOffAsked] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    models: dict[str, RecallAsked] = field(default_factory=dict)

    def amend(
        self,
        amended: Amendment,
        artefacts: ReportSet,
        *,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
    ) -> None:
        """Keep an amendment; one that is kept already stays."""
        publication = amended.publication
        if publication.publication_id in self.kept:
            return
        self.results.trail.record(audit_events)
        self.kept[publication.publication_id] = amended
        self.results.sets[publication.publication_id] = artefacts
        self.results.files[publication.result_id] |= artefacts.files()
        if amended.recall:
            self.results.recalled.add(publication.result_id)
        self.results.outbox.add(publication, destinations)

    def amendment(self, publication_id: str) -> Amendment | None:
        """Give an amendment."""
        return self.kept.get(publication_id)

    def amendments(self, result_id: str) -> Sequence[Amendment]:
        """Give the amendments of a result, oldest first."""
        own = [each for each in self.kept.values() if each.publication.result_id == result_id]
        return sorted(own, key=lambda each: each.number)

    def ask_sign_off(self, asked: SignOffAsked, *, audit_events: Sequence[bytes]) -> None:
        """Keep a radiologist's word."""
        self.results.trail.record(audit_events)
        self._take_verdicts()
        self._keep(asked)

    def _take_verdicts(self) -> None:
        while self.feedback.sign_offs:
            self._keep(self.feedback.sign_offs.pop(0))

    def _keep(self, asked: SignOffAsked) -> None:
        name = str(len(self.asked) + 1)
        self.asked[name] = replace(asked, request_id=name)

    def sign_offs_asked(self) -> Sequence[SignOffAsked]:
        """Give every word that is not published yet."""
        self._take_verdicts()
        return [each for name, each in self.asked.items() if name not in self.answered]

    def answer_sign_off(self, request_id: str) -> None:
        """Note that a word was published."""
        self.answered.add(request_id)

    def ask_recall(self, asked: RecallAsked, *, audit_events: Sequence[bytes]) -> bool:
        """Keep that a model version is recalled."""
        if asked.model_sha256 in self.models:
            return False
        self.results.trail.record(audit_events)
        self.models[asked.model_sha256] = asked
        return True

    def recalls(self) -> Sequence[RecallAsked]:
        """Give every recalled model version."""
        return sorted(self.models.values(), key=lambda each: each.recall.at)

    def to_recall(self, model_sha256: str) -> Sequence[str]:
        """Give the results of a model version that are not taken back yet."""
        taken_back = {each.publication.result_id for each in self.kept.values() if each.recall}
        found = [
            each.result
            for each in self.results.entries()
            if each.result is not None
            and not each.result.shadow
            and isinstance(each.result.outcome, TriageResult)
            and each.result.outcome.model.sha256 == model_sha256
            and each.result_id not in taken_back
        ]
        return [each.result_id for each in sorted(found, key=lambda each: each.stored_at)]
