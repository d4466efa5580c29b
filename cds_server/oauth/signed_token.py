"""JSON Web Tokens of other servers: read, and verified with the keys that their issuer publishes.

A token never says where its keys are. What is read before the signature is verified serves to
find the issuer, and nothing else.

References
----------
RFC 7515, RFC 7519 and RFC 8725.
"""

import base64
import binascii
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, RSAKey
from joserfc.jws import JWSRegistry

from cds_server.errors import CdsServerError
from cds_server.oauth.bounded_json import json_object
from cds_server.ports import KeySource

ALGORITHMS = ("ES256", "ES384", "RS256", "RS384")
LEEWAY = timedelta(seconds=60)
LONGEST_TOKEN = 16 * 1024
_PARTS = 3
_MOST_BRACKETS = 400
_MOST_KEYS_TRIED = 20
_RSA_DIGITS = range(342, 1367)  # base64url digits of a modulus of 2048 to 8192 bits


class TokenRefused(CdsServerError):
    """A token is not good. The reason is for the log, and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says of itself."""

    header: Mapping[str, object]
    claims: Mapping[str, object]


class _Registry(JWSRegistry):
    """Headers that are not known are ignored, as RFC 7515 has it; ``crit`` is refused before."""

    max_header_length = 8 * 1024
    max_payload_length = LONGEST_TOKEN


def unverified(token: str) -> Unverified:
    """Read a token without verifying it.

    Raises
    ------
    TokenRefused
        If it is none.
    """
    parts = token.split(".")
    if len(parts) != _PARTS or len(token) > LONGEST_TOKEN:
        msg = "not a signed token, or too long"
        raise TokenRefused(msg)
    try:
        return Unverified(_segment(parts[0]), _segment(parts[1]))
    except (ValueError, binascii.Error) as error:
        msg = "not a signed token"
        raise TokenRefused(msg) from error


def signed_claims(token: str, *, keys: KeySource, jwks_url: str) -> Mapping[str, object]:
    """Verify the signature and give the claims, which are not judged here.

    A token without a ``kid`` may be signed with any key of the set. An unknown one is looked up
    once more, for keys are rotated.

    Raises
    ------
    TokenRefused
        If it is not signed by a published key, or brings keys of its own.
    KeysUnavailable
        If the keys cannot be had.
    """
    read = unverified(token)
    algorithm = read.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        msg = "algorithm is not allowed"
        raise TokenRefused(msg)
    if set(read.header) & {"jwk", "x5u", "crit", "b64"}:
        msg = "header brings a key or a rule of its own"
        raise TokenRefused(msg)
    registry = _Registry(algorithms=[algorithm], strict_check_header=False)
    for fresh in (False, True):
        candidates = list(_candidates(keys.keys(jwks_url, fresh=fresh), read.header, algorithm))
        for key in candidates[:_MOST_KEYS_TRIED]:
            if _verifies(token, key, registry):
                return read.claims
        if candidates and "kid" in read.header:
            break
    msg = "signature is wrong, or the key is unknown"
    raise TokenRefused(msg)


def refuse_times(claims: Mapping[str, object], now: datetime) -> None:
    """Check ``exp``, which is required, and ``nbf`` and ``iat`` where they are given.

    Raises
    ------
    TokenRefused
        If the token is not valid now.
    """
    if moment(claims.get("exp")) + LEEWAY <= now:
        msg = "expired"
        raise TokenRefused(msg)
    for name in ("nbf", "iat"):
        if name in claims and moment(claims[name]) - LEEWAY > now:
            msg = f"{name} lies in the future"
            raise TokenRefused(msg)


def audiences(claims: Mapping[str, object]) -> Collection[str]:
    """Give the ``aud`` of a token as a list."""
    named = claims.get("aud")
    given = named if isinstance(named, list) else [named]
    return [each for each in given if isinstance(each, str)]


def moment(value: object) -> datetime:
    """Read a NumericDate.

    Raises
    ------
    TokenRefused
        If it is none.
    """
    if not isinstance(value, bool) and isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (OverflowError, OSError, ValueError):
            pass
    msg = "a time is missing, or is no NumericDate"
    raise TokenRefused(msg)


def _segment(part: str) -> dict[str, object]:
    """Decode a part of a token.

    Raises
    ------
    ValueError
        If it is not base64url of a JSON object.
    """
    content = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    # The signature check reads it once more, from deeper down the stack.
    if content.count(b"[") + content.count(b"{") > _MOST_BRACKETS:
        msg = "nested too deeply"
        raise ValueError(msg)
    return json_object(content)


def _candidates(jwks: bytes, header: Mapping[str, object], algorithm: str) -> Iterator[Key]:
    """Give the keys of a set that may have signed; one that cannot be read harms no other.

    Raises
    ------
    TokenRefused
        If it is no key set.
    """
    try:
        listed = json_object(jwks).get("keys")
    except ValueError as error:
        msg = "the issuer publishes no key set"
        raise TokenRefused(msg) from error
    for value in listed if isinstance(listed, list) else []:
        if isinstance(value, dict) and _fits(value, header, algorithm):
            try:
                yield (ECKey if algorithm.startswith("ES") else RSAKey).import_key(value)
            except (JoseError, ValueError, TypeError, KeyError):
                continue


def _fits(value: Mapping[str, object], header: Mapping[str, object], algorithm: str) -> bool:
    """Say whether a published key is for signing with this algorithm, and strong enough."""
    kind = "EC" if algorithm.startswith("ES") else "RSA"
    modulus = value.get("n", "")
    return (
        value.get("kty") == kind
        and value.get("use", "sig") == "sig"
        and value.get("alg", algorithm) == algorithm
        and ("kid" not in header or value.get("kid") == header["kid"])
        and (kind == "EC" or (isinstance(modulus, str) and len(modulus) in _RSA_DIGITS))
    )


def _verifies(token: str, key: Key, registry: JWSRegistry) -> bool:
    try:
        jwt.decode(token, key, registry=registry)
    except (JoseError, ValueError, TypeError):
        return False
    return True
