"""The cards of stored results, to CDS clients, and what they say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from cds_server.errors import ResultNotFound
from cds_server.feedback import CardFeedback, IssuedCard
from cds_server.gate import Gate
from cds_server.permissions import Permission
from cds_server.ports import (
    StudyEntry,
)
from cds_server.viewer import Viewer
from fhir_mappers.audit_event import AuditKind, audit_event
from fhir_mappers.cds_card import pending_card


class CardAccess:
    """Cards through the gate. What is shown is recorded before.

    Parameters
    ----------
    gate
        Admits, refuses and records.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def gate(self) -> Gate:
        """What stands before it."""
        return self._gate

    def numbered(self, number: str) -> frozenset[tuple[str, str]]:
        """Give every identifier in the archive with this value: for a caller on this machine only.

        Whoever comes from elsewhere has to say whose number it is.
        """
        entries = self._gate.stores.results.entries_of_patient(number)
        return frozenset(self._gate.identifier(entry) for entry in entries)

    def cards(
        self, entries: Sequence[StudyEntry], viewer: Viewer, *, service_id: str, query: str
    ) -> Mapping[str, dict[str, Any]]:
        """Give the card of each study, by result; what is shown is recorded before, in one go.

        Parameters
        ----------
        entries
            Of ``of_patient`` and ``of_study``.
        viewer
            Of the call.
        service_id
            Which service shows them.
        query
            What was asked, for the trail.

        Raises
        ------
        Forbidden
            If the caller may not call CDS services.
        ResultNotFound
            If a card is lost: that is never passed off as no card.
        """
        self._gate.permit(viewer, Permission.CALL_CDS, "a CDS service", bound=True)
        read = [entry.result_id for entry in entries if entry.result is not None]
        stored = self._gate.stores.results.artefact_of_each("card.json", read)
        if len(stored) < len(read):
            msg = "a result is stored without its card"
            raise ResultNotFound(msg)
        cards: dict[str, dict[str, Any]] = {}
        for entry in entries:
            if entry.result is None:
                cards[entry.result_id] = pending_card(entry.result_id, self._gate.site)
            elif found := orjson.loads(stored[entry.result_id])["cards"]:
                cards[entry.result_id] = found[0]
        leaves = [self._gate.query_leaf(viewer, query)]
        leaves += [
            self._gate.view_leaf(entry, viewer, "card", emergency=False)
            for entry in entries
            if entry.result_id in cards
        ]
        issued = [
            IssuedCard(card["uuid"], result_id, service_id, viewer.client)
            for result_id, card in cards.items()
        ]
        self._gate.stores.feedback.issue(issued, leaves)
        return cards

    def receive_feedback(self, items: Sequence[CardFeedback], viewer: Viewer) -> int:
        """Keep what an EHR tells of cards, each with its leaf; give how many were new.

        Raises
        ------
        ResultNotFound
            If a card was never shown to this client; then nothing is kept.
        Forbidden
            If the caller may not call CDS services.
        """
        self._gate.permit(viewer, Permission.CALL_CDS, "feedback on cards", bound=True)
        entries: dict[str, StudyEntry] = {}
        for number, item in enumerate(items):
            issued = self._gate.stores.feedback.card(item.card)
            if issued is None or issued.client != viewer.client:
                msg = f"feedback[{number}].card: no such card was given to this client."
                raise ResultNotFound(msg)
            entries[item.card] = self._gate.stores.results.entry(issued.result_id)

        def leaf(item: CardFeedback) -> bytes:
            reason = {"reason": item.reason_code} if item.reason_code else {}
            detail = {"card": item.card, "outcome": item.outcome} | reason
            return audit_event(
                self._gate.fact(AuditKind.FEEDBACK, entries[item.card], viewer, detail),
                self._gate.site,
            )

        return self._gate.stores.feedback.add_feedback(items, leaf)
