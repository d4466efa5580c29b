"""The whole web application: the server's interfaces and the pages for people."""

from datetime import timedelta
from importlib.metadata import version

from flask import Flask

from cds_server.app import create_app
from cds_server.bootstrap import Services
from cds_server.web.metrics import metrics
from cds_server.web.pacs_events import pacs_events
from smart_app.launching import Launching
from smart_app.operations import operations
from smart_app.pages import StudyPages, pages
from smart_app.rendering import error_page
from smart_app.routes import ROUTES
from smart_app.sign_in import WaysIn, sign_in


def web_application(services: Services) -> Flask:
    """Put the application together."""
    settings = services.settings
    launching = Launching(
        network=services.network,
        smart=services.smart,
        http=services.http,
        sessions=services.keys.sessions,
        store=services.session_store,
        access=services.access,
        clock=services.clock,
    )
    shown = StudyPages(
        services.access,
        images=services.images,
        network=services.network,
        clock=services.clock,
        images_open_for=timedelta(minutes=settings.session_idle_min),
        open_for=timedelta(days=settings.worklist_days),
        compresses=settings.compress_images,
        ohif_url=settings.ohif_url,
    )
    ways_in = WaysIn(
        launching=launching,
        sessions=services.keys.sessions,
        access=services.access,
        network=services.network,
        local=services.keys.local,
        keys=services.signing_keys,
        session_longest_s=int(settings.session_longest_h * 3600),
    )
    return create_app(
        gate=services.access.gate,
        answers=services.answers,
        routes=ROUTES,
        keys=services.keys,
        network=services.network,
        readiness=services.readiness,
        programs=[
            pacs_events(services.arrivals, watched=settings.watched, clock=services.clock),
            metrics(
                services.arrivals,
                services.outbox,
                services.inbox,
                services.operations,
                services.clock,
            ),
        ],
        pages=[
            sign_in(ways_in),
            pages(shown),
            operations(services.operations_access, shown.around),
        ],
        page_of=error_page,
        software_version=version("radcds"),
    )
