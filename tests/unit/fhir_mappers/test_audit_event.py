"""Audit events: who did what to which study, in BALP shapes."""

import base64
import json
from typing import Any

import pytest
from fhirpathpy import evaluate
from studies import ISSUED, STUDY_UID, site

from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event

# IHE BALP 1.1, as FHIRPath: kind -> rules that every event of the kind keeps.
EVERY = [
    "recorded.exists()",
    "outcome = '0'",
    "source.observer.exists() and source.type.count() = 1",
    "agent.where(requestor = false).count() = 2",
    "agent.where(requestor = false).all(who.exists() and network.exists())",
    "agent.where(requestor = true).all(network.empty())",
    "agent.media.empty()",
]
RULES = {
    AuditKind.READ_STUDY: [
        "type.code = 'rest' and subtype.code = 'read' and action = 'R'",
        "entity.where(type.code = '2' and role.code = '4').what.exists()",
    ],
    AuditKind.VIEW_RESULT: [
        "type.code = 'rest' and subtype.code = 'read' and action = 'R'",
        "agent.where(type.coding.code = 'IRCP' and requestor = true).count() = 1",
        "entity.where(type.code = '2' and role.code = '4').what.exists()",
    ],
    AuditKind.QUERY: [
        "type.code = 'rest' and subtype.code = 'search' and action = 'E'",
        "entity.where(type.code = '2' and role.code = '24').count() = 1",
        "entity.where(role.code = '24').all(query.exists() and what.empty())",
    ],
    AuditKind.ANALYSE: [
        "type.code = 'rest' and subtype.code = 'create' and action = 'C'",
        "entity.where(type.code = '2' and role.code = '4').what.exists()",
    ],
    AuditKind.DELIVER: [
        "type.code = '110106' and subtype.code = 'disclose' and action = 'R'",
        "entity.count() >= 2",
        """agent.where(type.coding.code = '110153').who.identifier.value
        = source.observer.identifier.value""",
    ],
    AuditKind.FEEDBACK: [
        "type.code = 'rest' and subtype.code = 'create' and action = 'C'",
        "agent.where(type.coding.code = 'AUT' and requestor = true).count() = 1",
        "entity.where(type.code = '2' and role.code = '4').what.exists()",
    ],
    AuditKind.SIGN_IN: [
        "type.code = '110114' and subtype.code = '110122' and action = 'E'",
        "agent.where(requestor = true).count() = 1",
        "entity.where(type.code = '4').what.exists()",
    ],
    AuditKind.SIGN_OUT: [
        "type.code = '110114' and subtype.code = '110123' and action = 'E'",
        "entity.where(type.code = '4').what.exists()",
    ],
    AuditKind.BREAK_GLASS: [
        "type.code = '110113' and subtype.code = '110127' and action = 'E'",
        "purposeOfEvent.coding.code = 'BTG'",
        "agent.where(requestor = true).purposeOfUse.coding.code = 'BTG'",
        "entity.where(type.code = '2' and role.code = '4').what.exists()",
    ],
    AuditKind.RECEIVE: [
        "type.code = '110107' and subtype.code = 'receive' and action = 'C'",
        """agent.where(type.coding.code = '110152').who.identifier.value
        = source.observer.identifier.value""",
        "entity.where(type.code = '2' and role.code = '4').what.exists()",
    ],
    AuditKind.OPERATION: [
        "type.code = '110100' and subtype.code = 'component' and action = 'E'",
        "agent.where(requestor = true).empty()",
        "entity.where(type.code = '4').what.exists()",
    ],
}


def test_what_a_person_does_to_the_server_names_the_person() -> None:
    fact = AuditFact(AuditKind.OPERATION, ISSUED, "dr.who", "192.0.2.1", detail={"action": "pause"})
    event = json.loads(audit_event(fact, site()))
    (person,) = (each for each in event["agent"] if each["requestor"])
    assert person["who"]["identifier"]["value"] == "dr.who"


# Who sends the data and who gets them: a swap is invisible in the structure.
ROLES = {
    AuditKind.READ_STUDY: ("image archive", "https://radcds.example.org"),
    AuditKind.VIEW_RESULT: ("https://radcds.example.org", "dr.who"),
    AuditKind.QUERY: ("dr.who", "https://radcds.example.org"),
    AuditKind.ANALYSE: ("AI engine", "https://radcds.example.org"),
    AuditKind.DELIVER: ("https://radcds.example.org", "destination"),
    AuditKind.OPERATION: ("archive", "https://radcds.example.org"),
    AuditKind.RECEIVE: ("dr.who", "https://radcds.example.org"),
    **dict.fromkeys(
        (AuditKind.FEEDBACK, AuditKind.SIGN_IN, AuditKind.SIGN_OUT, AuditKind.BREAK_GLASS),
        ("dr.who", "https://radcds.example.org"),
    ),
}


def event(kind: AuditKind, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "kind": kind,
        "recorded": ISSUED,
        "user": "dr.who",
        "address": "127.0.0.1",
        "study_instance_uid": STUDY_UID,
        "result_id": "5f0f",
        "patient_id": "MRN 123456",
        "query": "worklist" if kind is AuditKind.QUERY else "",
        "detail": {"component": "archive"} if kind is AuditKind.OPERATION else {},
    }
    return dict(json.loads(audit_event(AuditFact(**{**values, **changes}), site())))


@pytest.mark.parametrize("kind", list(AuditKind))
def test_each_kind_keeps_its_balp_rules(kind: AuditKind) -> None:
    made = event(kind)
    for rule in [*EVERY, *RULES[kind]]:
        assert evaluate(made, rule) == [True], rule


@pytest.mark.parametrize("kind", list(AuditKind))
@pytest.mark.parametrize("lost", ["agent", "entity", "source", "recorded", "outcome", "subtype"])
def test_the_rules_notice_what_is_missing(kind: AuditKind, lost: str) -> None:
    made = event(kind)
    del made[lost]
    assert any(evaluate(made, rule) != [True] for rule in [*EVERY, *RULES[kind]])


@pytest.mark.parametrize("kind", list(AuditKind))
def test_source_and_destination_of_the_data_are_not_swapped(kind: AuditKind) -> None:
    made = event(kind)
    by_role = {
        agent["type"]["coding"][0]["code"]: agent["who"]["identifier"]["value"]
        for agent in made["agent"]
        if not agent["requestor"]
    }
    assert (by_role["110153"], by_role["110152"]) == ROLES[kind]


def test_a_failure_claims_no_profile_and_says_what_failed() -> None:
    made = event(AuditKind.ANALYSE, outcome_code="8", outcome_text="MODEL_FAILED: no numbers")
    assert "meta" not in made
    assert made["outcome"] == "8"
    assert "MODEL_FAILED" in made["outcomeDesc"]


def test_the_study_is_named_by_uid_and_the_patient_by_identifier_never_by_name() -> None:
    made = event(AuditKind.VIEW_RESULT)
    identifiers = [entity["what"]["identifier"]["value"] for entity in made["entity"]]
    assert identifiers == ["MRN 123456", f"urn:oid:{STUDY_UID}"]


def test_a_query_is_kept_as_it_was_asked() -> None:
    made = event(AuditKind.QUERY, query="DiagnosticReport?patient=1|2")
    assert base64.b64decode(made["entity"][-1]["query"]) == b"DiagnosticReport?patient=1|2"


def test_the_same_fact_has_the_same_id_and_another_fact_another() -> None:
    first, again = event(AuditKind.DELIVER), event(AuditKind.DELIVER)
    assert first["id"] == again["id"]
    assert first["id"] != event(AuditKind.DELIVER, address="127.0.0.2")["id"]
