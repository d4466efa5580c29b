"""Settings in, services out: the only place that builds adapters."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pydicom.config
from pydicom.sr.coding import Code
from sqlalchemy import Engine

from ai_engine.result import ModelIdentity
from cds_server.access import Access
from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.dicomweb_archive import DicomWebArchive
from cds_server.adapters.dicomweb_destination import DicomWebDestination
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.folder_archive import FolderArchive
from cds_server.adapters.https_key_source import HttpsKeySource
from cds_server.adapters.installation_file import installation_id
from cds_server.adapters.key_files import KeyFiles
from cds_server.adapters.pacs_credentials import (
    BasicCredentials,
    BearerCredentials,
    Credentials,
)
from cds_server.adapters.pacs_link import SLOWEST_BYTES_PER_S
from cds_server.adapters.sandboxed_decoder import SandboxedDecoder
from cds_server.adapters.sql_amendment_store import SqlAmendmentStore
from cds_server.adapters.sql_arrival_store import SqlArrivalStore
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_component_store import SqlComponentStore
from cds_server.adapters.sql_feedback_store import SqlFeedbackStore
from cds_server.adapters.sql_fhir_repository import SqlFhirRepository
from cds_server.adapters.sql_inbox import SqlInbox
from cds_server.adapters.sql_outbox import SqlOutbox
from cds_server.adapters.sql_replay_guard import SqlReplayGuard
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.sql_session_store import SqlSessionStore
from cds_server.adapters.system_clock import SystemClock
from cds_server.adapters.token_file import TokenFile
from cds_server.adapters.ups_rs import UpsRs
from cds_server.amending import Amending
from cds_server.amendments import AmendmentStore
from cds_server.arrivals import ArrivalStore
from cds_server.config import ArchiveAuth, Settings, is_address
from cds_server.delivery import Courier, Patience
from cds_server.destinations import destinations_of, receivers_of
from cds_server.errors import AuditUnavailable, InvalidSettings
from cds_server.gate import Gate, Stores
from cds_server.hooks.answers import HookAnswers
from cds_server.hooks.card_access import CardAccess
from cds_server.imaging import Arrival, Decoder, ImageArchive
from cds_server.inbound import patients_of
from cds_server.inbox import Inbox
from cds_server.known_patients import KnownPatients
from cds_server.network import Network
from cds_server.network_file import read_network
from cds_server.oauth.access_tokens import AccessTokens
from cds_server.oauth.client_token import ClientTokens
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.oauth.smart_client import SmartClient, smart_clients
from cds_server.operations import Operations
from cds_server.operations_access import OperationsAccess
from cds_server.outbound import Outbound
from cds_server.outbox import Outbox
from cds_server.ports import (
    AnyDestination,
    AuditTrail,
    Clock,
    FhirRepository,
    Reader,
    ResultStore,
)
from cds_server.recalled_model import UnlessRecalled
from cds_server.session import SessionStore
from cds_server.sessions import Limits, Sessions
from cds_server.study_images import ArchiveImages
from cds_server.triage import READING_WAITS_S, Triage
from cds_server.watch import Look, Watch
from cds_server.web.doors import Keys
from cds_server.workitems import Performer, Readings, Station, WorkitemSource
from cds_server.worklist import Placing
from fhir_mappers.workitem import Wanted

_OPENED_AT_ONCE = 2
_VIEWER_WAITS_S, _VIEWER_BYTES_PER_S = 2.0, 4 * 1024 * 1024
_MOST_WORKLIST_BYTES = 32 * 1024 * 1024
Readiness = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the web and the command line need: the stored side of the server.

    Parameters
    ----------
    settings
        What it was built from.
    network
        Centres, EHRs and token issuers.
    access
        What people may see of stored results.
    answers
        What the CDS services say.
    keys
        What opens the doors of the web service.
    pacs
        Each PACS by its address: one link, whatever goes over it.
    images
        The images of studies, for the viewer.
    operations, operations_access
        How the parts of the server are, and the gate before it.
    arrivals
        What arrived in the archive.
    store, trail, outbox, amendments, repository, session_store
        The stores behind it.
    clock
        What time it is.
    http
        How other servers are asked.
    smart
        This server as the client of each EHR, by FHIR base address.
    signing_keys
        The keys with which it proves who it is.
    readiness
        Gives each check with ``ok``, or a sentence that says what is wrong.
    """

    settings: Settings
    network: Network
    access: Access
    answers: HookAnswers
    keys: Keys
    pacs: Mapping[str, DicomWebService]
    images: ArchiveImages
    operations: Operations
    operations_access: OperationsAccess
    arrivals: ArrivalStore
    store: ResultStore
    trail: AuditTrail
    outbox: Outbox
    amendments: AmendmentStore
    inbox: Inbox
    patients: KnownPatients
    repository: FhirRepository
    session_store: SessionStore
    clock: Clock
    http: Outbound
    smart: Mapping[str, SmartClient]
    signing_keys: SigningKeys
    readiness: Readiness


def services(settings: Settings) -> Services:
    """Open the databases of a data folder, making them if they are not there.

    Raises
    ------
    InvalidSettings
        If the data folder cannot be written, or the network file is not good.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        msg = f"data_dir: {settings.data_dir} cannot be made ({error.strerror}); choose another"
        raise InvalidSettings(msg) from error
    _keep_headers_out_of_logs()
    network = read_network(settings.network) if settings.network else Network()
    engine = open_engine(settings.data_dir / "radcds.sqlite")
    trail = SqlAuditTrail(engine)
    placing = Placing(network, settings.targets)
    store, inbox = SqlResultStore(engine, placing), SqlInbox(engine, placing)
    outbox = SqlOutbox(engine)
    amendments = SqlAmendmentStore(engine)
    repository = SqlFhirRepository(engine)
    session_store = SqlSessionStore(engine)
    clock = SystemClock()
    gate = Gate(
        Stores(store, store, repository, SqlFeedbackStore(engine), session_store, amendments),
        trail=trail,
        site=settings.site,
        clock=clock,
    )
    operations = Operations(SqlComponentStore(engine), site=settings.site, clock=clock)
    arrivals = SqlArrivalStore(engine)
    http = BoundedHttp()
    signing_keys = KeyFiles(settings.data_dir / "keys")
    smart = smart_clients(network, settings.site.base_url, http, signing_keys, clock)
    return Services(
        settings=settings,
        network=network,
        access=Access(gate),
        answers=HookAnswers(CardAccess(gate), http=http, smart=smart, clock=clock),
        keys=_keys(settings, network, engine, session_store, smart, http, signing_keys, clock),
        pacs=_pacs(settings),
        images=_viewer_images(settings),
        operations=operations,
        operations_access=OperationsAccess(gate, operations, arrivals, outbox, inbox),
        arrivals=arrivals,
        store=store,
        trail=trail,
        outbox=outbox,
        amendments=amendments,
        inbox=inbox,
        patients=patients_of(inbox, network, settings.site),
        repository=repository,
        session_store=session_store,
        clock=clock,
        http=http,
        smart=smart,
        signing_keys=signing_keys,
        readiness=_readiness(engine, settings),
    )


def _keep_headers_out_of_logs() -> None:
    """Let pydicom say nothing of odd values: its remarks quote them."""
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def local_token(settings: Settings) -> TokenFile:
    """Give the token of whoever starts the server on this machine."""
    return TokenFile(settings.data_dir / "sign-in-token")


def _keys(  # noqa: PLR0913, PLR0917 - what the doors need of everything else
    settings: Settings,
    network: Network,
    engine: Engine,
    session_store: SessionStore,
    smart: Mapping[str, SmartClient],
    http: Outbound,
    signing_keys: SigningKeys,
    clock: Clock,
) -> Keys:
    """Put together what opens the doors."""
    key_source = HttpsKeySource()
    clients = [ehr.cds for ehr in network.ehrs if ehr.cds]
    return Keys(
        clients=ClientTokens(
            clients, keys=key_source, guard=SqlReplayGuard(engine, clock), clock=clock
        )
        if clients
        else None,
        tokens=AccessTokens(
            network.token_issuers,
            http=http,
            keys_source=key_source,
            keys=signing_keys,
            jwks_url=f"{settings.site.base_url}/.well-known/jwks.json",
            clock=clock,
        ),
        local=local_token(settings),
        sessions=Sessions(
            session_store,
            smart=smart,
            site=settings.site,
            limits=Limits(
                idle=timedelta(minutes=settings.session_idle_min),
                absolute=timedelta(hours=settings.session_longest_h),
            ),
            clock=clock,
        ),
        pacs=TokenFile(settings.pacs_events_token) if settings.pacs_events_token else None,
        metrics=TokenFile(settings.metrics_token) if settings.metrics_token else None,
    )


def _viewer_images(settings: Settings) -> ArchiveImages:
    """Build what the viewer looks at: who waits for an image holds a place from which others ask.

    Raises
    ------
    InvalidSettings
        If the archive is not good.
    """
    hasty = _pacs(settings, timeout_s=_VIEWER_WAITS_S, slowest_bytes_per_s=_VIEWER_BYTES_PER_S)
    return ArchiveImages(
        archive(settings, hasty) if settings.archive else None,
        decoder(settings, wait_s=_VIEWER_WAITS_S),
        timezone=settings.timezone,
    )


def services_from_environment() -> Services:
    """Open the services of the settings in the environment, for ``wsgi.py``.

    Raises
    ------
    InvalidSettings
        If a setting is missing, unknown or malformed.
    """
    return services(Settings.from_environment())


def archive(settings: Settings, pacs: Mapping[str, DicomWebService] | None = None) -> ImageArchive:
    """Open the archive that the settings name, over a link that there is already, or its own.

    Raises
    ------
    InvalidSettings
        If none is set.
    """
    if is_address(settings.archive):
        return DicomWebArchive((pacs or _pacs(settings))[settings.archive])
    if settings.archive:
        return FolderArchive([Path(settings.archive)])
    msg = "archive: set RADCDS_ARCHIVE to a folder of DICOM files or the address of a PACS"
    raise InvalidSettings(msg)


def _pacs(
    settings: Settings,
    *,
    timeout_s: float | None = None,
    slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S,
) -> Mapping[str, DicomWebService]:
    """Open each PACS; the archive of images and that of results may be the same.

    Raises
    ------
    InvalidSettings
        If an address or its credentials are not good.
    """
    results = (settings.result_archive_auth, settings.result_archive_credentials)
    images = (settings.archive_auth, settings.archive_credentials)
    signs_in = {settings.result_archive: results, settings.archive: images}
    return {
        url: DicomWebService(
            url,
            clock=SystemClock(),
            credentials=_credentials(*each, url),
            timeout_s=min(timeout_s or math.inf, settings.archive_timeout_s),
            slowest_bytes_per_s=slowest_bytes_per_s,
            largest_bytes=settings.archive_largest_mb * 1024 * 1024,
        )
        for url, each in signs_in.items()
        if is_address(url)
    }


def _credentials(auth: ArchiveAuth, file: Path | None, url: str) -> Credentials | None:
    """Say who this server is for a PACS.

    Raises
    ------
    InvalidSettings
        If the file is not good, or the extra for Azure is not installed.
    """
    if auth is ArchiveAuth.AZURE:
        try:
            from cds_server.adapters.azure_pacs_credentials import (  # noqa: PLC0415 - an extra
                AzurePacsCredentials,
            )
        except ImportError as error:
            msg = "archive_auth: azure needs more packages: pip install 'radcds[azure]'"
            raise InvalidSettings(msg) from error
        return AzurePacsCredentials(url, clock=SystemClock())
    if auth is ArchiveAuth.NONE or file is None:
        return None
    return BearerCredentials(file) if auth is ArchiveAuth.BEARER else BasicCredentials(file)


def decoder(settings: Settings, *, wait_s: float = 120.0) -> Decoder:
    """Build what opens images: confined processes, started when the first image comes."""
    return SandboxedDecoder(
        wait_s=wait_s,
        slots=_OPENED_AT_ONCE,
        memory_mb=settings.decoder_memory_mb,
        timeout_s=settings.decoder_timeout_s,
    )


def watched_arrivals(archive: ImageArchive, settings: Settings) -> Sequence[Arrival]:
    """List the studies of an archive within the days that are watched.

    Raises
    ------
    ArchiveUnreachable
        If it does not answer.
    """
    days = settings.watched.days
    return archive.arrivals(
        since=None if days is None else SystemClock().now() - timedelta(days=days)
    )


def result_archive(settings: Settings) -> ImageArchive | None:
    """Open the PACS that gets the results, to look into it; ``None`` where it is a folder or none.

    Raises
    ------
    InvalidSettings
        If its credentials are not good.
    """
    if not is_address(settings.result_archive):
        return None
    return DicomWebArchive(_pacs(settings)[settings.result_archive])


def watch(services: Services, *, archive: ImageArchive, look: Look, model: ModelIdentity) -> Watch:
    """Build the watch over an archive."""
    return Watch(
        archive,
        arrivals=services.arrivals,
        look=look,
        operations=services.operations,
        clock=services.clock,
        watched=services.settings.watched,
        model_sha256=model.sha256,
    )


def worklist(settings: Settings) -> tuple[WorkitemSource, Wanted]:
    """Open the worklist from which work is taken, and say which work.

    Raises
    ------
    InvalidSettings
        If its credentials are not good.
    """
    credentials = _credentials(
        settings.workitems_auth, settings.workitems_credentials, settings.workitems
    )
    source = UpsRs(
        settings.workitems,
        http=BoundedHttp(timeout_s=settings.archive_timeout_s, largest_bytes=_MOST_WORKLIST_BYTES),
        authorization=credentials.authorization if credentials else lambda: "",
    )
    return source, Wanted(station=_station(settings))


def _station(settings: Settings) -> Code:
    return Code(settings.workitem_station, settings.workitem_station_scheme, "radcds")


def performer(services: Services, triage: Triage) -> Performer | None:
    """Build what takes work from a worklist; ``None`` where none is named, or in shadow.

    Raises
    ------
    InvalidSettings
        If its credentials are not good, or the data folder cannot be written.
    """
    settings = services.settings
    if not settings.workitems or settings.shadow:
        return None
    source, wanted = worklist(settings)
    return Performer(
        source,
        readings=Readings(triage.requested, services.store.entry, services.store.artefacts),
        wanted=wanted,
        station=Station(
            _station(settings),
            installation_id(settings.data_dir / "installation"),
            stored_by=DicomWebDestination.name,
            retrieved_from=settings.result_archive,
        ),
        trail=services.trail,
        site=settings.site,
        clock=services.clock,
    )


def folder_archive(paths: Sequence[Path]) -> FolderArchive:
    """Open files and folders given by hand."""
    return FolderArchive(paths)


def destinations(services: Services) -> tuple[AnyDestination, ...]:
    """Build every destination that the settings name; the embedded FHIR store is always one."""
    return destinations_of(
        services.settings,
        repository=services.repository,
        trail=services.trail,
        outbox=services.outbox,
        pacs=services.pacs,
        signing_keys=services.signing_keys,
        known=services.patients.known,
    )


def amending(services: Services, destinations: Sequence[AnyDestination]) -> Amending:
    """Build what publishes sign-offs and recalls."""
    return Amending(
        services.store,
        services.amendments,
        inbox=services.inbox,
        outbox=services.outbox,
        reports_sign=receivers_of(services.settings).reports_sign,
        destinations=[each.name for each in destinations],
        site=services.settings.site,
        clock=services.clock,
        software_version=version("radcds"),
        note=services.operations.note,
    )


def triage(
    services: Services,
    *,
    archive: ImageArchive,
    reader: Reader,
    destinations: Sequence[AnyDestination],
    patience: Patience | None = None,
    name: str = "radcds",
) -> Triage:
    """Put the story together; with a ``patience``, an archive that is away has the same."""
    courier = Courier(
        outbox=services.outbox,
        store=services.store,
        amendments=services.amendments,
        trail=services.trail,
        destinations=destinations,
        site=services.settings.site,
        clock=services.clock,
        patience=patience or Patience(strikes=services.settings.delivery_attempts),
        note=services.operations.note,
    )
    return Triage(
        archive=archive,
        decoder=decoder(services.settings),
        reader=UnlessRecalled(reader, services.amendments.recalls),
        store=services.store,
        trail=services.trail,
        outbox=services.outbox,
        courier=courier,
        site=services.settings.site,
        clock=services.clock,
        software_version=version("radcds"),
        reading_waits_s=patience.waits_s if patience else READING_WAITS_S,
        shadow=services.settings.shadow,
        back_into_archive=DicomWebDestination.name
        if is_address(services.settings.archive)
        and services.settings.archive == services.settings.result_archive
        else "",
        name=name,
    )


def _readiness(engine: Engine, settings: Settings) -> Readiness:
    def checks() -> Mapping[str, str]:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            database = "ok"
        except (AuditUnavailable, OSError) as error:
            database = f"the database in {settings.data_dir} does not answer ({error})"
        return {"database": database}

    return checks


__all__ = [
    "Services",
    "archive",
    "decoder",
    "destinations",
    "folder_archive",
    "local_token",
    "performer",
    "result_archive",
    "services",
    "services_from_environment",
    "triage",
    "watch",
    "watched_arrivals",
    "worklist",
]
