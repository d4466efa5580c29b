"""Sessions and pending launches as values, and the port that keeps them.

Everything stands on the server. A browser holds one random secret per launch, and no token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cds_server.network import Role
from cds_server.viewer import PatientScope

LAUNCH_LASTS = timedelta(minutes=10)
"""How long a launch may take to come back."""


@dataclass(frozen=True, slots=True)
class PendingLaunch:
    """A launch that went to the EHR's authorisation server and has not come back.

    Parameters
    ----------
    state
        Unpredictable, 256 bits: names this launch and no other.
    fhir_base_url
        Of the EHR.
    verifier, nonce
        PKCE code verifier and OpenID Connect nonce.
    binder_sha256
        Digest of the secret that only the browser that began can show.
    started_at
        When.
    result_id
        The study to open afterwards, or empty.
    """

    state: str
    fhir_base_url: str
    verifier: str
    nonce: str
    binder_sha256: str
    started_at: datetime
    result_id: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in person in one launch. Two launches in one browser are two sessions.

    Parameters
    ----------
    handle
        Names the session in addresses. No secret.
    secret_sha256
        Digest of the secret that opens it.
    fhir_base_url
        Of the EHR that launched, or empty after a local sign-in.
    user, display
        The person, as ``fhirUser`` names them, and in words.
    role, centres, patient
        What may be done, and whose studies may be seen.
    scopes
        That the EHR granted.
    started_at, seen_at
        When it began, and when it was used last.
    access_token, refresh_token
        Of the EHR; they never leave the server. Empty where there is none.
    access_until
        When the access token ends.
    needs_banner
        Whether the page has to show who the patient is; radcds always does.
    """

    handle: str
    secret_sha256: str
    fhir_base_url: str
    user: str
    display: str
    role: Role
    centres: frozenset[str]
    patient: PatientScope | None
    scopes: frozenset[str]
    started_at: datetime
    seen_at: datetime
    access_token: str = ""
    refresh_token: str = ""
    access_until: datetime | None = None
    needs_banner: bool = True


class SessionStore(Protocol):
    """Keeps launches and sessions for every process of the server."""

    def add_launch(self, launch: PendingLaunch) -> None:
        """Remember a launch, and forget those that never came back.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept.
        """
        ...

    def take_launch(self, state: str) -> PendingLaunch | None:
        """Give a launch once, and forget it."""
        ...

    def add(self, session: Session, audit_events: Sequence[bytes]) -> None:
        """Begin a session, with its audit leaves, in one transaction.

        Raises
        ------
        AuditUnavailable
            If any of it cannot be kept; then nothing is.
        """
        ...

    def session(self, handle: str) -> Session | None:
        """Give a session, if it has not ended."""
        ...

    def seen(self, handle: str, at: datetime) -> None:
        """Note that a session was used."""
        ...

    def claim_refresh(self, handle: str, now: datetime, until: datetime) -> bool:
        """Let exactly one process renew the tokens of a session, until the given time."""
        ...

    def renew(
        self, handle: str, *, access_token: str, refresh_token: str, access_until: datetime
    ) -> None:
        """Replace the tokens of a session."""
        ...

    def end(self, handle: str, audit_events: Sequence[bytes]) -> None:
        """End a session with everything that was granted to it.

        Raises
        ------
        AuditUnavailable
            If the leaves cannot be kept.
        """
        ...

    def grant(
        self, handle: str, result_id: str, what: str, until: datetime, audit_events: Sequence[bytes]
    ) -> None:
        """Grant a session something of one study, with its audit leaves, in one transaction.

        Raises
        ------
        AuditUnavailable
            If any of it cannot be kept; then nothing is granted.
        """
        ...

    def granted(self, handle: str, result_id: str, what: str, now: datetime) -> bool:
        """Say whether it was granted, and still is."""
        ...

    def forget_before(self, started_before: datetime) -> None:
        """Drop what began before the given time: launches that never came back, old sessions."""
        ...
