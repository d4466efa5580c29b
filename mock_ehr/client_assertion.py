"""Who calls the token endpoint: a signed assertion, good once and for five minutes at most.

References
----------
SMART App Launch 2.2, Client Authentication: Asymmetric; RFC 7523 section 3; RFC 8725.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact

from mock_ehr.oauth_refusal import OAuthRefusal
from mock_ehr.office import Office
from mock_ehr.smart_configuration import ASSERTION_ALGORITHMS

_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_LIFE = 300
_PRIVATE_PARTS = {"d", "p", "q", "dp", "dq", "qi", "k"}


def authenticate(office: Office, form: Mapping[str, str]) -> None:
    """Check the client assertion of a request.

    Raises
    ------
    OAuthRefusal
        If it is missing or breaks a rule.
    """
    _check_body(form)
    assertion = form.get("client_assertion", "")
    header, claims = _read(assertion)
    _check_header(header, office)
    _verify(assertion, str(header["kid"]), office)
    _check_claims(claims, office)


def _check_body(form: Mapping[str, str]) -> None:
    if "client_id" in form:
        raise OAuthRefusal(
            error="invalid_request",
            rule="SMART App Launch 2.2: a confidential client leaves client_id out of the body.",
        )
    if "client_secret" in form:
        raise _refused(says="a client with asymmetric keys sends no client_secret")
    if form.get("client_assertion_type") != _TYPE:
        raise _refused(says=f"client_assertion_type is {_TYPE}")


def _read(assertion: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        unverified = extract_compact(assertion.encode())
        return unverified.headers(), dict(json.loads(unverified.payload))
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise _refused(says="client_assertion is a signed JSON Web Token") from error


def _check_header(header: Mapping[str, Any], office: Office) -> None:
    if header.get("alg") not in ASSERTION_ALGORITHMS:
        raise _refused(says="alg of an assertion is ES384 or RS384")
    if not isinstance(header.get("kid"), str):
        raise _refused(says="the header of an assertion names its kid")
    if header.get("typ") != "JWT":
        raise _refused(says="typ of an assertion is JWT")
    jwks_url = office.registration.jwks_url
    if header.get("jku", jwks_url) != jwks_url:
        raise _refused(says="jku of an assertion is the registered address of the keys")
    if {"jwk", "x5u", "x5c"} & set(header):
        raise _refused(says="an assertion brings no keys of its own")


def _verify(assertion: str, key_id: str, office: Office) -> None:
    published = _published_keys(office)
    if any(_PRIVATE_PARTS & set(key) for key in published):
        raise _refused(says="a published key set holds public keys only")
    if not all(isinstance(key.get("kid"), str) for key in published):
        raise _refused(says="every published key has a kid")
    known = [key for key in published if key["kid"] == key_id]
    if len(known) != 1:
        raise _refused(says="kid of an assertion names exactly one published key")
    try:
        keys = KeySet.import_key_set({"keys": known})
        jwt.decode(assertion, keys, algorithms=list(ASSERTION_ALGORITHMS))
    except (JoseError, ValueError) as error:
        raise _refused(says="an assertion is signed with the key that its kid names") from error


def _published_keys(office: Office) -> list[dict[str, Any]]:
    try:
        answer = office.http.get(office.registration.jwks_url, follow_redirects=False)
        answer.raise_for_status()
        keys = answer.json()["keys"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise _refused(says="the registered key set can be fetched as JSON") from error
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise _refused(says="a key set holds a list of keys")
    return keys


def _check_claims(claims: Mapping[str, Any], office: Office) -> None:
    client_id = office.registration.client_id
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise _refused(says="iss and sub of an assertion are both the client_id")
    if claims.get("aud") not in (office.addresses.token, [office.addresses.token]):
        raise _refused(says="aud of an assertion is the address of the token endpoint")
    now, expires = office.ledger.clock(), claims.get("exp")
    if not isinstance(expires, int | float) or isinstance(expires, bool) or expires <= now:
        raise _refused(says="an assertion has an exp, and it has not passed")
    if expires - math.ceil(now) > _LONGEST_LIFE:
        raise _refused(says="exp of an assertion is at most five minutes ahead")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        raise _refused(says="an assertion has a jti")
    if not office.ledger.first_use(jti):
        raise _refused(says="jti of an assertion is used once")


def _refused(*, says: str) -> OAuthRefusal:
    rule = f"SMART App Launch 2.2, asymmetric client authentication: {says}."
    return OAuthRefusal(error="invalid_client", rule=rule, status=401)
