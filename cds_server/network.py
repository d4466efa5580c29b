"""The radiology network: its centres, and whom it trusts. Values only; ``network_file`` reads them.

Every address that a caller can name is compared with these lists. There is no other way in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Role(StrEnum):
    """What a person or program is to this server; ``permissions`` says what each may do."""

    RADIOLOGIST = "radiologist"
    CLINICIAN = "clinician"
    AUDITOR = "auditor"
    SYSTEM = "system"
    OPERATOR = "operator"


class SystemActions(StrEnum):
    """Which resource of an EHR's worklist may have its priority raised; none without consent."""

    NONE = ""
    SERVICE_REQUEST = "ServiceRequest"
    TASK = "Task"


@dataclass(frozen=True, slots=True)
class Centre:
    """One radiology centre.

    Parameters
    ----------
    id
        Short and stable, such as ``north``.
    name
        For people.
    institutions
        DICOM Institution Names (0008,0080) of its studies, compared without regard to case.
    """

    id: str
    name: str
    institutions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CdsClient:
    """An EHR as a CDS client.

    Parameters
    ----------
    issuer
        Its ``iss``, exactly.
    jwks_url
        Where its public keys are, and nowhere else.
    audience
        The ``aud`` that it sends instead of the address called, for one that cannot be mended;
        ``None`` is right.
    tenants
        The ``tenant`` claims to accept; empty accepts any.
    """

    issuer: str
    jwks_url: str
    audience: str | None = None
    tenants: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SmartRegistration:
    """What this server is to the EHR's authorisation server.

    Parameters
    ----------
    client_id
        As registered: a confidential client with asymmetric authentication.
    algorithm
        ``ES384`` or ``RS384``: how client assertions are signed.
    roles
        Role of each person by the reference in ``fhirUser``, such as ``Practitioner/77``.
    default_role
        Role of everyone else; ``None`` lets nobody else in.
    backend_scopes
        Scopes that the server asks for itself (client credentials); empty where it has none.
    """

    client_id: str
    algorithm: str = "ES384"
    roles: Mapping[str, Role] = field(default_factory=dict)
    default_role: Role | None = Role.CLINICIAN
    backend_scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ehr:
    """One EHR or RIS that is trusted.

    Parameters
    ----------
    name
        For people.
    fhir_base_url
        Its FHIR endpoint without a trailing slash: the only ``iss`` that may launch for it, and the
        only ``fhirServer`` that its hooks may name.
    centres
        Ids of the centres whose studies its people may see; empty means all.
    cds
        As a CDS client, or ``None``.
    smart
        As a SMART authorisation server, or ``None``.
    patient_systems
        FHIR identifier system → DICOM Issuer of Patient ID (0010,0021), for identifiers that this
        EHR names otherwise than the archive.
    frame_ancestors
        Origins that may show the pages in a frame.
    cors_origins
        Origins of a browser-based client of CDS Hooks.
    system_actions
        Which resource's priority may be raised without asking; none by default.
    """

    name: str
    fhir_base_url: str
    centres: frozenset[str] = frozenset()
    cds: CdsClient | None = None
    smart: SmartRegistration | None = None
    patient_systems: Mapping[str, str] = field(default_factory=dict)
    frame_ancestors: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    system_actions: SystemActions = SystemActions.NONE


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """An authorisation server whose access tokens open ``/fhir``.

    Parameters
    ----------
    issuer
        Its ``iss``, exactly.
    audience
        The ``aud`` that its tokens for this server carry.
    jwks_url
        Its keys, where access tokens are JSON Web Tokens.
    introspection_url
        RFC 7662 endpoint, where they are opaque.
    client_id
        Of this server at the introspection endpoint.
    token_endpoint
        Where programs get their tokens; published in the SMART configuration.
    centres
        Ids of the centres whose studies its tokens may reach; empty means all.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    introspection_url: str | None = None
    client_id: str = ""
    token_endpoint: str = ""
    centres: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Network:
    """Centres, EHRs and token issuers. Empty: one centre, and nobody beyond this machine."""

    centres: tuple[Centre, ...] = ()
    ehrs: tuple[Ehr, ...] = ()
    token_issuers: tuple[TokenIssuer, ...] = ()

    def ehr(self, fhir_base_url: str) -> Ehr | None:
        """Find the EHR of a FHIR endpoint; a trailing slash does not matter, all else does."""
        wanted = fhir_base_url.rstrip("/")
        return next((ehr for ehr in self.ehrs if ehr.fhir_base_url == wanted), None)

    def ehr_of_client(self, issuer: str) -> Ehr | None:
        """Find the EHR of a CDS client."""
        return next((ehr for ehr in self.ehrs if ehr.cds and ehr.cds.issuer == issuer), None)

    def centre_of(self, institution: str) -> str:
        """Give the id of the centre of a DICOM Institution Name, or empty: no centre claims it."""
        named = institution.strip().casefold()
        for centre in self.centres:
            if named in {each.casefold() for each in centre.institutions}:
                return centre.id
        return ""


def origin(url: str) -> tuple[str, str, int]:
    """Give scheme, host and port of an address: what has to be equal to be the same server.

    Raises
    ------
    ValueError
        If it is no http or https address, or holds user information.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        msg = "not an http or https address"
        raise ValueError(msg)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]


def is_protected(url: str) -> bool:
    """Say whether what travels to an address is: https, or http on this machine.

    Raises
    ------
    ValueError
        If it is no http or https address.
    """
    scheme, host, _ = origin(url)
    return scheme == "https" or host in _LOOPBACK
