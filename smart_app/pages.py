"""The pages that a radiologist sees: the worklist, and one study with its result."""

from http import HTTPStatus
from pathlib import Path

from flask import Blueprint, Response, request
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from werkzeug.exceptions import NotFound

from cds_server.access import Access
from cds_server.web.requests import viewer_of
from smart_app.presentation import study_line, study_page

_STATIC = {
    "icon.svg": "image/svg+xml",
    "radcds.css": "text/css; charset=utf-8",
    "radcds.js": "text/javascript; charset=utf-8",
}
_ARTEFACTS = {
    "bundle.json": "application/fhir+json",
    "card.json": "application/json",
    "oru.hl7": "text/plain; charset=utf-8",
    "original.png": "image/png",
    "overlay.png": "image/png",
    "secondary-capture.dcm": "application/dicom",
}
_templates = Environment(
    loader=PackageLoader("smart_app"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def pages(access: Access) -> Blueprint:
    """Give the routes of the pages.

    Parameters
    ----------
    access
        The gate to stored results.
    """
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/")
    def worklist() -> Response:
        entries = access.worklist(viewer_of(request))
        zone = access.site.timezone
        lines = [study_line(entry, zone) for entry in entries]
        return _html("worklist.html", site=access.site, lines=lines)

    @blueprint.get("/studies/<uuid:result_id>")
    def study(result_id: object) -> Response:
        viewer = viewer_of(request)
        entry = access.result(str(result_id), viewer)
        events = access.audit_events(str(result_id), viewer)
        return _html("study.html", site=access.site, study=study_page(entry, events, access.site))

    @blueprint.get("/studies/<uuid:result_id>/artefacts/<name>")
    def artefact(result_id: object, name: str) -> Response:
        if name not in _ARTEFACTS:
            description = "There is no such artefact."
            raise NotFound(description)
        content = access.artefact(str(result_id), name, viewer_of(request))
        response = Response(content, content_type=_ARTEFACTS[name])
        if name.endswith(".dcm"):
            response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    @blueprint.get("/static/<name>")
    def static(name: str) -> Response:
        if name not in _STATIC:
            description = "There is no such file."
            raise NotFound(description)
        content = (Path(__file__).parent / "static" / name).read_bytes()
        return Response(content, content_type=_STATIC[name])

    return blueprint


def error_page(status: int, title: str, says: str) -> str:
    """Make the page of an error, in words for people."""
    phrase = title or HTTPStatus(status).phrase
    return _templates.get_template("error.html").render(status=status, title=phrase, says=says)


def _html(template: str, **values: object) -> Response:
    rendered = _templates.get_template(template).render(**values)
    return Response(rendered, content_type="text/html; charset=utf-8")
