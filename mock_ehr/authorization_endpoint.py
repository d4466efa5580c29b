"""The authorisation endpoint: silent in an EHR launch, a page of choices in a standalone one."""

import secrets
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request
from werkzeug.datastructures import MultiDict

from mock_ehr.authorization_request import (
    AuthorizationRequest,
    Unredirectable,
    checked,
    identified,
)
from mock_ehr.ledger import CODE_LIFE, Code, Grant, LaunchContext
from mock_ehr.oauth_refusal import OAuthRefusal
from mock_ehr.office import Office
from mock_ehr.people import birth_date, display_name
from mock_ehr.responses import page_response, unstored
from mock_ehr.scopes import data_scope, granted

_CHOICES = ("chosen_user", "chosen_patient", "decision")


def authorization_endpoint(office: Office) -> Blueprint:
    """Give the route of the authorisation endpoint.

    Parameters
    ----------
    office
        The EHR.
    """
    blueprint = Blueprint("authorization_endpoint", __name__)

    @blueprint.route("/authorize", methods=["GET", "POST"])
    def authorize() -> Response:
        given = request.form if request.method == "POST" else request.args
        redirect_uri = identified(office, given)
        try:
            return _decided(office, checked(office, given), given)
        except OAuthRefusal as refusal:
            if refusal.broken:
                office.ledger.note(refusal.rule)
            answer = {"error": refusal.error, "error_description": refusal.rule}
            return _sent_back(office, redirect_uri, answer, given.get("state"))

    @blueprint.errorhandler(Unredirectable)
    def unredirectable(error: Unredirectable) -> Response:
        office.ledger.note(error.rule)
        html = render_template("refused.html", rule=error.rule)
        return page_response(html, (), 400)

    return blueprint


def _decided(office: Office, asked: AuthorizationRequest, given: MultiDict[str, str]) -> Response:
    """Consent, or ask a person who has not been asked.

    Raises
    ------
    OAuthRefusal
        If the launch is unknown, or the person does not allow it.
    """
    if asked.launch is not None:
        context = office.ledger.launch(asked.launch)
        if context is None:
            raise OAuthRefusal(
                error="invalid_request",
                rule="SMART App Launch 2.2: launch is the value that the EHR gave, still open.",
            )
    elif "decision" in given:
        context = _chosen(office, asked, given)
    else:
        return _choices(office, asked, given)
    return _consented(office, asked, context)


def _consented(office: Office, asked: AuthorizationRequest, context: LaunchContext) -> Response:
    scopes = granted(asked.scopes, office.registration.scopes)
    if office.ledger.faulty("fewer-scopes"):
        lasting = {"online_access", "offline_access"}
        scopes = tuple(each for each in scopes if not data_scope(each) and each not in lasting)
    family = secrets.token_hex(8)
    grant = Grant(office.registration.client_id, scopes, context, family)
    expires = office.ledger.clock() + CODE_LIFE
    code = Code(grant, asked.redirect_uri, asked.challenge, asked.nonce, expires)
    answer = {"code": office.ledger.new_code(code)}
    return _sent_back(office, asked.redirect_uri, answer, asked.state)


def _sent_back(
    office: Office, redirect_uri: str, answer: dict[str, str], state: str | None
) -> Response:
    """Send the browser back with state and, as RFC 9207 says, with the issuer."""
    if office.ledger.faulty("wrong-state"):
        state = secrets.token_urlsafe(32)
    wrong_issuer = office.ledger.faulty("wrong-iss-parameter")
    answer["iss"] = "https://another-server.invalid" if wrong_issuer else office.addresses.base
    if state is not None:
        answer["state"] = state
    mark = "&" if "?" in redirect_uri else "?"
    location = f"{redirect_uri}{mark}{urlencode(answer)}"
    return unstored(Response(status=303, headers={"Location": location}))


def _choices(office: Office, asked: AuthorizationRequest, given: MultiDict[str, str]) -> Response:
    record = office.store.record
    html = render_template(
        "choices.html",
        client_id=office.registration.client_id,
        scopes=asked.scopes,
        hidden=[(name, value) for name, value in given.items() if name not in _CHOICES],
        users=[
            (f"Practitioner/{each['id']}", display_name(each))
            for each in record.of_type("Practitioner")
        ],
        patients=[
            (each["id"], f"{display_name(each)}, born {birth_date(each)}")
            for each in record.of_type("Patient")
        ]
        if "launch/patient" in asked.scopes
        else [],
    )
    return page_response(html, office.registration.origins())


def _chosen(
    office: Office, asked: AuthorizationRequest, given: MultiDict[str, str]
) -> LaunchContext:
    if given["decision"] != "allow":
        raise OAuthRefusal(error="access_denied", rule="The person did not allow it.", broken=False)
    user, record = given.get("chosen_user", ""), office.store.record
    wants_patient = "launch/patient" in asked.scopes
    patient = given.get("chosen_patient") if wants_patient else None
    known = record.find("Practitioner", user.removeprefix("Practitioner/"))
    if known is None or (wants_patient and record.find("Patient", patient or "") is None):
        raise OAuthRefusal(
            error="access_denied", rule="The person chose nobody who is known.", broken=False
        )
    return LaunchContext(user=user, patient=patient)
