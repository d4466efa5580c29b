"""What the PACS tells: a study, or one of its instances, has arrived.

The event is durable when it is answered. The worker looks at the study; the event itself is never
believed beyond the identifiers that it names.
"""

from typing import Any

import orjson
from flask import Blueprint, Response, request

from cds_server.arrivals import ArrivalStore
from cds_server.ports import Clock
from cds_server.watch import Watched
from cds_server.web.problems import BadRequest
from cds_server.web.requests import json_object
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.selection import NO_IMAGES

_KEYS = frozenset({"study", "series", "instance", "modality"})


def pacs_events(arrivals: ArrivalStore, *, watched: Watched, clock: Clock) -> Blueprint:
    """Give the route for events of the PACS.

    Parameters
    ----------
    arrivals
        Where they are kept until the worker looks.
    watched
        Which studies are noticed, and when.
    clock
        What time it is.
    """
    blueprint = Blueprint("pacs_events", __name__)

    @blueprint.post("/pacs/events")
    def arrived() -> Response:
        event = json_object(request)
        study_instance_uid, modality = _study(event), _modality(event)
        passed_over = modality in NO_IMAGES or (
            bool(watched.modalities) and modality and modality not in watched.modalities
        )
        if not passed_over:
            due = watched.due(frozenset({modality}), clock.now())
            arrivals.told(study_instance_uid, due)
        answer = {"noticed": not passed_over}
        return Response(orjson.dumps(answer), 202, content_type="application/json")

    return blueprint


def _study(event: dict[str, Any]) -> str:
    """Read which study an event is about.

    Raises
    ------
    BadRequest
        If it names none, or anything that radcds does not understand.
    """
    unknown = sorted(set(event) - _KEYS)
    if unknown:
        msg = f"The event has unknown keys; it may have {', '.join(sorted(_KEYS))}."
        raise BadRequest(msg)
    try:
        for key in ("series", "instance"):
            if key in event:
                check_uid(_text(event, key), key)
        return check_uid(_text(event, "study"), "study")
    except InvalidStudy as error:
        msg = f"{error}."
        raise BadRequest(msg) from error


def _modality(event: dict[str, Any]) -> str:
    """Read the modality, or nothing.

    Raises
    ------
    BadRequest
        If it is no Code String.
    """
    modality = _text(event, "modality")
    if len(modality) > 16 or not (modality.isascii() and modality.replace("_", "A").isalnum()):  # noqa: PLR2004 - CS
        if not modality:
            return ""
        msg = "modality is no DICOM code string."
        raise BadRequest(msg)
    return modality.upper()


def _text(event: dict[str, Any], key: str) -> str:
    """Give a text of the event; empty where it is missing.

    Raises
    ------
    BadRequest
        If it is no text.
    """
    value = event.get(key, "")
    if not isinstance(value, str):
        msg = f"{key} is no text."
        raise BadRequest(msg)
    return value
