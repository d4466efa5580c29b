"""The EHR's patients, and the chart of each with its cards."""

from urllib.parse import quote

from flask import Blueprint, Response, request

from mock_ehr.advice import advice, fed_back
from mock_ehr.cds_client import CdsClient
from mock_ehr.office import Office
from mock_ehr.page_parts import held, page, person, see_other
from mock_ehr.responses import json_response


def chart_pages(office: Office, client: CdsClient) -> Blueprint:
    """Give the routes of the pages.

    Parameters
    ----------
    office
        The EHR.
    client
        Asks the CDS services.
    """
    blueprint = Blueprint("chart_pages", __name__)
    told: dict[str, str] = {}

    @blueprint.get("/")
    def patients() -> Response:
        ids = [each["id"] for each in office.store.record.of_type("Patient")]
        return page(office, "patients.html", people=[person(office, each) for each in ids])

    @blueprint.get("/chart/<patient_id>")
    def chart(patient_id: str) -> Response:
        return page(
            office,
            "chart.html",
            person=person(office, patient_id),
            advice=advice(office, client, patient_id),
            studies=held(office, "ImagingStudy", patient_id),
            told=told,
        )

    @blueprint.post("/chart/<patient_id>/feedback")
    def feedback(patient_id: str) -> Response:
        person(office, patient_id)
        told[request.form["card"]] = fed_back(office, client, request.form)
        return see_other(f"/chart/{quote(patient_id, safe='')}")

    @blueprint.get("/violations")
    def violations() -> Response:
        return json_response(office.ledger.violations)

    return blueprint
