"""``radcds air check`` over files: what peers write, what is hostile, and what we write."""

import copy
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from air_objects import air_set, coded, inherited
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
from studies import OUTCOMES, chest_instance, chest_study, context
from typer.testing import CliRunner

from cds_server import air as files
from cds_server.air import AirCheck, check_files
from cds_server.air_command import air
from fhir_mappers.air.rules import rules_page
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.dicom_study import study_of
from fhir_mappers.report_context import DICOM_FILES, DisplayMode

ROOT = Path(__file__).parent.parent.parent
RUN = CliRunner()


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for name, dataset in air_set().items():
        dataset.save_as(folder / name, enforce_file_format=True)
    return folder


@pytest.fixture
def results(good: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    shutil.copytree(good, folder)
    return folder


def checked(*paths: Path) -> AirCheck:
    return check_files(paths, progress=lambda *_: None)


def found(done: AirCheck) -> set[str]:
    return {each.rule.id for each in done.report.findings}


def problems(*paths: Path) -> dict[str, str]:
    return {each.path.name: each.what for each in checked(*paths).problems}


def test_a_good_set_is_clean(good: Path) -> None:
    done = checked(good)
    assert done.clean
    assert done.report.results == 7


def test_another_judge_finds_no_error_in_what_is_called_good(good: Path) -> None:
    dciodvfy = Path(sys.executable).parent / "dciodvfy"
    for path in sorted(good.glob("*.dcm")):
        if path.name not in {"chest.dcm", "slice.dcm"}:
            judged = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
            assert [line for line in judged.stderr.splitlines() if line.startswith("Error")] == []


# ── Peers ────────────────────────────────────────────────────────────────────────────────────────


def monai_report(source: Dataset, sop_class_uid: str) -> Dataset:
    """The shape of the text SR of MONAI Deploy App SDK: one TEXT item, a placeholder code."""
    made = inherited(source, sop_class_uid)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = "1.2.40.0.13.1.1.1"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "2.25.9001"
    made.SeriesInstanceUID, made.SeriesNumber, made.Modality = "2.25.9002", 4711, "SR"
    made.IssuerOfPatientID = source.IssuerOfPatientID
    made.StudyDescription = source.StudyDescription
    made.ContentDate = made.InstanceCreationDate = "20261120"
    made.ContentTime = made.InstanceCreationTime = "093004"
    made.CompletionFlag, made.VerificationFlag = "COMPLETE", "UNVERIFIED"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Items(
        [coded("Newcode1", "99IHE", '"Processing Algorithm')]
    )
    equipment.Manufacturer = "Example Hospital"
    equipment.ManufacturerModelName = "classifier"
    equipment.SoftwareVersions = "0.0.1"
    equipment.DeviceUID = "0.0.1"
    made.ContributingEquipmentSequence = Items([equipment])
    made.ValueType = "CONTAINER"
    made.ContinuityOfContent = "SEPARATE"
    made.ConceptNameCodeSequence = Items([coded("18748-4", "LN", "Diagnostic Imaging Report")])
    narrative = Dataset()
    narrative.RelationshipType, narrative.ValueType = "CONTAINS", "TEXT"
    narrative.ConceptNameCodeSequence = Items([coded("111412", "DCM", "Narrative Summary")])
    narrative.TextValue = "pleural effusion: 0.97"
    made.ContentSequence = Items([narrative])
    return made


def test_a_text_report_of_monai_deploy_is_found_wrong_by_name(tmp_path: Path) -> None:
    source = chest_instance()
    made = monai_report(source, "1.2.840.10008.5.1.4.1.1.88.11")
    made.save_as(tmp_path / "monai.dcm", enforce_file_format=True)
    done = checked(tmp_path)
    assert not done.clean
    assert found(done) == {
        "report-class",
        "report-title",
        "report-template",
        "procedure-reported",
        "observer",
        "evidence-absent",
        "equipment-purpose",
        "private-scheme",
    }
    assert any("Newcode1" in each.what for each in done.report.findings)


def test_naming_the_right_class_does_not_make_it_an_air_report(tmp_path: Path) -> None:
    made = monai_report(chest_instance(), "1.2.840.10008.5.1.4.1.1.88.34")
    made.save_as(tmp_path / "monai.dcm", enforce_file_format=True)
    assert {"report-title", "report-template", "procedure-reported"} <= found(checked(tmp_path))


def test_equipment_under_names_that_dicom_does_not_know_is_no_equipment(tmp_path: Path) -> None:
    made = monai_report(chest_instance(), "1.2.840.10008.5.1.4.1.1.88.34")
    del made.ContributingEquipmentSequence
    made.save_as(tmp_path / "monai.dcm", enforce_file_format=True)
    assert "equipment" in found(checked(tmp_path))


def test_a_report_of_private_codes_is_found_wrong_by_name(results: Path) -> None:
    path = results / "report.dcm"
    made = pydicom.dcmread(path)
    for element in made.iterall():
        if element.keyword == "CodingSchemeDesignator" and element.value == "SCT":
            element.value = "99AIROUTER"
    made.save_as(path)
    done = checked(results)
    assert found(done) == {"private-scheme"}
    assert "99AIROUTER" in done.report.findings[0].what


@pytest.mark.parametrize(
    "name", ["reportsi.dcm", "test-SR.dcm", "liver_1frame.dcm", "CT_small.dcm"]
)
def test_no_test_object_of_pydicom_is_an_air_result(name: str) -> None:
    path = Path(str(pydicom.data.get_testdata_file(name, download=False)))
    assert not checked(path).clean


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_folder_is_never_clean(tmp_path: Path) -> None:
    assert problems(tmp_path) == {tmp_path.name: "holds no file"}
    assert not checked(tmp_path).clean


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "nothing.dcm") == {"nothing.dcm": "is not there"}


def test_files_that_are_plainly_something_else_are_left_out_of_a_folder(results: Path) -> None:
    (results / "bundle.json").write_text("{}")
    (results / "overlay.png").write_bytes(b"\x89PNG")
    (results / "DICOMDIR").write_bytes(b"x")
    (results / ".radcds").mkdir()
    (results / ".radcds" / "radcds.sqlite").write_bytes(b"x")
    done = checked(results)
    assert done.clean
    assert done.left_out == 2


@pytest.mark.parametrize("name", ["report.dcm", "IM000001", "1.2.840.113619.2", "scan.IMA"])
def test_what_might_have_been_a_result_is_not_left_out(results: Path, name: str) -> None:
    (results / name).write_bytes(b"nothing like DICOM" * 30)
    assert problems(results) == {name: "is not a DICOM file"}


def test_a_file_that_is_named_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    assert problems(tmp_path / "bundle.json") == {"bundle.json": "is not a DICOM file"}


def test_a_file_that_may_not_be_read_is_named(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        if path.name == "map.dcm":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, "rb")

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    assert problems(results) == {"map.dcm": "may not be read"}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert stat.S_ISFIFO((tmp_path / "pipe.dcm").stat().st_mode)
    assert problems(tmp_path) == {"pipe.dcm": "is no plain file"}


def test_a_deflated_file_is_refused_before_it_is_inflated(results: Path) -> None:
    path = results / "report.dcm"
    made = pydicom.dcmread(path)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(path)
    assert problems(results) == {"report.dcm": "is deflated, which radcds does not inflate"}


def test_a_file_without_a_transfer_syntax_is_refused(results: Path) -> None:
    named = pydicom.data.get_testdata_file("meta_missing_tsyntax.dcm", download=False)
    shutil.copy(str(named), results / "untold.dcm")
    assert problems(results) == {"untold.dcm": "names no transfer syntax"}


def test_a_header_beyond_the_limit_is_refused(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOST_HEADER_BYTES", 2048)
    told = problems(results)
    assert told["report.dcm"].startswith("has a header of more than")


def test_pixels_are_not_counted_as_header(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max((results / name).stat().st_size for name in ("root.dcm", "segmentation.dcm"))
    assert (results / "chest.dcm").stat().st_size > 2 * size
    monkeypatch.setattr(files, "_MOST_HEADER_BYTES", 2 * size)
    assert checked(results).clean


def test_more_files_than_are_read_is_said(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_FILES", 8)
    assert problems(results) == {"state.dcm": "is one of 1 files beyond the 8 that are read"}


def nested(depth: int, length: int) -> bytes:
    """A report whose content is nested; of undefined length, the reader recurses."""
    head = io.BytesIO()
    shallow = copy.deepcopy(air_set()["report.dcm"])
    del shallow.ContentSequence
    shallow.save_as(head, enforce_file_format=True)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x40\x00\x30\xa7SQ\0\0" + length.to_bytes(4, "little")
    return head.getvalue() + (sequence + item) * depth


@pytest.mark.parametrize("depth", [3000, 100_000])
def test_a_tower_of_sequences_is_refused_and_not_climbed(results: Path, depth: int) -> None:
    (results / "tower.dcm").write_bytes(nested(depth, 0xFFFFFFFF))
    told = problems(results)
    assert told["tower.dcm"] in {"is nested deeper than radcds reads", "is truncated"}


def test_a_report_that_is_cut_off_is_never_clean(good: Path, tmp_path: Path) -> None:
    whole = (good / "report.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert not checked(path).clean, end


def test_a_length_that_lies_is_found(results: Path) -> None:
    content = (results / "report.dcm").read_bytes()
    at = content.index(b"SQ\0\0") + 4
    (results / "report.dcm").write_bytes(content[:at] + b"\xfe\xff\xff\x7f" + content[at + 4 :])
    assert problems(results)["report.dcm"] in {"is truncated", "is damaged or truncated"}


def test_no_file_is_ever_changed(results: Path) -> None:
    before = {path: path.read_bytes() for path in results.iterdir()}
    checked(results)
    assert {path: path.read_bytes() for path in results.iterdir()} == before


# ── The command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_gives_zero_for_a_clean_set(good: Path) -> None:
    ran = RUN.invoke(air, ["check", str(good)])
    assert ran.exit_code == 0
    assert ran.stdout == "results: 7, source images: 2; errors: 0, warnings: 0\n"
    assert ran.stderr == ""


def test_the_command_gives_one_and_names_file_rule_and_source(results: Path) -> None:
    (results / "root.dcm").unlink()
    ran = RUN.invoke(air, ["check", str(results)], env={"COLUMNS": "200"})
    assert ran.exit_code == 1
    for said in ("root-result", "map.dcm", "no root result refers to it", "IHE RAD AIR 6.5.3"):
        assert said in ran.stdout


def test_the_command_names_what_cannot_be_read_with_its_remedy(results: Path) -> None:
    (results / "report.dcm").write_bytes(b"")
    ran = RUN.invoke(air, ["check", str(results)])
    assert ran.exit_code == 1
    assert f"{results}/report.dcm: is empty. Export the file again.\n" in ran.stderr
    assert "not read: 1" in ran.stdout


def test_the_command_gives_json(results: Path) -> None:
    (results / "root.dcm").unlink()
    ran = RUN.invoke(air, ["check", "--json", str(results)])
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert told["clean"] is False
    assert {each["rule"] for each in told["findings"]} == {"root-result"}
    assert {each["severity"] for each in told["findings"]} == {"error"}


@pytest.mark.parametrize("arguments", [["check"], ["check", "--nonsense", "x"], ["nonsense"]])
def test_wrong_usage_gives_two(arguments: list[str]) -> None:
    assert RUN.invoke(air, arguments).exit_code == 2


def test_a_file_name_cannot_move_the_cursor_or_write_markup(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J[bold]x[nothing].dcm").write_bytes(b"x")
    ran = RUN.invoke(air, ["check", str(tmp_path)])
    assert ran.exit_code == 1
    assert "\x1b" not in ran.stderr
    assert "[bold]x[nothing].dcm" in ran.stderr


# ── What we write ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", DisplayMode)
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("real", [False, True])
def test_every_result_that_radcds_writes_is_clean(
    tmp_path: Path, rg1: Dataset, mode: DisplayMode, outcome: str, *, real: bool
) -> None:
    source = rg1 if real else chest_instance()
    study = study_of([source.to_json_dict()], timezone="UTC") if real else chest_study()
    header = copy.deepcopy(source)
    del header.PixelData
    made = dicom_results(
        study,
        OUTCOMES[outcome],
        header=header,
        picture=np.zeros((64, 64, 3), np.uint8),
        context=context(mode),
    )
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    source.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    done = checked(tmp_path)
    assert [(each.object, each.what) for each in done.report.findings] == []
    assert done.problems == []
    assert done.report.results == len(made) >= 2
    assert set(made) <= set(DICOM_FILES)


def test_the_page_of_rules_is_what_the_rules_say() -> None:
    page = (ROOT / "docs/reference/air-rules.md").read_text(encoding="utf-8")
    assert page == rules_page(), "run: python -m scripts.dicom_conformance"
