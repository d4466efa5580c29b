"""Settings in, services out: the only place that builds adapters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Engine

from ai_engine.bundle import default_bundle_path
from ai_engine.engine import Engine as AiEngine
from cds_server.access import Access
from cds_server.adapters.dicom_folder_destination import DicomFolderDestination
from cds_server.adapters.dicomweb_archive import DicomWebArchive
from cds_server.adapters.fhir_destination import FhirDestination
from cds_server.adapters.folder_archive import FolderArchive
from cds_server.adapters.folder_destination import FolderDestination
from cds_server.adapters.hl7_folder_destination import Hl7FolderDestination
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_fhir_repository import SqlFhirRepository
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.system_clock import SystemClock
from cds_server.config import Settings
from cds_server.errors import AuditUnavailable, InvalidSettings
from cds_server.ports import (
    AuditTrail,
    Clock,
    Destination,
    FhirRepository,
    ImageArchive,
    Reader,
    ResultStore,
)
from cds_server.triage import PATIENCE_S, Triage

Readiness = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the web and the command line need: the stored side of the server.

    Parameters
    ----------
    settings
        What it was built from.
    access
        The gate to stored results.
    store, trail, repository
        The stores behind it.
    clock
        What time it is.
    readiness
        Gives each check with ``ok``, or a sentence that says what is wrong.
    """

    settings: Settings
    access: Access
    store: ResultStore
    trail: AuditTrail
    repository: FhirRepository
    clock: Clock
    readiness: Readiness


def services(settings: Settings) -> Services:
    """Open the databases of a data folder, making them if they are not there.

    Raises
    ------
    InvalidSettings
        If the data folder cannot be written.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        msg = f"data_dir: {settings.data_dir} cannot be made ({error.strerror}); choose another"
        raise InvalidSettings(msg) from error
    engine = open_engine(settings.data_dir / "radcds.sqlite")
    trail = SqlAuditTrail(engine)
    store = SqlResultStore(engine)
    repository = SqlFhirRepository(engine)
    clock = SystemClock()
    access = Access(
        store=store, repository=repository, trail=trail, site=settings.site, clock=clock
    )
    return Services(settings, access, store, trail, repository, clock, _readiness(engine, settings))


def services_from_environment() -> Services:
    """Open the services of the settings in the environment, for ``wsgi.py``.

    Raises
    ------
    InvalidSettings
        If a setting is missing, unknown or malformed.
    """
    return services(Settings.from_environment())


def reader(settings: Settings) -> AiEngine:
    """Load the model, its checksums verified.

    Raises
    ------
    ModelUnavailable
        If the bundle is missing or damaged.
    """
    return AiEngine.from_path(
        settings.model or default_bundle_path(),
        precision=settings.precision.value,
        threads=settings.threads,
    )


def archive(settings: Settings) -> ImageArchive:
    """Open the archive that the settings name.

    Raises
    ------
    InvalidSettings
        If none is set.
    """
    if settings.archive.startswith(("http://", "https://")):
        return DicomWebArchive(settings.archive, timeout_s=settings.archive_timeout_s)
    if settings.archive:
        return FolderArchive([Path(settings.archive)])
    msg = "archive: set RADCDS_ARCHIVE to a folder of DICOM files or the address of a PACS"
    raise InvalidSettings(msg)


def folder_archive(paths: Sequence[Path]) -> FolderArchive:
    """Open files and folders given by hand."""
    return FolderArchive(paths)


def destinations(services: Services) -> tuple[Destination, ...]:
    """Build every destination that the settings name; the embedded FHIR store is always one."""
    settings = services.settings
    built: list[Destination] = [FhirDestination(services.repository)]
    if settings.oru_folder:
        built.append(Hl7FolderDestination(settings.oru_folder))
    if settings.result_archive:
        built.append(DicomFolderDestination(settings.result_archive))
    if settings.output:
        built.append(FolderDestination(settings.output, services.trail))
    return tuple(built)


def triage(
    services: Services,
    *,
    archive: ImageArchive,
    reader: Reader,
    destinations: Sequence[Destination],
    patience_s: Sequence[float] = PATIENCE_S,
    name: str = "radcds",
) -> Triage:
    """Put the story together."""
    return Triage(
        archive=archive,
        reader=reader,
        store=services.store,
        trail=services.trail,
        destinations=destinations,
        site=services.settings.site,
        clock=services.clock,
        software_version=version("radcds"),
        patience_s=patience_s,
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
    "destinations",
    "folder_archive",
    "reader",
    "services",
    "services_from_environment",
    "triage",
]
