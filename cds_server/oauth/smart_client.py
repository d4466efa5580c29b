"""The SMART app that this server is: what it says to the authorisation server of one EHR.

References
----------
SMART App Launch 2.2; RFC 7636 (PKCE); RFC 9207 (issuer in the response).
"""

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlencode, urlsplit

from cds_server.errors import InvalidSettings
from cds_server.network import Ehr, Network
from cds_server.oauth.client_assertion import assertion_form, client_assertion
from cds_server.oauth.id_token import IdTokens
from cds_server.oauth.kept import Kept
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.oauth.smart_configuration import SmartConfiguration, smart_configuration
from cds_server.oauth.smart_errors import LaunchRefused, RefusedByEhr
from cds_server.oauth.token_response import TokenResponse, token_response
from cds_server.outbound import Outbound
from cds_server.ports import Clock

__all__ = [
    "LaunchRefused",
    "RefusedByEhr",
    "SmartClient",
    "SmartConfiguration",
    "TokenResponse",
]

_CONFIGURATION_KEPT = timedelta(hours=1)
_RENEWED_BEFORE_END = timedelta(seconds=30)
_JSON = {"Accept": "application/json"}
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


class SmartClient:
    """A confidential client with asymmetric authentication; threads may share it.

    Every method that asks the EHR also raises ``PeerUnavailable`` where it does not answer, and
    ``InvalidSettings`` where the keys of this server cannot be used.

    Parameters
    ----------
    ehr
        The EHR, with its registration.
    http
        How it is asked.
    keys
        This server's keys.
    jwks_url
        Where this server publishes them, as registered.
    redirect_uri
        Where the browser comes back to, as registered.
    clock
        What time it is.

    Raises
    ------
    InvalidSettings
        If this server is not registered with the EHR.
    """

    def __init__(
        self,
        ehr: Ehr,
        *,
        http: Outbound,
        keys: SigningKeys,
        jwks_url: str,
        redirect_uri: str,
        clock: Clock,
    ) -> None:
        if ehr.smart is None:
            msg = f"{ehr.name} has no SMART registration"
            raise InvalidSettings(msg)
        self._ehr = ehr
        self._registration = ehr.smart
        self._http = http
        self._keys = keys
        self._jwks_url = jwks_url
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._configuration = Kept(self._asked_configuration, clock)
        self._id_tokens: dict[str, IdTokens] = {}
        self._backend_tokens: dict[str, Kept[str]] = {}

    def configuration(self) -> SmartConfiguration:
        """Give the EHR's SMART configuration, at most an hour old.

        Raises
        ------
        LaunchRefused
            If it is missing, or not as SMART requires.
        PeerUnavailable
            If the EHR does not answer.
        """
        return self._configuration.value()

    def authorization_request(
        self,
        state: str,
        *,
        launch: str | None,
        scopes: Collection[str],
        verifier: str,
        nonce: str | None,
    ) -> str:
        """Give the address to send the user's browser to.

        Parameters
        ----------
        state
            Secret of this sign-in, bound to the browser.
        launch
            As the EHR sent it; ``None`` where the user began here.
        scopes
            What to ask for.
        verifier
            PKCE secret of this sign-in, 43 to 128 characters.
        nonce
            Secret of this sign-in that the ``id_token`` repeats; required with ``openid``.

        Raises
        ------
        ValueError
            If the verifier or the nonce is unfit.
        """
        if not _VERIFIER.fullmatch(verifier) or ("openid" in scopes and not nonce):
            msg = "the PKCE verifier is malformed, or the nonce is missing"
            raise ValueError(msg)
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._registration.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(scopes),
            "state": state,
            "aud": self._ehr.fhir_base_url,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **({"launch": launch} if launch else {}),
            **({"nonce": nonce} if nonce else {}),
        }
        url = self.configuration().authorization_endpoint
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(asked)}"

    def check_response_issuer(self, iss_parameter: str | None) -> None:
        """Compare ``iss`` of the authorisation response with the authorisation server's issuer.

        That is not the FHIR endpoint, which is called ``iss`` in a launch.

        Raises
        ------
        LaunchRefused
            If another server answered, or the parameter is missing though it was announced.
        """
        configuration = self.configuration()
        missing = iss_parameter is None
        if missing and not configuration.response_issuer_required:
            return
        if missing or iss_parameter != configuration.issuer:
            msg = f"The answer to the sign-in does not come from {self._ehr.name}."
            raise LaunchRefused(msg)

    def exchange(self, code: str, verifier: str, nonce: str | None) -> TokenResponse:
        """Exchange an authorisation code.

        Parameters
        ----------
        code
            From the authorisation response.
        verifier, nonce
            Of this sign-in. Without a nonce ``openid`` was not asked for, and no ``id_token`` is
            needed.

        Raises
        ------
        RefusedByEhr
            If the authorisation server refuses.
        LaunchRefused
            If its answer is not good; then nobody is signed in.
        """
        told = self._token(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self._redirect_uri,
                "code_verifier": verifier,
            }
        )
        issuer = self.configuration().issuer
        if told.id_token is None and nonce is None:
            return told
        if told.id_token is None or nonce is None or issuer is None:
            msg = f"{self._ehr.name} does not say who signed in."
            raise LaunchRefused(msg)
        return replace(told, identity=self._issuer(issuer).identity(told.id_token, nonce))

    def refresh(self, refresh_token: str) -> TokenResponse:
        """Get the next token; the refresh token in the answer replaces the old one.

        The identity is that of the sign-in and not repeated. Whoever keeps the session compares
        the patient.

        Raises
        ------
        RefusedByEhr
            If the authorisation server refuses: ``invalid_grant`` means to sign in again.
        LaunchRefused
            If its answer is not good.
        """
        told = self._token({"grant_type": "refresh_token", "refresh_token": refresh_token})
        return replace(told, refresh_token=told.refresh_token or refresh_token)

    def backend_token(self, scopes: Collection[str]) -> str:
        """Give an access token for this server itself, without a user; kept until it ends.

        Raises
        ------
        RefusedByEhr
            If the authorisation server refuses.
        LaunchRefused
            If its answer is not good.
        """
        scope = " ".join(sorted(scopes))
        made = Kept(partial(self._asked_backend_token, scope), self._clock)
        return self._backend_tokens.setdefault(scope, made).value()

    def _asked_configuration(self) -> tuple[SmartConfiguration, datetime]:
        base = self._ehr.fhir_base_url
        answer = self._http.get(f"{base}/.well-known/smart-configuration", headers=_JSON)
        read = smart_configuration(answer, ehr=self._ehr.name, fhir_base_url=base)
        return read, self._clock.now() + _CONFIGURATION_KEPT

    def _asked_backend_token(self, scope: str) -> tuple[str, datetime]:
        asked_at = self._clock.now()
        told = self._token({"grant_type": "client_credentials", "scope": scope})
        life = timedelta(seconds=told.expires_in_s)
        return told.access_token, asked_at + life - _RENEWED_BEFORE_END

    def _issuer(self, issuer: str) -> IdTokens:
        made = IdTokens(
            issuer,
            ehr=self._ehr.name,
            fhir_base_url=self._ehr.fhir_base_url,
            client_id=self._registration.client_id,
            http=self._http,
            clock=self._clock,
        )
        return self._id_tokens.setdefault(issuer, made)

    def _token(self, form: Mapping[str, str]) -> TokenResponse:
        token_url = self.configuration().token_endpoint
        assertion = client_assertion(
            self._keys,
            algorithm=self._registration.algorithm,
            client_id=self._registration.client_id,
            token_url=token_url,
            jwks_url=self._jwks_url,
            clock=self._clock,
        )
        answer = self._http.post_form(
            token_url, {**form, **assertion_form(assertion)}, headers=_JSON
        )
        return token_response(answer, ehr=self._ehr.name, fhir_base_url=self._ehr.fhir_base_url)


def smart_clients(
    network: Network, base_url: str, http: Outbound, keys: SigningKeys, clock: Clock
) -> Mapping[str, SmartClient]:
    """Give this server as the client of each EHR that launches it, by FHIR base address."""
    return {
        ehr.fhir_base_url: SmartClient(
            ehr,
            http=http,
            keys=keys,
            jwks_url=f"{base_url}/.well-known/jwks.json",
            redirect_uri=f"{base_url}/callback",
            clock=clock,
        )
        for ehr in network.ehrs
        if ehr.smart
    }
