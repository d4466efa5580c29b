"""JSON answers, and the headers of pages."""

from collections.abc import Iterable

import orjson
from flask import Response


def json_response(value: object, status: int = 200, kind: str = "application/json") -> Response:
    """Give a JSON answer."""
    return Response(orjson.dumps(value), status=status, content_type=kind)


def unstored(response: Response) -> Response:
    """Forbid keeping an answer that holds a secret."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return response


def page_response(html: str, origins: Iterable[str], status: int = 200) -> Response:
    """Give a page that loads nothing but its own style and frames nothing but the app.

    Parameters
    ----------
    html
        The page.
    origins
        Origins of the app.
    status
        HTTP status.
    """
    app = " ".join(origins)
    response = Response(html, status=status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        f"frame-ancestors 'self'; frame-src 'self' {app}; form-action 'self' {app}"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
