"""What every route needs of a request: who asks, and a body that is whole."""

from typing import Any

import orjson
from flask import Request
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge

from cds_server.access import Viewer
from cds_server.web.problems import BadRequest

MOST_BODY_BYTES = 1024 * 1024


def viewer_of(request: Request, user: str = "local") -> Viewer:
    """Say who asks. Nobody signs in yet: the server listens on loopback only."""
    return Viewer(user=user, address=request.remote_addr or "unknown")


def json_object(request: Request) -> dict[str, Any]:
    """Read a JSON object from the body.

    A body without Content-Length is refused: the framework would cut it at the limit and say
    nothing.

    Raises
    ------
    LengthRequired
        If the length is not given.
    RequestEntityTooLarge
        If it is above the limit.
    BadRequest
        If the body is shorter than it says, or is no JSON object.
    """
    length = request.content_length
    if length is None:
        description = "Send Content-Length; a chunked body is not accepted."
        raise LengthRequired(description)
    if length > MOST_BODY_BYTES:
        description = f"The body is above {MOST_BODY_BYTES} bytes."
        raise RequestEntityTooLarge(description)
    body = request.get_data()
    if len(body) != length:
        msg = "The body is shorter than its Content-Length."
        raise BadRequest(msg)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        msg = "The body is not JSON."
        raise BadRequest(msg) from error
    if not isinstance(value, dict):
        msg = "The body is not a JSON object."
        raise BadRequest(msg)
    return value
