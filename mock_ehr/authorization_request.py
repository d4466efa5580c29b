"""The rules of an authorisation request.

References
----------
SMART App Launch 2.2, Obtain authorization code; RFC 6749 section 4.1; RFC 7636.
"""

import re
from dataclasses import dataclass

from werkzeug.datastructures import MultiDict

from mock_ehr.oauth_refusal import OAuthRefusal
from mock_ehr.office import Office
from mock_ehr.scopes import data_scope, well_formed

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_SHORTEST_STATE = 22  # 122 bits in base64url are 21 characters; a UUID4 in hexadecimal is 32


class Unredirectable(Exception):
    """The client or its address is not the registered one: nothing is ever sent there."""

    def __init__(self, *, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that keeps the rules."""

    redirect_uri: str
    state: str
    scopes: tuple[str, ...]
    challenge: str
    nonce: str | None
    launch: str | None


def identified(office: Office, given: MultiDict[str, str]) -> str:
    """Check who asks and give the address that the answer goes to.

    Raises
    ------
    Unredirectable
        If either is not registered.
    """
    if given.getlist("client_id") != [office.registration.client_id]:
        raise Unredirectable(rule="RFC 6749 4.1.1: client_id is the registered one, given once.")
    uris = given.getlist("redirect_uri")
    if len(uris) != 1 or uris[0] not in office.registration.redirect_uris:
        raise Unredirectable(
            rule="RFC 6749 3.1.2.3: redirect_uri is given once and is exactly a registered one."
        )
    return uris[0]


def checked(office: Office, given: MultiDict[str, str]) -> AuthorizationRequest:
    """Check everything else.

    Raises
    ------
    OAuthRefusal
        At the first rule that is broken.
    """
    _check_parameters(office, given)
    scopes = tuple(given.get("scope", "").split())
    _check_scopes(scopes, given)
    return AuthorizationRequest(
        redirect_uri=given["redirect_uri"],
        state=given["state"],
        scopes=scopes,
        challenge=given["code_challenge"],
        nonce=given.get("nonce"),
        launch=given.get("launch"),
    )


def _check_parameters(office: Office, given: MultiDict[str, str]) -> None:
    if any(len(given.getlist(name)) > 1 for name in given):
        raise _invalid(says="RFC 6749 3.1: no parameter is given twice")
    if given.get("response_type") != "code":
        raise OAuthRefusal(
            error="unsupported_response_type",
            rule="SMART App Launch 2.2: response_type of an authorisation request is code.",
        )
    if given.get("aud") != office.addresses.fhir:
        raise _invalid(says="SMART App Launch 2.2: aud is the FHIR endpoint that iss named")
    if len(given.get("state", "")) < _SHORTEST_STATE:
        raise _invalid(says="SMART App Launch 2.2: state has at least 122 bits, 22 characters here")
    if given.get("code_challenge_method") != "S256":
        raise _invalid(says="SMART App Launch 2.2: code_challenge_method is S256")
    if not _CHALLENGE.fullmatch(given.get("code_challenge", "")):
        raise _invalid(says="RFC 7636: an S256 code_challenge is 43 characters of base64url")


def _check_scopes(scopes: tuple[str, ...], given: MultiDict[str, str]) -> None:
    if not scopes:
        raise _scope(says="scope names at least one scope")
    wrong = [scope for scope in scopes if not well_formed(scope)]
    if wrong:
        raise _scope(says=f"'{wrong[0]}' is no scope of version 2")
    if any((data := data_scope(scope)) and data.level == "system" for scope in scopes):
        raise _scope(says="system scopes are for the client credentials grant")
    if ("launch" in given) != ("launch" in scopes):
        raise _scope(says="the scope launch goes with the parameter launch, both or neither")
    if "fhirUser" in scopes and "openid" not in scopes:
        raise _scope(says="fhirUser is asked for together with openid")
    if "openid" in scopes and not given.get("nonce"):
        raise _invalid(says="OpenID Connect: a request with openid carries a nonce")


def _scope(*, says: str) -> OAuthRefusal:
    return OAuthRefusal(error="invalid_scope", rule=f"SMART App Launch 2.2, scopes: {says}.")


def _invalid(*, says: str) -> OAuthRefusal:
    return OAuthRefusal(error="invalid_request", rule=f"{says}.")
