"""Errors as answers: the only place that turns an exception into a status.

Programs get an OperationOutcome, people a page in plain words. Nobody gets a traceback, and no
answer holds patient data.
"""

from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from cds_server.errors import (
    ArchiveUnreachable,
    AuditUnavailable,
    Forbidden,
    PeerUnavailable,
    ResultNotFound,
    UnknownSearchParameter,
)
from cds_server.hooks.data import MissingData
from cds_server.oauth.smart_errors import LaunchRefused
from fhir_mappers.errors import MapperError
from fhir_mappers.hook_call import InvalidHookCall
from fhir_mappers.operation_outcome import IssueCode, operation_outcome

FHIR_JSON = "application/fhir+json"
_FOR_PROGRAMS = ("/fhir", "/cds-services", "/pacs", "/metrics", "/livez", "/readyz")
_ISSUE: dict[int, IssueCode] = {
    400: "invalid",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    411: "invalid",
    412: "required",
    413: "too-long",
    415: "not-supported",
    503: "transient",
}

PageOf = Callable[[int, str, str], str]
"""Makes the page for people of status, title and explanation."""


class BadRequest(Exception):
    """The request cannot be understood; the message says what to change."""


class SignedOut(Exception):
    """Nobody is signed in; the message says so, for a person."""


class Unauthorised(Exception):
    """The caller is not trusted. It is told nothing more: the reason is in the log."""


def install(app: Flask, page_of: PageOf) -> None:
    """Make the application answer every error in words.

    Parameters
    ----------
    app
        The application.
    page_of
        Makes the page for people.
    """

    def answer(status: int, says: str) -> Response:
        if request.path.startswith(_FOR_PROGRAMS):
            body = operation_outcome(_ISSUE.get(status, "exception"), says)
            return Response(body, status, content_type=FHIR_JSON)
        page = page_of(status, HTTPStatus(status).phrase, says)
        return Response(page, status, content_type="text/html; charset=utf-8")

    app.register_error_handler(
        Unauthorised, lambda _: Response(status=401, headers={"WWW-Authenticate": "Bearer"})
    )
    app.register_error_handler(InvalidHookCall, lambda error: answer(400, str(error)))
    app.register_error_handler(MissingData, lambda error: answer(412, str(error)))
    app.register_error_handler(Forbidden, lambda error: answer(403, str(error)))
    app.register_error_handler(LaunchRefused, lambda error: answer(403, str(error)))
    app.register_error_handler(SignedOut, lambda error: answer(401, str(error)))
    app.register_error_handler(
        PeerUnavailable,
        lambda error: answer(502, f"Another server is needed and cannot be used: {error}"),
    )
    app.register_error_handler(BadRequest, lambda error: answer(400, str(error)))
    app.register_error_handler(UnknownSearchParameter, lambda error: answer(400, str(error)))
    app.register_error_handler(ResultNotFound, lambda error: answer(404, str(error)))
    app.register_error_handler(
        AuditUnavailable,
        lambda _: answer(503, "The audit trail cannot be written, so nothing is shown. Try later."),
    )
    app.register_error_handler(
        ArchiveUnreachable,
        lambda _: answer(503, "The image archive does not answer. The result stands. Try later."),
    )
    app.register_error_handler(MapperError, lambda _: answer(500, _OURS))
    app.register_error_handler(HTTPException, lambda error: answer(*_of_http(error)))
    app.register_error_handler(500, lambda _: answer(500, _OURS))


_OURS = "Something broke in the server. The result is not known; it is not 'nothing found'."


def _of_http(error: HTTPException) -> tuple[int, str]:
    status = error.code or 500
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return status, _OURS
    return status, error.description or HTTPStatus(status).phrase
