"""Puts together what takes HL7 v2 messages and what they do."""

from collections.abc import Callable
from dataclasses import dataclass

from cds_server.arrivals import ArrivalStore
from cds_server.destinations_file import Receivers
from cds_server.inbox import Inbox
from cds_server.known_patients import KnownPatients
from cds_server.mllp.server import MllpServer
from cds_server.network import Network
from cds_server.operations import Operations
from cds_server.orders import Orders
from cds_server.ports import Clock, ResultStore
from cds_server.received import Received
from fhir_mappers.report_context import Site


@dataclass(frozen=True, slots=True)
class Inbound:
    """The two ends of the inbox.

    Parameters
    ----------
    server
        Takes messages; ``None`` where no port is named.
    orders
        Lets them take effect.
    """

    server: MllpServer | None
    orders: Orders


def patients_of(inbox: Inbox, network: Network, site: Site) -> KnownPatients:
    """Build what knows whose number became whose, by every name that an EHR has for an issuer."""
    aliases = {name: issuer for ehr in network.ehrs for name, issuer in ehr.patient_systems.items()}
    return KnownPatients(inbox, default_issuer=site.accession_issuer, aliases=aliases)


def inbound_of(  # noqa: PLR0913 - every collaborator, by name
    receivers: Receivers,
    inbox: Inbox,
    *,
    arrivals: ArrivalStore,
    results: ResultStore,
    in_archive: Callable[[str], bool],
    patients: KnownPatients,
    operations: Operations,
    site: Site,
    clock: Clock,
    notice: Callable[[str], None],
) -> Inbound:
    """Build both ends of an inbox.

    Parameters
    ----------
    receivers
        Names the port, and under which names this server itself sends.
    inbox, arrivals, results, in_archive, patients, operations, site, clock
        See ``Orders`` and ``Received``.
    notice
        Told, in words without patient data, of each message and connection that is refused.
    """
    received = Received(inbox, site=site, clock=clock, operations=operations, notice=notice)
    orders = Orders(
        inbox,
        arrivals=arrivals,
        results=results,
        in_archive=in_archive,
        patients=patients,
        operations=operations,
        site=site,
        clock=clock,
        own=frozenset(each.dialect.sender for each in receivers.hl7),
    )
    port = receivers.inbound
    return Inbound(MllpServer(port, received, notice=notice) if port else None, orders)
