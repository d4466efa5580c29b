"""Opaque access tokens, looked up at the server that issued them (RFC 7662)."""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cds_server.network import TokenIssuer
from cds_server.oauth.bounded_json import json_object
from cds_server.oauth.client_assertion import assertion_form, client_assertion
from cds_server.oauth.signed_token import TokenRefused, audiences, moment, refuse_times
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.outbound import Outbound
from cds_server.ports import Clock

_OK = 200
_KEPT = timedelta(seconds=30)
_MOST_KEPT = 4096
_LONGEST_ACCESS = timedelta(hours=1)  # SMART App Launch 2.2, obtain access token


@dataclass(frozen=True, slots=True)
class _Looked:
    claims: Mapping[str, object]
    until: datetime


class Introspection:
    """Asks one issuer what its tokens are good for. An answer is kept for half a minute.

    Parameters
    ----------
    issuer
        With its introspection endpoint, and this server's ``client_id`` there.
    http
        How it is asked.
    keys
        This server's keys.
    jwks_url
        Where this server publishes them.
    algorithm
        ``ES384`` or ``RS384``: how this server signs.
    clock
        What time it is.
    """

    def __init__(
        self,
        issuer: TokenIssuer,
        *,
        http: Outbound,
        keys: SigningKeys,
        jwks_url: str,
        algorithm: str,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._http = http
        self._keys = keys
        self._jwks_url = jwks_url
        self._algorithm = algorithm
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: dict[bytes, _Looked] = {}

    def claims(self, token: str) -> Mapping[str, object]:
        """Give what the issuer says of a token that is good now.

        Raises
        ------
        TokenRefused
            If it is not active, not for this server, or the issuer does not say.
        PeerUnavailable
            If the issuer does not answer.
        """
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock.now()
        with self._lock:
            looked = self._looked.get(digest)
        if looked is None or looked.until <= now:
            looked = _Looked(self._asked(token), now + _KEPT)
            self._keep(digest, looked, now)
        self._refuse(looked.claims, now)
        return looked.claims

    def _keep(self, digest: bytes, looked: _Looked, now: datetime) -> None:
        with self._lock:
            if len(self._looked) >= _MOST_KEPT:
                self._looked = {k: v for k, v in self._looked.items() if v.until > now}
            if len(self._looked) >= _MOST_KEPT:
                self._looked.clear()
            self._looked[digest] = looked

    def _asked(self, token: str) -> Mapping[str, object]:
        """Ask the issuer.

        Raises
        ------
        TokenRefused
            If its answer cannot be read.
        """
        url = self._issuer.introspection_url or ""
        assertion = client_assertion(
            self._keys,
            algorithm=self._algorithm,
            client_id=self._issuer.client_id,
            token_url=self._issuer.token_endpoint or url,
            jwks_url=self._jwks_url,
            clock=self._clock,
        )
        form = {"token": token, "token_type_hint": "access_token", **assertion_form(assertion)}
        answer = self._http.post_form(url, form, headers={"Accept": "application/json"})
        if answer.status != _OK:
            msg = f"the introspection endpoint answered {answer.status}"
            raise TokenRefused(msg)
        try:
            return json_object(answer.content)
        except ValueError as error:
            msg = "the introspection endpoint answered no JSON object"
            raise TokenRefused(msg) from error

    def _refuse(self, claims: Mapping[str, object], now: datetime) -> None:
        """Judge the answer.

        A refresh token is active too, and some servers tell it from an access token only by
        leaving ``token_type`` out. SMART does not ask for the type, nor for the audience. Where
        neither is told, a token that lives longer than an access token should is refused.

        Raises
        ------
        TokenRefused
            If the token is not good here and now.
        """
        if claims.get("active") is not True:
            msg = "not active"
            raise TokenRefused(msg)
        refuse_times(claims, now)
        told = claims.get("token_type", claims.get("typ"))
        named = told is not None or "aud" in claims
        if not named and moment(claims.get("exp")) > now + _LONGEST_ACCESS:
            msg = "it lives too long for an access token, and the issuer does not call it one"
            raise TokenRefused(msg)
        if told is not None and str(told).lower() != "bearer":
            msg = "the issuer says that it is no access token"
            raise TokenRefused(msg)
        if claims.get("iss", self._issuer.issuer) != self._issuer.issuer:
            msg = "issuer is another"
            raise TokenRefused(msg)
        if "aud" in claims and self._issuer.audience not in audiences(claims):
            msg = "audience is another"
            raise TokenRefused(msg)
