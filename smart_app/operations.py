"""The page of those who operate the server: what works, what waits, what does not arrive."""

from collections.abc import Callable
from datetime import datetime, timedelta

from flask import Blueprint, Response

from cds_server.operations_access import OperationsAccess
from cds_server.web.doors import viewer
from smart_app.rendering import page

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def operations(access: OperationsAccess, around: Callable[[], dict[str, object]]) -> Blueprint:
    """Give the route of the operations page.

    Parameters
    ----------
    access
        What may be seen.
    around
        Gives what every page of a session has.
    """
    blueprint = Blueprint("operations", __name__)

    @blueprint.get("/app/<handle>/operations")
    def look(handle: str) -> Response:  # noqa: ARG001 - the door has read it
        seen = access.look(viewer())
        values: dict[str, object] = {
            "components": seen.components,
            "troubles": seen.troubles,
            "waiting": seen.waiting,
            "oldest": seen.oldest,
            "ago": lambda at: _ago(seen.at, at),
        }
        return page("operations.html", around() | values)

    return blueprint


def _ago(now: datetime, at: datetime) -> str:
    """Say how long ago something was, in words."""
    passed = max(now - at, timedelta(0))
    for unit, word in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= unit:
            return f"{passed // unit} {word} ago"
    return f"{passed.seconds} s ago"
