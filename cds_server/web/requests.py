"""What every route needs of a request: a body that is whole."""

from typing import Any

import orjson
from flask import Request
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge

from cds_server.web.problems import BadRequest

MOST_BODY_BYTES = 8 * 1024 * 1024
_PIECE = 64 * 1024


def json_object(request: Request) -> dict[str, Any]:
    """Read a JSON object from the body.

    A chunked body is read here: the framework would cut it at the limit and say nothing.

    Raises
    ------
    LengthRequired
        If neither a length is given, nor that the body comes in chunks.
    RequestEntityTooLarge
        If it is above the limit.
    BadRequest
        If the body is shorter than it says, or is no JSON object.
    """
    body = whole_body(request)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        msg = "The body is not JSON."
        raise BadRequest(msg) from error
    if not isinstance(value, dict):
        msg = "The body is not a JSON object."
        raise BadRequest(msg)
    return value


def whole_body(request: Request) -> bytes:
    """Read the body, all of it or an error.

    Raises
    ------
    LengthRequired
        If neither a length is given, nor that the body comes in chunks.
    RequestEntityTooLarge
        If it is above the limit.
    BadRequest
        If it is shorter than it says.
    """
    length = request.content_length
    too_large = f"The body is above {MOST_BODY_BYTES} bytes."
    if length is None:
        if "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
            description = "Send Content-Length."
            raise LengthRequired(description)
        body = bytearray()
        while piece := request.environ["wsgi.input"].read(_PIECE):
            body += piece
            if len(body) > MOST_BODY_BYTES:
                raise RequestEntityTooLarge(too_large)
        return bytes(body)
    if length > MOST_BODY_BYTES:
        raise RequestEntityTooLarge(too_large)
    whole = request.get_data()
    if len(whole) != length:
        msg = "The body is shorter than its Content-Length."
        raise BadRequest(msg)
    return whole
