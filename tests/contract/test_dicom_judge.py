"""Independent judges of the DICOM objects: dicom3tools, dcmtk and highdicom.

``dciodvfy`` warns of every private coding scheme that is not on its own list. No attribute of an
object changes that, so warnings are not counted; errors are.
"""

import io
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from shutil import which

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset
from studies import ISSUED, OUTCOMES, chest_image, chest_instance, chest_study, context

from ai_engine.image import Image
from ai_engine.result import Finding, NotAnalysed, Outcome, Priority, Saliency, TriageResult
from cds_server.air import check_files
from fhir_mappers import codes
from fhir_mappers.amended_objects import signed_objects, withdrawn_objects
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.dicom_study import study_of
from fhir_mappers.overlay import overlay_rgb, shrunk
from fhir_mappers.report_context import DisplayMode, Recall, SignOff, Verdict
from fhir_mappers.report_set import report_set

BIN = Path(sys.executable).parent
ACCESSION_OF_SR = "attribute - Element=<AccessionNumber> IE <"
"""dcentvfy holds Accession Number for an attribute of the series in every SR, whoever made it."""


def judged(tool: str | Path, *arguments: str | Path) -> str:
    """Give everything that a judge says."""
    found = which(tool)
    assert found, f"{tool} is missing: run scripts/install_system.sh dcmtk, or pip install ."
    run = subprocess.run([found, *arguments], capture_output=True, check=False)
    return (run.stdout + run.stderr).decode("utf-8", "replace")


def errors(path: Path) -> list[str]:
    lines = judged(BIN / "dciodvfy", path).splitlines()
    return [line for line in lines if line.startswith("Error")]


def disagreements(source: Path, made: list[Path]) -> list[str]:
    """Give what dcentvfy says, less what a valid object cannot avoid beside an invalid source."""
    header = read(source)
    ignored = [ACCESSION_OF_SR]
    if "StudyID" not in header:  # type 2: ours has it, empty
        ignored.append("one instance but not the other - Element=<StudyID>")
    if "DeidentificationMethod" not in header:  # 1C: "YES" may not stand without it
        ignored.append("one instance but not the other - Element=<PatientIdentityRemoved>")
    lines = judged(BIN / "dcentvfy", source, *made).splitlines()
    return [line for line in lines if line and not any(each in line for each in ignored)]


def read(path: Path) -> Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def objects(
    folder: Path,
    source: Path,
    outcome: Outcome,
    mode: DisplayMode = DisplayMode.OVERLAY,
    **changes: object,
) -> list[Path]:
    """Write the objects of a result on a source."""
    header, described = read(source), read(source)
    for each in (header, described):
        for keyword, value in changes.items():
            setattr(each, keyword, value)
    picture = overlay_rgb(shrunk(chest_image()), analysed("flagged").saliency[0], caption=["any"])
    made = dicom_results(
        study_of([described.to_json_dict()], timezone="Europe/London"),
        outcome,
        header=header,
        picture=None if isinstance(outcome, NotAnalysed) else picture,
        context=context(mode),
    )
    paths = []
    for name, content in made.items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths


def analysed(name: str) -> TriageResult:
    outcome = OUTCOMES[name]
    assert isinstance(outcome, TriageResult)
    return outcome


@pytest.fixture
def dx(tmp_path: Path) -> Path:
    path = tmp_path / "dx-source.dcm"
    instance = chest_instance()
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("name", sorted(OUTCOMES))
@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ("RG1_UNCR.dcm", DisplayMode.OVERLAY),
        ("RG1_UNCR.dcm", DisplayMode.TRIAGE_ONLY),
        ("693_UNCR.dcm", DisplayMode.OVERLAY),
        ("dx", DisplayMode.OVERLAY),
    ],
)
def test_no_object_of_any_outcome_has_an_error(
    tmp_path: Path, dx: Path, source: str, name: str, mode: DisplayMode
) -> None:
    path = dx if source == "dx" else sample(source)
    made = objects(tmp_path, path, OUTCOMES[name], mode)
    assert {each.name: errors(each) for each in made} == {each.name: [] for each in made}
    assert disagreements(path, made) == []


CHARSETS = [path for path in map(Path, get_charset_files("*.dcm")) if "chrSQ" not in path.name]


@pytest.mark.parametrize("path", sorted(CHARSETS), ids=lambda path: path.stem)
def test_names_in_any_script_agree_with_the_source(tmp_path: Path, path: Path) -> None:
    made = objects(tmp_path, path, OUTCOMES["urgent"])
    assert [line for each in made for line in errors(each)] == []
    assert disagreements(path, made) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"BodyPartExamined": None, "Laterality": None},
        {"BodyPartExamined": "HAND", "Laterality": "L"},
        {"BodyPartExamined": "CHEST", "Laterality": "R", "ImagerPixelSpacing": [0.1, 0.2]},
        {"PatientOrientation": None, "StudyID": None, "PatientSex": None, "PatientName": None},
        {"PhotometricInterpretation": "MONOCHROME2", "Rows": 7, "Columns": 5, "WindowWidth": 0},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1", "PatientIdentityRemoved": "YES"},
        {"SpecificCharacterSet": "ISO 2022 IR 87", "PatientName": "TEST^PATIENT"},
        {"SpecificCharacterSet": "ISO 2022 IR 159", "PatientName": "TEST^PATIENT"},
        {"Rows": 1, "Columns": 5},
        {"Rows": 5, "Columns": 1},
        {"RescaleSlope": "1", "RescaleIntercept": -1.22460635382238e-16, "WindowCenter": 0.1 + 0.2},
    ],
)
def test_odd_headers_give_objects_without_an_error(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    made = objects(tmp_path, sample("RG1_UNCR.dcm"), OUTCOMES["flagged"], **changes)
    assert {each.name: errors(each) for each in made} == {each.name: [] for each in made}


def test_a_slice_with_a_frame_of_reference_gives_a_placed_map_without_an_error(
    tmp_path: Path,
) -> None:
    made = objects(
        tmp_path, sample("693_UNCR.dcm"), OUTCOMES["urgent"], FrameOfReferenceUID="1.2.3"
    )
    assert [line for each in made for line in errors(each)] == []
    assert read(tmp_path / "saliency.dcm").FrameOfReferenceUID == "1.2.3"


def test_a_slice_of_long_numbers_gives_a_placed_map_without_an_error(tmp_path: Path) -> None:
    made = objects(
        tmp_path,
        sample("693_UNCR.dcm"),
        OUTCOMES["urgent"],
        FrameOfReferenceUID="1.2.3",
        ImagePositionPatient=["-1.2345678901e-5", "-.12345678901234", "1"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "-1.2345678901e-5"],
    )
    assert [line for each in made for line in errors(each)] == []
    assert read(tmp_path / "saliency.dcm").FrameOfReferenceUID == "1.2.3"


grids = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(0, 1, width=32),
)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(Priority),
    st.lists(st.sampled_from(sorted(codes.FINDINGS)), min_size=1, max_size=3, unique=True),
    st.floats(0, 1),
    grids,
    st.integers(2, 60),
)
def test_any_result_gives_objects_without_an_error(
    priority: Priority, labels: list[str], probability: float, grid: np.ndarray, rows: int
) -> None:
    said = TriageResult(
        priority,
        tuple(Finding(each, probability, 0.5) for each in labels),
        tuple(Saliency(each, grid) for each in labels),
        analysed("urgent").model,
    )
    with tempfile.TemporaryDirectory() as folder:
        made = objects(Path(folder), sample("RG1_UNCR.dcm"), said, Rows=rows, Columns=rows + 3)
        assert [line for each in made for line in errors(each)] == []


def test_the_judges_reject_broken_objects(tmp_path: Path) -> None:
    source = sample("RG1_UNCR.dcm")
    made = objects(tmp_path, source, OUTCOMES["urgent"])
    for path in made:
        broken = pydicom.dcmread(path)
        del broken.SeriesInstanceUID
        broken.PatientID = "SOMEBODY ELSE"
        broken.save_as(path)
        assert errors(path)
    assert disagreements(source, made)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_dcmtk_reads_and_renders_the_reports(tmp_path: Path, name: str) -> None:
    for path in objects(tmp_path, sample("RG1_UNCR.dcm"), OUTCOMES[name]):
        if path.name not in {"report.dcm", "key-object.dcm", "root-result.dcm"}:
            continue
        strict, lenient = judged("dsrdump", path), judged("dsrdump", "-Ec", path)
        for said in (strict, lenient):
            assert "<CONTAINER" in said
            assert "E: " not in said
            assert "F: " not in said
        page = judged("dsr2html", path)
        assert "</html>" in page
        assert "CompressedSamples" in page


def test_highdicom_reads_the_objects(tmp_path: Path) -> None:
    objects(tmp_path, sample("RG1_UNCR.dcm"), OUTCOMES["urgent"])
    report = highdicom.sr.srread(tmp_path / "report.dcm")
    (first, _) = report.content.get_planar_roi_measurement_groups()
    assert first.roi.value.shape == (21, 2)
    assert highdicom.sr.srread(tmp_path / "root-result.dcm").content
    segmentation = highdicom.seg.segread(tmp_path / "saliency.dcm")
    assert segmentation.segmentation_type.value == "FRACTIONAL"
    source = read(sample("RG1_UNCR.dcm"))
    pixels = segmentation.get_pixels_by_source_instance(
        [source.SOPInstanceUID], rescale_fractional=True, ignore_spatial_locations=True
    )
    assert pixels.shape == (1, source.Rows, source.Columns, 1)
    grid = analysed("urgent").saliency[0].grid
    middles = pixels[0, 98 :: source.Rows // 10, 92 :: source.Columns // 10, 0][:10, :10]
    assert middles == pytest.approx(grid, abs=1 / 255)


def rendered(folder: Path, image: Path, *state: Path) -> np.ndarray:
    target = folder / "rendered.pgm"
    judged("dcmp2pgm", *(("-p", *state) if state else ()), image, target)
    with Pillow.open(target) as opened:
        return np.asarray(opened)


def test_dcmtk_applies_the_presentation_state_and_the_greys_stay_those_of_the_image(
    tmp_path: Path,
) -> None:
    source = sample("RG1_UNCR.dcm")
    objects(tmp_path, source, OUTCOMES["urgent"])
    state = tmp_path / "presentation-state.dcm"
    assert "Test passed" in judged("dcmpschk", state)
    shown = rendered(tmp_path, source, state)
    assert (shown == rendered(tmp_path, source)).all()
    lung, mediastinum = shown[700:900, 400:600].mean(), shown[700:900, 880:960].mean()
    assert lung < mediastinum, "MONOCHROME1: a lung is dark"
    changed = pydicom.dcmread(state)
    changed.PresentationLUTShape = "IDENTITY"
    changed.save_as(tmp_path / "changed.dcm")
    assert (rendered(tmp_path, source, tmp_path / "changed.dcm") != shown).any()


def test_a_report_set_holds_the_same_objects(rg1: Dataset, rg1_image: Image) -> None:
    del rg1.PixelData
    study = chest_study(study_instance_uid=str(rg1.StudyInstanceUID))
    made = report_set(
        study, OUTCOMES["flagged"], context=context(), source=rg1, image=rg1_image
    ).dicom
    capture = pydicom.dcmread(io.BytesIO(made["secondary-capture.dcm"]))
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "SpecificCharacterSet"):
        assert capture[keyword].value == rg1[keyword].value
    assert capture.BurnedInAnnotation == "YES"
    assert "not a diagnosis" in capture.DerivationDescription
    assert capture.Columns == 964


def test_json_of_an_archive_gives_objects_without_an_error(tmp_path: Path, dx: Path) -> None:
    described = read(dx)
    described.PatientName = "Yamada^Tarou=山田^太郎"
    described.SpecificCharacterSet = "ISO_IR 100"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        as_json = described.to_json_dict()
    made = dicom_results(
        study_of([as_json], timezone="UTC"),
        OUTCOMES["not_analysed"],
        header=Dataset.from_json(as_json),
        picture=None,
        context=context(),
    )
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
        assert errors(tmp_path / name) == []
        assert str(read(tmp_path / name).PatientName) == "Yamada^Tarou=山田^太郎"


# ── Signed, signed again, withdrawn ──────────────────────────────────────────────────────────────

WORDS = "норма, 気胸なし\nno \\ pneumothorax"


def amended(
    folder: Path, source: Path, outcome: Outcome, now: DisplayMode, words: str, radiologist: str
) -> list[Path]:
    """Write everything that is published of a result that is signed twice, and then withdrawn."""
    made = objects(folder, source, outcome)
    first = {each.name: each.read_bytes() for each in made}
    study = study_of([read(source).to_json_dict()], timezone="Europe/London")
    one = SignOff(1, Verdict.CORRECTED, ISSUED, radiologist, ("", "7654321"), words)
    two = SignOff(2, Verdict.CONFIRMED, ISSUED, "Dr B Example", ("", "7654322"))
    signed = signed_objects(first, one, context(now))
    again = signed_objects({**first, **signed}, two, context(now))
    withdrawn = withdrawn_objects(
        {**first, **again},
        study,
        Recall("Reads detector X wrongly.", ISSUED),
        context(now),
        earlier=[*first.values(), *signed.values()],
    )
    for number, published in enumerate((signed, again, withdrawn), 1):
        for name, content in published.items():
            made.append(folder / f"{number}-{name}")
            made[-1].write_bytes(content)
    return made


def documents_are_valid(made: list[Path]) -> None:
    assert {each.name: errors(each) for each in made} == {each.name: [] for each in made}
    for path in made:
        if path.name.endswith(("report.dcm", "key-object.dcm", "root-result.dcm")):
            said = judged("dsrdump", path)
            assert "<CONTAINER" in said
            assert "E: " not in said
            assert "F: " not in said


@pytest.mark.parametrize("now", DisplayMode)
@pytest.mark.parametrize("name", ["urgent", "normal", "not_analysed"])
@pytest.mark.parametrize(("words", "radiologist"), [("A skin fold.", " "), (WORDS, "王伟")])
def test_no_amended_object_has_an_error_and_a_root_result_names_each(
    tmp_path: Path, dx: Path, now: DisplayMode, name: str, words: str, radiologist: str
) -> None:
    made = amended(tmp_path, dx, OUTCOMES[name], now, words, radiologist)
    documents_are_valid(made)
    assert disagreements(dx, made) == []
    done = check_files([tmp_path], progress=lambda *_: None)
    assert [(each.object, each.what) for each in done.report.findings] == []
    assert done.report.results == len(made)


@pytest.mark.parametrize(
    "path", [sample("RG1_UNCR.dcm"), *sorted(CHARSETS)], ids=lambda path: path.stem
)
def test_what_nobody_changes_keeps_its_bytes_when_a_result_is_amended(
    tmp_path: Path, path: Path
) -> None:
    made = amended(
        tmp_path, path, OUTCOMES["urgent"], DisplayMode.OVERLAY, "A skin fold.", "Dr A Example"
    )
    documents_are_valid(made)
    assert disagreements(path, made) == []


@pytest.mark.parametrize("path", sorted(CHARSETS), ids=lambda path: path.stem)
def test_words_in_any_script_beside_a_name_in_any_other_are_valid(
    tmp_path: Path, path: Path
) -> None:
    made = amended(tmp_path, path, OUTCOMES["urgent"], DisplayMode.OVERLAY, WORDS, "Dr A Example")
    documents_are_valid(made)
    name = str(read(path).PatientName).rstrip("=")
    assert {str(read(each).PatientName).rstrip("=") for each in made} == {name}
