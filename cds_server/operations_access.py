"""What operators may see of the server: its parts, what waits, what does not arrive. Audited."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cds_server.arrivals import ArrivalStore
from cds_server.gate import Gate
from cds_server.operations import Component, Operations
from cds_server.ports import DeliveryTrouble
from cds_server.viewer import Viewer


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
    troubles
        Every delivery whose latest attempt failed.
    """

    at: datetime
    components: Sequence[Component]
    waiting: int
    oldest: datetime | None
    troubles: Sequence[DeliveryTrouble]


class OperationsAccess:
    """Shows operators the server.

    Parameters
    ----------
    gate
        Records every look.
    operations
        How the parts are.
    arrivals
        What waits.
    """

    def __init__(self, gate: Gate, operations: Operations, arrivals: ArrivalStore) -> None:
        self._gate = gate
        self._operations = operations
        self._arrivals = arrivals

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
            self._gate.stores.results.troubles(),
        )
