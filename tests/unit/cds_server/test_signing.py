"""A radiologist signs in the viewer; a recalled result is shown to nobody as a result."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from serving import Serving
from studies import ISSUED, MODEL

from cds_server.amending import Amending
from cds_server.amendments import RecallAsked
from cds_server.hooks.services import _is_above_threshold, _needs_a_reader
from cds_server.network import Role
from cds_server.outbox import DeliveryState
from cds_server.ports import StudyEntry, StudyState
from fhir_mappers.report_context import Recall, Verdict

OURS = {"Origin": "https://radcds.example.org"}
AGREE = {"agreement": "agree", "radpeer": "1"}
DISAGREE = {"agreement": "disagree", "radpeer": "3a", "reason": "false-positive"}
WITHDRAWN = "Withdrawn: do not use"


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


def amending(serving: Serving) -> Amending:
    return Amending(
        serving.store,
        serving.amendments,
        inbox=serving.store.inbox,
        outbox=serving.store.outbox,
        destinations=["fhir"],
        site=serving.site,
        clock=serving.clock,
        software_version="0.1.0",
    )


def recall(serving: Serving) -> None:
    asked = RecallAsked(MODEL.sha256, Recall("Reads detector X wrongly.", ISSUED), "operator")
    serving.amendments.ask_recall(asked, audit_events=[])
    assert amending(serving).look() > 0


def say(serving: Serving, base: str, result: str, form: dict[str, str]) -> Any:
    return serving.client.post(f"{base}/studies/{result}/verdict", data=form, headers=OURS)


def test_a_verdict_without_signing_publishes_nothing(serving: Serving) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(Role.RADIOLOGIST)
    assert say(serving, base, result, AGREE).status_code == 303
    assert serving.amendments.sign_offs_asked() == []


def test_a_radiologist_who_agrees_and_signs_confirms_under_their_own_name(serving: Serving) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(Role.RADIOLOGIST)
    assert "Agree and sign" in serving.client.get(f"{base}/studies/{result}").text
    assert say(serving, base, result, {**AGREE, "sign": "1"}).status_code == 303
    (asked,) = serving.amendments.sign_offs_asked()
    assert asked.signed.verdict is Verdict.CONFIRMED
    assert asked.signed.radiologist
    assert asked.source == "viewer"
    assert amending(serving).look() == 1
    page = serving.client.get(f"{base}/studies/{result}").text
    assert "Confirmed, final" in page


def test_a_correction_is_signed_in_words_or_not_at_all(serving: Serving) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(Role.RADIOLOGIST)
    silent = say(serving, base, result, {**DISAGREE, "sign": "1"})
    assert silent.status_code == 400
    assert "Say in the comment what is true" in silent.text
    assert serving.amendments.sign_offs_asked() == []
    told = {**DISAGREE, "sign": "1", "comment": "A <b>skin fold</b>."}
    assert say(serving, base, result, told).status_code == 303
    (asked,) = serving.amendments.sign_offs_asked()
    assert asked.signed.verdict is Verdict.CORRECTED
    amending(serving).look()
    page = serving.client.get(f"{base}/studies/{result}").text
    assert "A &lt;b&gt;skin fold&lt;/b&gt;." in page
    assert "<b>skin fold" not in page


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.CLINICIAN, Role.AUDITOR])
def test_nobody_but_a_radiologist_signs(serving: Serving, role: Role) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(role)
    assert "Agree and sign" not in serving.client.get(f"{base}/studies/{result}").text
    assert say(serving, base, result, {**AGREE, "sign": "1"}).status_code == 403
    assert serving.amendments.sign_offs_asked() == []
    assert json.loads(serving.trail.recorded[-1])["outcome"] == "8"


def test_what_is_not_read_yet_cannot_be_signed(serving: Serving) -> None:
    waiting = serving.queue()
    base = serving.sign_in(Role.RADIOLOGIST)
    assert say(serving, base, waiting, {**AGREE, "sign": "1"}).status_code == 404


def test_no_audit_no_sign_off(serving: Serving) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(Role.RADIOLOGIST)
    serving.trail.broken = True
    assert say(serving, base, result, {**AGREE, "sign": "1"}).status_code == 503
    serving.trail.broken = False
    assert serving.amendments.sign_offs_asked() == []


def test_a_recalled_result_is_withdrawn_on_every_page_of_a_reader(serving: Serving) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(Role.RADIOLOGIST)
    assert "URGENT" in serving.client.get(f"{base}/studies/{result}").text.upper()
    recall(serving)
    page = serving.client.get(f"{base}/studies/{result}").text
    assert WITHDRAWN in page
    assert "Reads detector X wrongly." in page
    shown = page.partition("<main")[2]
    for words in ("Urgent", "probability", "Pleural effusion", "Agree and sign"):
        assert words not in shown.partition('id="verdict"')[0], words
    assert serving.client.get(f"{base}/studies/{result}/artefacts/card.json").status_code == 404
    assert serving.client.get(f"{base}/studies/{result}/artefacts/overlay.png").status_code == 404
    listed = serving.client.get(f"{base}/worklist").text
    assert WITHDRAWN in listed
    assert "badge urgent" not in listed


def test_a_recalled_result_stands_where_somebody_has_to_look(serving: Serving) -> None:
    withdrawn, normal = serving.add("urgent", 0), serving.add("normal", 1)
    recall(serving)
    ranks = {each.result_id: each.rank for each in serving.store.entries()}
    assert ranks[withdrawn] == ranks[normal], "both were the model's"
    assert serving.store.entry(normal).recalled


def test_the_ehr_is_told_that_a_result_was_withdrawn_and_nothing_of_what_it_said(
    serving: Serving,
) -> None:
    serving.add("urgent")
    recall(serving)
    call = {
        "hook": "patient-view",
        "hookInstance": "7a1f6f0e-7d0f-4f0e-9a51-0d3c8d1f0a11",
        "context": {"userId": "Practitioner/example", "patientId": "MRN 123456"},
    }
    (card,) = serving.client.post("/cds-services/radcds-patient-view", json=call).json["cards"]
    assert card["summary"] == "AI result withdrawn: do not use it"
    assert "urgent" not in json.dumps(card).lower()


def test_operators_steer_deliveries_and_auditors_only_look(serving: Serving) -> None:
    result = serving.add("urgent")
    outbox, now = serving.store.outbox, serving.clock.now()
    outbox.settle(result, "fhir", DeliveryState.PARKED, says="status 422", at=now)
    auditor = serving.sign_in(Role.AUDITOR)
    page = serving.client.get(f"{auditor}/operations").text
    assert "status 422" in page
    assert "<form" not in page.partition("<main")[2]
    form = {"destination": "fhir", "action": "pause", "publication": result}
    for path in ("deliveries", "destinations"):
        refused = serving.client.post(f"{auditor}/operations/{path}", data=form, headers=OURS)
        assert refused.status_code == 403
    message = serving.client.get(f"{auditor}/operations/messages/{result}/fhir")
    assert message.status_code == 403
    operator = serving.sign_in(Role.OPERATOR)
    for path in ("destinations", "deliveries"):
        before = len(serving.trail.recorded)
        done = serving.client.post(f"{operator}/operations/{path}", data=form, headers=OURS)
        assert done.status_code == 303
        (leaf,) = [json.loads(each) for each in serving.trail.recorded[before:]]
        assert any(agent["requestor"] for agent in leaf["agent"]), "a person did it"
    assert set(outbox.paused()) == {"fhir"}
    assert outbox.delivery(result, "fhir").state is DeliveryState.WAITING
    shown = serving.client.get(f"{operator}/operations").text
    assert "Resume fhir" in shown
    assert outbox.paused()["fhir"].since - now < timedelta(minutes=5)


def test_a_form_of_another_site_steers_nothing(serving: Serving) -> None:
    serving.add("urgent")
    base = serving.sign_in(Role.OPERATOR)
    form = {"destination": "fhir", "action": "pause"}
    evil = {"Origin": "https://evil.example.org"}
    answer = serving.client.post(f"{base}/operations/destinations", data=form, headers=evil)
    assert answer.status_code == 403
    assert serving.store.outbox.paused() == {}


@pytest.mark.parametrize(
    "form", [{}, {"destination": "fhir"}, {"destination": "fhir", "action": "stop"}]
)
def test_an_incomplete_form_is_said_and_does_nothing(
    serving: Serving, form: dict[str, str]
) -> None:
    serving.add("urgent")
    base = serving.sign_in(Role.OPERATOR)
    answer = serving.client.post(f"{base}/operations/destinations", data=form, headers=OURS)
    assert answer.status_code == 400
    assert serving.store.outbox.paused() == {}


def test_a_message_is_shown_to_operators_and_the_look_is_recorded_with_the_patient(
    serving: Serving,
) -> None:
    result = serving.add("urgent")
    base = serving.sign_in(Role.OPERATOR)
    address = f"{base}/operations/messages/{result}/fhir"
    assert serving.client.get(address).status_code == 404
    serving.store.outbox.keep_message(result, "fhir", b"MSH|of a patient")
    answer = serving.client.get(address)
    assert answer.data == b"MSH|of a patient"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    leaf = json.loads(serving.trail.recorded[-1])
    assert "MRN 123456" in json.dumps(leaf)


@pytest.mark.parametrize("name", ["not_analysed", "failed"])
def test_what_the_ai_did_not_analyse_cannot_be_signed(serving: Serving, name: str) -> None:
    result = serving.add(name)
    base = serving.sign_in(Role.RADIOLOGIST)
    assert "Agree and sign" not in serving.client.get(f"{base}/studies/{result}").text
    assert say(serving, base, result, {**AGREE, "sign": "1"}).status_code == 404


def test_a_result_that_was_superseded_cannot_be_signed(serving: Serving) -> None:
    result = serving.add("urgent")
    serving.store.notice("later", serving.store.study_of(result), ISSUED)
    base = serving.sign_in(Role.RADIOLOGIST)
    refused = say(serving, base, result, {**AGREE, "sign": "1"})
    assert refused.status_code == 404
    assert serving.amendments.sign_offs_asked() == []


def test_an_operator_of_some_centres_steers_no_destination_of_all(serving: Serving) -> None:
    result = serving.add("urgent")
    serving.store.outbox.keep_message(result, "fhir", b"MSH|of a patient")
    base = serving.sign_in(Role.OPERATOR, centres=["elsewhere"])
    form = {"destination": "fhir", "action": "pause", "publication": result, "message": "1"}
    for path in ("destinations", "deliveries", "inbox"):
        answer = serving.client.post(f"{base}/operations/{path}", data=form, headers=OURS)
        assert answer.status_code == 403, path
    message = serving.client.get(f"{base}/operations/messages/{result}/fhir")
    assert message.status_code == 403
    assert b"MSH" not in message.data
    assert serving.store.outbox.paused() == {}


def test_a_recalled_result_raises_no_order_of_the_ehr_and_holds_up_a_discharge() -> None:
    entry = StudyEntry("r", "1.2", ISSUED, StudyState.READ, None, {}, ISSUED, recalled=True)
    assert _needs_a_reader(entry)
    assert not _is_above_threshold(entry)
