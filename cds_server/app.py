"""The web application, put together from blueprints."""

from collections.abc import Mapping, Sequence

from flask import Blueprint, Flask, Response, g

from cds_server.fhir_access import FhirAccess
from cds_server.gate import Gate
from cds_server.hooks.answers import HookAnswers
from cds_server.hooks.card_access import CardAccess
from cds_server.network import Network
from cds_server.web import doors
from cds_server.web.cds_services import cds_services
from cds_server.web.fhir_api import fhir_api
from cds_server.web.health import Readiness, health
from cds_server.web.problems import PageOf, install
from cds_server.web.requests import MOST_BODY_BYTES

RELEASE_DATE = "2026-11-24"
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would name no origin
    "X-Content-Type-Options": "nosniff",
}
_CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "
)


def create_app(  # noqa: PLR0913 - the parts of the application, by name
    *,
    gate: Gate,
    answers: HookAnswers,
    routes: Sequence[doors.Route],
    keys: doors.Keys,
    network: Network,
    readiness: Readiness,
    programs: Sequence[Blueprint],
    pages: Sequence[Blueprint],
    page_of: PageOf,
    software_version: str,
) -> Flask:
    """Build the application.

    Parameters
    ----------
    gate
        Before everything that is stored.
    answers
        What the CDS services say.
    routes
        The table of all routes; the application has these and no other.
    keys
        What opens the doors before them.
    network
        Centres, EHRs and token issuers.
    readiness
        Checks of ``/readyz``.
    programs
        Blueprints for the PACS, which tells of studies, and for the monitoring.
    pages
        Blueprints of the pages for people.
    page_of
        Makes the page of an error.
    software_version
        Of radcds.

    Raises
    ------
    RuntimeError
        If the table and the routes differ.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MOST_BODY_BYTES, MAX_FORM_MEMORY_SIZE=64 * 1024)
    origins = frozenset(origin for ehr in network.ehrs for origin in ehr.cors_origins)
    for blueprint in (
        cds_services(CardAccess(gate), answers, origins),
        fhir_api(FhirAccess(gate), network, software_version, RELEASE_DATE),
        health(readiness),
        *programs,
        *pages,
    ):
        app.register_blueprint(blueprint)
    install(app, page_of)
    doors.install(app, routes, keys, network=network, gate=gate)

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        ancestors = " ".join(g.get("frame_ancestors") or ()) or "'none'"
        response.headers["Content-Security-Policy"] = _CONTENT + ancestors
        return response

    return app
