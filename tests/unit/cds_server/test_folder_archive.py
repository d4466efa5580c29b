"""Bad files are named with a remedy, and never stop the good ones."""

import json
import os
import shutil
import warnings
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from conftest import sample
from pydicom.uid import DeflatedExplicitVRLittleEndian
from studies import STUDY_UID, chest_instance

from cds_server.adapters.folder_archive import FolderArchive
from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.errors import InstanceUnreadable, StudyNotFound
from fhir_mappers.dicom_study import study_of


def uids(archive: FolderArchive) -> list[str]:
    return [each.study_instance_uid for each in archive.arrivals()]


def write(path: Path, **changes: object) -> Path:
    chest_instance(**changes).save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "good.dcm")
    return tmp_path


def test_a_folder_is_an_archive(folder: Path) -> None:
    archive = FolderArchive([folder])
    assert uids(archive) == [STUDY_UID]
    study = study_of(archive.metadata(STUDY_UID), timezone="UTC")
    series = study.series[0]
    instance = archive.instance(
        STUDY_UID, series.series_instance_uid, series.instances[0].sop_instance_uid
    )
    assert pydicom.dcmread(BytesIO(instance)).pixel_array.shape == (256, 224)
    assert archive.problems == []


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("empty.dcm", b"", "is empty"),
        ("letter.txt", b"Dear colleague, " * 50, "is not a DICOM file"),
        ("short.dcm", b"\x00" * 128 + b"DICM", "names no transfer syntax"),
        ("noise.dcm", b"\x00" * 128 + b"DICM" + b"\xff" * 500, "names no transfer syntax"),
    ],
)
def test_what_is_no_dicom_file_is_named_and_the_rest_is_read(
    folder: Path, name: str, content: bytes, what: str
) -> None:
    (folder / name).write_bytes(content)
    archive = FolderArchive([folder])
    assert uids(archive) == [STUDY_UID]
    (problem,) = archive.problems
    assert problem.path.name == name
    assert what in problem.what
    assert problem.remedy


def test_a_uid_that_would_climb_out_of_a_folder_is_refused(folder: Path) -> None:
    write(folder / "evil.dcm", SOPInstanceUID="1.2.3")
    content = (folder / "evil.dcm").read_bytes()
    climbing = f"../../../../{'e' * (len(STUDY_UID) - 12)}".encode()
    assert len(climbing) == len(STUDY_UID)
    (folder / "evil.dcm").write_bytes(content.replace(STUDY_UID.encode(), climbing))
    archive = FolderArchive([folder])
    assert uids(archive) == [STUDY_UID]
    (problem,) = archive.problems
    assert "not a UID" in problem.what
    assert "../" not in problem.what


def test_a_deflated_file_is_refused_before_anything_inflates_it(folder: Path) -> None:
    dataset = chest_instance(SOPInstanceUID="1.2.9")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(folder / "bomb.dcm", enforce_file_format=True)
    archive = FolderArchive([folder])
    (problem,) = archive.problems
    assert "deflated" in problem.what


def test_a_truncated_file_is_found_when_its_pixels_are_read(tmp_path: Path) -> None:
    whole = sample("RG1_UNCR.dcm").read_bytes()
    (tmp_path / "half.dcm").write_bytes(whole[: len(whole) // 2])
    archive = FolderArchive([tmp_path])
    assert len(uids(archive)) == 1


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = FolderArchive([tmp_path / "missing"])
    assert uids(archive) == []
    assert "no such file" in archive.problems[0].what


def test_the_same_instance_twice_is_said(folder: Path) -> None:
    shutil.copy(folder / "good.dcm", folder / "zcopy.dcm")
    archive = FolderArchive([folder])
    assert uids(archive) == [STUDY_UID]
    assert "another file" in archive.problems[0].what


def test_a_file_that_arrives_later_is_noticed(folder: Path) -> None:
    archive = FolderArchive([folder])
    assert uids(archive) == [STUDY_UID]
    write(
        folder / "later.dcm",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.1",
        SOPInstanceUID="1.2.3.1.1",
    )
    assert uids(archive) == ["1.2.3", STUDY_UID]


def test_what_is_not_there_is_said(folder: Path) -> None:
    archive = FolderArchive([folder])
    with pytest.raises(StudyNotFound):
        archive.metadata("1.2.3")
    with pytest.raises(StudyNotFound):
        archive.instance(STUDY_UID, f"{STUDY_UID}.1", "1.2.3")


def test_a_file_damaged_after_it_was_indexed_is_unreadable(folder: Path) -> None:
    archive = FolderArchive([folder])
    (folder / "good.dcm").write_bytes(b"damaged")
    instance = archive.instance(STUDY_UID, f"{STUDY_UID}.1", f"{STUDY_UID}.1.1")
    with pytest.raises(InstanceUnreadable):
        InProcessDecoder().decode(instance)
    (folder / "good.dcm").unlink()
    with pytest.raises(StudyNotFound):
        archive.instance(STUDY_UID, f"{STUDY_UID}.1", f"{STUDY_UID}.1.1")


def test_a_file_that_is_too_large_is_never_taken_into_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_server.adapters.folder_archive._LARGEST_BYTES", 1000)
    archive = FolderArchive([folder])
    with pytest.raises(InstanceUnreadable, match="larger"):
        archive.instance(STUDY_UID, f"{STUDY_UID}.1", f"{STUDY_UID}.1.1")


def test_a_study_that_has_just_arrived_is_found_when_somebody_asks_for_it(folder: Path) -> None:
    archive = FolderArchive([folder])
    write(
        folder / "later.dcm",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.1",
        SOPInstanceUID="1.2.3.1.1",
    )
    assert len(archive.metadata("1.2.3")) == 1


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "693_J2KR.dcm", "RG3_J2KR.dcm"])
def test_real_files_of_several_syntaxes_are_indexed(name: str) -> None:
    path = sample(name)
    archive = FolderArchive([path])
    assert uids(archive) == [str(pydicom.dcmread(path).StudyInstanceUID)]
    assert archive.problems == []


# --- a folder that changes


def test_a_file_that_was_seen_half_copied_is_read_once_it_is_whole(folder: Path) -> None:
    whole = (folder / "good.dcm").read_bytes()
    (folder / "good.dcm").write_bytes(whole[:200])
    archive = FolderArchive([folder])
    assert uids(archive) == []
    assert len(archive.problems) == 1
    (folder / "good.dcm").write_bytes(whole)
    assert len(archive.metadata(STUDY_UID)) == 1
    assert archive.problems == []
    assert uids(archive) == [STUDY_UID]


def test_a_file_that_could_not_be_described_is_described_once_it_is_mended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: object) -> None:
        raise EOFError

    archive = FolderArchive([folder])
    with monkeypatch.context() as patched:
        patched.setattr("cds_server.adapters.folder_archive._dicom_json", damaged)
        with pytest.raises(StudyNotFound):
            archive.metadata(STUDY_UID)
    assert uids(archive) == [STUDY_UID]
    assert "damaged" in archive.problems[0].what
    write(folder / "good.dcm", InstitutionName="Mended")
    assert len(archive.metadata(STUDY_UID)) == 1
    assert archive.problems == []


def test_a_file_that_is_replaced_is_no_longer_what_it_was(folder: Path) -> None:
    other = {"StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.1.1"}
    archive = FolderArchive([folder])
    write(folder / "good.dcm", **other)
    with pytest.raises(StudyNotFound):
        archive.metadata(STUDY_UID)
    with pytest.raises(StudyNotFound):
        archive.instance(STUDY_UID, f"{STUDY_UID}.1", f"{STUDY_UID}.1.1")
    assert uids(archive) == ["1.2.3"]
    assert archive.instance("1.2.3", f"{STUDY_UID}.1", "1.2.3.1.1")


def test_a_file_that_is_replaced_by_one_of_its_size_and_time_is_noticed(folder: Path) -> None:
    good = folder / "good.dcm"
    archive = FolderArchive([folder])
    time_ns = good.stat().st_mtime_ns
    content = good.read_bytes()
    good.write_bytes(content.replace(STUDY_UID.encode(), b"9" * len(STUDY_UID)))
    os.utime(good, ns=(time_ns, time_ns))
    assert uids(archive) == ["9" * len(STUDY_UID)]


def test_a_file_that_is_removed_leaves_its_place_to_its_copy(folder: Path) -> None:
    archive = FolderArchive([folder])
    shutil.copy(folder / "good.dcm", folder / "a_copy.dcm")
    assert uids(archive) == [STUDY_UID]
    assert archive.problems[0].path.name == "a_copy.dcm"
    (folder / "good.dcm").unlink()
    assert uids(archive) == [STUDY_UID]
    assert archive.problems == []
    (folder / "a_copy.dcm").unlink()
    assert uids(archive) == []


def test_a_file_that_has_not_changed_is_not_opened_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = FolderArchive([folder])
    monkeypatch.setattr("cds_server.adapters.folder_archive._identified", None)
    assert uids(archive) == [STUDY_UID]


def test_a_path_that_comes_later_is_no_problem_any_more(folder: Path) -> None:
    archive = FolderArchive([folder / "later"])
    assert len(archive.problems) == 1
    (folder / "later").mkdir()
    (folder / "good.dcm").rename(folder / "later" / "good.dcm")
    assert uids(archive) == [STUDY_UID]
    assert archive.problems == []


# --- values that are not as they should be

TOO_LONG = {"AccessionNumber": "A" * 17, "PatientID": "P" * 65, "StudyDescription": "S" * 65}


def odd(path: Path, **changes: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write(path, **changes)


def test_a_value_that_is_too_long_is_given_as_it_is(folder: Path) -> None:
    odd(folder / "good.dcm", **TOO_LONG)
    archive = FolderArchive([folder])
    (described,) = archive.metadata(STUDY_UID)
    assert described["00080050"] == {"vr": "SH", "Value": ["A" * 17]}
    assert described["00100020"] == {"vr": "LO", "Value": ["P" * 65]}
    assert described["00081030"] == {"vr": "LO", "Value": ["S" * 65]}
    assert archive.problems == []


def test_the_whole_process_does_not_read_strictly_while_a_study_is_described(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict() -> None:
        pytest.fail("pydicom was told to read strictly")

    monkeypatch.setattr("pydicom.config.strict_reading", strict)
    monkeypatch.setattr("pydicom.dataset.config.strict_reading", strict)
    assert FolderArchive([folder]).metadata(STUDY_UID)


def test_a_damaged_value_takes_no_other_with_it(folder: Path) -> None:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "1", "99X"
    item.SliceThickness = "1.25"
    write(folder / "good.dcm", ProcedureCodeSequence=[item], PixelAspectRatio=["7", "8"])
    content = (folder / "good.dcm").read_bytes()
    assert content.count(b"1.25") == content.count(b"7\\8 ") == 1
    broken = content.replace(b"1.25", b"x.yz").replace(b"7\\8 ", b"?\\8 ")
    (folder / "good.dcm").write_bytes(broken)
    (described,) = FolderArchive([folder]).metadata(STUDY_UID)
    assert described["0020000D"] == {"vr": "UI", "Value": [STUDY_UID]}
    assert "00280034" not in described
    (code,) = described["00081032"]["Value"]  # type: ignore[index]
    assert set(code) == {"00080100", "00080102"}


def test_pixels_and_large_binaries_are_no_description(folder: Path) -> None:
    icon = pydicom.Dataset()
    icon.Rows = 64
    icon.add_new("PixelData", "OW", b"\0" * 8192)
    dataset = chest_instance(IconImageSequence=[icon])
    dataset.add_new(0x00091001, "OB", b"\0" * 1_000_000)
    dataset.add_new(0x00091002, "OB", b"few")
    dataset.save_as(folder / "good.dcm", enforce_file_format=True)
    (described,) = FolderArchive([folder]).metadata(STUDY_UID)
    assert "00091001" not in described
    assert "7FE00010" not in described
    assert described["00091002"]["InlineBinary"]
    assert described["00880200"]["Value"] == [{"00280010": {"vr": "US", "Value": [64]}}]
    assert len(json.dumps(described)) < 10_000
