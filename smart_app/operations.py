"""The page of those who operate the server: what works, what waits, what does not arrive."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TypeVar

from flask import Blueprint, Response, redirect, request
from werkzeug.exceptions import BadRequest

from cds_server.operations_access import OperationsAccess
from cds_server.permissions import Permission, may
from cds_server.web.doors import session, viewer
from smart_app.rendering import page

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_LONGEST_NUMBER = 15
_Choice = TypeVar("_Choice")


def operations(access: OperationsAccess, around: Callable[[], dict[str, object]]) -> Blueprint:
    """Give the routes of the operations page.

    Parameters
    ----------
    access
        What may be seen and done.
    around
        Gives what every page of a session has.
    """
    blueprint = Blueprint("operations", __name__, url_prefix="/app/<handle>/operations")

    @blueprint.get("")
    def look(handle: str) -> Response:  # noqa: ARG001 - the door has read it
        seen = access.look(viewer())
        role = viewer().role
        values: dict[str, object] = {
            "seen": seen,
            "destinations": sorted({*seen.backlogs, *seen.paused}),
            "may_act": may(role, Permission.OPERATE),
            "may_read": may(role, Permission.READ_MESSAGE),
            "ago": lambda at: _ago(seen.at, at),
        }
        return page("operations.html", around() | values)

    @blueprint.post("/deliveries")
    def retry(handle: str) -> Response:  # noqa: ARG001 - the door has read it
        destination, publication_id = _named("destination"), request.form.get("publication", "")
        if publication_id:
            access.retry(publication_id, destination, viewer())
        else:
            access.retry_all(destination, viewer())
        return _back()

    @blueprint.post("/inbox")
    def process(handle: str) -> Response:  # noqa: ARG001 - the door has read it
        access.process_again(_number("message"), viewer())
        return _back()

    @blueprint.post("/destinations")
    def steer(handle: str) -> Response:  # noqa: ARG001 - the door has read it
        actions = {"pause": access.pause, "resume": access.resume}
        _chosen("action", actions)(_named("destination"), viewer())
        return _back()

    @blueprint.get("/messages/<uuid:publication_id>/<destination>")
    def message(handle: str, publication_id: object, destination: str) -> Response:  # noqa: ARG001
        content = access.message(str(publication_id), destination, viewer())
        response = Response(content, content_type="application/octet-stream")
        name = f"{publication_id}-{destination}"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    return blueprint


def _named(field: str) -> str:
    """Read a field that has to be there.

    Raises
    ------
    BadRequest
        If it is not.
    """
    value = request.form.get(field, "")
    if not value:
        msg = f"The form lacks the field {field}."
        raise BadRequest(msg)
    return value


def _number(field: str) -> int:
    """Read a number that has to be there.

    Raises
    ------
    BadRequest
        If it is none.
    """
    value = _named(field)
    if not value.isdecimal() or len(value) > _LONGEST_NUMBER:
        msg = f"The field {field} is no number."
        raise BadRequest(msg)
    return int(value)


def _chosen(field: str, choices: Mapping[str, _Choice]) -> _Choice:
    """Read a choice.

    Raises
    ------
    BadRequest
        If it is none of those.
    """
    value = _named(field)
    if value not in choices:
        msg = f"The field {field} must be one of {', '.join(sorted(choices))}."
        raise BadRequest(msg)
    return choices[value]


def _back() -> Response:
    address = f"/app/{session().handle}/operations"
    response: Response = redirect(address, HTTPStatus.SEE_OTHER)  # type: ignore[assignment]
    return response


def _ago(now: datetime, at: datetime) -> str:
    """Say how long ago something was, in words."""
    passed = max(now - at, timedelta(0))
    for unit, word in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= unit:
            return f"{passed // unit} {word} ago"
    return f"{passed.seconds} s ago"
