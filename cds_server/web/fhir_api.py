"""FHIR R4: read and search of the resources that radcds authors."""

from collections.abc import Mapping

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from cds_server.fhir_access import FhirAccess
from cds_server.network import Network
from cds_server.web.doors import viewer
from cds_server.web.fhir_search import MOST_IN_A_PAGE, asked
from cds_server.web.problems import FHIR_JSON
from fhir_mappers import codes
from fhir_mappers.fhir_json import emitted

TYPES = (
    "Binary",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "ImagingStudy",
    "Media",
    "Observation",
    "Provenance",
)
_PARAMETERS: Mapping[str, str] = {
    "_id": "token",
    "identifier": "token",
    "patient": "reference",
    "status": "token",
}


def fhir_api(
    access: FhirAccess, network: Network, software_version: str, release_date: str
) -> Blueprint:
    """Give the FHIR routes.

    Parameters
    ----------
    access
        The gate to stored results.
    network
        Says which authorisation servers give tokens.
    software_version, release_date
        Of radcds, for the capability statement.
    """
    blueprint = Blueprint("fhir", __name__, url_prefix="/fhir")

    @blueprint.get("/metadata")
    def metadata() -> Response:
        return _fhir(
            emitted(capability_statement(access.site.base_url, software_version, release_date))
        )

    @blueprint.get("/.well-known/smart-configuration")
    def smart_configuration() -> Response:
        found = own_smart_configuration(network, access.site.base_url)
        if not found:
            description = "No authorisation server is set up; see the token_issuer of the network."
            raise NotFound(description)
        return Response(orjson.dumps(found), content_type="application/json")

    @blueprint.get("/<resource_type>/<resource_id>")
    def read(resource_type: str, resource_id: str) -> Response:
        _check_type(resource_type)
        return _fhir(access.read(resource_type, resource_id, viewer()))

    @blueprint.get("/<resource_type>")
    def search(resource_type: str) -> Response:
        return _searched(resource_type)

    @blueprint.post("/<resource_type>/_search")
    def search_by_post(resource_type: str) -> Response:
        return _searched(resource_type)

    def _searched(resource_type: str) -> Response:
        _check_type(resource_type)
        search = asked(request, resource_type)
        found = access.search(search.query, viewer())
        address = f"{access.site.base_url}/fhir/{resource_type}"
        entries = [
            {
                "fullUrl": f"{address}/{orjson.loads(each)['id']}",
                "resource": orjson.Fragment(each),
                "search": {"mode": "match"},
            }
            for each in found.resources
        ]
        bundle = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": found.total,
            "link": search.links(found, address),
        }
        return _fhir(orjson.dumps(bundle | ({"entry": entries} if entries else {})))

    return blueprint


def _check_type(resource_type: str) -> None:
    """Refuse a type that radcds does not author.

    Raises
    ------
    NotFound
        Naming the types that there are.
    """
    if resource_type not in TYPES:
        description = f"radcds authors no such resource type; these are: {', '.join(TYPES)}."
        raise NotFound(description)


def own_smart_configuration(network: Network, base_url: str) -> dict[str, object]:
    """Say where programs get their tokens for this endpoint; empty where nowhere.

    Parameters
    ----------
    network
        Its first issuer that has a token endpoint is named.
    base_url
        Of this server, without a trailing slash.

    References
    ----------
    SMART App Launch 2.2, ``.well-known/smart-configuration``.
    """
    for issuer in network.token_issuers:
        if issuer.token_endpoint:
            return {
                "issuer": issuer.issuer,
                **({"jwks_uri": issuer.jwks_url} if issuer.jwks_url else {}),
                "token_endpoint": issuer.token_endpoint,
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": [f"system/{each}.rs" for each in TYPES],
                "capabilities": [
                    "client-confidential-asymmetric",
                    "permission-user",
                    "permission-v2",
                ],
                "associated_endpoints": [
                    {"url": f"{base_url}/fhir", "capabilities": ["permission-v2"]}
                ],
            }
    return {}


def capability_statement(
    base_url: str, software_version: str, release_date: str
) -> dict[str, object]:
    """Say what the FHIR endpoint can do, as a resource.

    Parameters
    ----------
    base_url
        Of this server, without a trailing slash.
    software_version, release_date
        Of radcds.

    References
    ----------
    FHIR R4 CapabilityStatement.
    """
    parameters = [{"name": name, "type": kind} for name, kind in _PARAMETERS.items()]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": release_date,
        "kind": "instance",
        "software": {"name": "radcds", "version": software_version},
        "implementation": {"description": "radcds", "url": f"{base_url}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "documentation": "A value may list alternatives after commas. Searches come in "
                f"pages of _count resources, 1 to {MOST_IN_A_PAGE}; follow the next link of the "
                "Bundle. _summary=count gives their number alone. Any other parameter is refused.",
                "security": {
                    "description": "A bearer token of a trusted authorisation server, with SMART "
                    "v2 scopes. See .well-known/smart-configuration.",
                    "service": [
                        {
                            "coding": [
                                {
                                    "system": f"{codes.HL7_BASE}/restful-security-service",
                                    "code": "SMART-on-FHIR",
                                }
                            ]
                        }
                    ],
                },
                "resource": [
                    {
                        "type": resource_type,
                        "interaction": [{"code": "read"}, {"code": "search-type"}],
                        "searchParam": parameters,
                    }
                    for resource_type in TYPES
                ],
            }
        ],
    }


def _fhir(content: bytes) -> Response:
    return Response(content, content_type=FHIR_JSON)
