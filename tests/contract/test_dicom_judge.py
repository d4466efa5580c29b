"""David Clunie's dciodvfy judges the DICOM objects that radcds makes."""

import io
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from studies import OUTCOMES, chest_instance, context

from ai_engine.image import Image
from ai_engine.result import Saliency, TriageResult
from fhir_mappers.overlay import overlay_rgb
from fhir_mappers.secondary_capture import secondary_capture

DCIODVFY = Path(sys.executable).parent / "dciodvfy"


def errors(path: Path) -> list[str]:
    judged = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False)
    return [line for line in judged.stderr.splitlines() if line.startswith("Error")]


def capture(source: Dataset, picture: Image) -> bytes:
    outcome = OUTCOMES["flagged"]
    assert isinstance(outcome, TriageResult)
    saliency = Saliency("abnormal", outcome.saliency[0].grid)
    rgb = overlay_rgb(picture, saliency, caption=["any abnormality"])
    return secondary_capture(source, rgb, outcome=outcome, context=context())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"BodyPartExamined": None},
        {"StudyID": None, "AccessionNumber": None, "PatientSex": None},
        {"PatientName": "Yamada^Tarou=山田^太郎"},
    ],
)
def test_the_secondary_capture_has_no_error(
    tmp_path: Path, rg1_image: Image, changes: dict[str, object]
) -> None:
    path = tmp_path / "capture.dcm"
    path.write_bytes(capture(chest_instance(**changes), rg1_image))
    assert errors(path) == []


def test_the_secondary_capture_of_a_real_radiograph_has_no_error(
    tmp_path: Path, rg1: Dataset, rg1_image: Image
) -> None:
    path = tmp_path / "capture.dcm"
    path.write_bytes(capture(rg1, rg1_image))
    assert errors(path) == []


def test_the_judge_rejects_a_broken_object(tmp_path: Path, rg1_image: Image) -> None:
    broken = pydicom.dcmread(io.BytesIO(capture(chest_instance(), rg1_image)))
    del broken.ConversionType
    broken.save_as(tmp_path / "broken.dcm")
    assert errors(tmp_path / "broken.dcm")


def test_it_stands_in_the_study_of_its_source_under_a_uid_of_its_content(
    rg1: Dataset, rg1_image: Image
) -> None:
    made = pydicom.dcmread(io.BytesIO(capture(rg1, rg1_image)))
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "SpecificCharacterSet"):
        assert made[keyword] == rg1[keyword]
    assert made.SeriesInstanceUID != rg1.SeriesInstanceUID
    assert made.BurnedInAnnotation == "YES"
    assert "not a diagnosis" in made.DerivationDescription
    again = pydicom.dcmread(io.BytesIO(capture(rg1, rg1_image)))
    assert again.SOPInstanceUID == made.SOPInstanceUID
    inverted = Image(1 - rg1_image.pixels, rg1_image.subject, rg1_image.view)
    other = pydicom.dcmread(io.BytesIO(capture(rg1, inverted)))
    assert other.SOPInstanceUID != made.SOPInstanceUID
