"""Which EHR calls: the JSON Web Token of a CDS client, checked before anything is answered.

Trust is a list of clients, each an issuer with the one address of its keys. A token never says
where its keys are. Each is good for one call: its ``jti`` is taken once, across all processes.

References
----------
CDS Hooks 2.0, Trusting CDS Clients; RFC 7519 section 4.1; RFC 8725 section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cds_server.errors import KeysUnavailable
from cds_server.network import CdsClient
from cds_server.oauth.signed_token import (
    LEEWAY,
    TokenRefused,
    audiences,
    moment,
    signed_claims,
    unverified,
)
from cds_server.ports import Clock, KeySource, ReplayGuard

ALGORITHMS = ("ES384", "RS384")
_LONGEST_LIFE = timedelta(hours=1)
_LONGEST_JTI = 256


@dataclass(frozen=True, slots=True)
class Trusted:
    """The token is good; this client calls."""

    client: CdsClient


@dataclass(frozen=True, slots=True)
class Refused:
    """The token is not good. The reason is for the log; the caller gets none."""

    reason: str


class ClientTokens:
    """Checks the tokens of CDS clients.

    Parameters
    ----------
    clients
        Whom to trust, each issuer once.
    keys
        Gives the public keys of a client.
    guard
        Remembers which tokens were used.
    clock
        What time it is.
    """

    def __init__(
        self, clients: Sequence[CdsClient], *, keys: KeySource, guard: ReplayGuard, clock: Clock
    ) -> None:
        self._clients = {client.issuer: client for client in clients}
        self._keys = keys
        self._guard = guard
        self._clock = clock

    def check(self, authorization: str | None, audience: str) -> Trusted | Refused:
        """Decide about the ``Authorization`` header of one call.

        Parameters
        ----------
        authorization
            The header, or ``None``.
        audience
            The exact address that was called.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return Refused("no bearer token")
        try:
            return self._decide(token, audience)
        except (TokenRefused, KeysUnavailable) as error:
            return Refused(str(error))

    def _decide(self, token: str, audience: str) -> Trusted | Refused:
        told = unverified(token)
        issuer = told.claims.get("iss")
        client = self._clients.get(issuer) if isinstance(issuer, str) else None
        if client is None:
            return Refused("issuer is not trusted")
        refusal = _refused_header(told.header, client) or self._refused_claims(
            told.claims, audience, client
        )
        if refusal:
            return Refused(refusal)
        claims = signed_claims(token, keys=self._keys, jwks_url=client.jwks_url)
        until = moment(claims["exp"]) + LEEWAY
        if not self._guard.take(client.issuer, str(claims["jti"]), until):
            return Refused("token was used before")
        return Trusted(client)

    def _refused_claims(
        self, claims: Mapping[str, object], audience: str, client: CdsClient
    ) -> str | None:
        """Say which claim is not good."""
        if (client.audience or audience) not in audiences(claims):
            return "audience is another"
        now = self._clock.now()
        issued, expires = moment(claims.get("iat")), moment(claims.get("exp"))
        if expires + LEEWAY <= now:
            return "expired"
        if issued - LEEWAY > now or expires <= issued or expires - issued > _LONGEST_LIFE:
            return "life of the token is impossible or too long"
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= _LONGEST_JTI:
            return "no usable jti"
        if client.tenants and claims.get("tenant") not in client.tenants:
            return "tenant is not trusted"
        return None


def _refused_header(header: Mapping[str, object], client: CdsClient) -> str | None:
    """Say which part of the header is not good."""
    if header.get("alg") not in ALGORITHMS:
        return "algorithm is not ES384 or RS384"
    if not isinstance(header.get("kid"), str):
        return "no kid"
    if header.get("typ", "JWT") != "JWT":
        return "typ is not JWT"
    if header.get("jku", client.jwks_url) != client.jwks_url:
        return "jku is another than registered"
    if set(header) & {"jwk", "x5u", "x5c", "crit"}:
        return "header brings keys of its own"
    return None
