"""One result, the same in every channel, and nothing that it must not say."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studies import OUTCOMES, chest_image, chest_instance, chest_study, context

from ai_engine.result import NotAnalysed, Priority, TriageResult
from fhir_mappers.report_context import DICOM_FILES, DisplayMode, ReportSet
from fhir_mappers.report_set import report_set
from fhir_mappers.study import Patient, PersonName

names = st.sampled_from(sorted(OUTCOMES))


def made(name: str, mode: DisplayMode = DisplayMode.OVERLAY, **changes: object) -> ReportSet:
    outcome = OUTCOMES[name]
    return report_set(
        chest_study(**changes),
        outcome,
        context=context(mode),
        source=chest_instance(),
        image=chest_image() if isinstance(outcome, TriageResult) else None,
    )


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_what_integrators_receive(name: str, golden: Callable[[str, bytes], None]) -> None:
    artefacts = made(name, DisplayMode.TRIAGE_ONLY)
    golden(f"fhir/{name}.json", artefacts.bundle + b"\n")
    golden(f"hl7/{name}.hl7", artefacts.oru.replace(b"\r", b"\n"))
    golden(f"cds_hooks/{name}.json", artefacts.card + b"\n")


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_the_same_result_is_the_same_bytes(name: str) -> None:
    assert made(name).files() == made(name).files()


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_triage_only_site_gets_no_location_in_any_channel(name: str) -> None:
    artefacts = made(name, DisplayMode.TRIAGE_ONLY)
    assert set(artefacts.files()) == {
        *("bundle.json", "oru.hl7", "card.json", "report.dcm", "root-result.dcm")
    }
    assert b"|ED|" not in artefacts.oru
    kinds = {entry["resource"]["resourceType"] for entry in json.loads(artefacts.bundle)["entry"]}
    assert not kinds & {"Media", "Binary"}


@pytest.mark.parametrize("name", ["not_analysed", "failed"])
def test_what_was_not_analysed_never_looks_normal(name: str) -> None:
    artefacts = made(name)
    bundle = json.loads(artefacts.bundle)
    report = next(
        entry["resource"]
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "DiagnosticReport"
    )
    assert report["status"] == "registered"
    assert "result" not in report
    assert not any(e["resource"]["resourceType"] == "Observation" for e in bundle["entry"])
    everything = b"".join(artefacts.files().values()).decode("latin-1").lower()
    assert "no listed finding" not in everything
    assert "no-finding" not in everything
    assert not re.search(r"\|(n|a|aa)\|\|\|p\|", everything)
    assert "|x|" in artefacts.oru.decode().lower()
    assert "TQ1" not in artefacts.oru.decode()
    assert "overlay.png" not in artefacts.files()
    assert set(artefacts.dicom) == {"report.dcm", "root-result.dcm"}


@pytest.mark.parametrize("name", ["urgent", "failed"])
def test_of_an_unknown_study_there_is_no_dicom_object(name: str) -> None:
    unknown = report_set(chest_study(), OUTCOMES[name], context=context(), source=None, image=None)
    assert set(unknown.files()) == {"bundle.json", "oru.hl7", "card.json"}


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_report_set_comes_back_from_its_files(name: str) -> None:
    artefacts = made(name)
    assert ReportSet.of_files(artefacts.files()) == replace(artefacts, original_png=None)
    assert tuple(artefacts.dicom) == tuple(n for n in DICOM_FILES if n in artefacts.dicom)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_ai_alone_is_never_final(name: str) -> None:
    artefacts = made(name)
    statuses = {
        entry["resource"].get("status")
        for entry in json.loads(artefacts.bundle)["entry"]
        if entry["resource"]["resourceType"] in {"DiagnosticReport", "Observation"}
    }
    assert statuses <= {"preliminary", "registered"}
    for segment in artefacts.oru.decode().split("\r"):
        fields = segment.split("|")
        if fields[0] == "OBR":
            assert fields[25] in {"P", "I"}
        if fields[0] == "OBX":
            assert fields[11] in {"P", "O", "X"}


def test_a_normal_result_says_only_that_nothing_is_above_threshold() -> None:
    artefacts = made("normal")
    card = json.loads(artefacts.card)["cards"][0]
    assert "No listed finding above its threshold" in card["summary"]
    assert "normal" not in card["summary"].lower()
    assert card["indicator"] == "info"


@pytest.mark.parametrize(
    ("name", "flag", "priority", "indicator"),
    [
        ("urgent", "AA", "S", "critical"),
        ("flagged", "A", "A", "warning"),
        ("normal", "N", "R", "info"),
    ],
)
def test_the_priority_is_the_same_in_every_channel(
    name: str, flag: str, priority: str, indicator: str
) -> None:
    artefacts = made(name)
    segments = [segment.split("|") for segment in artefacts.oru.decode().split("\r")]
    triage = next(s for s in segments if s[0] == "OBX" and s[3].startswith("RADCDS-TRIAGE"))
    assert triage[8] == flag
    assert next(s for s in segments if s[0] == "TQ1")[9].startswith(priority)
    assert json.loads(artefacts.card)["cards"][0]["indicator"] == indicator


def test_probability_and_threshold_are_the_same_in_every_channel() -> None:
    artefacts = made("flagged")
    outcome = OUTCOMES["flagged"]
    assert isinstance(outcome, TriageResult)
    observations = [
        entry["resource"]
        for entry in json.loads(artefacts.bundle)["entry"]
        if entry["resource"]["resourceType"] == "Observation"
    ]
    obx = [s.split("|") for s in artefacts.oru.decode().split("\r") if "59776-5" in s]
    for finding, observation, segment in zip(outcome.findings, observations, obx, strict=True):
        values = [c["valueQuantity"]["value"] for c in observation["component"]]
        assert values == pytest.approx([finding.probability, finding.threshold], abs=1e-4)
        assert float(segment[9]) == pytest.approx(finding.probability, abs=1e-3)
        assert float(segment[7].removeprefix("<")) == pytest.approx(finding.threshold, abs=1e-3)


def test_every_channel_names_model_version_and_digest_and_disclaims() -> None:
    artefacts = made("urgent")
    for content in (artefacts.bundle, artefacts.oru, artefacts.card):
        text = content.decode().replace("\\\\", "").replace("\\", "")
        assert "cxr-test" in text
        assert "2.1.0" in text
        assert "5f5f5f5f5f5f5f5f" in text
        assert "not a diagnosis" in text.lower()


def test_the_card_holds_no_name_and_nothing_empty() -> None:
    for name in OUTCOMES:
        card = json.loads(made(name).card)
        assert "TEST" not in json.dumps(card)

        def check(value: object) -> None:
            assert value not in (None, "", [], {})
            for inner in value.values() if isinstance(value, dict) else []:
                check(inner)
            for inner in value if isinstance(value, list) else []:
                check(inner)

        check(card)
        assert len(card["cards"][0]["summary"]) < 140


def test_a_silent_site_gets_no_card_for_normal_but_always_for_the_rest() -> None:
    from fhir_mappers.cds_card import card_response  # noqa: PLC0415 - one use

    silent = context(silent_when_normal=True)
    for name, outcome in OUTCOMES.items():
        cards = card_response(chest_study(), outcome, context=silent)["cards"]
        normal = not isinstance(outcome, NotAnalysed) and outcome.priority is Priority.NORMAL
        assert bool(cards) is not normal, name


nasty = st.text(max_size=40) | st.sampled_from(
    ["<script>alert(1)</script>", "a\rPID|1", "x^y&z~", "[x](http://evil)", "\x00\x1b", "﷽" * 30]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names, nasty, nasty, nasty)
def test_no_text_of_the_archive_breaks_any_format(
    name: str, family: str, patient_id: str, description: str
) -> None:
    patient = Patient(patient_id.strip(), "", PersonName(family), None, "")
    artefacts = made(name, DisplayMode.TRIAGE_ONLY, patient=patient, description=description)
    orjson.loads(artefacts.bundle)
    plain = made(name, DisplayMode.TRIAGE_ONLY)
    assert artefacts.oru.count(b"\r") == plain.oru.count(b"\r")
    assert b"<script" not in artefacts.card
