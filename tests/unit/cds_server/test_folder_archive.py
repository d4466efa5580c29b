"""Bad files are named with a remedy, and never stop the good ones."""

import shutil
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
