"""The app in a frame of the EHR."""

from urllib.parse import urlencode

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from mock_ehr.ledger import LaunchContext
from mock_ehr.office import Office
from mock_ehr.page_parts import USER, current_encounter, page, person, see_other


def frame_pages(office: Office) -> Blueprint:
    """Give the routes that launch the app.

    Parameters
    ----------
    office
        The EHR.
    """
    blueprint = Blueprint("frame_pages", __name__)

    @blueprint.post("/chart/<patient_id>/launch")
    def launch(patient_id: str) -> Response:
        person(office, patient_id)
        study = request.form.get("study")
        context = LaunchContext(
            user=USER,
            patient=patient_id,
            encounter=current_encounter(office, patient_id),
            fhir_context=({"reference": f"ImagingStudy/{study}"},) if study else (),
        )
        return see_other(f"/open/{office.ledger.new_launch(context)}")

    @blueprint.get("/open/<launch_value>")
    def frame(launch_value: str) -> Response:
        context = office.ledger.launch(launch_value)
        if context is None or context.patient is None:
            description = "This launch is not known, or an hour has passed. Open the chart again."
            raise NotFound(description)
        query = urlencode({"iss": office.addresses.fhir, "launch": launch_value})
        url = office.registration.launch_url
        app_url = f"{url}{'&' if '?' in url else '?'}{query}"
        return page(office, "frame.html", person=person(office, context.patient), app_url=app_url)

    return blueprint
