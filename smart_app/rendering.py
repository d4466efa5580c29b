"""Templates into pages."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from flask import Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

_STATIC = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOLDER = Path(__file__).parent / "static"
_templates = Environment(
    loader=PackageLoader("smart_app"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, values: Mapping[str, object], status: int = HTTPStatus.OK) -> Response:
    """Render a template as an answer."""
    rendered = text(template, **values)
    return Response(rendered, status, content_type="text/html; charset=utf-8")


def text(template: str, **values: object) -> str:
    """Render a template."""
    return _templates.get_template(template).render(**values)


def error_page(status: int, title: str, says: str) -> str:
    """Make the page of an error, in words for people."""
    phrase = title or HTTPStatus(status).phrase
    shell = status == HTTPStatus.UNAUTHORIZED
    return text("error.html", status=status, title=phrase, says=says, shell=shell)


def static_file(name: str) -> Response | None:
    """Give a file of the static folder, or ``None``: only files that ship have a name here."""
    files = {each.name: each for each in _FOLDER.iterdir() if each.suffix in _STATIC}
    if name not in files:
        return None
    kind = f"{_STATIC[files[name].suffix]}; charset=utf-8"
    return Response(files[name].read_bytes(), content_type=kind)
