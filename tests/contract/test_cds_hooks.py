"""CDS Hooks between radcds and a strict EHR, over HTTP: every service, every refusal."""

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from beside_ehr import Beside, beside_ehr

from cds_server.hooks.services import SERVICES
from cds_server.network import SystemActions
from mock_ehr.records import service_request, task

CONTEXT = {"userId": "Practitioner/reader", "patientId": "p1"}
VIEW = ("radcds-patient-view", "patient-view")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Beside]:
    with beside_ehr(tmp_path) as both:
        yield both
        assert both.ehr.violations == []


def raw(both: Beside, service_id: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """Call without the EHR's own care."""
    url = f"{both.radcds.base_url}/cds-services/{service_id}"
    bearer = {"Authorization": f"Bearer {both.ehr.cds_token(url)}"}
    return httpx.post(url, json=body, headers=bearer | headers, timeout=30)


def call(hook: str = "patient-view", **changes: Any) -> dict[str, Any]:
    instance = str(uuid.uuid4())
    return {"hook": hook, "hookInstance": instance, "context": CONTEXT, **changes}


def prefetched(both: Beside) -> dict[str, Any]:
    patient = next(r for r in both.records if r["id"] == "p1")
    return {"patient": patient, "studies": {"resourceType": "Bundle", "type": "searchset"}}


def test_discovery_names_every_service_and_keeps_to_the_allowed_prefetch(both: Beside) -> None:
    services = both.ehr.discover().json()["services"]
    assert {each["hook"] for each in services} == {
        "patient-view",
        "order-select",
        "order-sign",
        "encounter-discharge",
        "appointment-book",
        "org.radcds.imagingstudy-open",
    }
    for each in services:
        for template in each["prefetch"].values():
            for token in template.split("{{")[1:]:
                assert token.split("}}")[0] in {"context.patientId", "context.imagingStudyId"}
            assert not any(word in template for word in ("_include", "sort:", ":missing"))


@pytest.mark.parametrize("prefetch", [1, 0])
def test_cards_come_with_and_without_prefetch(both: Beside, prefetch: int) -> None:
    for number, name in enumerate(("normal", "urgent", "failed")):
        both.add(name, number)
    answer = both.ehr.call_hook(*VIEW, CONTEXT, prefetch=bool(prefetch))
    assert answer.status_code == 200
    cards = answer.json()["cards"]
    assert [card["indicator"] for card in cards] == ["critical", "warning", "info"]
    assert "PROCESSING FAILED" in cards[1]["summary"]
    assert {link["type"] for link in cards[0]["links"]} == {"smart", "absolute"}
    assert cards[0]["links"][0]["appContext"] == both.serving.store.entries()[0].result_id
    assert both.recorded()[:1] == ["search"]
    assert both.recorded().count("read") == 3


def test_a_study_that_waits_has_a_card_of_its_own_words(both: Beside) -> None:
    both.serving.queue(0)
    (card,) = both.ehr.call_hook(*VIEW, CONTEXT).json()["cards"]
    assert "no result yet" in card["summary"]
    assert card["indicator"] == "info"


def test_another_patients_number_of_another_hospital_is_not_this_patient(both: Beside) -> None:
    both.add("urgent", 1)
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [
            {"system": "urn:oid:2.999.8", "value": "MRN 123456"},
            {"value": "MRN 123456"},
        ],
    }
    body = call(prefetch={"patient": patient, "studies": None})
    assert raw(both, VIEW[0], body).json() == {"cards": []}


def test_a_study_that_the_archive_says_is_anothers_is_never_shown(both: Beside) -> None:
    both.add("urgent", 0)
    patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "x", "value": "1"}]}
    studies = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": r} for r in both.records if r["id"] == "s0"],
    }
    answer = raw(both, VIEW[0], call(prefetch={"patient": patient, "studies": studies}))
    assert answer.json() == {"cards": []}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 412),
        ({"fhirServer": "https://evil.example.org/fhir"}, 412),
        ({"prefetch": {"patient": {"resourceType": "OperationOutcome"}}}, 412),
        ({"prefetch": {"patient": None}}, 200),
        ({"prefetch": {"patient": {"resourceType": "Patient", "id": "p2"}}}, 400),
    ],
)
def test_data_that_cannot_be_had_are_a_412_and_not_an_empty_list(
    both: Beside, changes: dict[str, Any], status: int
) -> None:
    both.add("urgent")
    answer = raw(both, VIEW[0], call(**changes))
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert "cards" not in answer.json()
    else:
        assert answer.json() == {"cards": []}


def test_not_one_byte_goes_to_a_foreign_fhir_server(both: Beside) -> None:
    both.add("urgent")
    asked: list[str] = []

    class Thief(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    thief = HTTPServer(("127.0.0.1", 0), Thief)
    threading.Thread(target=thief.serve_forever, daemon=True).start()
    token = {
        "access_token": "t",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "",
        "subject": "x",
    }
    foreign = f"http://127.0.0.1:{thief.server_port}/fhir"
    paged = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": "next", "url": f"{foreign}?page=2"}],
    }
    bodies = [
        call(fhirServer=foreign, fhirAuthorization=token),
        call(
            fhirServer=f"{both.ehr.fhir_base_url}@127.0.0.1:{thief.server_port}",
            fhirAuthorization=token,
        ),
        call(
            fhirServer=both.ehr.fhir_base_url,
            fhirAuthorization=token,
            prefetch={**prefetched(both), "studies": paged},
        ),
    ]
    statuses = [raw(both, VIEW[0], body).status_code for body in bodies]
    assert statuses == [412, 412, 200]
    thief.shutdown()
    thief.server_close()
    assert asked == []


def test_pages_of_a_bundle_are_followed_with_the_token(tmp_path: Path) -> None:
    numbers = [f"M{number}" for number in range(5)]
    orders = [
        service_request(each.lower(), patient_id="p1", authored="2026-11-01", accession=each)
        for each in [*numbers, "ACC1001"]
    ]
    consent = SystemActions.SERVICE_REQUEST
    with beside_ehr(tmp_path, more=orders, system_actions=consent) as both:
        both.add("urgent")
        both.ehr.store.largest_page = 2
        for prefetch in (True, False):
            answer = both.ehr.call_hook(*VIEW, CONTEXT, prefetch=prefetch).json()
            (action,) = answer["systemActions"]
            assert action["resource"] == {**orders[-1], "priority": "stat"}
            assert action["type"] == "update"
        assert both.ehr.violations == []
        both.ehr.faults.add("foreign-next-link")
        again = both.ehr.call_hook(*VIEW, CONTEXT, prefetch=True).json()
        assert "systemActions" not in again
        assert len(again["cards"]) == 1


def test_the_task_of_reading_an_urgent_study_rises(tmp_path: Path) -> None:
    records = [
        service_request("order", patient_id="p1", authored="2026-11-01", accession="ACC1001"),
        service_request("other", patient_id="p1", authored="2026-11-01", accession="ACC2"),
        task("read", patient_id="p1", focus="ServiceRequest/order", authored="2026-11-01"),
        task("else", patient_id="p1", focus="ServiceRequest/other", authored="2026-11-01"),
    ]
    with beside_ehr(tmp_path, more=records, system_actions=SystemActions.TASK) as both:
        both.add("flagged")
        for prefetch in (True, False):
            answer = both.ehr.call_hook(*VIEW, CONTEXT, prefetch=prefetch).json()
            (action,) = answer["systemActions"]
            assert action["resource"] == {**records[2], "priority": "asap"}
        assert both.ehr.violations == []


def test_without_consent_no_action_is_taken(both: Beside) -> None:
    both.add("urgent")
    assert "systemActions" not in both.ehr.call_hook(*VIEW, CONTEXT).json()
    assert all(
        "worklist" not in each["prefetch"] for each in both.ehr.discover().json()["services"]
    )


def order_context(*categories: str) -> dict[str, Any]:
    orders = [
        {
            "resourceType": "ServiceRequest",
            "id": f"draft-{number}",
            "status": "draft",
            "intent": "order",
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": code}]}],
            "code": {"text": "Chest X-ray *now*"},
            "subject": {"reference": "Patient/p1"},
        }
        for number, code in enumerate(categories)
    ]
    bundle = {"resourceType": "Bundle", "type": "collection"}
    entries = [{"resource": each} for each in orders]
    return {**CONTEXT, "draftOrders": {**bundle, "entry": entries}}


def test_an_imaging_order_is_answered_and_named(both: Beside) -> None:
    both.add("flagged")
    answer = both.ehr.call_hook("radcds-order-sign", "order-sign", order_context("363679005"))
    flagged, recent = answer.json()["cards"]
    assert flagged["indicator"] == "warning"
    assert "done lately" in recent["summary"]
    for card in (flagged, recent):
        assert "About the order: Chest X\\-ray \\*now\\*" in card["detail"]
        named = card["extension"]["davinci-crd.associated-resource"]
        assert named == ["ServiceRequest/draft-0"]


def test_an_order_of_another_kind_gets_no_card(both: Beside) -> None:
    both.add("urgent")
    answer = both.ehr.call_hook("radcds-order-sign", "order-sign", order_context("108252007"))
    assert answer.json() == {"cards": []}


def test_only_the_selected_orders_count(both: Beside) -> None:
    both.add("urgent")
    context = {**order_context("363679005", "363679005"), "selections": ["ServiceRequest/draft-1"]}
    answer = both.ehr.call_hook("radcds-order-select", "order-select", context)
    named = answer.json()["cards"][0]["extension"]["davinci-crd.associated-resource"]
    assert named == ["ServiceRequest/draft-1"]


@pytest.mark.parametrize(
    ("service_id", "hook", "shown"),
    [
        ("radcds-encounter-discharge", "encounter-discharge", ["critical", "warning", "warning"]),
        ("radcds-appointment-book", "appointment-book", ["critical", "warning"]),
    ],
)
def test_before_a_patient_leaves_only_what_nobody_saw_is_shown(
    both: Beside, service_id: str, hook: str, shown: list[str]
) -> None:
    for number, name in enumerate(("urgent", "flagged", "failed", "normal")):
        both.add(name, number)
    context = {**CONTEXT, "encounterId": "e1"}
    cards = both.ehr.call_hook(service_id, hook, context).json()["cards"]
    assert [card["indicator"] for card in cards] == shown


def test_the_study_that_is_opened_is_the_one_that_is_shown(both: Beside) -> None:
    both.add("flagged", 0)
    both.add("urgent", 1)
    context = {**CONTEXT, "imagingStudyId": "s0"}
    hook = ("radcds-imagingstudy-open", "org.radcds.imagingstudy-open")
    (card,) = both.ehr.call_hook(*hook, context).json()["cards"]
    assert card["indicator"] == "warning"
    other = raw(both, hook[0], call(hook[1], context={**context, "patientId": "p2"}))
    assert other.status_code in {400, 412}


def feedback(of_card: str, **changes: Any) -> dict[str, Any]:
    reason = {
        "reason": {
            "system": "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes",
            "code": "recipient-disagrees-evidence",
        },
        "userComment": "seen by the ward",
    }
    return {
        "card": of_card,
        "outcome": "overridden",
        "overrideReason": reason,
        "outcomeTimestamp": "2026-11-24T10:00:00Z",
        **changes,
    }


def test_feedback_is_kept_once_and_audited_once(both: Beside) -> None:
    both.add("urgent")
    card = both.ehr.call_hook(*VIEW, CONTEXT).json()["cards"][0]["uuid"]
    before = len(both.recorded())
    for _ in range(3):
        assert both.ehr.send_feedback(VIEW[0], [feedback(card)]).status_code == 200
    same = feedback(card, outcomeTimestamp="2026-11-24T11:00:00+01:00")
    assert both.ehr.send_feedback(VIEW[0], [same]).status_code == 200
    (kept,) = both.serving.feedback.feedback(card)
    assert (kept.reason_code, kept.comment) == ("recipient-disagrees-evidence", "seen by the ward")
    assert both.recorded()[before:] == ["create"]
    leaf = both.serving.trail.recorded[-1].decode()
    assert "recipient-disagrees-evidence" in leaf
    assert "seen by the ward" not in leaf


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"outcome": "ignored"}, "outcome"),
        ({"outcome": "accepted"}, "acceptedSuggestions"),
        ({"outcomeTimestamp": "2026-11-24T10:00:00"}, "offset"),
        ({"outcomeTimestamp": 5}, "outcomeTimestamp"),
        ({"overrideReason": {}}, "needs reason"),
        ({"overrideReason": {"reason": {"code": "x"}}}, "system and code"),
        ({"card": "one"}, "UUID"),
    ],
)
def test_feedback_that_is_malformed_is_told_which_and_why(
    both: Beside, item: dict[str, Any], says: str
) -> None:
    both.add("urgent")
    card = both.ehr.call_hook(*VIEW, CONTEXT).json()["cards"][0]["uuid"]
    body = {"feedback": [feedback(card), feedback(card, **item)]}
    answer = raw(both, f"{VIEW[0]}/feedback", body)
    assert answer.status_code == 400
    assert "feedback[1]" in answer.text
    assert says in answer.text
    assert both.serving.feedback.feedback(card) == []


def test_feedback_on_a_card_that_was_never_given_is_refused(both: Beside) -> None:
    answer = raw(both, f"{VIEW[0]}/feedback", {"feedback": [feedback(str(uuid.uuid4()))]})
    assert answer.status_code == 404
    assert "feedback[0].card" in answer.text


def test_a_token_for_one_service_opens_no_other_and_none_twice(both: Beside) -> None:
    base = f"{both.radcds.base_url}/cds-services"
    token = both.ehr.cds_token(f"{base}/{VIEW[0]}")
    bearer = {"Authorization": f"Bearer {token}"}
    for url in (base, f"{base}/radcds-order-sign", f"{base}/{VIEW[0]}/feedback"):
        refused = httpx.post(url, json=call(), headers=bearer)
        assert (refused.status_code, refused.content) in {(401, b""), (405, refused.content)}
    body = call(prefetch={"patient": None, "studies": None})
    assert httpx.post(f"{base}/{VIEW[0]}", json=body, headers=bearer).status_code == 200
    again = httpx.post(f"{base}/{VIEW[0]}", json=body, headers=bearer)
    assert (again.status_code, again.content) == (401, b"")


def test_what_is_unknown_is_ignored(both: Beside) -> None:
    both.add("flagged")
    body = call(
        prefetch=prefetched(both),
        extension={"org.example.x": {"y": 1}},
        context={**CONTEXT, "later": {"version": 3}},
        futureField=[1, 2],
    )
    assert len(raw(both, VIEW[0], body).json()["cards"]) == 1


def test_every_service_is_described_in_its_own_words() -> None:
    assert len({each.id for each in SERVICES}) == len(SERVICES)
    assert len({each.hook for each in SERVICES}) == len(SERVICES)
    assert json.dumps([each.described(SystemActions.TASK) for each in SERVICES]).count("Task?") == 6
