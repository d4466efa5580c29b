"""Images come from the archive when somebody looks, and what cannot be had is said."""

import io

import pydicom
import pytest
from studies import STUDY_UID, chest_instance

from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.study_images import ArchiveImages, ImagesUnavailable


class Counting(InMemoryArchive):
    """An archive that counts what it is asked for."""

    def __init__(self, *instances: object) -> None:
        super().__init__(list(instances))  # type: ignore[arg-type]
        self.asked: list[str] = []

    def instance(self, study: str, series: str, sop: str) -> bytes:
        self.asked.append(sop)
        return super().instance(study, series, sop)


def test_an_image_is_fetched_once_and_then_kept_for_a_while() -> None:
    archive = Counting(chest_instance())
    images = ArchiveImages(archive, InProcessDecoder(), timezone="UTC")
    first = images.pixels(STUDY_UID, 0)
    assert images.pixels(STUDY_UID, 0) is first
    assert archive.asked == [f"{STUDY_UID}.1.1"]
    assert len(first.stored) == 256 * 224 * 2


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_an_image_that_says_it_is_another_is_never_shown(keyword: str) -> None:
    class Mistaken(InMemoryArchive):
        def instance(self, *asked: str) -> bytes:
            assert STUDY_UID in asked
            written = io.BytesIO()
            other = chest_instance(**{keyword: "1.2.3"})
            pydicom.dcmwrite(written, other, enforce_file_format=True)
            return written.getvalue()

    images = ArchiveImages(Mistaken([chest_instance()]), InProcessDecoder(), timezone="UTC")
    with pytest.raises(ImagesUnavailable, match="another image"):
        images.pixels(STUDY_UID, 0)


@pytest.mark.parametrize("number", [-1, 1, 99])
def test_an_image_that_is_not_there_is_not_guessed(number: int) -> None:
    images = ArchiveImages(InMemoryArchive([chest_instance()]), InProcessDecoder(), timezone="UTC")
    with pytest.raises(ImagesUnavailable, match="no such image"):
        images.pixels(STUDY_UID, number)


def test_without_an_archive_the_page_says_so() -> None:
    images = ArchiveImages(None, InProcessDecoder(), timezone="UTC")
    assert not images.available
    with pytest.raises(ImagesUnavailable, match="no archive"):
        images.of_study(STUDY_UID)


def test_a_study_that_is_gone_or_has_no_picture_is_said_in_words() -> None:
    with pytest.raises(ImagesUnavailable, match="does not have"):
        ArchiveImages(InMemoryArchive([]), InProcessDecoder(), timezone="UTC").of_study("1.2.3")
    nothing = chest_instance(Rows=None, Columns=None, PixelData=None)
    with pytest.raises(ImagesUnavailable, match="no greyscale"):
        ArchiveImages(InMemoryArchive([nothing]), InProcessDecoder(), timezone="UTC").of_study(
            STUDY_UID
        )


def test_damaged_pixels_are_told_as_such() -> None:
    damaged = chest_instance(PixelData=b"\x00" * 100)
    images = ArchiveImages(InMemoryArchive([damaged]), InProcessDecoder(), timezone="UTC")
    with pytest.raises(ImagesUnavailable, match="damaged"):
        images.pixels(STUDY_UID, 0)


def test_two_studies_with_one_instance_identifier_never_share_an_image() -> None:
    other = f"{STUDY_UID}.9"
    bright = chest_instance(StudyInstanceUID=other, PixelData=b"\xff\x0f" * (256 * 224))
    bright.PixelData = bytes(2) + bright.PixelData[2:]
    images = ArchiveImages(
        InMemoryArchive([chest_instance(), bright]), InProcessDecoder(), timezone="UTC"
    )
    assert images.pixels(STUDY_UID, 0).of[0] == STUDY_UID
    assert images.pixels(other, 0).of[0] == other


def test_an_image_that_comes_late_is_listed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = InMemoryArchive([chest_instance()])
    images = ArchiveImages(archive, InProcessDecoder(), timezone="UTC")
    assert len(images.of_study(STUDY_UID).images) == 1
    archive.instances.append(chest_instance(SOPInstanceUID="1.2.9"))
    assert len(images.of_study(STUDY_UID).images) == 1
    monkeypatch.setattr(images._lists, "_lasts_s", 0.0)
    assert len(images.of_study(STUDY_UID).images) == 2


def test_what_was_made_from_images_is_not_shown_as_one() -> None:
    made = chest_instance(Modality="SEG", SeriesInstanceUID="1.2.7", SOPInstanceUID="1.2.7.1")
    images = ArchiveImages(
        InMemoryArchive([chest_instance(), made]), InProcessDecoder(), timezone="UTC"
    )
    assert [each.modality for each in images.of_study(STUDY_UID).series] == ["DX"]
