"""Three validators of other people judge the FHIR that radcds makes."""

import json
from copy import deepcopy
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir_mutants import bundle as signed_bundle
from judges import ask
from pydantic import ValidationError
from studies import ISSUED, OUTCOMES, STUDY_UID, chest_image, chest_instance, chest_study, context
from studies import site as example_site

from ai_engine.result import TriageResult
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.operation_outcome import operation_outcome
from fhir_mappers.recall import recalled_bundle
from fhir_mappers.report_context import Recall, Verdict
from fhir_mappers.report_set import report_set


def bundle(name: str, **changes: object) -> bytes:
    outcome = OUTCOMES[name]
    analysed = isinstance(outcome, TriageResult)
    return report_set(
        chest_study(**changes),
        outcome,
        context=context(),
        source=chest_instance() if analysed else None,
        image=chest_image() if analysed else None,
    ).bundle


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_every_bundle_is_accepted(name: str) -> None:
    content = bundle(name)
    get_fhir_model_class("Bundle").model_validate_json(content)
    assert ask("fhir", content)["complaints"] == []


def test_a_study_with_nothing_but_a_uid_is_accepted() -> None:
    content = bundle("not_analysed", started=None, accession_number="", description="", series=())
    assert ask("fhir", content)["complaints"] == []


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_a_radiologist_signed_and_its_recall_are_accepted(verdict: Verdict) -> None:
    signed = signed_bundle("flagged", verdict)
    recall = Recall("The model reads images of one detector wrongly.", ISSUED)
    for content in (signed, recalled_bundle(signed, site=example_site(), recall=recall)):
        get_fhir_model_class("Bundle").model_validate_json(content)
        assert ask("fhir", content)["complaints"] == []


@pytest.mark.parametrize("kind", list(AuditKind))
def test_every_audit_event_is_accepted(kind: AuditKind) -> None:
    fact = AuditFact(
        kind,
        ISSUED,
        "dr.who",
        "127.0.0.1",
        study_instance_uid=STUDY_UID,
        patient_id="1",
        query="x",
        detail={"destination": "fhir"},
    )
    assert ask("fhir", audit_event(fact, example_site()))["complaints"] == []


def test_an_operation_outcome_is_accepted() -> None:
    assert ask("fhir", operation_outcome("not-found", "nothing here"))["complaints"] == []


def resource(kind: str) -> dict[str, Any]:
    entries = json.loads(bundle("flagged"))["entry"]
    return next(deepcopy(e["resource"]) for e in entries if e["resource"]["resourceType"] == kind)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("DiagnosticReport", {"status": "prelim"}),
        ("DiagnosticReport", {"issued": "yesterday"}),
        ("Observation", {"code": None}),
        ("ImagingStudy", {"numberOfSeries": "one"}),
        ("Provenance", {"recorded": None}),
        ("Device", {"flavour": "sweet"}),
    ],
)
def test_the_judges_reject_a_broken_resource(kind: str, fault: dict[str, Any]) -> None:
    broken = {k: v for k, v in {**resource(kind), **fault}.items() if v is not None}
    content = json.dumps(broken).encode()
    rejected = bool(ask("fhir", content)["complaints"])
    try:
        get_fhir_model_class(kind).model_validate_json(content)
    except ValidationError:
        rejected = True
    assert rejected
