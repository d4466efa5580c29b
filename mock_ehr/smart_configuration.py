"""What the authorisation server publishes about itself.

References
----------
SMART App Launch 2.2, Conformance; OpenID Connect Discovery 1.0; RFC 8414; RFC 9207.
"""

from flask import Blueprint, Response

from mock_ehr.addresses import Addresses
from mock_ehr.office import Office
from mock_ehr.responses import json_response
from mock_ehr.signing_keys import key_set

ASSERTION_ALGORITHMS = ("ES384", "RS384")
_CAPABILITIES = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "permission-online",
    "permission-offline",
    "permission-patient",
    "permission-user",
    "permission-v2",
)


def smart_configuration(office: Office) -> Blueprint:
    """Give the routes of discovery and of the EHR's public keys.

    Parameters
    ----------
    office
        The EHR.
    """
    blueprint = Blueprint("smart_configuration", __name__)

    @blueprint.get("/fhir/.well-known/smart-configuration")
    def smart() -> Response:
        return json_response({**_server(office.addresses), "capabilities": _CAPABILITIES})

    @blueprint.get("/.well-known/openid-configuration")
    def openid() -> Response:
        return json_response(
            {
                **_server(office.addresses),
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nonce", "fhirUser"],
            }
        )

    @blueprint.get("/jwks.json")
    def id_token_keys() -> Response:
        return _published(key_set(office.keys.id_token))

    @blueprint.get("/cds-jwks.json")
    def cds_keys() -> Response:
        return _published(key_set(office.keys.cds))

    return blueprint


def _server(addresses: Addresses) -> dict[str, object]:
    return {
        "issuer": addresses.base,
        "authorization_endpoint": addresses.authorize,
        "token_endpoint": addresses.token,
        "introspection_endpoint": addresses.introspect,
        "jwks_uri": addresses.jwks,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": [
            "openid",
            "fhirUser",
            "launch",
            "launch/patient",
            "launch/encounter",
            "launch/imagingstudy",
            "online_access",
            "offline_access",
            "patient/*.rs",
            "user/*.rs",
            "system/*.rs",
        ],
    }


def _published(keys: dict[str, object]) -> Response:
    response = json_response(keys)
    response.headers["Cache-Control"] = "max-age=300"
    return response
