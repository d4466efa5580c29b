"""Labels from FHIR R4: who says what of which image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from numpy.typing import NDArray

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.fhir_labelled_folder import FhirLabelledFolder
from ai_engine.labelled_images.fhir_labels import FhirJudgement, judgements, read_resources
from ai_engine.labelled_images.pixel_reader import ImageHeader

SNOMED = "http://snomed.info/sct"
CODES = {f"{SNOMED}|60046008": "effusion", f"{SNOMED}|36118008": "pneumothorax"}
STUDY = {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}


def concept(code: str, system: str = SNOMED) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def observation(**changes: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": concept("60046008"),
        "subject": {"reference": "Patient/7"},
        "derivedFrom": [STUDY],
        "valueBoolean": True,
        **changes,
    }
    return {name: value for name, value in resource.items() if value is not None}


def report(**changes: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "code": concept("399208008"),
        "subject": {"reference": "https://fhir.example.org/Patient/7/_history/3"},
        "imagingStudy": [STUDY],
        "conclusionCode": [concept("36118008")],
        **changes,
    }
    return {name: value for name, value in resource.items() if value is not None}


def told(*resources: dict[str, Any], complete: bool = False) -> list[FhirJudgement]:
    return judgements(resources, CODES, complete_reports=complete)


def test_the_resources_of_these_tests_are_fhir() -> None:
    Observation.model_validate(observation())
    DiagnosticReport.model_validate(report())


@pytest.mark.parametrize(
    ("changes", "present"),
    [
        ({"valueBoolean": True}, True),
        ({"valueBoolean": False}, False),
        ({"valueBoolean": None, "valueCodeableConcept": concept("52101004")}, True),
        ({"valueBoolean": None, "valueCodeableConcept": concept("2667000")}, False),
        (
            {
                "valueBoolean": None,
                "interpretation": [
                    concept(
                        "NEG",
                        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                    )
                ],
            },
            False,
        ),
    ],
)
def test_an_observation_says_present_or_absent(changes: dict[str, Any], *, present: bool) -> None:
    found = frozenset({"effusion"})
    (one,) = told(observation(**changes))
    assert one == FhirJudgement(
        "1.2.3", "Patient/7", found if present else frozenset(), frozenset() if present else found
    )


def test_a_value_may_name_the_finding() -> None:
    named = observation(
        code=concept("404684003"), valueBoolean=None, valueCodeableConcept=concept("36118008")
    )
    assert [each.present for each in told(named)] == [{"pneumothorax"}]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "preliminary"},
        {"status": "entered-in-error"},
        {"status": "cancelled"},
        {"valueBoolean": None},
        {"valueBoolean": True, "valueCodeableConcept": concept("2667000")},
        {"code": concept("60046008", "urn:other")},
        {"derivedFrom": None},
        {"derivedFrom": [{"identifier": {"system": "urn:ids", "value": "urn:oid:1.2.3"}}]},
    ],
)
def test_what_is_not_settled_or_not_said_is_no_label(changes: dict[str, Any]) -> None:
    assert told(observation(**changes)) == []


def test_a_preliminary_report_such_as_that_of_an_ai_is_no_label() -> None:
    assert told(report(status="preliminary")) == []
    assert told(report(status="amended")) != []


def test_what_a_report_does_not_conclude_is_absent_only_where_reports_are_complete() -> None:
    assert told(report())[0].absent == frozenset()
    assert told(report(), complete=True)[0].absent == {"effusion"}
    assert told(report(conclusionCode=None), complete=True) == []


def test_the_study_is_found_through_an_imaging_study_contained_or_beside() -> None:
    study = {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "identifier": [
            {"system": "urn:ids", "value": "x"},
            {"system": "urn:dicom:uid", "value": "urn:oid:1.2.9"},
        ],
    }
    beside = observation(derivedFrom=[{"reference": "https://x.example/ImagingStudy/s1"}])
    inside = observation(derivedFrom=[{"reference": "#s1"}], contained=[study])
    assert [each.uid for each in told(beside, study)] == ["1.2.9"]
    assert [each.uid for each in told(inside)] == ["1.2.9"]


def test_an_observation_is_of_the_study_of_its_report() -> None:
    bare = observation(derivedFrom=None)
    of_it = report(conclusionCode=None, result=[{"reference": "Observation/o1"}])
    assert [each.uid for each in told(bare, of_it)] == ["1.2.3"]


def test_an_observation_of_nobody_is_refused() -> None:
    with pytest.raises(LabelsRefused, match="Observation/o1 has no subject"):
        told(observation(subject=None))


@pytest.mark.parametrize("form", ["ndjson", "list", "bundle", "one"])
def test_resources_come_in_many_wrappings(tmp_path: Path, form: str) -> None:
    both = [observation(), report()]
    texts = {
        "ndjson": "\n".join(map(json.dumps, both)) + "\n",
        "list": json.dumps(both),
        "bundle": json.dumps(
            {"resourceType": "Bundle", "entry": [{"resource": each} for each in both]}
        ),
        "one": json.dumps(both[0]),
    }
    (tmp_path / "labels").write_text(texts[form])
    assert read_resources(tmp_path / "labels") == (both[:1] if form == "one" else both)


@pytest.mark.parametrize("text", ["", "{", "3", '{"resourceType": 3}', "[{}]"])
def test_what_holds_no_resources_gives_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels").write_text(text)
    if text == "":
        assert read_resources(tmp_path / "labels") == []
        return
    with pytest.raises(LabelsRefused):
        read_resources(tmp_path / "labels")


class Reader:
    """Files whose names are ``STUDY_INSTANCE``."""

    def header(self, path: Path) -> ImageHeader:
        study, _, instance = path.name.partition("_")
        return ImageHeader(study_uid=study, instance_uid=instance, sex="F")

    def pixels(self, path: Path) -> NDArray[np.float32]:
        return np.full((2, 2), path.stat().st_size, dtype=np.float32)


def folder_of(tmp_path: Path, *resources: dict[str, Any]) -> FhirLabelledFolder:
    for name in ("1.2.3_1.2.3.1", "1.2.3_1.2.3.2", "9.9_9.9.1"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).touch()
    (tmp_path / "labels.json").write_text(json.dumps(resources))
    return FhirLabelledFolder([tmp_path / "labels.json"], tmp_path / "images", CODES, Reader())


def test_an_image_has_the_labels_of_its_study_and_its_own(tmp_path: Path) -> None:
    of_instance = observation(
        id="o2",
        code=concept("36118008"),
        derivedFrom=[{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.2"}}],
        valueBoolean=False,
    )
    labelled = folder_of(tmp_path, observation(), of_instance)
    first, second = labelled.images
    assert labelled.findings == ("effusion", "pneumothorax")
    assert (first.present, first.judged) == ({"effusion"}, {"effusion"})
    assert (second.present, second.judged) == ({"effusion"}, {"effusion", "pneumothorax"})
    assert (first.person, first.sex) == ("Patient/7", "F")
    assert labelled.pixels(first).shape == (2, 2)


def test_where_two_resources_disagree_nothing_is_judged(tmp_path: Path) -> None:
    labelled = folder_of(
        tmp_path,
        observation(),
        observation(id="o2", valueBoolean=False),
        observation(id="o3", code=concept("36118008")),
    )
    assert all(each.judged == {"pneumothorax"} for each in labelled.images)


def test_labels_of_two_persons_on_one_image_are_refused(tmp_path: Path) -> None:
    other = observation(id="o2", subject={"reference": "Patient/8"})
    with pytest.raises(LabelsRefused, match="2 subjects"):
        folder_of(tmp_path, observation(), other)


def test_resources_that_label_no_image_are_refused(tmp_path: Path) -> None:
    elsewhere = {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:4.4"}}
    with pytest.raises(LabelsRefused, match="None of the 1 FHIR resources"):
        folder_of(tmp_path, observation(derivedFrom=[elsewhere]))
