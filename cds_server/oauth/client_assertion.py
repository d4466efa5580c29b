"""How this server proves who it is to an authorisation server: ``private_key_jwt``.

References
----------
RFC 7523 sections 2.2 and 3; SMART App Launch 2.2, client authentication: asymmetric.
"""

import uuid

from joserfc import jwt

from cds_server.oauth.signing_keys import SigningKeys
from cds_server.ports import Clock

_LIFE_S = 240  # SMART allows five minutes; one is left for clocks that differ
_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def client_assertion(
    keys: SigningKeys,
    *,
    algorithm: str,
    client_id: str,
    token_url: str,
    jwks_url: str,
    clock: Clock,
) -> str:
    """Sign an assertion for one request. Every one has a ``jti`` of its own.

    Parameters
    ----------
    keys
        This server's keys.
    algorithm
        ``ES384`` or ``RS384``.
    client_id
        As registered with the authorisation server.
    token_url
        Its token endpoint: the audience.
    jwks_url
        Where this server publishes its keys, as registered.
    clock
        What time it is.

    Raises
    ------
    InvalidSettings
        If there is no usable key.
    """
    key = keys.private(algorithm)
    issued = int(clock.now().timestamp())
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_url,
        "iat": issued,
        "exp": issued + _LIFE_S,
        "jti": str(uuid.uuid4()),
    }
    header = {"alg": algorithm, "kid": key.kid, "typ": "JWT", "jku": jwks_url}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def assertion_form(assertion: str) -> dict[str, str]:
    """Give the form fields that carry an assertion; a ``client_id`` beside them is not sent."""
    return {"client_assertion_type": _TYPE, "client_assertion": assertion}
