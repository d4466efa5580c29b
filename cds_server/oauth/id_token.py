"""Who signed in: the OpenID Connect ``id_token`` of an EHR, verified.

References
----------
OpenID Connect Core 1.0 section 3.1.3.7 and Discovery 1.0 section 4.3; SMART App Launch 2.2,
scopes for requesting identity data.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from cds_server.errors import KeysUnavailable
from cds_server.oauth.kept import Kept
from cds_server.oauth.published_keys import PublishedKeys
from cds_server.oauth.signed_token import (
    TokenRefused,
    audiences,
    moment,
    refuse_times,
    signed_claims,
)
from cds_server.oauth.smart_configuration import document, endpoint, is_safe
from cds_server.oauth.smart_errors import LaunchRefused
from cds_server.oauth.token_response import Identity, relative_reference
from cds_server.outbound import Outbound
from cds_server.ports import Clock

_KEPT = timedelta(hours=1)
_LONGEST_TEXT = 2048


class IdTokens:
    """Verifies the ``id_token`` of one issuer.

    Parameters
    ----------
    issuer
        As the EHR's SMART configuration names it.
    ehr
        Name of the EHR, for messages.
    fhir_base_url
        Of the EHR: below it, ``fhirUser`` is made relative.
    client_id
        The audience.
    http
        How the issuer is asked for its keys.
    clock
        What time it is.
    """

    def __init__(
        self,
        issuer: str,
        *,
        ehr: str,
        fhir_base_url: str,
        client_id: str,
        http: Outbound,
        clock: Clock,
    ) -> None:
        self.issuer = issuer
        self._ehr = ehr
        self._fhir_base_url = fhir_base_url
        self._client_id = client_id
        self._http = http
        self._clock = clock
        self._keys = PublishedKeys(http)
        self._jwks_url = Kept(self._discovered, clock)

    def identity(self, token: str, nonce: str) -> Identity:
        """Say who signed in.

        Raises
        ------
        LaunchRefused
            If the token is not good.
        PeerUnavailable
            If the issuer does not answer.
        """
        jwks_url = self._jwks_url.value()
        try:
            claims = signed_claims(token, keys=self._keys, jwks_url=jwks_url)
            self._refuse(claims, nonce)
            return Identity(self.issuer, _text(claims, "sub"), self._fhir_user(claims))
        except KeysUnavailable as error:
            msg = f"The keys of {self._ehr} cannot be had, so nobody can sign in from there."
            raise LaunchRefused(msg) from error
        except TokenRefused as error:
            msg = f"{self._ehr} does not say credibly who signed in ({error})."
            raise LaunchRefused(msg) from error

    def _discovered(self) -> tuple[str, datetime]:
        """Ask the issuer where its keys are.

        Raises
        ------
        LaunchRefused
            If another issuer answers.
        """
        base = self.issuer.rstrip("/")
        if not is_safe(base):
            msg = f"{self._ehr} names no safe issuer."
            raise LaunchRefused(msg)
        answer = self._http.get(
            f"{base}/.well-known/openid-configuration", headers={"Accept": "application/json"}
        )
        told = document(answer, ehr=self._ehr, what="OpenID configuration")
        if told.get("issuer") != self.issuer:
            msg = f"The OpenID configuration of {self._ehr} is that of another issuer."
            raise LaunchRefused(msg)
        return endpoint(told, "jwks_uri", ehr=self._ehr, base=base), self._clock.now() + _KEPT

    def _refuse(self, claims: Mapping[str, object], nonce: str) -> None:
        """Judge the claims.

        Raises
        ------
        TokenRefused
            If one is not good.
        """
        if claims.get("iss") != self.issuer:
            msg = "issuer is another"
            raise TokenRefused(msg)
        named = audiences(claims)
        party = claims.get("azp", self._client_id if len(named) == 1 else None)
        if self._client_id not in named or party != self._client_id:
            msg = "it is meant for another program"
            raise TokenRefused(msg)
        refuse_times(claims, self._clock.now())
        moment(claims.get("iat"))
        if not hmac.compare_digest(_text(claims, "nonce").encode(), nonce.encode()):
            msg = "it answers another sign-in"
            raise TokenRefused(msg)

    def _fhir_user(self, claims: Mapping[str, object]) -> str | None:
        """Give the user's reference; servers of old name it ``profile``.

        Elsewhere ``profile`` is a page about the user, and then says nothing here.

        Raises
        ------
        TokenRefused
            If it is neither a reference nor an address.
        """
        if claims.get("fhirUser") is None:
            profile = claims.get("profile")
            return self._relative(profile) if isinstance(profile, str) else None
        user = _text(claims, "fhirUser")
        if not self._relative(user) and not is_safe(user):
            msg = "fhirUser is no reference"
            raise TokenRefused(msg)
        return self._relative(user) or user

    def _relative(self, value: str) -> str | None:
        return relative_reference(value, self._fhir_base_url)


def _text(claims: Mapping[str, object], name: str) -> str:
    """Give a claim that has to be there.

    Raises
    ------
    TokenRefused
        If it is no string, empty or endless.
    """
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        msg = f"{name} is missing"
        raise TokenRefused(msg)
    return value
