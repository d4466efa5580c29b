"""The token endpoint and the introspection endpoint.

References
----------
SMART App Launch 2.2, Obtain access token; RFC 6749 sections 4.1.3, 4.4 and 6; RFC 7636; RFC 7662.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, Request, Response, request

from mock_ehr.client_assertion import authenticate
from mock_ehr.id_token import id_token
from mock_ehr.ledger import ACCESS_LIFE, Code, Grant, LaunchContext
from mock_ehr.oauth_refusal import OAuthRefusal
from mock_ehr.office import Office
from mock_ehr.responses import json_response, unstored
from mock_ehr.scopes import data_scope, granted, well_formed

SLOW_SECONDS = 2.0
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_LASTING = ("online_access", "offline_access")

Answer = dict[str, Any]


def token_endpoint(office: Office) -> Blueprint:
    """Give the routes of the token and introspection endpoints.

    Parameters
    ----------
    office
        The EHR.
    """
    blueprint = Blueprint("token_endpoint", __name__)

    @blueprint.post("/token")
    def token() -> Response:
        if office.ledger.faulty("slow-token"):
            time.sleep(SLOW_SECONDS)
        if office.ledger.faulty("token-500"):
            return json_response({"error": "server_error"}, 500)
        form = _form(request)
        authenticate(office, form)
        grant_type = form.get("grant_type", "")
        if grant_type not in _GRANTS:
            raise OAuthRefusal(
                error="unsupported_grant_type",
                rule=f"RFC 6749: grant_type is one of {', '.join(_GRANTS)}.",
            )
        return unstored(json_response(_GRANTS[grant_type](office, form)))

    @blueprint.post("/introspect")
    def introspect() -> Response:
        form = _form(request)
        authenticate(office, form)
        return unstored(json_response(_introspected(office, form.get("token", ""))))

    @blueprint.errorhandler(OAuthRefusal)
    def refused(refusal: OAuthRefusal) -> Response:
        if refusal.broken:
            office.ledger.note(refusal.rule)
        answer = {"error": refusal.error, "error_description": refusal.rule}
        return unstored(json_response(answer, refusal.status))

    return blueprint


def _form(called: Request) -> Mapping[str, str]:
    if called.mimetype != "application/x-www-form-urlencoded" or called.args:
        raise _invalid(says="RFC 6749 4.1.3: parameters of a token request stand in a form body")
    if "Authorization" in called.headers:
        raise _invalid(says="RFC 6749 2.3: a client authenticates in one way; this is not Basic")
    if any(len(called.form.getlist(name)) > 1 for name in called.form):
        raise _invalid(says="RFC 6749 3.2: no parameter is given twice")
    return called.form


def _for_code(office: Office, form: Mapping[str, str]) -> Answer:
    code = office.ledger.take_code(form.get("code", ""))
    if code is None:
        raise _no_grant(says="RFC 6749 4.1.2: a code was issued here and is used once")
    if code.expires <= office.ledger.clock():
        raise _no_grant(says="RFC 6749 4.1.2: a code is used within 60 seconds")
    if form.get("redirect_uri") != code.redirect_uri:
        raise _no_grant(says="RFC 6749 4.1.3: redirect_uri is the one of the authorisation request")
    if not _proved(code, form.get("code_verifier", "")):
        raise _no_grant(
            says="RFC 7636: code_verifier is the one that the code_challenge was made of"
        )
    grant = code.grant
    return _tokens(office, grant) | _told(grant) | _identity(office, code)


def _proved(code: Code, verifier: str) -> bool:
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return bool(_VERIFIER.fullmatch(verifier)) and secrets.compare_digest(challenge, code.challenge)


def _identity(office: Office, code: Code) -> Answer:
    if "openid" not in code.grant.scopes or office.ledger.faulty("no-id-token"):
        return {}
    return {"id_token": id_token(office, code.grant, code.nonce)}


def _told(grant: Grant) -> Answer:
    """Give the launch context, as far as its scopes were granted."""
    if not {"launch", "launch/patient", "launch/encounter"} & set(grant.scopes):
        return {}
    context = grant.context
    told: Answer = {
        "patient": context.patient,
        "encounter": context.encounter,
        "fhirContext": [dict(each) for each in context.fhir_context],
        "appContext": context.app_context,
    }
    told = {name: value for name, value in told.items() if value}
    return told | {"need_patient_banner": context.need_patient_banner}


def _tokens(office: Office, grant: Grant) -> Answer:
    answer: Answer = {
        "access_token": office.ledger.new_access(grant),
        "token_type": "Bearer",
        "expires_in": ACCESS_LIFE,
        "scope": " ".join(grant.scopes),
    }
    if any(scope in grant.scopes for scope in _LASTING):
        answer["refresh_token"] = office.ledger.new_refresh(grant)
    return answer


def _for_refresh(office: Office, form: Mapping[str, str]) -> Answer:
    if office.ledger.faulty("refresh-fails"):
        raise OAuthRefusal(
            error="invalid_grant", rule="The fault refresh-fails is on.", broken=False
        )
    grant = office.ledger.take_refresh(form.get("refresh_token", ""))
    if grant is None:
        raise _no_grant(says="RFC 9700 4.14.2: a refresh token was issued here and is used once")
    asked = tuple(form.get("scope", "").split())
    if not set(asked) <= set(grant.scopes):
        raise _scope(says="RFC 6749 6: a refresh asks for no scope beyond what was granted")
    grant = replace(grant, scopes=asked or grant.scopes)
    return _tokens(office, grant) | _told(grant)


def _for_itself(office: Office, form: Mapping[str, str]) -> Answer:
    asked = form.get("scope", "").split()
    wrong = [
        scope
        for scope in asked
        if not (well_formed(scope) and (data := data_scope(scope)) and data.level == "system")
    ]
    if wrong or not asked:
        raise _scope(
            says="SMART Backend Services: a client asks for system scopes of version 2 only"
        )
    scopes = granted(asked, office.registration.scopes)
    if not scopes:
        raise _scope(says="SMART Backend Services: at least one asked scope is registered")
    if office.ledger.faulty("fewer-scopes"):
        scopes = scopes[:1]
    client_id = office.registration.client_id
    return _tokens(office, Grant(client_id, scopes, LaunchContext(), secrets.token_hex(8)))


def _introspected(office: Office, token: str) -> Answer:
    access = office.ledger.active(token)
    if access is None:
        return {"active": False}
    context = access.grant.context
    user = f"{office.addresses.fhir}/{context.user}" if context.user else None
    answer: Answer = {
        "active": True,
        "scope": " ".join(access.grant.scopes),
        "client_id": access.grant.client_id,
        "token_type": "Bearer",
        "iat": int(access.issued),
        "exp": int(access.expires),
        "iss": office.addresses.base,
        "aud": office.addresses.fhir,
        "sub": context.user or access.grant.client_id,
        "fhirUser": user,
        "patient": context.patient,
        "encounter": context.encounter,
    }
    return {name: value for name, value in answer.items() if value}


_GRANTS: dict[str, Callable[[Office, Mapping[str, str]], Answer]] = {
    "authorization_code": _for_code,
    "refresh_token": _for_refresh,
    "client_credentials": _for_itself,
}


def _invalid(*, says: str) -> OAuthRefusal:
    return OAuthRefusal(error="invalid_request", rule=f"{says}.")


def _no_grant(*, says: str) -> OAuthRefusal:
    return OAuthRefusal(error="invalid_grant", rule=f"{says}.")


def _scope(*, says: str) -> OAuthRefusal:
    return OAuthRefusal(error="invalid_scope", rule=f"{says}.")
