"""Who this server is for a FHIR server: SMART Backend Services.

References
----------
SMART App Launch 2.2, Backend Services; RFC 6749 4.4; RFC 7523.
"""

import threading
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Protocol

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.errors import DestinationUnavailable, InvalidSettings, PeerUnavailable
from cds_server.oauth.client_assertion import assertion_form, client_assertion
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.oauth.smart_configuration import document, endpoint, is_safe
from cds_server.oauth.smart_errors import LaunchRefused
from cds_server.oauth.token_response import token_response
from cds_server.ports import Clock

_JSON = {"Accept": "application/json"}
_BEFORE_IT_EXPIRES = timedelta(seconds=60)
_SHARE_OF_A_SHORT_LIFE = 0.8


class Credentials(Protocol):
    """Gives what a FHIR server wants to see. Threads may share it."""

    def authorization(self) -> str:
        """Give the value of the ``Authorization`` header.

        Raises
        ------
        DestinationUnavailable
            If there is none to be had now.
        """
        ...

    def refresh(self) -> None:
        """Forget what is kept: the server has just refused it."""
        ...


class KeptToken:
    """A bearer token, kept until shortly before it expires; threads may share it.

    Parameters
    ----------
    fetch
        Gives a token and when it expires.
    clock
        What time it is.
    """

    def __init__(self, fetch: Callable[[], tuple[str, datetime]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._header = ""
        self._renew_at: datetime | None = None

    def authorization(self) -> str:
        """Give the header; one thread fetches a new token while the others wait for it."""
        with self._lock:
            now = self._clock.now()
            if self._renew_at is None or self._renew_at <= now:
                token, expires = self._fetch()
                short = (expires - now) * _SHARE_OF_A_SHORT_LIFE
                self._renew_at = max(expires - _BEFORE_IT_EXPIRES, now + short)
                self._header = f"Bearer {token}"
            return self._header

    def refresh(self) -> None:
        """Forget the token."""
        with self._lock:
            self._renew_at = None


class SmartBackendCredentials(KeptToken):
    """Tokens for this server itself: client credentials, with a signed assertion as proof.

    Parameters
    ----------
    fhir_base_url
        The FHIR server, which names its token endpoint, unless ``token_url`` does.
    client_id
        As registered with its authorisation server.
    scopes
        What to ask for, such as ``system/*.cruds``.
    http
        How it is asked.
    keys, algorithm
        This server's keys, and which one signs: ``ES384`` or ``RS384``.
    jwks_url
        Where this server publishes their public halves, as registered.
    clock
        What time it is.
    token_url
        Token endpoint; empty has the FHIR server name it.

    Raises
    ------
    InvalidSettings
        If the token endpoint is neither https nor on this machine.
    """

    def __init__(  # noqa: PLR0913 - a registration has that many parts
        self,
        fhir_base_url: str,
        *,
        client_id: str,
        scopes: Collection[str],
        http: BoundedHttp,
        keys: SigningKeys,
        jwks_url: str,
        clock: Clock,
        algorithm: str = "ES384",
        token_url: str = "",
    ) -> None:
        if token_url and not is_safe(token_url):
            msg = "the token endpoint of a FHIR server is an https address, or on this machine"
            raise InvalidSettings(msg)
        super().__init__(self._fetched, clock)
        self._base_url = fhir_base_url.rstrip("/")
        self._client_id = client_id
        self._scope = " ".join(sorted(scopes))
        self._http = http
        self._keys = keys
        self._jwks_url = jwks_url
        self._algorithm = algorithm
        self._token_url = token_url

    def _fetched(self) -> tuple[str, datetime]:
        """Ask for a token.

        Raises
        ------
        DestinationUnavailable
            If the authorisation server gives none, or cannot be asked. Holds no token.
        """
        asked_at = self._clock.now()
        try:
            token_url = self._token_url or self._named_token_url()
            assertion = client_assertion(
                self._keys,
                algorithm=self._algorithm,
                client_id=self._client_id,
                token_url=token_url,
                jwks_url=self._jwks_url,
                clock=self._clock,
            )
            form = {"grant_type": "client_credentials", "scope": self._scope}
            answer = self._http.post_form(
                token_url, form | assertion_form(assertion), headers=_JSON
            )
            told = token_response(answer, ehr="the FHIR server", fhir_base_url=self._base_url)
        except (PeerUnavailable, LaunchRefused, InvalidSettings) as error:
            msg = f"no access token for the FHIR server: {error}"
            raise DestinationUnavailable(msg) from None
        return told.access_token, asked_at + timedelta(seconds=told.expires_in_s)

    def _named_token_url(self) -> str:
        """Ask the FHIR server for its token endpoint; each time, for it may move."""
        answer = self._http.get(f"{self._base_url}/.well-known/smart-configuration", headers=_JSON)
        told = document(answer, ehr="the FHIR server", what="SMART configuration")
        return endpoint(told, "token_endpoint", ehr="the FHIR server", base=self._base_url)
