"""What operators may see and do: its parts, what waits, what does not arrive. All of it audited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cds_server.arrivals import ArrivalStore
from cds_server.errors import ResultNotFound
from cds_server.gate import Gate
from cds_server.inbox import Inbox, InboxBacklog, KeptMessage
from cds_server.operations import Component, Operations
from cds_server.outbox import Backlog, Delivery, Outbox, Pause, every_parked
from cds_server.permissions import Permission
from cds_server.viewer import Viewer
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event

_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The server at one moment. Nothing in it names a patient.

    Parameters
    ----------
    at
        Which moment.
    components
        Every part that was ever in trouble.
    waiting
        How many studies are due to be looked at, and were not.
    oldest
        Since when the longest of them is due, or ``None``.
    backlogs
        What waits for each destination that ever had a delivery.
    paused
        Each destination to which nothing is sent because a person said so.
    troubles
        The deliveries whose latest attempt failed, those given up first; at most 200.
    inbox, failed
        What came in by HL7 and waits, and what could not be processed; at most 200.
    """

    at: datetime
    components: Sequence[Component]
    waiting: int
    oldest: datetime | None
    backlogs: Mapping[str, Backlog]
    paused: Mapping[str, Pause]
    troubles: Sequence[Delivery]
    inbox: InboxBacklog
    failed: Sequence[KeptMessage]


class OperationsAccess:
    """Shows operators the server, and does what they ask.

    Parameters
    ----------
    gate
        Records every look.
    operations
        How the parts are.
    arrivals
        What waits.
    outbox, inbox
        What is to go where, and what came in.
    """

    def __init__(
        self,
        gate: Gate,
        operations: Operations,
        arrivals: ArrivalStore,
        outbox: Outbox,
        inbox: Inbox,
    ) -> None:
        self._gate = gate
        self._operations = operations
        self._arrivals = arrivals
        self._outbox = outbox
        self._inbox = inbox

    def look(self, viewer: Viewer) -> Snapshot:
        """Look at the server; the look is recorded first."""
        self._gate.record([self._gate.query_leaf(viewer, "operations")])
        now = self._gate.now()
        waiting, oldest = self._arrivals.waiting(now)
        return Snapshot(
            now,
            self._operations.components(),
            waiting,
            oldest,
            self._outbox.backlogs(),
            self._outbox.paused(),
            self._outbox.troubled(limit=_MOST_SHOWN),
            self._inbox.backlog(),
            self._inbox.failed(limit=_MOST_SHOWN),
        )

    def message(self, publication_id: str, destination: str, viewer: Viewer) -> bytes:
        """Give the message that was composed for a delivery; the look is recorded first.

        Raises
        ------
        ResultNotFound
            If none was.
        """
        delivery = self._outbox.delivery(publication_id, destination)
        entry = self._gate.stores.results.entry(delivery.publication.result_id)
        emergency = self._gate.admit(entry, viewer, Permission.READ_MESSAGE)
        found = self._outbox.message(publication_id, destination)
        if found is None:
            msg = "no message was composed for this delivery yet"
            raise ResultNotFound(msg)
        what = f"message to {destination}"
        self._gate.record([self._gate.view_leaf(entry, viewer, what, emergency=emergency)])
        return found

    def retry(self, publication_id: str, destination: str, viewer: Viewer) -> bool:
        """Let a delivery be tried again, with the same bytes; ``False`` if it waits already."""
        delivery = self._outbox.delivery(publication_id, destination)
        entry = self._gate.stores.results.entry(delivery.publication.result_id)
        self._gate.admit(entry, viewer, Permission.OPERATE)
        leaf = self._leaf(viewer, "retry", destination, delivery)
        return self._outbox.again(publication_id, destination, audit_events=[leaf])

    def retry_all(self, destination: str, viewer: Viewer) -> int:
        """Let every delivery to a destination that was given up be tried again; say how many."""
        self._check_whole(viewer, "retry")
        return sum(
            self.retry(each.publication_id, destination, viewer)
            for each in every_parked(self._outbox, destination)
        )

    def process_again(self, sequence: int, viewer: Viewer) -> bool:
        """Let a message that came in be processed again; ``False`` if it did not fail."""
        self._check_whole(viewer, "process again")
        leaf = self._leaf(viewer, "process again", f"message {sequence} that came in")
        return self._inbox.again(sequence, audit_events=[leaf])

    def pause(self, destination: str, viewer: Viewer) -> bool:
        """Send nothing to a destination until resumed; ``False`` if that is so already."""
        self._check_whole(viewer, "pause")
        self._check_known(destination)
        leaf = self._leaf(viewer, "pause", destination)
        pause = Pause(viewer.user, self._gate.now())
        return self._outbox.pause(destination, pause, audit_events=[leaf])

    def resume(self, destination: str, viewer: Viewer) -> bool:
        """Send to a destination again; ``False`` if that was so."""
        self._check_whole(viewer, "resume")
        leaf = self._leaf(viewer, "resume", destination)
        return self._outbox.resume(destination, audit_events=[leaf])

    def _check_whole(self, viewer: Viewer, what: str) -> None:
        """See that a viewer operates all centres: what follows concerns each of them.

        Raises
        ------
        Forbidden
            If not; the refusal is recorded.
        """
        self._gate.permit(viewer, Permission.OPERATE, what)
        if viewer.centres:
            self._gate.refuse(viewer, what, "This concerns every centre; you operate some of them.")

    def _check_known(self, destination: str) -> None:
        """See that there is such a destination.

        Raises
        ------
        ResultNotFound
            If nothing was ever to go there.
        """
        if destination not in self._outbox.backlogs():
            msg = "there is no such destination"
            raise ResultNotFound(msg)

    def _leaf(
        self, viewer: Viewer, action: str, destination: str, delivery: Delivery | None = None
    ) -> bytes:
        fact = AuditFact(
            kind=AuditKind.OPERATION,
            recorded=self._gate.now(),
            user=viewer.user,
            address=viewer.address,
            client=viewer.client,
            study_instance_uid=delivery.publication.study_instance_uid if delivery else None,
            result_id=delivery.publication.result_id if delivery else None,
            detail={"action": action, "destination": destination},
        )
        return audit_event(fact, self._gate.site)
