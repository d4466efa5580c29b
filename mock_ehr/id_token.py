"""The id token, right or, where a fault is switched on, wrong in one way.

References
----------
OpenID Connect Core 1.0 section 2; SMART App Launch 2.2, fhirUser.
"""

import base64
import hashlib
import json
import secrets
from typing import Any

from joserfc import jwt

from mock_ehr.ledger import Grant
from mock_ehr.office import Office

_LIFE = 600


def id_token(office: Office, grant: Grant, nonce: str | None) -> str:
    """Say who the person is.

    Parameters
    ----------
    office
        The EHR.
    grant
        What was granted, to whom.
    nonce
        As the authorisation request gave it.
    """
    claims = _claims(office, grant, nonce)
    if office.ledger.faulty("id-token-unsigned"):
        return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."
    key = office.keys.id_token
    header = {"alg": "RS256", "kid": key.kid, "typ": "JWT"}
    return jwt.encode(header, claims, key, algorithms=["RS256"])


def _claims(office: Office, grant: Grant, nonce: str | None) -> dict[str, Any]:
    now, faulty = int(office.ledger.clock()), office.ledger.faulty
    user = grant.context.user or ""
    claims: dict[str, Any] = {
        "iss": office.addresses.base,
        "sub": hashlib.sha256(user.encode()).hexdigest()[:32],
        "aud": "another-client" if faulty("id-token-other-audience") else grant.client_id,
        "iat": now,
        "exp": now + _LIFE,
        "nonce": secrets.token_urlsafe(16) if faulty("wrong-nonce") else nonce,
    }
    if "fhirUser" in grant.scopes:
        claims["fhirUser"] = f"{office.addresses.fhir}/{user}"
    return claims


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
