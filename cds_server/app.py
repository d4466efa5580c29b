"""The web application, put together from blueprints."""

from collections.abc import Collection, Mapping, Sequence

from flask import Blueprint, Flask, Response

from cds_server.access import Access
from cds_server.web.cds_services import cds_services
from cds_server.web.fhir_api import fhir_api
from cds_server.web.health import Readiness, health
from cds_server.web.problems import PageOf, install
from cds_server.web.requests import MOST_BODY_BYTES

RELEASE_DATE = "2026-11-24"
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(
    *,
    access: Access,
    readiness: Readiness,
    pages: Sequence[Blueprint],
    page_of: PageOf,
    software_version: str,
    cors_origins: Collection[str] = (),
) -> Flask:
    """Build the application.

    Parameters
    ----------
    access
        The gate to stored results.
    readiness
        Checks of ``/readyz``.
    pages
        Blueprints of the pages for people.
    page_of
        Makes the page of an error.
    software_version
        Of radcds.
    cors_origins
        Origins of browser-based EHRs.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MOST_BODY_BYTES, MAX_FORM_MEMORY_SIZE=64 * 1024)
    for blueprint in (
        cds_services(access, cors_origins),
        fhir_api(access, software_version, RELEASE_DATE),
        health(readiness),
        *pages,
    ):
        app.register_blueprint(blueprint)
    install(app, page_of)

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
