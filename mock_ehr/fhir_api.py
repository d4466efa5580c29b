"""The FHIR R4 API: metadata for everyone, records for a Bearer token."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from mock_ehr.addresses import Addresses
from mock_ehr.fhir_query import RECORD_TYPES, parameters
from mock_ehr.fhir_store import FhirProblem
from mock_ehr.ledger import Grant
from mock_ehr.office import Office
from mock_ehr.records import Resource
from mock_ehr.responses import json_response

_FHIR_JSON = "application/fhir+json"
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"


def fhir_api(office: Office) -> Blueprint:
    """Give the routes of the FHIR API.

    Parameters
    ----------
    office
        The EHR.
    """
    blueprint = Blueprint("fhir_api", __name__, url_prefix="/fhir")

    @blueprint.get("/metadata")
    def metadata() -> Response:
        return json_response(capability_statement(office.addresses), kind=_FHIR_JSON)

    @blueprint.get("/<resource_type>/<resource_id>")
    def read(resource_type: str, resource_id: str) -> Response:
        grant = bearer(office)
        return json_response(office.store.read(resource_type, resource_id, grant), kind=_FHIR_JSON)

    @blueprint.get("/<resource_type>")
    def search(resource_type: str) -> Response:
        grant = bearer(office)
        page = request.args.get("_page")
        if page is not None:
            bundle = office.store.next_page(resource_type, page, grant)
        else:
            given = list(request.args.items(multi=True))
            bundle = office.store.search(resource_type, given, grant)
        return json_response(bundle, kind=_FHIR_JSON)

    @blueprint.errorhandler(FhirProblem)
    def refused(problem: FhirProblem) -> Response:
        if problem.broken:
            office.ledger.note(problem.says)
        return _outcome(problem.status, problem.code, problem.says)

    return blueprint


def not_offered(office: Office, error: HTTPException) -> Response:
    """Answer a request below the FHIR endpoint that no route takes."""
    office.ledger.note(f"FHIR R4: {request.method} {request.path} is not offered here.")
    return _outcome(error.code or 500, "not-supported", str(error.description))


def bearer(office: Office) -> Grant:
    """Give what the token of the request allows.

    Raises
    ------
    FhirProblem
        If there is no token in force.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        says = "RFC 6750: a request to the FHIR API carries a Bearer token in Authorization."
        raise FhirProblem(status=401, code="login", says=says)
    if "access_token" in request.args:
        says = "RFC 6750: an access token never stands in an address."
        raise FhirProblem(status=400, code="security", says=says)
    access = office.ledger.active(token)
    if access is None:
        known = token in office.ledger.access
        says = (
            "The access token has expired or was revoked."
            if known
            else "RFC 6750: the access token was not issued by this server."
        )
        raise FhirProblem(status=401, code="login", says=says, broken=not known)
    if office.ledger.faulty("fhir-500"):
        says = "The fault fhir-500 is switched on."
        raise FhirProblem(status=500, code="exception", says=says, broken=False)
    return access.grant


def capability_statement(addresses: Addresses) -> Resource:
    """Describe the API, with the deprecated SMART extension beside."""
    uris = [
        {"url": "authorize", "valueUri": addresses.authorize},
        {"url": "token", "valueUri": addresses.token},
        {"url": "introspect", "valueUri": addresses.introspect},
    ]
    service = {
        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
        "code": "SMART-on-FHIR",
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "mock EHR"},
        "implementation": {"description": "A strict mock EHR", "url": addresses.fhir},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "extension": [{"url": _OAUTH_URIS, "extension": uris}],
                    "service": [{"coding": [service]}],
                },
                "resource": [_offered(each) for each in RECORD_TYPES],
            }
        ],
    }


def _offered(resource_type: str) -> Resource:
    return {
        "type": resource_type,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [
            {"name": name, "type": kind} for name, kind in parameters(resource_type).items()
        ],
    }


def _outcome(status: int, code: str, says: str) -> Response:
    issue = {"severity": "error", "code": code, "diagnostics": says}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    response = json_response(outcome, status, _FHIR_JSON)
    if status == 401:  # noqa: PLR2004
        response.headers["WWW-Authenticate"] = 'Bearer realm="mock EHR"'
    return response
