"""Whether the server is alive, and whether it is fit to work."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import orjson
from flask import Blueprint, Response

Readiness = Callable[[], Mapping[str, str]]


def health(readiness: Readiness) -> Blueprint:
    """Give the routes for whoever watches the server.

    Parameters
    ----------
    readiness
        Gives each check with ``ok``, or a sentence that says what is wrong.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/livez")
    def alive() -> Response:
        return _json({"alive": "ok"}, HTTPStatus.OK)

    @blueprint.get("/readyz")
    def ready() -> Response:
        checks = readiness()
        fit = all(says == "ok" for says in checks.values())
        return _json(checks, HTTPStatus.OK if fit else HTTPStatus.SERVICE_UNAVAILABLE)

    return blueprint


def _json(value: Mapping[str, str], status: int) -> Response:
    return Response(orjson.dumps(dict(value)), status, content_type="application/json")
