"""CDS Hooks: discovery and the patient-view service, answered from stored results.

A hook never runs the model: it says what is stored, or that the study still waits.

References
----------
CDS Hooks 2.0: Discovery, Calling a CDS Service; hooks library patient-view 1.0.
"""

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from cds_server.access import Access, Viewer
from cds_server.ports import StudyEntry
from cds_server.web.problems import BadRequest
from cds_server.web.requests import json_object, viewer_of
from fhir_mappers.cds_card import pending_card

SERVICE_ID = "radcds-patient-view"
_MOST_CARDS = 10
_DISCOVERY = {
    "services": [
        {
            "hook": "patient-view",
            "id": SERVICE_ID,
            "title": "Imaging AI triage",
            "description": (
                "Shows the AI triage result of the patient's chest radiographs, most urgent first. "
                "AI output, not a diagnosis. Research and evaluation use."
            ),
            "prefetch": {"patient": "Patient/{{context.patientId}}"},
        }
    ]
}


def cds_services(access: Access, cors_origins: Collection[str] = ()) -> Blueprint:
    """Give the CDS Hooks routes.

    Parameters
    ----------
    access
        The gate to stored results.
    cors_origins
        Origins of browser-based EHRs; no other origin is answered.
    """
    blueprint = Blueprint("cds_services", __name__)

    @blueprint.get("/cds-services")
    def discovery() -> Response:
        return _json(_DISCOVERY)

    @blueprint.post("/cds-services/<service_id>")
    def service(service_id: str) -> Response:
        if service_id != SERVICE_ID:
            description = f"There is no service of this id; the service is {SERVICE_ID}."
            raise NotFound(description)
        call = json_object(request)
        patient_ids = _patient_ids(call)
        viewer = viewer_of(request, str(call["context"]["userId"]))
        return _json({"cards": _cards(access, patient_ids, viewer)})

    @blueprint.after_request
    def allow_listed(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin is not None and origin in cors_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization"
            response.vary.add("Origin")
        return response

    return blueprint


def _patient_ids(call: dict[str, Any]) -> Sequence[str]:
    """Check a call and give the identifiers of its patient: the FHIR id, and any prefetched.

    Raises
    ------
    BadRequest
        If the call breaks a rule of the hook.
    """
    if call.get("hook") != "patient-view":
        msg = "hook: this service answers patient-view."
        raise BadRequest(msg)
    try:
        uuid.UUID(str(call.get("hookInstance")))
    except ValueError as error:
        msg = "hookInstance: must be a UUID."
        raise BadRequest(msg) from error
    context = call.get("context")
    if not isinstance(context, dict):
        msg = "context: is required."
        raise BadRequest(msg)
    for name in ("userId", "patientId"):
        if not isinstance(context.get(name), str) or not context[name]:
            msg = f"context.{name}: is required."
            raise BadRequest(msg)
    return [context["patientId"], *_prefetched_identifiers(call, context["patientId"])]


def _prefetched_identifiers(call: dict[str, Any], patient_id: str) -> Sequence[str]:
    """Give the identifiers of the prefetched Patient.

    Raises
    ------
    BadRequest
        If the prefetch is of another patient than the context: never mix two.
    """
    prefetch = call.get("prefetch")
    patient = prefetch.get("patient") if isinstance(prefetch, dict) else None
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        return []
    if patient.get("id") != patient_id:
        msg = "prefetch.patient: is not the patient of the context."
        raise BadRequest(msg)
    identifiers = patient.get("identifier")
    known = identifiers if isinstance(identifiers, list) else []
    return [str(each["value"]) for each in known if isinstance(each, dict) and each.get("value")]


def _cards(access: Access, patient_ids: Sequence[str], viewer: Viewer) -> list[Any]:
    entries: dict[str, StudyEntry] = {}
    for patient_id in dict.fromkeys(patient_ids):
        for entry in access.of_patient(patient_id, viewer, hook="patient-view"):
            entries[entry.result_id] = entry
    cards: list[Any] = []
    for entry in entries.values():
        if entry.result is None:
            cards.append(pending_card(entry.result_id, access.site))
        else:
            cards += orjson.loads(access.artefact(entry.result_id, "card.json", viewer))["cards"]
    order = ("critical", "warning", "info")
    return sorted(cards, key=lambda card: order.index(card["indicator"]))[:_MOST_CARDS]


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), content_type="application/json")
