"""Figures of the server for Prometheus: what waits, what does not arrive, what is in trouble.

They are read from the database at each scrape, so that every process of the web service says the
same. No label names a patient or a study.
"""

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from cds_server.arrivals import ArrivalStore
from cds_server.inbox import Inbox
from cds_server.operations import Operations
from cds_server.outbox import Outbox
from cds_server.ports import Clock


def metrics(
    arrivals: ArrivalStore, outbox: Outbox, inbox: Inbox, operations: Operations, clock: Clock
) -> Blueprint:
    """Give the route for Prometheus.

    Parameters
    ----------
    arrivals, outbox, inbox, operations
        What is counted.
    clock
        What time it is.

    References
    ----------
    OpenMetrics 1.0.
    """
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(arrivals, outbox, inbox, operations, clock))

    @blueprint.get("/metrics")
    def scrape() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


class _Figures(Collector):
    """Counts at each scrape."""

    def __init__(
        self,
        arrivals: ArrivalStore,
        outbox: Outbox,
        inbox: Inbox,
        operations: Operations,
        clock: Clock,
    ) -> None:
        self._arrivals = arrivals
        self._outbox = outbox
        self._inbox = inbox
        self._operations = operations
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Give every figure."""
        yield from self._studies()
        yield from self._deliveries()
        backlog = self._inbox.backlog()
        inbound = GaugeMetricFamily(
            "radcds_inbound_messages", "Messages that came in, by state", labels=["state"]
        )
        inbound.add_metric(["waiting"], backlog.waiting)
        inbound.add_metric(["failed"], backlog.failed)
        yield inbound
        working = GaugeMetricFamily(
            "radcds_component_working",
            "Whether a part of the server works; a part that never was in trouble is not listed",
            labels=["component"],
        )
        for each in self._operations.components():
            working.add_metric([each.name], 0 if each.trouble else 1)
        yield working

    def _studies(self) -> Iterator[Metric]:
        now = self._clock.now()
        waiting, oldest = self._arrivals.waiting(now)
        yield GaugeMetricFamily(
            "radcds_studies_waiting", "Studies that arrived and were not looked at", value=waiting
        )
        yield GaugeMetricFamily(
            "radcds_studies_oldest_seconds",
            "For how long the oldest of them has been due",
            value=(now - oldest).total_seconds() if oldest else 0,
        )

    def _deliveries(self) -> Iterator[Metric]:
        now = self._clock.now()
        count = GaugeMetricFamily(
            "radcds_deliveries", "Deliveries by state", labels=["destination", "state"]
        )
        oldest = GaugeMetricFamily(
            "radcds_delivery_oldest_seconds",
            "For how long the oldest delivery has been waiting",
            labels=["destination"],
        )
        paused = GaugeMetricFamily(
            "radcds_destination_paused",
            "Whether a person has paused a destination",
            labels=["destination"],
        )
        pauses = self._outbox.paused()
        for name, backlog in sorted(self._outbox.backlogs().items()):
            count.add_metric([name, "waiting"], backlog.waiting)
            count.add_metric([name, "parked"], backlog.parked)
            count.add_metric([name, "delivered"], backlog.delivered)
            age_s = (now - backlog.oldest).total_seconds() if backlog.oldest else 0
            oldest.add_metric([name], age_s)
            paused.add_metric([name], 1 if name in pauses else 0)
        yield from (count, oldest, paused)
