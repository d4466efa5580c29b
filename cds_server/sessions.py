"""Signing in, staying signed in, signing out.

A session ends when it was idle for too long, when it is too old, when its person signs out, and
when the EHR that launched it no longer renews its tokens. Every begin and end is recorded.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from cds_server.errors import PeerUnavailable
from cds_server.network import Ehr, Role
from cds_server.oauth.smart_client import LaunchRefused, SmartClient, TokenResponse
from cds_server.ports import Clock
from cds_server.session import LAUNCH_LASTS, Session, SessionStore
from cds_server.viewer import PatientScope, Viewer
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_context import Site

_SEEN_STEP = timedelta(seconds=30)
_RENEW_AHEAD = timedelta(seconds=30)
_RENEW_PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts: without use, and at all."""

    idle: timedelta = timedelta(minutes=15)
    absolute: timedelta = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Person:
    """Who signs in, and what they may see.

    Parameters
    ----------
    user, display
        The person as the EHR names them, and in words.
    role, centres, patient
        What may be done, and whose studies may be seen.
    """

    user: str
    display: str
    role: Role
    centres: frozenset[str] = frozenset()
    patient: PatientScope | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """There is no session. The reason is a sentence for the person."""

    says: str


_NO_SESSION = Ended("You are not signed in, or your session has ended. Sign in again.")


class Sessions:
    """Begins, checks and ends sessions.

    Parameters
    ----------
    store
        Where sessions are kept, for all processes.
    smart
        How to renew the tokens of each EHR, by its FHIR base address.
    site
        Whose server this is.
    limits
        How long a session lasts.
    clock
        What time it is.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        smart: Mapping[str, SmartClient],
        site: Site,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._smart = smart
        self._site = site
        self._limits = limits
        self._clock = clock

    @property
    def idle(self) -> timedelta:
        """How long a session lasts without use."""
        return self._limits.idle

    def begin(
        self, person: Person, *, address: str, ehr: Ehr | None, tokens: TokenResponse | None
    ) -> tuple[Session, str]:
        """Begin a session and give it with its secret, which is kept nowhere.

        Raises
        ------
        AuditUnavailable
            If it cannot be recorded; then nobody is signed in.
        """
        now = self._clock.now()
        self._store.forget_before(now - max(self._limits.absolute, LAUNCH_LASTS))
        secret = secrets.token_urlsafe(32)
        begun = Session(
            handle=secrets.token_hex(12),
            secret_sha256=digest(secret),
            fhir_base_url=ehr.fhir_base_url if ehr else "",
            user=person.user,
            display=person.display,
            role=person.role,
            centres=person.centres,
            patient=person.patient,
            scopes=tokens.scopes if tokens else frozenset(),
            started_at=now,
            seen_at=now,
            access_token=tokens.access_token if tokens else "",
            refresh_token=(tokens.refresh_token or "") if tokens else "",
            access_until=now + timedelta(seconds=tokens.expires_in_s) if tokens else None,
            needs_banner=tokens.need_patient_banner if tokens else True,
        )
        self._store.add(begun, [self._leaf(AuditKind.SIGN_IN, begun, address)])
        return begun, secret

    def check(self, handle: str, secret: str, address: str) -> Session | Ended:
        """Give the session of a handle to whoever shows its secret.

        Raises
        ------
        AuditUnavailable
            If the end of a session cannot be recorded.
        """
        session = self._store.session(handle)
        if session is None or not hmac.compare_digest(session.secret_sha256, digest(secret)):
            return _NO_SESSION
        now = self._clock.now()
        if now - session.seen_at >= self._limits.idle:
            self.end(session, address, "idle for too long")
            return Ended("Your session ended because it was not used. Sign in again.")
        if now - session.started_at >= self._limits.absolute:
            self.end(session, address, "too old")
            return Ended("Your session has reached its longest time. Sign in again.")
        if self._must_renew(session, now) and not self._renewed(session, now):
            self.end(session, address, "the EHR ended it")
            return Ended("The EHR has ended your session. Open radcds from the EHR again.")
        if now - session.seen_at >= _SEEN_STEP:
            self._store.seen(handle, now)
        return session

    def end(self, session: Session, address: str, why: str = "signed out") -> None:
        """End a session.

        Raises
        ------
        AuditUnavailable
            If it cannot be recorded.
        """
        self._store.end(session.handle, [self._leaf(AuditKind.SIGN_OUT, session, address, why)])

    def _must_renew(self, session: Session, now: datetime) -> bool:
        return (
            bool(session.refresh_token)
            and session.access_until is not None
            and now >= session.access_until - _RENEW_AHEAD
        )

    def _renewed(self, session: Session, now: datetime) -> bool:
        """Renew the tokens, in one process alone: a refresh token is good for one use.

        An EHR that does not answer is asked again later; one that refuses, or that has gone on to
        another patient, ends the session.
        """
        smart = self._smart.get(session.fhir_base_url)
        if smart is None:
            return False
        if not self._store.claim_refresh(session.handle, now, now + _RENEW_PATIENCE):
            return True
        current = self._store.session(session.handle)
        if current is None or not self._must_renew(current, now):
            return current is not None
        try:
            tokens = _of_same_patient(smart.refresh(current.refresh_token), current)
        except LaunchRefused:
            return False
        except PeerUnavailable as error:
            structlog.get_logger("radcds.sessions").warning("EHR silent", error=str(error))
            return True
        self._store.renew(
            session.handle,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token or "",
            access_until=now + timedelta(seconds=tokens.expires_in_s),
        )
        return True

    def _leaf(self, kind: AuditKind, session: Session, address: str, why: str = "") -> bytes:
        bound = {"patient-context": session.patient.reference} if session.patient else {}
        fact = AuditFact(
            kind=kind,
            recorded=self._clock.now(),
            user=session.user,
            address=address,
            client=session.fhir_base_url,
            detail={"role": session.role.value} | bound | ({"why": why} if why else {}),
        )
        return audit_event(fact, self._site)


def _of_same_patient(tokens: TokenResponse, session: Session) -> TokenResponse:
    """Give renewed tokens, if they are for the patient of the session; an EHR may repeat it.

    Raises
    ------
    LaunchRefused
        If they are for another one.
    """
    other = tokens.patient and session.patient
    if other and other.reference != f"Patient/{tokens.patient}":
        msg = "The EHR has gone on to another patient."
        raise LaunchRefused(msg)
    return tokens


def viewer(session: Session, address: str) -> Viewer:
    """Give the viewer of a session."""
    return Viewer(
        user=session.user,
        address=address,
        role=session.role,
        client=session.fhir_base_url,
        centres=session.centres,
        patient=session.patient,
        session=session.handle,
    )


def digest(secret: str) -> str:
    """Give the digest under which a secret is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()
