"""A hook call is read or refused by its field; nothing else happens, whatever comes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import OUTCOMES

from fhir_mappers.hook_call import (
    InvalidHookCall,
    hook_call,
    identifiers,
    is_about,
    study_uids,
)
from fhir_mappers.worklist_priority import answers_order, is_task_of, raised

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = ("hook", "hookInstance", "context", "fhirServer", "fhirAuthorization", "prefetch")
GOOD = {
    "hook": "patient-view",
    "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
    "context": {"userId": "Practitioner/1", "patientId": "p1"},
}
RISING = ["routine", "urgent", "asap", "stat"]


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([*FIELDS, "extension", "x"]), JSON))
def test_no_json_crashes_the_reader(changes: dict[str, Any]) -> None:
    try:
        call = hook_call({**GOOD, **changes}, hook="patient-view", required=("userId", "patientId"))
    except InvalidHookCall as error:
        assert str(error).split(":")[0].split(".")[0] in FIELDS
        return
    assert isinstance(call.draft_orders, list | tuple)
    assert "access_token=" not in repr(call)


@given(JSON, JSON)
def test_no_resource_crashes_what_looks_into_it(first: Any, second: Any) -> None:
    patient = {"resourceType": "Patient", "identifier": first, "subject": second}
    assert all(isinstance(value, str) for pair in identifiers(patient) for value in pair)
    assert is_about(patient, "p1") in {True, False}
    study = {"resourceType": "ImagingStudy", "identifier": first}
    assert isinstance(study_uids([study]), list)
    order = {"resourceType": "Task", "identifier": first, "focus": second, "basedOn": first}
    assert answers_order(order, "ACC1", "urn:x") in {True, False}
    assert is_task_of(order, [{"resourceType": "ServiceRequest", "id": "r"}]) in {True, False}


def test_an_old_identifier_names_nobody() -> None:
    listed = [
        {"system": "a", "value": "1", "use": "old"},
        {"system": "a", "value": "2", "use": "usual"},
        {"value": "3"},
    ]
    assert identifiers({"identifier": listed}) == [("a", "2"), ("", "3")]


@pytest.mark.parametrize(
    "reference", ["Patient/p12", "Patient/p1/_history/2", "Group/p1", "", None, 7]
)
def test_a_resource_is_about_a_patient_by_its_reference_alone(reference: object) -> None:
    assert not is_about({"subject": {"reference": reference}}, "p1")
    for own in ("Patient/p1", "https://ehr.example.org/fhir/Patient/p1"):
        assert is_about({"subject": {"reference": own}}, "p1")


@given(
    st.sampled_from(RISING),
    st.sampled_from(sorted(OUTCOMES)),
    st.sampled_from(["active", "draft", "completed", "revoked", "requested", "unknown"]),
)
def test_a_priority_only_ever_rises_and_nothing_else_changes(
    priority: str, outcome: str, status: str
) -> None:
    order = {"resourceType": "ServiceRequest", "id": "r", "status": status, "priority": priority}
    changed = raised(order, OUTCOMES[outcome])
    if changed is None:
        return
    assert outcome in {"urgent", "flagged"}
    assert status in {"active", "draft", "requested"}
    assert RISING.index(changed["priority"]) > RISING.index(priority)
    assert {**changed, "priority": priority} == order


def test_the_order_of_another_namespace_is_not_this_one() -> None:
    order = {"identifier": [{"system": "urn:other", "value": "ACC1"}]}
    assert not answers_order(order, "ACC1", "urn:site")
    assert answers_order(
        {"identifier": [{"system": "urn:site", "value": "ACC1"}]}, "ACC1", "urn:site"
    )
    typed = {"value": "ACC1", "type": {"coding": [{"code": "ACSN"}]}}
    assert answers_order({"focus": {"identifier": typed}}, "ACC1", "urn:site")
    assert not answers_order({"identifier": [{"system": "urn:site", "value": ""}]}, "", "urn:site")
