"""A SMART launch from its beginning to a session.

References
----------
SMART App Launch 2.2; OpenID Connect Core 1.0; RFC 7636; RFC 9207.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from cds_server.access import Access
from cds_server.ehr_records import EhrRecords, is_fhir_id
from cds_server.errors import PeerUnavailable
from cds_server.hooks.answers import archive_identifiers
from cds_server.network import Ehr, Network, Role
from cds_server.oauth.scopes import allows
from cds_server.oauth.smart_client import LaunchRefused, SmartClient, TokenResponse
from cds_server.outbound import Outbound
from cds_server.ports import Clock
from cds_server.session import LAUNCH_LASTS, PendingLaunch, Session, SessionStore
from cds_server.sessions import Person, Sessions, digest, viewer
from cds_server.viewer import PatientScope
from fhir_mappers.hook_call import study_uids

_IDENTITY = ("openid", "fhirUser", "online_access", "user/Practitioner.r")
_PATIENT = ("patient/Patient.r", "patient/ImagingStudy.r", "patient/DiagnosticReport.r")
_CONTEXT = ("launch", "launch/patient", "launch/imagingstudy", "launch/diagnosticreport")
_STAFF = frozenset({"Practitioner", "PractitionerRole", "Person"})
_MOST_STUDIES = 5


@dataclass(frozen=True, slots=True)
class Begun:
    """A launch that begins.

    Parameters
    ----------
    address
        Of the EHR's authorisation server, where the browser goes next.
    state
        Names the launch.
    binder
        Secret that ties it to the browser.
    """

    address: str
    state: str
    binder: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A launch that came back: the session, its secret, and the study to open, or empty."""

    session: Session
    secret: str
    result_id: str


class Launching:
    """Begins and completes launches.

    Parameters
    ----------
    network
        Which EHRs may launch.
    smart
        Client of each EHR by its FHIR base address.
    http
        How their FHIR endpoints are read.
    sessions, store
        Where a completed, and a pending, launch is kept.
    access
        The gate to results, for choosing the study to open.
    clock
        What time it is.
    """

    def __init__(  # noqa: PLR0913 - every collaborator of a launch, by name
        self,
        *,
        network: Network,
        smart: Mapping[str, SmartClient],
        http: Outbound,
        sessions: Sessions,
        store: SessionStore,
        access: Access,
        clock: Clock,
    ) -> None:
        self._network = network
        self._smart = smart
        self._http = http
        self._sessions = sessions
        self._store = store
        self._access = access
        self._clock = clock

    def begin(
        self, iss: str, *, launch: str | None, result_id: str = "", with_patient: bool = False
    ) -> Begun:
        """Begin a launch. Nothing is asked of an address that is not a trusted EHR's.

        Parameters
        ----------
        iss
            FHIR base address of the EHR.
        launch
            As the EHR sent it; ``None`` where the person begins here.
        result_id
            The study to open afterwards, or empty.
        with_patient
            Whether to ask for a patient, where the person begins here.

        Raises
        ------
        LaunchRefused
            If the EHR is not trusted, or its configuration not good.
        """
        ehr = self._network.ehr(iss)
        if ehr is None or ehr.fhir_base_url not in self._smart:
            msg = (
                "This EHR is not registered with radcds. Ask your IT department to add its FHIR "
                "address to the network file."
            )
            raise LaunchRefused(msg)
        binder = secrets.token_urlsafe(32)
        pending = PendingLaunch(
            state=secrets.token_urlsafe(32),
            fhir_base_url=ehr.fhir_base_url,
            verifier=secrets.token_urlsafe(48),
            nonce=secrets.token_urlsafe(32),
            binder_sha256=digest(binder),
            started_at=self._clock.now(),
            result_id=result_id,
        )
        scopes = [*_IDENTITY]
        if launch is not None:
            scopes += ["launch", *_PATIENT]
        elif with_patient:
            scopes += [*_CONTEXT[1:], *_PATIENT]
        address = self._smart[ehr.fhir_base_url].authorization_request(
            pending.state,
            launch=launch,
            scopes=scopes,
            verifier=pending.verifier,
            nonce=pending.nonce,
        )
        self._store.add_launch(pending)
        return Begun(address, pending.state, binder)

    def complete(self, answer: Mapping[str, str], *, binder: str, address: str) -> Arrived:
        """Turn the authorisation server's answer into a session.

        Parameters
        ----------
        answer
            Parameters of the redirect: ``state``, ``code`` or ``error``, ``iss``.
        binder
            The secret that the browser kept.
        address
            Network address of the browser.

        Raises
        ------
        LaunchRefused
            If anything is not as it must be; then nobody is signed in.
        PeerUnavailable
            If the EHR does not answer.
        """
        pending = self._taken(answer.get("state", ""), binder)
        ehr = self._network.ehr(pending.fhir_base_url)
        if ehr is None:
            msg = "The EHR is no longer registered with radcds."
            raise LaunchRefused(msg)
        smart = self._smart[ehr.fhir_base_url]
        smart.check_response_issuer(answer.get("iss"))
        if "error" in answer or not answer.get("code"):
            msg = f"{ehr.name} did not let you in. Open radcds from the EHR again."
            raise LaunchRefused(msg)
        tokens = smart.exchange(answer["code"], pending.verifier, pending.nonce)
        records = EhrRecords(ehr, self._http)
        person = self._person(ehr, tokens, records)
        session, secret = self._sessions.begin(person, address=address, ehr=ehr, tokens=tokens)
        wanted = [pending.result_id, tokens.app_context or ""]
        chosen = self._chosen(session, tokens, records, wanted, address)
        return Arrived(session, secret, chosen)

    def _taken(self, state: str, binder: str) -> PendingLaunch:
        """Take a pending launch, once, for the browser that began it.

        Raises
        ------
        LaunchRefused
            If there is none, it is too old, or another browser began it.
        """
        pending = self._store.take_launch(state) if state else None
        fresh = pending and self._clock.now() - pending.started_at < LAUNCH_LASTS
        if (
            pending is None
            or not fresh
            or not hmac.compare_digest(pending.binder_sha256, digest(binder))
        ):
            msg = (
                "This sign-in was not begun in this window, took too long, or was used already. "
                "Open radcds from the EHR again."
            )
            raise LaunchRefused(msg)
        return pending

    def _person(self, ehr: Ehr, tokens: TokenResponse, records: EhrRecords) -> Person:
        """Say who signed in, what they may do, and for which patient.

        Raises
        ------
        LaunchRefused
            If the person is no member of staff, has no role here, or the patient cannot be read.
        """
        identity = tokens.identity
        if identity is None or ehr.smart is None:
            msg = f"{ehr.name} does not say who signed in. radcds shows nothing to nobody."
            raise LaunchRefused(msg)
        user = identity.fhir_user or f"{identity.issuer}#{identity.subject}"
        kind = (identity.fhir_user or "Practitioner/").split("/")[-2:][0]
        if kind not in _STAFF:
            msg = "radcds is for clinical staff; it has no view for patients."
            raise LaunchRefused(msg)
        default = ehr.smart.default_role if identity.fhir_user else None
        role = ehr.smart.roles.get(user, default)
        if role is None:
            msg = f"Your account at {ehr.name} has no role in radcds. Ask your IT department."
            raise LaunchRefused(msg)
        if role is Role.CLINICIAN and tokens.patient is None:
            msg = "Open radcds from the record of a patient."
            raise LaunchRefused(msg)
        patient = self._patient(ehr, tokens, records) if tokens.patient else None
        return Person(user, self._display(tokens, records, user), role, ehr.centres, patient)

    def _patient(self, ehr: Ehr, tokens: TokenResponse, records: EhrRecords) -> PatientScope:
        """Read the identifiers of the patient in context.

        Raises
        ------
        LaunchRefused
            If the granted scopes do not allow it, or the EHR gives another patient.
        """
        if not _may_read(tokens, "Patient"):
            msg = (
                f"{ehr.name} did not allow radcds to read the patient, so no study can be matched "
                "safely. Ask your IT department to grant patient/Patient.r."
            )
            raise LaunchRefused(msg)
        reference = f"Patient/{tokens.patient}"
        patient = records.get(reference, tokens.access_token)
        if patient.get("resourceType") != "Patient" or patient.get("id") != tokens.patient:
            msg = f"{ehr.name} answered with another patient than the one that is open."
            raise LaunchRefused(msg)
        return PatientScope(
            reference, frozenset(archive_identifiers(patient, ehr, self._access.site))
        )

    def _display(self, tokens: TokenResponse, records: EhrRecords, user: str) -> str:
        """Give the name of the person in words; the reference where it cannot be read."""
        if not user.startswith("Practitioner/") or not _may_read(tokens, "Practitioner"):
            return user
        try:
            return _name(records.get(user, tokens.access_token)) or user
        except PeerUnavailable as error:
            structlog.get_logger("radcds.launch").info("name not read", why=str(error))
            return user

    def _chosen(
        self,
        session: Session,
        tokens: TokenResponse,
        records: EhrRecords,
        wanted: Sequence[str],
        address: str,
    ) -> str:
        """Give the study to open: named by the card, by the launch context, or none."""
        looking = viewer(session, address)
        for result_id in wanted:
            if result_id and self._access.is_open_to(result_id, looking):
                return result_id
        uids = [uid for each in tokens.context for uid in _uids(each, records, tokens)]
        entries = [entry for uid in uids for entry in self._access.gate.of_study(uid, looking)]
        fitting = [e.result_id for e in entries if self._access.is_open_to(e.result_id, looking)]
        return fitting[0] if fitting else ""


def _uids(reference: str, records: EhrRecords, tokens: TokenResponse) -> Sequence[str]:
    """Give the Study Instance UIDs of a resource in the launch context, as far as it is granted."""
    kind = reference.partition("/")[0]
    if kind not in {"ImagingStudy", "DiagnosticReport"} or not _may_read(tokens, kind):
        return ()
    try:
        resource = records.get(reference, tokens.access_token)
        studies = [resource] if kind == "ImagingStudy" else _studies(resource, records, tokens)
    except PeerUnavailable as error:
        structlog.get_logger("radcds.launch").info("context not read", why=str(error))
        return ()
    return study_uids(studies)


def _studies(report: Mapping[str, Any], records: EhrRecords, tokens: TokenResponse) -> list[Any]:
    """Read the imaging studies that a report is about, as far as it is granted."""
    listed = report.get("imagingStudy")
    if not isinstance(listed, list) or not _may_read(tokens, "ImagingStudy"):
        return []
    references = [str(each.get("reference")) for each in listed if isinstance(each, dict)]
    own = [
        each
        for each in references
        if each.startswith("ImagingStudy/") and is_fhir_id(each.removeprefix("ImagingStudy/"))
    ]
    return [records.get(each, tokens.access_token) for each in own[:_MOST_STUDIES]]


def _may_read(tokens: TokenResponse, kind: str) -> bool:
    return any(allows(tokens.scopes, level, kind, "r") for level in ("patient", "user"))


def _name(practitioner: Mapping[str, Any]) -> str:
    names = practitioner.get("name")
    first = names[0] if isinstance(names, list) and names else {}
    if not isinstance(first, dict):
        return ""
    if isinstance(first.get("text"), str):
        return str(first["text"])
    parts = [first.get(key) for key in ("prefix", "given")]
    words = [str(word) for part in parts for word in (part if isinstance(part, list) else [])]
    family = first.get("family")
    return " ".join([*words, family] if isinstance(family, str) else words)


def ehr_name(network: Network, fhir_base_url: str) -> str:
    """Give the name of an EHR for people; empty for a local sign-in."""
    ehr = network.ehr(fhir_base_url) if fhir_base_url else None
    return ehr.name if ehr else ""
