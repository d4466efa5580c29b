"""Every archive keeps the same promises: a folder, a real PACS, and the stand-in."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pydicom
import pytest
from conftest import sample

from cds_server.adapters.dicomweb_archive import DicomWebArchive
from cds_server.adapters.folder_archive import FolderArchive
from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.errors import ArchiveUnreachable, StudyNotFound
from cds_server.ports import ImageArchive
from fhir_mappers.dicom_study import study_of
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.pixels import image
from fhir_mappers.selection import select_images

# One plain, one JPEG 2000 that the PACS itself cannot decode, one CT.
FILES = ("RG1_UNCR.dcm", "RG3_J2KR.dcm", "693_UNCR.dcm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plugin() -> str:
    found = sorted(Path("/usr").glob("**/plugins/libOrthancDicomWeb.so"))
    assert found, "the DICOMweb plugin is missing: run scripts/install_system.sh orthanc"
    return str(found[0])


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Orthanc on loopback with the sample studies; gives its DICOMweb address."""
    program = which("Orthanc")
    assert program, "the PACS is missing: run scripts/install_system.sh orthanc"
    folder = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [plugin()],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Host": f"127.0.0.1:{port}"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with subprocess.Popen(
        [program, folder / "orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        wait_for(f"http://127.0.0.1:{port}/dicom-web/studies")
        for name in FILES:
            upload = urllib.request.Request(
                f"http://127.0.0.1:{port}/instances", sample(name).read_bytes()
            )
            urllib.request.urlopen(upload).close()  # noqa: S310 - loopback
        yield f"http://127.0.0.1:{port}/dicom-web"
        running.terminate()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(url).close()  # noqa: S310 - loopback
        except OSError:
            assert time.monotonic() < deadline, "the PACS did not start"
            time.sleep(0.1)
        else:
            return


@pytest.fixture(params=["folder", "dicomweb", "memory"])
def archive(request: pytest.FixtureRequest) -> Iterator[ImageArchive]:
    if request.param == "folder":
        with FolderArchive([sample(name) for name in FILES]) as made:
            yield made
    elif request.param == "dicomweb":
        yield DicomWebArchive(request.getfixturevalue("pacs"), timeout_s=20)
    else:
        yield InMemoryArchive([pydicom.dcmread(sample(name)) for name in FILES])


def test_every_study_is_listed_once_in_order(archive: ImageArchive) -> None:
    wanted = sorted(str(pydicom.dcmread(sample(name)).StudyInstanceUID) for name in FILES)
    assert list(archive.study_uids()) == wanted


@pytest.mark.parametrize("name", FILES)
def test_the_study_that_is_described_is_the_one_in_the_file(
    archive: ImageArchive, name: str
) -> None:
    original = pydicom.dcmread(sample(name))
    study = study_of(archive.metadata(str(original.StudyInstanceUID)), timezone="UTC")
    assert study.patient.patient_id == original.PatientID
    assert study.modalities == (original.Modality,)
    assert study.number_of_instances == 1


@pytest.mark.parametrize("name", FILES[:2])
def test_pixels_arrive_as_they_are_stored(archive: ImageArchive, name: str) -> None:
    original = pydicom.dcmread(sample(name))
    uid = str(original.StudyInstanceUID)
    (chosen,) = select_images(study_of(archive.metadata(uid), timezone="UTC")).chosen
    arrived = archive.instance(uid, chosen.series_instance_uid, chosen.sop_instance_uid)
    assert arrived.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    try:
        assert (image(arrived).pixels == image(original).pixels).all()
    except ImageDeclined as declined:
        pytest.fail(str(declined))


def test_what_is_not_there_is_said(archive: ImageArchive) -> None:
    with pytest.raises(StudyNotFound):
        archive.metadata("1.2.3.4.5")
    with pytest.raises(StudyNotFound):
        archive.instance("1.2.3.4.5", "1.2.3", "1.2.4")


def test_a_pacs_that_does_not_answer_is_unreachable_and_at_once() -> None:
    dead = DicomWebArchive(f"http://127.0.0.1:{free_port()}", timeout_s=2)
    start = time.monotonic()
    with pytest.raises(ArchiveUnreachable, match="does not answer"):
        dead.study_uids()
    assert time.monotonic() - start < 3
