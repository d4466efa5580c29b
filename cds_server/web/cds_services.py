"""CDS Hooks over HTTP: discovery, services, feedback.

References
----------
CDS Hooks 2.0.1: Discovery, Calling a CDS Service, Feedback, Cross-Origin Resource Sharing.
"""

from collections.abc import Collection
from typing import Any

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from cds_server.hooks.answers import HookAnswers
from cds_server.hooks.card_access import CardAccess
from cds_server.hooks.services import SERVICES, Service, service
from cds_server.network import Role, SystemActions
from cds_server.viewer import Viewer
from cds_server.web.cds_feedback import feedback_items
from cds_server.web.doors import caller
from cds_server.web.requests import json_object
from fhir_mappers.hook_call import hook_call

_CORS_METHODS = "GET, POST, OPTIONS"
_CORS_HEADERS = "Authorization, Content-Type"


def cds_services(
    cards: CardAccess, answers: HookAnswers, cors_origins: Collection[str] = ()
) -> Blueprint:
    """Give the CDS Hooks routes.

    Parameters
    ----------
    cards
        Takes feedback on them.
    answers
        What the services say.
    cors_origins
        Origins of browser-based EHRs; no other origin is answered.
    """
    blueprint = Blueprint("cds_services", __name__)

    @blueprint.get("/cds-services")
    def discovery() -> Response:
        ehr = caller().ehr
        actions = ehr.system_actions if ehr else SystemActions.NONE
        return _json({"services": [each.described(actions) for each in SERVICES]})

    @blueprint.post("/cds-services/<service_id>")
    def call(service_id: str) -> Response:
        called = _known(service_id)
        made = hook_call(json_object(request), hook=called.hook, required=called.context)
        return _json(answers.answer(called, made, caller()))

    @blueprint.post("/cds-services/<service_id>/feedback")
    def feedback(service_id: str) -> Response:
        _known(service_id)
        items = feedback_items(json_object(request))
        who = caller()
        viewer = Viewer(who.issuer, who.address, Role.SYSTEM, client=who.issuer)
        return _json({"received": len(items), "new": cards.receive_feedback(items, viewer)})

    @blueprint.after_request
    def allow_origin(response: Response) -> Response:
        origin = request.headers.get("Origin", "")
        response.headers["Vary"] = "Origin"
        if origin in cors_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = _CORS_METHODS
            response.headers["Access-Control-Allow-Headers"] = _CORS_HEADERS
        return response

    return blueprint


def _known(service_id: str) -> Service:
    """Find the service that was called.

    Raises
    ------
    NotFound
        Naming those that there are.
    """
    found = service(service_id)
    if found is None:
        ids = ", ".join(each.id for each in SERVICES)
        description = f"There is no service of this id; the services are {ids}."
        raise NotFound(description)
    return found


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), content_type="application/json")
