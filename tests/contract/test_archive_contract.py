"""Every archive keeps the same promises: a folder, real PACS of two vendors, and the stand-ins."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from conftest import sample
from dicom_files import dicom_file
from dicomweb_client.file import DICOMfileClient
from orthanc import Orthanc, free_ports, orthanc
from standing_clock import StandingClock
from strict_pacs import StrictPacs, strict_pacs
from studies import STUDY_UID
from tiny_pacs import tiny_pacs

from cds_server.adapters.dicomweb_archive import DicomWebArchive
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.folder_archive import FolderArchive
from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.adapters.pacs_credentials import BasicCredentials
from cds_server.errors import ArchiveUnreachable, InstanceUnreadable, StudyNotFound
from cds_server.imaging import Arrival, ImageArchive
from fhir_mappers.dicom_json import text
from fhir_mappers.dicom_study import study_of
from fhir_mappers.selection import select_images

pytestmark = pytest.mark.alone

# One plain, one JPEG 2000 that Orthanc itself cannot decode, one CT.
FILES = ("RG1_UNCR.dcm", "RG3_J2KR.dcm", "693_UNCR.dcm")
PACS = ("orthanc", "orthanc with a password", "strict")
ENCODINGS = (
    "RG1_UNCR.dcm",
    "RG1_J2KR.dcm",
    "emri_small_RLE.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
)


def archive_of(url: str, **options: object) -> DicomWebArchive:
    return DicomWebArchive(
        DicomWebService(url, clock=StandingClock(), timeout_s=20, **options)  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def open_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as pacs:
        for name in FILES:
            pacs.upload(sample(name).read_bytes())
        yield pacs


@pytest.fixture(scope="module")
def locked_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Path]]:
    folder = tmp_path_factory.mktemp("locked")
    secret = folder / "secret"
    secret.write_text("cds:pass:wörd\n", encoding="utf-8")
    with orthanc(folder, user="cds", password="pass:wörd") as pacs:  # noqa: S106 - of a test
        for name in FILES:
            pacs.upload(sample(name).read_bytes())
        yield pacs, secret


@pytest.fixture
def strict() -> Iterator[StrictPacs]:
    with strict_pacs() as pacs:
        yield pacs


@pytest.fixture(params=["folder", "memory", *PACS])
def archive(request: pytest.FixtureRequest) -> Iterator[ImageArchive]:
    with ExitStack() as stack:
        if request.param == "folder":
            yield FolderArchive([sample(name) for name in FILES])
        elif request.param == "memory":
            yield InMemoryArchive([pydicom.dcmread(sample(name)) for name in FILES])
        elif request.param == "orthanc":
            yield archive_of(request.getfixturevalue("open_orthanc").url)
        elif request.param == "strict":
            pacs = stack.enter_context(strict_pacs())
            for name in FILES:
                pacs.add(sample(name).read_bytes())
            yield archive_of(pacs.url)
        else:
            locked, secret = request.getfixturevalue("locked_orthanc")
            yield archive_of(locked.url, credentials=BasicCredentials(secret))


# --- what holds for each


def test_every_study_is_listed_once(archive: ImageArchive) -> None:
    wanted = sorted(str(pydicom.dcmread(sample(name)).StudyInstanceUID) for name in FILES)
    assert [each.study_instance_uid for each in archive.arrivals()] == wanted
    assert list(archive.problems) == []


def test_an_archive_holds_what_it_lists_and_nothing_else(archive: ImageArchive) -> None:
    assert all(archive.holds(each.study_instance_uid) for each in archive.arrivals())
    assert not archive.holds("1.2.3.4.5.6.7.8.9")


def test_what_is_said_of_an_arrival_is_true(archive: ImageArchive) -> None:
    headers = {str(h.StudyInstanceUID): h for h in map(pydicom.dcmread, map(sample, FILES))}
    for arrival in archive.arrivals():
        assert arrival.modalities in {(), (headers[arrival.study_instance_uid].Modality,)}
        assert arrival.number_of_instances in {None, 1}


def test_no_study_since_then_is_left_out(archive: ImageArchive) -> None:
    wanted = str(pydicom.dcmread(sample("RG1_UNCR.dcm")).StudyInstanceUID)
    began = datetime.strptime(
        str(pydicom.dcmread(sample("RG1_UNCR.dcm")).StudyDate), "%Y%m%d"
    ).replace(tzinfo=UTC)
    for earlier in (timedelta(), timedelta(days=1), timedelta(days=300)):
        listed = {each.study_instance_uid for each in archive.arrivals(since=began - earlier)}
        assert wanted in listed


@pytest.mark.parametrize("name", FILES)
def test_the_study_that_is_described_is_the_one_in_the_file(
    archive: ImageArchive, name: str
) -> None:
    original = pydicom.dcmread(sample(name))
    study = study_of(archive.metadata(str(original.StudyInstanceUID)), timezone="UTC")
    assert study.patient.patient_id == original.PatientID
    assert study.modalities == (original.Modality,)
    assert study.number_of_instances == 1


@pytest.mark.parametrize("name", FILES)
def test_a_file_arrives_as_it_is_stored(archive: ImageArchive, name: str) -> None:
    original = pydicom.dcmread(sample(name))
    arrived = archive.instance(
        str(original.StudyInstanceUID),
        str(original.SeriesInstanceUID),
        str(original.SOPInstanceUID),
    )
    assert type(arrived) is bytes
    opened = pydicom.dcmread(BytesIO(arrived))
    assert opened.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert opened.PixelData == original.PixelData
    assert opened.PatientID == original.PatientID


def test_the_image_that_the_description_leads_to_is_there(archive: ImageArchive) -> None:
    uid = str(pydicom.dcmread(sample("RG1_UNCR.dcm")).StudyInstanceUID)
    (chosen,) = select_images(study_of(archive.metadata(uid), timezone="UTC")).chosen
    arrived = archive.instance(uid, chosen.series_instance_uid, chosen.sop_instance_uid)
    assert pydicom.dcmread(BytesIO(arrived)).SOPInstanceUID == chosen.sop_instance_uid


@pytest.mark.parametrize("uid", ["1.2.3.4.5", "../../studies", "", "1" * 65, "1.2?x=1", "*"])
def test_what_is_not_there_is_said(archive: ImageArchive, uid: str) -> None:
    original = pydicom.dcmread(sample("RG1_UNCR.dcm"))
    study, series = str(original.StudyInstanceUID), str(original.SeriesInstanceUID)
    for ask in (
        lambda: archive.metadata(uid),
        lambda: archive.instance(uid, series, str(original.SOPInstanceUID)),
        lambda: archive.instance(study, uid, str(original.SOPInstanceUID)),
        lambda: archive.instance(study, series, uid),
    ):
        with pytest.raises(StudyNotFound) as failed:
            ask()
        assert not uid or uid not in str(failed.value)


# --- what another reader of folders finds


def test_a_folder_lists_what_an_independent_reader_lists(tmp_path: Path) -> None:
    for name in (*FILES, *ENCODINGS):
        shutil.copy(sample(name), tmp_path / name)
    for number in (1, 2):
        (tmp_path / f"chest{number}.dcm").write_bytes(dicom_file(number))
    (tmp_path / "letter.txt").write_text("Dear colleague")
    judge = DICOMfileClient(tmp_path.as_uri(), update_db=True, in_memory=True, readonly=True)
    wanted = {
        study: sorted(text(each, "00080018") for each in judge.search_for_instances(study))
        for study in (text(each, "0020000D") for each in judge.search_for_studies())
    }
    archive = FolderArchive([tmp_path])
    assert {
        each.study_instance_uid: sorted(
            text(instance, "00080018") for instance in archive.metadata(each.study_instance_uid)
        )
        for each in archive.arrivals()
    } == wanted
    assert {each.study_instance_uid: each.number_of_instances for each in archive.arrivals()} == {
        study: len(instances) for study, instances in wanted.items()
    }
    instances = {pydicom.dcmread(path).SOPInstanceUID for path in tmp_path.glob("*.dcm")}
    assert sum(map(len, wanted.values())) == len(instances) > 5


# --- what holds for a real PACS


@pytest.mark.parametrize("name", ENCODINGS)
def test_orthanc_gives_every_encoding_byte_for_byte(open_orthanc: Orthanc, name: str) -> None:
    content = sample(name).read_bytes()
    stored = open_orthanc.file(open_orthanc.upload(content))
    header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    try:
        arrived = archive_of(open_orthanc.url).instance(
            str(header.StudyInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.SOPInstanceUID),
        )
    finally:
        if name not in FILES:
            (identifier,) = open_orthanc.find(SOPInstanceUID=str(header.SOPInstanceUID))
            open_orthanc.ask(f"/instances/{identifier}", method="DELETE")
    assert hashlib.sha256(arrived).digest() == hashlib.sha256(stored).digest()
    assert arrived == content


def test_one_image_that_orthanc_cannot_decode_spoils_no_other(open_orthanc: Orthanc) -> None:
    plain, packed = (pydicom.dcmread(sample(name)) for name in ("RG1_UNCR.dcm", "RG3_J2KR.dcm"))
    archive = archive_of(open_orthanc.url)
    for each in (packed, plain):
        assert archive.instance(
            str(each.StudyInstanceUID), str(each.SeriesInstanceUID), str(each.SOPInstanceUID)
        )


def test_the_address_that_orthanc_gives_of_itself_is_not_needed(tmp_path: Path) -> None:
    with orthanc(
        tmp_path, DicomWeb={"Enable": True, "Root": "/dicom-web/", "Host": "192.0.2.1"}
    ) as pacs:
        pacs.upload(sample("693_UNCR.dcm").read_bytes())
        archive = archive_of(pacs.url)
        (arrival,) = archive.arrivals()
        assert archive.metadata(arrival.study_instance_uid)
        assert "192.0.2.1" in pacs.ask("/dicom-web/studies").decode()


def test_a_wrong_password_is_no_empty_archive(
    locked_orthanc: tuple[Orthanc, Path], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("cds:guessed")
    for options in ({}, {"credentials": BasicCredentials(tmp_path / "secret")}):
        archive = archive_of(locked_orthanc[0].url, **options)
        with pytest.raises(ArchiveUnreachable, match=r"refuses the credentials.*401") as failed:
            archive.arrivals()
        assert "guessed" not in str(failed.value)


def test_a_pacs_that_does_not_answer_is_unreachable_and_at_once() -> None:
    dead = archive_of(f"http://127.0.0.1:{free_ports(1)[0]}")
    start = time.monotonic()
    with pytest.raises(ArchiveUnreachable, match=r"does not answer \(no connection\)"):
        dead.arrivals()
    assert time.monotonic() - start < 1


def test_a_second_vendor_without_descriptions_is_said_to_lack_them(tmp_path: Path) -> None:
    content = sample("693_UNCR.dcm").read_bytes()
    header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    uids = (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
    with tiny_pacs(tmp_path) as url:
        service = DicomWebService(url, clock=StandingClock())
        archive = DicomWebArchive(service)
        assert list(archive.arrivals()) == []
        assert service.store(str(header.StudyInstanceUID), content).status == 200
        assert [each.study_instance_uid for each in archive.arrivals()] == [uids[0]]
        opened = pydicom.dcmread(BytesIO(archive.instance(*map(str, uids))))
        assert opened.PixelData == pydicom.dcmread(BytesIO(content)).PixelData
        with pytest.raises(ArchiveUnreachable, match="lists the study but does not describe"):
            archive.metadata(str(uids[0]))
        with pytest.raises(StudyNotFound):
            archive.metadata("1.2.3.4.5")


# --- searching


def many(pacs: StrictPacs, count: int) -> list[str]:
    uids = [f"1.2.3.{number}" for number in range(count)]
    template = dicom_file()
    kept = pacs.add(template)
    del pacs.kept[kept.instance]
    for uid in uids:
        metadata = {
            **kept.metadata,
            "0020000D": {"vr": "UI", "Value": [uid]},
            "00080018": {"vr": "UI", "Value": [f"{uid}.1"]},
        }
        pacs.kept[uid] = type(kept)(uid, kept.series, f"{uid}.1", template, metadata)
    return sorted(uids)


@pytest.mark.parametrize("largest_page", [200, 100, 7])
def test_all_pages_are_read_however_short_they_are(strict: StrictPacs, largest_page: int) -> None:
    strict.largest_page = largest_page
    wanted = many(strict, 201)
    assert [each.study_instance_uid for each in archive_of(strict.url).arrivals()] == wanted


def test_a_pacs_that_gives_the_same_page_again_is_not_asked_for_ever(strict: StrictPacs) -> None:
    strict.ignores_offset = True
    wanted = many(strict, 3)
    assert [each.study_instance_uid for each in archive_of(strict.url).arrivals()] == wanted
    assert len(strict.seen) == 2


def test_an_archive_without_end_is_said(
    strict: StrictPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_server.adapters.dicomweb_archive._MOST_PAGES", 3)
    strict.largest_page = 2
    many(strict, 7)
    with pytest.raises(ArchiveUnreachable, match="more than 6 studies; ask from a later date"):
        archive_of(strict.url).arrivals()


def test_a_search_asks_for_what_it_needs_by_name(strict: StrictPacs) -> None:
    strict.add(dicom_file(1))
    strict.add(dicom_file(2, Modality="SR"))
    assert list(archive_of(strict.url).arrivals()) == [Arrival(STUDY_UID, ("DX", "SR"), 2)]
    assert set(strict.seen[0].query["includefield"]) == {
        "StudyInstanceUID",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
    }
    assert strict.seen[0].query["limit"] == ["200"]


@pytest.mark.parametrize(
    ("since", "day"),
    [
        (datetime(2026, 11, 20, 9, tzinfo=UTC), "20261119-"),
        (datetime(2026, 11, 20, 13, tzinfo=UTC), "20261120-"),
        (datetime.fromisoformat("2026-11-20T09:00:00-12:00"), "20261120-"),
    ],
)
def test_a_search_begins_on_the_day_that_it_is_anywhere(
    strict: StrictPacs, since: datetime, day: str
) -> None:
    strict.add(dicom_file())
    archive = archive_of(strict.url)
    assert [each.study_instance_uid for each in archive.arrivals(since=since)] == [STUDY_UID]
    assert strict.seen[0].query["StudyDate"] == [day]
    assert list(archive.arrivals(since=since + timedelta(days=2))) == []


def test_an_object_at_the_limit_is_read_and_one_beyond_is_not(strict: StrictPacs) -> None:
    kept = strict.add(dicom_file(size=1024 * 1024))
    uids = (kept.study, kept.series, kept.instance)
    size = len(kept.content)
    assert archive_of(strict.url, largest_bytes=size).instance(*uids) == kept.content
    with pytest.raises(InstanceUnreadable, match="larger than 1 MB"):
        archive_of(strict.url, largest_bytes=size - 1).instance(*uids)
    with pytest.raises(InstanceUnreadable, match="larger than 0 MB"):
        archive_of(strict.url, largest_bytes=1000).instance(*uids)
