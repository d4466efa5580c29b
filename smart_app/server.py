"""The whole web application: the server's interfaces and the pages for people."""

from importlib.metadata import version

from flask import Flask

from cds_server.app import create_app
from cds_server.bootstrap import Services
from smart_app.pages import error_page, pages


def web_application(services: Services) -> Flask:
    """Put the application together."""
    return create_app(
        access=services.access,
        readiness=services.readiness,
        pages=[pages(services.access)],
        page_of=error_page,
        software_version=version("radcds"),
        cors_origins=services.settings.cors_origins,
    )
