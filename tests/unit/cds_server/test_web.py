"""The web service: what it answers, what it refuses, and that every look is recorded."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from serving import Serving
from studies import STUDY_UID

from fhir_mappers.report_context import DisplayMode

HOOK = "/cds-services/radcds-patient-view"

# path, method, what the audit trail says of it ("" = shows nothing of a patient)
ROUTES = {
    ("/", "GET", "search"),
    ("/studies/<uuid:result_id>", "GET", "read"),
    ("/studies/<uuid:result_id>/artefacts/<name>", "GET", "read"),
    ("/static/<name>", "GET", ""),
    ("/cds-services", "GET", ""),
    ("/cds-services/<service_id>", "POST", "search"),
    ("/fhir/metadata", "GET", ""),
    ("/fhir/<resource_type>/<resource_id>", "GET", "search"),
    ("/fhir/<resource_type>", "GET", "search"),
    ("/fhir/<resource_type>/_search", "POST", "search"),
    ("/livez", "GET", ""),
    ("/readyz", "GET", ""),
}


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


def call(**changes: Any) -> dict[str, Any]:
    context = {"userId": "Practitioner/example", "patientId": "MRN 123456"}
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": context,
        **changes,
    }


def test_every_route_is_in_the_table(serving: Serving) -> None:
    found = {
        (rule.rule, method)
        for rule in serving.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert found == {(path, method) for path, method, _ in ROUTES}


@pytest.mark.parametrize(("path", "method", "subtype"), sorted(ROUTES))
def test_what_shows_patient_data_is_recorded_first_and_nothing_else_is(
    serving: Serving, path: str, method: str, subtype: str
) -> None:
    identifier = serving.add("flagged")
    url = (
        path.replace("<uuid:result_id>", identifier)
        .replace("artefacts/<name>", "artefacts/card.json")
        .replace("<name>", "radcds.css")
        .replace("<service_id>", "radcds-patient-view")
        .replace("<resource_type>", "DiagnosticReport")
        .replace(
            "<resource_id>", json.loads(serving.repository.search("DiagnosticReport", {})[0])["id"]
        )
    )
    body = {"json": call()} if method == "POST" and "cds" in path else {}
    assert serving.client.open(url, method=method, **body).status_code == 200
    recorded = [json.loads(event)["subtype"][0]["code"] for event in serving.trail.recorded]
    assert recorded[:1] == ([subtype] if subtype else [])
    serving.trail.broken = True
    status = serving.client.open(url, method=method, **body).status_code
    assert status == (503 if subtype else 200)


def test_without_an_audit_trail_nothing_of_a_patient_is_answered(serving: Serving) -> None:
    serving.add("urgent")
    serving.trail.broken = True
    answer = serving.client.post(HOOK, json=call())
    assert answer.status_code == 503
    assert answer.json["resourceType"] == "OperationOutcome"
    assert "cards" not in answer.json


def test_discovery_offers_patient_view(serving: Serving) -> None:
    (service,) = serving.client.get("/cds-services").json["services"]
    assert service["hook"] == "patient-view"
    assert service["id"] == "radcds-patient-view"
    assert service["prefetch"] == {"patient": "Patient/{{context.patientId}}"}


def test_cards_come_from_stored_results_the_most_urgent_first(serving: Serving) -> None:
    for number, name in enumerate(("normal", "urgent", "not_analysed")):
        serving.add(name, number)
    cards = serving.client.post(HOOK, json=call()).json["cards"]
    assert [card["indicator"] for card in cards] == ["critical", "info", "info"]
    assert all(len(card["summary"]) < 140 for card in cards)


def test_a_patient_is_found_by_a_prefetched_identifier(serving: Serving) -> None:
    serving.add("flagged")
    patient = {"resourceType": "Patient", "id": "ehr-7", "identifier": [{"value": "MRN 123456"}]}
    context = {"userId": "Practitioner/1", "patientId": "ehr-7"}
    found = serving.client.post(HOOK, json=call(context=context, prefetch={"patient": patient}))
    assert len(found.json["cards"]) == 1
    other = {**patient, "id": "ehr-8"}
    mixed = serving.client.post(HOOK, json=call(context=context, prefetch={"patient": other}))
    assert mixed.status_code == 400


def test_an_unknown_patient_has_no_cards(serving: Serving) -> None:
    context = {"userId": "Practitioner/1", "patientId": "nobody"}
    assert serving.client.post(HOOK, json=call(context=context)).json == {"cards": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (call(hook="order-sign"), "hook"),
        (call(hookInstance="1"), "hookInstance"),
        (call(context=None), "context"),
        (call(context={"userId": "x"}), "patientId"),
        (call(context={"userId": "", "patientId": "x"}), "userId"),
        ([], "object"),
    ],
)
def test_a_call_that_breaks_the_rules_is_told_why(serving: Serving, body: Any, says: str) -> None:
    answer = serving.client.post(HOOK, json=body)
    assert answer.status_code == 400
    assert says in answer.json["issue"][0]["diagnostics"]


def test_a_crash_is_a_500_in_words_and_never_an_empty_card_list(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.add("urgent")

    def crash(_: str) -> None:
        msg = "secret MRN 123456"
        raise RuntimeError(msg)

    monkeypatch.setattr(serving.store, "entries_of_patient", crash)
    answer = serving.client.post(HOOK, json=call())
    assert answer.status_code == 500
    assert b"cards" not in answer.data
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data


def test_a_chunked_body_is_refused_because_it_would_be_cut_in_silence(serving: Serving) -> None:
    answer = serving.client.post(
        HOOK,
        data=json.dumps(call()),
        headers={"Transfer-Encoding": "chunked"},
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert answer.status_code == 411


def test_a_large_body_is_refused(serving: Serving) -> None:
    answer = serving.client.post(HOOK, data=b"{" + b" " * 1024 * 1024 + b"}")
    assert answer.status_code == 413


def test_only_listed_origins_are_answered(serving: Serving) -> None:
    allowed = serving.client.get("/cds-services", headers={"Origin": "https://ehr.example.org"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://ehr.example.org"
    refused = serving.client.get("/cds-services", headers={"Origin": "https://evil.example.org"})
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_the_capability_statement_is_valid_r4(serving: Serving) -> None:
    answer = serving.client.get("/fhir/metadata")
    get_fhir_model_class("CapabilityStatement").model_validate_json(answer.data)
    assert answer.json["fhirVersion"] == "4.0.1"
    assert answer.content_type == "application/fhir+json"


def test_resources_are_read_and_found(serving: Serving) -> None:
    serving.add("flagged")
    for parameters in (
        {"patient": "MRN 123456"},
        {"status": "preliminary"},
        {"identifier": "ACC1001"},
        {},
    ):
        found = serving.client.get("/fhir/DiagnosticReport", query_string=parameters)
        assert found.json["total"] == 1, parameters
        get_fhir_model_class("Bundle").model_validate_json(found.data)
    posted = serving.client.post("/fhir/DiagnosticReport/_search", data={"patient": "nobody"})
    assert posted.json == {"resourceType": "Bundle", "type": "searchset", "total": 0}
    (entry,) = serving.client.get("/fhir/ImagingStudy").json["entry"]
    read = serving.client.get(f"/fhir/ImagingStudy/{entry['resource']['id']}")
    assert read.json == entry["resource"]
    by_uid = {"identifier": f"urn:dicom:uid|urn:oid:{STUDY_UID}.0"}
    assert serving.client.get("/fhir/ImagingStudy", query_string=by_uid).json["total"] == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/fhir/DiagnosticReport?colour=red", 400),
        ("/fhir/Patient", 404),
        ("/fhir/DiagnosticReport/nothing", 404),
        ("/cds-services/other", 405),
        ("/fhir/metadata/x/y", 404),
    ],
)
def test_what_is_not_supported_is_never_ignored(serving: Serving, path: str, status: int) -> None:
    answer = serving.client.get(path)
    assert answer.status_code == status
    assert answer.json["resourceType"] == "OperationOutcome"
    get_fhir_model_class("OperationOutcome").model_validate_json(answer.data)


def test_readiness_names_what_is_wrong(serving: Serving) -> None:
    assert serving.client.get("/readyz").status_code == 200
    serving.checks["archive"] = "the archive does not answer"
    answer = serving.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["archive"] == "the archive does not answer"
    assert serving.client.get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/cds-services", "/fhir/metadata", "/livez"])
def test_every_answer_is_hardened(serving: Serving, path: str) -> None:
    headers = serving.client.get(path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_worklist_says_every_state_in_words(serving: Serving) -> None:
    assert "No study has arrived yet" in serving.client.get("/").text
    for number, name in enumerate(("urgent", "flagged", "normal", "not_analysed", "failed")):
        serving.add(name, number)
    serving.queue()
    page = serving.client.get("/").text
    words = ["Urgent", "Flagged", "Not analysed", "Processing failed", "No finding above threshold"]
    for word in [*words, "Waiting for analysis", "That does not mean no finding"]:
        assert word in page
    assert page.index("Urgent") < page.index("Flagged") < page.index("No finding above threshold")


@pytest.mark.parametrize("name", ["urgent", "normal", "not_analysed", "failed"])
def test_the_study_page_shows_findings_model_and_disclaimer(serving: Serving, name: str) -> None:
    page = serving.client.get(f"/studies/{serving.add(name)}").text
    assert "AI output, not a diagnosis." in page
    assert "not for clinical use" in page
    analysed = name in {"urgent", "normal"}
    assert ("original.png" in page) is analysed
    assert ("overlay.png" in page) is analysed
    assert "normal chest" not in page.lower()


def test_a_triage_only_site_shows_no_overlay(tmp_path: Path) -> None:
    serving = Serving(tmp_path, DisplayMode.TRIAGE_ONLY)
    identifier = serving.add("urgent")
    page = serving.client.get(f"/studies/{identifier}").text
    assert "overlay.png" not in page
    assert "no location is shown" in page
    for name in ("overlay.png", "secondary-capture.dcm"):
        assert serving.client.get(f"/studies/{identifier}/artefacts/{name}").status_code == 404


def test_artefacts_are_served_as_they_were_stored(serving: Serving) -> None:
    identifier = serving.add("flagged")
    for name in ("bundle.json", "oru.hl7", "card.json", "overlay.png", "secondary-capture.dcm"):
        answer = serving.client.get(f"/studies/{identifier}/artefacts/{name}")
        assert answer.data == serving.store.artefact(identifier, name)
    assert serving.client.get(f"/studies/{identifier}/artefacts/../../x").status_code == 404


def test_an_unknown_study_is_a_page_in_words(serving: Serving) -> None:
    answer = serving.client.get(f"/studies/{uuid.uuid4()}")
    assert answer.status_code == 404
    assert "no study is known" in answer.text
    assert answer.content_type.startswith("text/html")


def test_markup_in_a_name_stays_text(serving: Serving) -> None:
    assert "<script>alert" not in serving.client.get("/studies/<script>alert(1)</script>").text
