"""What the EHR's pages share."""

from typing import Any

from flask import Response, render_template
from werkzeug.exceptions import NotFound

from mock_ehr.fhir_query import patient_of
from mock_ehr.office import Office
from mock_ehr.people import birth_date, display_name, identifiers
from mock_ehr.records import Resource
from mock_ehr.responses import page_response

USER = "Practitioner/radiologist-1"


def page(office: Office, template: str, **values: object) -> Response:
    """Give a page."""
    html = render_template(template, client_id=office.registration.client_id, **values)
    return page_response(html, office.registration.origins())


def see_other(path: str) -> Response:
    """Send the browser on after a form."""
    return Response(status=303, headers={"Location": path})


def person(office: Office, patient_id: str) -> dict[str, Any]:
    """Give what the banner shows of a patient.

    Raises
    ------
    NotFound
        If there is no such patient.
    """
    patient = office.store.record.find("Patient", patient_id)
    if patient is None:
        description = "There is no such patient."
        raise NotFound(description)
    return {
        "id": patient["id"],
        "name": display_name(patient),
        "born": birth_date(patient),
        "identifiers": identifiers(patient),
    }


def held(office: Office, resource_type: str, patient_id: str) -> list[Resource]:
    """Give the resources of one type in a patient's chart."""
    of_type = office.store.record.of_type(resource_type)
    return [each for each in of_type if patient_of(each) == patient_id]


def current_encounter(office: Office, patient_id: str) -> str | None:
    """Give the id of the patient's encounter that goes on, if there is one."""
    encounters = held(office, "Encounter", patient_id)
    return next(
        (str(each["id"]) for each in encounters if each.get("status") == "in-progress"), None
    )
