"""Everyone who gets results, built from the settings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.dicom_folder_destination import DicomFolderDestination
from cds_server.adapters.dicomweb_destination import DicomWebDestination
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.fhir_credentials import Credentials, SmartBackendCredentials
from cds_server.adapters.fhir_destination import FhirDestination
from cds_server.adapters.fhir_server import FhirServerDestination
from cds_server.adapters.folder_destination import FolderDestination
from cds_server.adapters.hl7_folder_destination import Hl7FolderDestination
from cds_server.adapters.mllp_destination import MllpDestination
from cds_server.adapters.pacs_credentials import BasicCredentials, BearerCredentials
from cds_server.adapters.system_clock import SystemClock
from cds_server.config import Settings, is_address
from cds_server.destinations_file import (
    FhirAuth,
    FhirReceiver,
    Hl7Receiver,
    Receivers,
    read_receivers,
)
from cds_server.errors import InvalidSettings
from cds_server.mllp.connection import Limits as MllpLimits
from cds_server.mllp.connection import MllpConnection
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.outbox import DeliveryState, Outbox
from cds_server.ports import AnyDestination, AuditTrail, FhirRepository
from cds_server.report_messages import oru_of
from fhir_mappers.fhir_rules.profiles import Profile, profile_faults
from fhir_mappers.study import Study


def destinations_of(  # noqa: PLR0913 - what destinations need, by name
    settings: Settings,
    *,
    repository: FhirRepository,
    trail: AuditTrail,
    outbox: Outbox,
    pacs: Mapping[str, DicomWebService],
    signing_keys: SigningKeys,
    known: Callable[[Study], Study],
) -> tuple[AnyDestination, ...]:
    """Build every destination that the settings name; the embedded FHIR store is always one.

    Raises
    ------
    InvalidSettings
        If the file of destinations is not good.
    """
    built: list[AnyDestination] = [FhirDestination(repository)]
    if settings.oru_folder:
        built.append(Hl7FolderDestination(settings.oru_folder))
    if is_address(settings.result_archive):
        built.append(DicomWebDestination(pacs[settings.result_archive]))
    elif settings.result_archive:
        built.append(DicomFolderDestination(Path(settings.result_archive)))
    if settings.output:
        built.append(FolderDestination(settings.output, trail))
    receivers = receivers_of(settings)
    built += [_hl7_destination(each, settings, known) for each in receivers.hl7]
    built += [_fhir_destination(each, settings, outbox, signing_keys) for each in receivers.fhir]
    return tuple(built)


def receivers_of(settings: Settings) -> Receivers:
    """Read the file of destinations, if there is one.

    Raises
    ------
    InvalidSettings
        If it is not good.
    """
    if settings.destinations is None:
        return Receivers()
    return read_receivers(settings.destinations, settings.site)


def _hl7_destination(
    receiver: Hl7Receiver, settings: Settings, known: Callable[[Study], Study]
) -> MllpDestination:
    return MllpDestination(
        receiver.name,
        MllpConnection(receiver.endpoint, MllpLimits(acknowledgement_s=receiver.timeout_s)),
        compose=oru_of(
            receiver.dialect,
            site=settings.site,
            software_version=version("radcds"),
            known=known,
        ),
        messages_per_s=receiver.per_second,
    )


def _fhir_destination(
    receiver: FhirReceiver, settings: Settings, outbox: Outbox, signing_keys: SigningKeys
) -> FhirServerDestination:
    http = BoundedHttp(timeout_s=receiver.timeout_s)

    def sent_before(result_id: str) -> bytes | None:
        arrived = outbox.deliveries(
            result_id=result_id,
            destination=receiver.name,
            states=frozenset({DeliveryState.DELIVERED}),
        )
        latest = arrived[-1] if arrived else None
        return outbox.message(latest.publication_id, receiver.name) if latest else None

    return FhirServerDestination(
        receiver.name,
        receiver.url,
        http=http,
        credentials=_credentials(receiver, settings, http, signing_keys),
        clock=SystemClock(),
        linked=receiver.linked,
        check=_checked_against(receiver.profiles),
        sent_before=sent_before,
    )


def _checked_against(profiles: Collection[Profile]) -> Callable[[bytes], Sequence[str]]:
    return lambda message: [str(each) for each in profile_faults(message, profiles)]


def _credentials(
    receiver: FhirReceiver, settings: Settings, http: BoundedHttp, signing_keys: SigningKeys
) -> Credentials | None:
    """Say who this server is for a FHIR server.

    Raises
    ------
    InvalidSettings
        If the extra for Azure is not installed.
    """
    if receiver.auth is FhirAuth.AZURE:
        try:
            from cds_server.adapters.azure_fhir_credentials import (  # noqa: PLC0415 - an extra
                AzureFhirCredentials,
            )
        except ImportError as error:
            msg = "destinations: azure needs more packages: pip install 'radcds[azure]'"
            raise InvalidSettings(msg) from error
        return AzureFhirCredentials(receiver.url, clock=SystemClock())
    if receiver.auth is FhirAuth.BASIC and receiver.credentials:
        return BasicCredentials(receiver.credentials)
    if receiver.auth is FhirAuth.BEARER and receiver.credentials:
        return BearerCredentials(receiver.credentials)
    if receiver.auth is not FhirAuth.SMART:
        return None
    return SmartBackendCredentials(
        receiver.url,
        client_id=receiver.client_id,
        scopes=receiver.scopes,
        http=http,
        keys=signing_keys,
        jwks_url=f"{settings.site.base_url}/.well-known/jwks.json",
        clock=SystemClock(),
        token_url=receiver.token_url,
    )
