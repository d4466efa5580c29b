"""Our rules of FHIR against the specification, other people's validators, and themselves."""

import json
import re
import runpy
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir_mutants import (
    JPEG,
    MUTANTS,
    Resource,
    at,
    bundle,
    changed,
    good,
    leaves,
    of_type,
    with_,
    without,
)
from judges import _MODULES
from pydantic import ValidationError
from studies import ISSUED, OUTCOMES, STUDY_UID, context
from studies import site as example_site

from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_rules.balp import BALP, claimed_rules
from fhir_mappers.fhir_rules.elements import ELEMENTS, EMITTED_TYPES
from fhir_mappers.fhir_rules.invariants import KEYS
from fhir_mappers.fhir_rules.profiles import RULES, Profile, profile_faults
from fhir_mappers.fhir_rules.r4 import check
from fhir_mappers.fhir_rules.rule import ProfileRule
from fhir_mappers.report_context import DisplayMode, Verdict

ROOT = Path(__file__).parents[2]
GOOD = good()
SCRIPT = ROOT / "scripts" / "fhir_elements.py"
BY_DESIGN = {
    "ele-1": "nothing is empty",
    "dom-2": "no contained resource",
    "dom-3": "no contained resource",
    "dom-4": "no contained resource",
    "dom-5": "no contained resource",
    "bdl-9": "no document",
    "bdl-10": "no document",
    "bdl-11": "no document",
    "bdl-12": "no message",
    "cpb-3": "no messaging",
    "cpb-7": "no documents",
    "cpb-15": "of an instance alone",
    "cpb-16": "of an instance alone",
}


@pytest.fixture(scope="module")
def specification() -> dict[str, Any]:
    assert _MODULES.is_dir(), "the judges are not installed: run scripts/install_judges.sh"
    return runpy.run_path(str(SCRIPT))


def judged(resources: list[Resource], folder: Path) -> list[list[str]]:
    """Give what npm ``fhir`` and ``@medplum/core`` say of each resource."""
    file = folder / "resources.json"
    file.write_text(json.dumps(resources), "utf-8")
    script = Path(__file__).parent / "judges" / "judge_many.js"
    asked = subprocess.run(
        ["node", script, _MODULES, file], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr
    verdicts: list[list[str]] = json.loads(asked.stdout)
    return verdicts


def mutants() -> list[Resource]:
    """Give every fault of ``MUTANTS``, and each value of each resource taken away or changed."""
    return [
        *(change(GOOD[name]) for name, change in MUTANTS.values()),
        *(
            mutant
            for name, resource in GOOD.items()
            if name != "Bundle"
            for path, value in leaves(resource)
            for mutant in (
                without(*path)(resource),
                *([changed(resource, path, "x y")] if isinstance(value, str) else []),
            )
        ),
    ]


def is_refused(resource: Resource) -> bool:
    try:
        check(resource)
    except InvalidMessage:
        return True
    return False


# --- R4 itself


def test_the_table_of_elements_is_that_of_the_specification(specification: dict[str, Any]) -> None:
    written = specification["written"](specification["table"]())
    assert specification["TABLE"].read_text("utf-8") == written, "run scripts/fhir_elements.py"


def test_every_invariant_of_what_is_emitted_is_looked_at(specification: dict[str, Any]) -> None:
    known = specification["structures"]()
    found = {
        rule["key"]
        for kind in (*specification["DATATYPES"], *specification["RESOURCES"])
        for element in known[kind]["snapshot"]["element"]
        for rule in element.get("constraint", ())
        if rule["severity"] == "error"
    }
    ours = {key for key in KEYS if not key.startswith("radcds-")}
    assert found == ours | set(BY_DESIGN)
    assert not ours & set(BY_DESIGN)


def test_other_peoples_validators_accept_every_good_resource(tmp_path: Path) -> None:
    for name, complaints in zip(GOOD, judged(list(GOOD.values()), tmp_path), strict=True):
        assert complaints == [], name


def test_whatever_another_validator_refuses_is_refused_here_too(tmp_path: Path) -> None:
    tried = mutants()
    verdicts = judged(tried, tmp_path)
    caught = [each for each, complaints in zip(tried, verdicts, strict=True) if complaints]
    assert len(caught) > len(MUTANTS)
    assert [each for each in caught if not is_refused(each)] == []


def test_whatever_the_models_refuse_is_refused_here_too() -> None:
    refused = 0
    for mutant in mutants():
        kind = str(mutant.get("resourceType"))
        if kind not in EMITTED_TYPES:
            continue
        try:
            get_fhir_model_class(kind).model_validate(mutant)
        except ValidationError:
            refused += 1
            assert is_refused(mutant)
    assert refused > len(MUTANTS), "the models refuse some of them"


def test_every_reference_and_code_that_is_emitted_is_in_the_table() -> None:
    for kind, rows in ELEMENTS.items():
        for name, element in rows.items():
            bare = element.kind in ELEMENTS or element.kind[0].islower()
            assert bare or element.kind == "Resource", (kind, name)


# --- profiles


def broken_rules(content: bytes, *profiles: Profile) -> set[str]:
    return {fault.rule for fault in profile_faults(content, profiles)}


@pytest.mark.parametrize("name", sorted(OUTCOMES))
@pytest.mark.parametrize("mode", list(DisplayMode))
@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_our_transactions_keep_uk_core_and_ai_transparency(
    name: str, mode: DisplayMode, verdict: Verdict | None
) -> None:
    analysed = name in {"urgent", "flagged", "normal"}
    if verdict and not analysed:
        return
    shown = JPEG if analysed and mode is DisplayMode.OVERLAY else None
    made = bundle(name, verdict, overlay=shown, base=context(mode))
    assert profile_faults(made, [Profile.UK_CORE, Profile.AI_TRANSPARENCY]) == ()


def test_a_study_with_nothing_but_a_uid_keeps_them_too() -> None:
    changes: dict[str, Any] = {"started": None, "accession_number": "", "series": ()}
    made = bundle("not_analysed", overlay=None, **changes)
    assert profile_faults(made, [Profile.UK_CORE, Profile.AI_TRANSPARENCY]) == ()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_signed_report_keeps_imr_but_for_where_the_images_are(verdict: Verdict) -> None:
    made = bundle(verdict=verdict)
    assert broken_rules(made, Profile.IMR) == {"imr-study-endpoint"}
    study = of_type(made, "ImagingStudy")[0]
    with_endpoint = {**study, "endpoint": [{"reference": "Endpoint/wado"}]}
    assert profile_faults(json.dumps(with_endpoint).encode(), [Profile.IMR]) == ()


@pytest.mark.parametrize("name", ["flagged", "not_analysed"])
def test_what_ai_says_alone_is_no_imr_report(name: str) -> None:
    made = bundle(name, overlay=None)
    assert {"imr-report-status", "imr-report-interpreter"} <= broken_rules(made, Profile.IMR)


def test_the_rules_hold_for_literal_references_as_well() -> None:
    made = json.loads(bundle(verdict=Verdict.CONFIRMED))
    for entry in made["entry"]:
        resource = entry["resource"]
        for name, literal in (("subject", "Patient/7"), ("resultsInterpreter", "Practitioner/8")):
            held = resource.get(name)
            for reference in held if isinstance(held, list) else [held] if held else []:
                del reference["type"]
                reference["reference"] = literal
    faults = broken_rules(json.dumps(made).encode(), *Profile)
    assert faults == {"imr-study-endpoint"}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"resourceType":"Bundle","entry":[1]}'])
def test_what_is_no_resource_has_no_profile(content: bytes) -> None:
    with pytest.raises(InvalidMessage, match="no FHIR resource"):
        profile_faults(content, [Profile.UK_CORE])


def test_a_fault_says_which_rule_of_which_resource_and_shows_no_patient() -> None:
    broken = changed(json.loads(bundle()), ("entry", 1, "resource", "type"), {"text": "x"})
    [fault] = profile_faults(json.dumps(broken).encode(), [Profile.AI_TRANSPARENCY])
    device = broken["entry"][1]["resource"]["id"]
    assert str(fault) == (
        f"Device/{device}: is of the type Artificial-Intelligence (ai-transparency, ai-device-type)"
    )


# Each rule is broken by one change, and no other rule is.

Change = Callable[[Resource], Resource]
REPORT = GOOD["DiagnosticReport"]
SIGNED = of_type(bundle(verdict=Verdict.CONFIRMED), "DiagnosticReport")[0]
CORRECTED = GOOD["Signed report"]
STUDY = {**GOOD["ImagingStudy"], "endpoint": [{"reference": "Endpoint/wado"}]}
HUMAN = of_type(bundle(verdict=Verdict.CONFIRMED), "Provenance")[1]
CARD, AI, DEVICE = GOOD["DocumentReference"], GOOD["Provenance"], GOOD["Device"]
OBSERVATION, MEDIA = GOOD["Observation"], GOOD["Media"]
DEVICE_REFERENCE = REPORT["performer"][1]["extension"][0]
INLINE = CORRECTED["conclusionCode"][0]["extension"]
OTHER_CODE = {"coding": [{"system": "https://a.example", "code": "x"}]}


def _confidence(value: Resource) -> Change:
    extension = {**OBSERVATION["extension"][0]}
    del extension["valueDecimal"]
    return lambda r: {**r, "extension": [{**extension, **value}]}


UK_CHANGES: dict[str, tuple[Resource, Change]] = {
    "uk-report-status": (REPORT, without("status")),
    "uk-report-category": (REPORT, without("category")),
    "uk-report-code": (REPORT, without("code", "coding", 1)),
    "uk-report-subject": (REPORT, without("subject")),
    "uk-report-issued": (REPORT, without("issued")),
    "uk-report-result": (REPORT, without("result")),
    "uk-device-reference": (REPORT, without("performer", 1)),
    "uk-device-reference-once": (
        REPORT,
        at("performer", 1, "extension", to=[DEVICE_REFERENCE, DEVICE_REFERENCE]),
    ),
    "uk-device-reference-value": (
        REPORT,
        at("performer", 1, "extension", 0, "valueReference", "reference", to="Patient/1"),
    ),
    "ukcore-diag-lab-002": (
        REPORT,
        with_(
            extension=[
                {
                    "url": "http://hl7.org/fhir/5.0/StructureDefinition/"
                    "extension-DiagnosticReport.media.link",
                    "valueReference": {"reference": "DocumentReference/1"},
                }
            ]
        ),
    ),
    "uk-study-status": (STUDY, without("status")),
    "uk-study-subject": (STUDY, without("subject")),
    "uk-study-modality": (STUDY, without("modality")),
    "uk-study-series": (STUDY, without("series")),
    "uk-device-status": (DEVICE, without("status")),
    "uk-device-type": (DEVICE, without("type")),
}
AI_CHANGES: dict[str, tuple[Resource, Change]] = {
    "ai-label-diagnosticreport": (REPORT, without("meta")),
    "ai-label-media": (MEDIA, without("meta")),
    "ai-label-observation": (OBSERVATION, at("meta", "security", 0, "code", to="CLINAST")),
    "ai-inline-diagnosticreport": (CORRECTED, without("meta", "security", 1)),
    "ai-inline-media": (MEDIA, at("note", 0, "extension", to=INLINE)),
    "ai-inline-observation": (OBSERVATION, at("code", "extension", to=INLINE)),
    "ai-confidence-diagnosticreport": (REPORT, _confidence({"valueDecimal": 1.01})),
    "ai-confidence-media": (MEDIA, _confidence({})),
    "ai-confidence-observation": (OBSERVATION, _confidence({"valueDecimal": -0.1})),
    "ai-observation-confidence": (OBSERVATION, without("extension")),
    "ai-observation-device": (OBSERVATION, without("device")),
    "ai-device-type": (DEVICE, with_(type=OTHER_CODE)),
    "ai-device-kind": (DEVICE, lambda r: {**r, "extension": r["extension"][2:]}),
    "ai-device-kind-value": (
        DEVICE,
        at("extension", 0, "valueCodeableConcept", "coding", 0, "code", to="AI-By-Scenario"),
    ),
    "ai-device-version": (DEVICE, without("version")),
    "ai-device-name": (DEVICE, without("deviceName")),
    "ai-device-identifier": (DEVICE, without("identifier")),
    "ai-device-maker": (DEVICE, without("manufacturer")),
    "ai-device-card-value": (
        DEVICE,
        at("extension", 2, "valueReference", "reference", to="Binary/1"),
    ),
    "ai-card-type": (CARD, at("type", "coding", 0, "code", to="AIInputPrompt")),
    "ai-card-category": (CARD, without("category")),
    "ai-card-format": (CARD, at("content", 0, "attachment", "contentType", to="text/html")),
    "ai-card-content": (CARD, without("content", 0, "attachment", "data")),
    "ai-provenance-reason": (AI, without("reason")),
    "ai-provenance-agent": (AI, without("agent", 0, "role")),
    "ai-provenance-agent-type": (AI, without("agent", 0, "type")),
    "ai-provenance-agent-who": (AI, at("agent", 0, "who", to={"reference": "Organization/1"})),
    "ai-provenance-people": (HUMAN, without("agent", 0, "type")),
    "ai-provenance-card": (AI, at("entity", 1, "role", to="source")),
    "ai-bundle-provenance": (GOOD["Bundle"], without("entry", -1, "resource", "target", 0)),
    "ai-bundle-card": (GOOD["Bundle"], without("entry", -1, "resource", "entity", 1)),
}
IMR_CHANGES: dict[str, tuple[Resource, Change]] = {
    "imr-report-status": (SIGNED, with_(status="preliminary")),
    "imr-report-text": (SIGNED, without("text")),
    "imr-report-subject": (SIGNED, at("subject", "type", to="Group")),
    "imr-report-issued": (SIGNED, without("issued")),
    "imr-report-organisation": (SIGNED, without("performer", 0)),
    "imr-report-interpreter": (SIGNED, at("resultsInterpreter", 0, "type", to="Organization")),
    "imr-report-study": (SIGNED, without("imagingStudy")),
    "imr-form-html": (SIGNED, at("presentedForm", 0, "contentType", to="application/pdf")),
    "imr-form-type": (SIGNED, lambda r: _second_form(r, "contentType")),
    "imr-form-size": (SIGNED, without("presentedForm", 0, "size")),
    "imr-form-hash": (SIGNED, without("presentedForm", 0, "hash")),
    "imr-form-content": (SIGNED, without("presentedForm", 0, "data")),
    "imr-report-contained": (SIGNED, with_(contained=[{"resourceType": "Device", "id": "a"}])),
    "imr-study-uid": (STUDY, at("identifier", 0, "system", to="https://a.example")),
    "imr-study-modality": (STUDY, without("modality")),
    "imr-study-subject": (STUDY, at("subject", "type", to="Device")),
    "imr-study-started": (STUDY, without("started")),
    "imr-study-series": (STUDY, without("series")),
    "imr-study-endpoint": (STUDY, without("endpoint")),
}


def _second_form(report: Resource, lacking: str) -> Resource:
    first = report["presentedForm"][0]
    second = {name: each for name, each in first.items() if name != lacking}
    return {**report, "presentedForm": [first, second]}


CHANGES = [
    (profile, rule, *change)
    for profile, changes in (
        (Profile.UK_CORE, UK_CHANGES),
        (Profile.AI_TRANSPARENCY, AI_CHANGES),
        (Profile.IMR, IMR_CHANGES),
    )
    for rule, change in changes.items()
]


@pytest.mark.parametrize(("profile", "rule", "resource", "change"), CHANGES)
def test_one_change_breaks_one_rule(
    profile: Profile, rule: str, resource: Resource, change: Change
) -> None:
    assert broken_rules(json.dumps(resource).encode(), profile) == set()
    assert broken_rules(json.dumps(change(resource)).encode(), profile) == {rule}


@pytest.mark.parametrize("profile", [each for each in Profile if each is not Profile.BALP])
def test_every_rule_is_broken_by_some_change(profile: Profile) -> None:
    tried = [rule for of, rule, _, _ in CHANGES if of is profile]
    assert sorted(tried) == sorted(rule.key for rule in RULES[profile])


# --- IHE BALP

_FACT = AuditFact(
    AuditKind.READ_STUDY,
    ISSUED,
    "dr.who",
    "192.0.2.10",
    study_instance_uid=STUDY_UID,
    query="patient=1",
    detail={"destination": "fhir", "model": "cxr-test"},
)


def event(kind: AuditKind, patient_id: str | None = None) -> Resource:
    made: Resource = json.loads(
        audit_event(replace(_FACT, kind=kind, patient_id=patient_id), example_site())
    )
    return made


@pytest.mark.parametrize("patient_id", [None, "MRN 1"])
@pytest.mark.parametrize("kind", AuditKind)
def test_our_audit_events_keep_the_pattern_that_they_claim(
    kind: AuditKind, patient_id: str | None
) -> None:
    assert profile_faults(json.dumps(event(kind, patient_id)).encode(), [Profile.BALP]) == ()


def _exemplary(profile: str) -> Resource:
    """Give an event that keeps a pattern: ours, with what it lacks."""
    kind = {
        "Read": AuditKind.VIEW_RESULT,
        "Query": AuditKind.QUERY,
        "Create": AuditKind.FEEDBACK,
        "PrivacyDisclosure.Source": AuditKind.DELIVER,
    }[profile.rpartition("BasicAudit.")[2].removeprefix("Patient")]
    has_patient = "Patient" in profile or kind is AuditKind.DELIVER
    made = event(kind, "MRN 1" if has_patient else None)
    if has_patient:
        made["entity"][0]["what"]["type"] = "Patient"
    if kind is AuditKind.FEEDBACK:
        made["agent"][2]["type"]["coding"][0]["code"] = "AUT"
    assert made["meta"]["profile"] == [profile]
    return made


def _entity(event: Resource, code: str) -> int:
    return next(n for n, each in enumerate(event["entity"]) if each["type"]["code"] == code)


def _in_balp(event: Resource) -> Iterator[tuple[str, Change]]:
    disclosed = "110106" in json.dumps(event["type"])
    yield "balp-type", at("type", "code", to="110107")
    yield "balp-action", with_(action="D")
    yield "balp-subtype", at("subtype", 0, "code", to="history")
    yield "balp-recorded", without("recorded")
    yield "balp-outcome", without("outcome") if disclosed else with_(outcome="8")
    yield from _in_agents(event, disclosed=disclosed)
    if disclosed:
        yield "balp-val-audit-source", at("source", "observer", to={"display": "another"})
        yield "balp-modifier", with_(modifierExtension=[{"url": "https://a.example"}])
        yield "balp-data", without("entity", _entity(event, "2"))
    else:
        yield "balp-source", without("source", "observer")
        system = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
        nameless = {"type": {"system": system, "code": "XrequestId"}, "what": {"display": "x"}}
        yield "balp-transaction", lambda r: {**r, "entity": [*r["entity"], nameless]}
        yield from _in_entities(event)
    if any(each["type"]["code"] == "1" for each in event["entity"]):
        patient = _entity(event, "1")
        yield "balp-patient", at("entity", patient, "type", "code", to="3")
        yield "balp-patient-role", at("entity", patient, "role", "code", to="4")
        yield "balp-patient-what", at("entity", patient, "what", "type", to="Group")


def _in_agents(event: Resource, *, disclosed: bool) -> Iterator[tuple[str, Change]]:
    codes = [each["type"]["coding"][0]["code"] for each in event["agent"]]
    is_read = event["action"] == "R" and not disclosed
    source, destination = codes.index("110153"), codes.index("110152")
    client, server = (destination, source) if is_read else (source, destination)
    names = ("source", "recipient") if disclosed else ("client", "server")
    for name, number in zip(names, (client, server), strict=True):
        yield f"balp-{name}", at("agent", number, "type", "coding", 0, "code", to="110150")
        yield f"balp-{name}-network", without("agent", number, "network")
        yield f"balp-{name}-media", at("agent", number, "media", to={"code": "x"})
        if not (disclosed and name == "source"):
            yield f"balp-{name}-who", without("agent", number, "who")
    if not disclosed:
        yield "balp-user", lambda r: {**r, "agent": [*r["agent"], r["agent"][2]]}
        yield "balp-user-type", at("agent", 2, "type", "coding", 0, "code", to="PRF")
        yield "balp-user-who", without("agent", 2, "who")
        yield "balp-user-requestor", at("agent", 2, "requestor", to=False)
        yield "balp-user-network", at("agent", 2, "network", to={"address": "x"})
        yield "balp-user-media", at("agent", 2, "media", to={"code": "x"})


def _in_entities(event: Resource) -> Iterator[tuple[str, Change]]:
    data = _entity(event, "2")
    if event["entity"][data]["role"]["code"] == "24":
        yield "balp-query", at("entity", data, "role", "code", to="4")
        yield "balp-query-type", at("entity", data, "type", "code", to="4")
        yield "balp-query-query", without("entity", data, "query")
        yield "balp-query-what", at("entity", data, "what", to={"display": "x"})
        yield "balp-query-detail", at("entity", data, "detail", to=[{"type": "x"}])
    else:
        yield "balp-data", at("entity", data, "type", "code", to="4")
        yield "balp-data-what", without("entity", data, "what")
        yield "balp-data-role", at("entity", data, "role", "code", to="5")


BALP_CHANGES = [
    (profile, rule, change) for profile in BALP for rule, change in _in_balp(_exemplary(profile))
]


@pytest.mark.parametrize("profile", list(BALP))
def test_an_exemplary_event_keeps_its_pattern(profile: str) -> None:
    assert broken_rules(json.dumps(_exemplary(profile)).encode(), Profile.BALP) == set()


@pytest.mark.parametrize(("profile", "rule", "change"), BALP_CHANGES)
def test_one_change_breaks_one_rule_of_a_pattern(profile: str, rule: str, change: Change) -> None:
    mutant = change(_exemplary(profile))
    assert broken_rules(json.dumps(mutant).encode(), Profile.BALP) == {rule}


@pytest.mark.parametrize("profile", list(BALP))
def test_every_rule_of_a_pattern_is_broken_by_some_change(profile: str) -> None:
    tried = {rule for of, rule, _ in BALP_CHANGES if of == profile}
    at_once = {"balp-source-who"} if profile.endswith("Source") else set()
    assert tried | at_once == {rule.key for rule in BALP[profile]}


def test_an_agent_without_who_is_not_who_recorded_it() -> None:
    profile = next(each for each in BALP if each.endswith("PrivacyDisclosure.Source"))
    mutant = without("agent", 0, "who")(_exemplary(profile))
    assert broken_rules(json.dumps(mutant).encode(), Profile.BALP) == {
        *("balp-source-who", "balp-val-audit-source")
    }


def test_a_claim_of_a_pattern_that_is_not_compared_is_a_fault() -> None:
    claimed = at("meta", "profile", 0, to=f"{next(iter(BALP))}Nonsense")(
        _exemplary(next(iter(BALP)))
    )
    assert broken_rules(json.dumps(claimed).encode(), Profile.BALP) == {"balp-known"}
    elsewhere = at("meta", "profile", 0, to="https://a.example/profile")(claimed)
    assert broken_rules(json.dumps(elsewhere).encode(), Profile.BALP) == set()


@pytest.mark.parametrize("profile", list(BALP))
def test_client_and_server_are_told_apart(profile: str) -> None:
    made = _exemplary(profile)
    first, second = (each["type"]["coding"][0]["code"] for each in made["agent"][:2])
    assert {first, second} == {"110152", "110153"}
    mutant = at("agent", 0, "type", "coding", 0, "code", to=second)(made)
    assert broken_rules(json.dumps(mutant).encode(), Profile.BALP)


# --- what is told of them


def test_every_rule_is_documented_with_its_words() -> None:
    page = (ROOT / "docs/reference/fhir-profiles.md").read_text("utf-8")
    rules: list[ProfileRule] = [*(each for table in RULES.values() for each in table)]
    rules += [each for table in BALP.values() for each in table]
    rules += claimed_rules(f"{next(iter(BALP))}Nonsense")
    for rule in rules:
        assert re.search(rf"\| `{rule.key}` \|.*\| {re.escape(rule.says)} \|", page), rule.key
