"""Whose requests may read ``/fhir``: the access token of a trusted authorisation server.

References
----------
RFC 9068 (JWT profile for access tokens), RFC 7662 (introspection), RFC 6750 (bearer tokens).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from cds_server.errors import InvalidSettings, PeerUnavailable
from cds_server.network import TokenIssuer
from cds_server.oauth.introspection import Introspection
from cds_server.oauth.scopes import granted
from cds_server.oauth.signed_token import (
    LONGEST_TOKEN,
    TokenRefused,
    audiences,
    refuse_times,
    signed_claims,
    unverified,
)
from cds_server.oauth.signing_keys import SigningKeys
from cds_server.outbound import Outbound
from cds_server.ports import Clock, KeySource

_SIGNED = 2  # dots
_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_LONGEST_TEXT = 2048
_ALGORITHM = "ES384"


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """What a good access token is good for.

    Parameters
    ----------
    issuer
        Of the token.
    subject
        Who asks; the client, where it asks for itself.
    client_id
        The program that asks.
    scopes
        What it may do.
    patient
        Logical id, as the issuer counts, of the only patient whose data ``patient/`` scopes open.
    fhir_user
        Reference of the person, as the issuer sent it.
    centres
        Ids of the centres whose studies may be reached; empty means all.
    """

    issuer: str
    subject: str
    client_id: str
    scopes: frozenset[str]
    patient: str | None
    fhir_user: str | None
    centres: frozenset[str]


class AccessTokens:
    """Checks access tokens.

    Parameters
    ----------
    issuers
        Whom to trust. At most one of them may issue opaque tokens: such a token does not say
        whose it is, and shown to the wrong issuer it would be given away.
    http
        How an issuer is asked about an opaque token.
    keys_source
        Gives the public keys of an issuer.
    keys
        This server's keys, for introspection.
    jwks_url
        Where this server publishes them.
    clock
        What time it is.

    Raises
    ------
    InvalidSettings
        If an issuer is named twice, has no way to be checked, or two issue opaque tokens.
    """

    def __init__(
        self,
        issuers: Sequence[TokenIssuer],
        *,
        http: Outbound,
        keys_source: KeySource,
        keys: SigningKeys,
        jwks_url: str,
        clock: Clock,
    ) -> None:
        _refuse_issuers(issuers)
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys_source = keys_source
        self._clock = clock
        self._opaque = next((each for each in issuers if each.introspection_url), None)
        self._introspection = self._opaque and Introspection(
            self._opaque,
            http=http,
            keys=keys,
            jwks_url=jwks_url,
            algorithm=_ALGORITHM,
            clock=clock,
        )

    def check(self, token: str) -> AccessGrant | None:
        """Say what a token is good for; ``None`` if it is good for nothing, and the log says why.

        Raises
        ------
        InvalidSettings
            If this server's own keys cannot be used.
        """
        log = structlog.get_logger("radcds.access_tokens")
        try:
            return self._grant(token)
        except (TokenRefused, PeerUnavailable) as error:
            log.warning("token.refused", reason=str(error))
            return None

    def _grant(self, token: str) -> AccessGrant:
        """Decide.

        Raises
        ------
        TokenRefused
            If the token is not good.
        """
        if len(token) > LONGEST_TOKEN or not _BEARER.fullmatch(token):
            msg = "no token, or too long"
            raise TokenRefused(msg)
        issuer = self._named(token) if token.count(".") == _SIGNED else self._opaque
        if issuer is None:
            msg = "issuer is not trusted, or unknown"
            raise TokenRefused(msg)
        if issuer.jwks_url and token.count(".") == _SIGNED:
            claims = self._signed(token, issuer, issuer.jwks_url)
        elif self._introspection and issuer is self._opaque:
            claims = self._introspection.claims(token)
        else:
            msg = "the issuer's tokens are not of this kind"
            raise TokenRefused(msg)
        return _granted(claims, issuer)

    def _named(self, token: str) -> TokenIssuer | None:
        issuer = unverified(token).claims.get("iss")
        return self._issuers.get(issuer) if isinstance(issuer, str) else None

    def _signed(self, token: str, issuer: TokenIssuer, jwks_url: str) -> Mapping[str, object]:
        """Verify a JSON Web Token.

        Raises
        ------
        TokenRefused
            If it is not good.
        """
        kind = unverified(token).header.get("typ")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            msg = "typ is not that of an access token"
            raise TokenRefused(msg)
        claims = signed_claims(token, keys=self._keys_source, jwks_url=jwks_url)
        if issuer.audience not in audiences(claims):
            msg = "audience is another"
            raise TokenRefused(msg)
        if str(claims.get("typ", "Bearer")).lower() != "bearer" or "nonce" in claims:
            msg = "it is another kind of token"
            raise TokenRefused(msg)
        refuse_times(claims, self._clock.now())
        return claims


def _refuse_issuers(issuers: Sequence[TokenIssuer]) -> None:
    """Check the list.

    Raises
    ------
    InvalidSettings
        If it cannot work.
    """
    if len({each.issuer for each in issuers}) < len(issuers):
        msg = "a token issuer is named twice"
        raise InvalidSettings(msg)
    for each in issuers:
        if not each.jwks_url and not each.introspection_url:
            msg = f"token issuer {each.issuer} has neither jwks_url nor introspection_url"
            raise InvalidSettings(msg)
    if sum(bool(each.introspection_url) for each in issuers) > 1:
        msg = "only one token issuer may have an introspection_url: an opaque token names no issuer"
        raise InvalidSettings(msg)


def _granted(claims: Mapping[str, object], issuer: TokenIssuer) -> AccessGrant:
    """Read a grant off verified claims.

    Raises
    ------
    TokenRefused
        If it is bound to a key that the caller would have to prove, or malformed.
    """
    if "cnf" in claims:
        msg = "it is bound to a key of its holder, which is not checked here"
        raise TokenRefused(msg)
    client = _text(claims, "client_id") or _text(claims, "azp") or _text(claims, "sub")
    if client is None:
        msg = "it names nobody"
        raise TokenRefused(msg)
    patient = _text(claims, "patient")
    if patient is not None and not _ID.fullmatch(patient):
        msg = "patient is no logical id"
        raise TokenRefused(msg)
    return AccessGrant(
        issuer=issuer.issuer,
        subject=_text(claims, "sub") or client,
        client_id=client,
        scopes=_scopes(claims.get("scope", "")),
        patient=patient,
        fhir_user=_text(claims, "fhirUser"),
        centres=issuer.centres,
    )


def _scopes(value: object) -> frozenset[str]:
    """Read ``scope``, a string or a list.

    Raises
    ------
    TokenRefused
        If it is neither.
    """
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return granted(" ".join(value))
    if isinstance(value, str):
        return granted(value)
    msg = "scope is malformed"
    raise TokenRefused(msg)


def _text(claims: Mapping[str, object], name: str) -> str | None:
    """Give a claim that may be missing.

    Raises
    ------
    TokenRefused
        If it is there and no string.
    """
    value = claims.get(name)
    if not isinstance(value, str | None) or len(value or "") > _LONGEST_TEXT:
        msg = f"{name} is malformed"
        raise TokenRefused(msg)
    return value or None
