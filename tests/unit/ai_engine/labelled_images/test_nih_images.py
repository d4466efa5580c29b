"""NIH ChestX-ray14, in the forms in which it goes about."""

import gzip
import io
import multiprocessing
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from ai_engine.errors import ImagesMissing, LabelsRefused, UnreadableImage
from ai_engine.image import View
from ai_engine.labelled_images.nih_chestxray14 import NIH_FINDINGS, NihChestXray14
from ai_engine.labelled_images.official_split import Part

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LINES = (
    "00000001_000.png,Cardiomegaly|Pleural_Thickening,0,1,58,M,PA,2682,2749,0.143,0.143",
    "00000002_000.png,No Finding,0,2,411,F,AP,2682,2749,0.143,0.143",
    "00000002_001.png,Hernia,1,2,081Y,F,PA,2682,2749,0.143,0.143",
)


def png(value: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("L", (8, 6), value).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "Data_Entry_2017_v2020.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEADER, *LINES]).encode()))
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two images in a zip, one in a folder of folders, as NIH's twelve archives unpack."""
    folder = tmp_path / "images_001" / "images"
    folder.mkdir(parents=True)
    (folder / "00000001_000.png").write_bytes(png(10))
    (folder / "notes.txt").write_text("no image")
    with zipfile.ZipFile(tmp_path / "images_002.zip", "w") as files:
        files.writestr("images/00000002_000.png", png(20))
        files.writestr("images/00000002_001.png", png(30))
    return [tmp_path / "images_001", tmp_path / "images_002.zip"]


def test_the_header_with_unquoted_commas_is_read(labels: Path, images: list[Path]) -> None:
    first, second, third = NihChestXray14(labels, images).images
    assert (first.person, second.person, third.person) == ("1", "2", "2")
    assert (first.view, second.view) == (View.PA, View.AP)
    assert (first.sex, second.sex) == ("M", "F")


def test_pleural_thickening_and_cardiomegaly_make_a_chest_abnormal(
    labels: Path, images: list[Path]
) -> None:
    first, second, _ = NihChestXray14(labels, images).images
    assert first.present == {"abnormal", "cardiomegaly", "pleural_thickening"}
    assert second.present == frozenset()
    assert first.judged == second.judged == {"abnormal", *NIH_FINDINGS}


def test_an_age_of_411_years_is_unknown(labels: Path, images: list[Path]) -> None:
    ages = [each.age_years for each in NihChestXray14(labels, images).images]
    assert ages == [58.0, None, 81.0]


def test_pixels_come_from_folders_and_zips_alike(labels: Path, images: list[Path]) -> None:
    nih = NihChestXray14(labels, images)
    means = [float(nih.pixels(each).mean()) * 255 for each in nih.images]
    assert means == pytest.approx([10, 20, 30])


def test_what_the_official_list_does_not_name_is_for_testing(
    labels: Path, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n")
    nih = NihChestXray14(labels, images, training_list=tmp_path / "train_val_list.txt")
    assert [nih.parts[each.address] for each in nih.images] == [
        Part.TRAINING, Part.TEST, Part.TEST
    ]  # fmt: skip


def test_missing_images_are_counted_and_ten_of_them_named(tmp_path: Path) -> None:
    lines = [f"{number:08}_000.png,Mass,0,{number},50,M,PA,1,1,1,1" for number in range(13)]
    (tmp_path / "labels.csv").write_text("\n".join([HEADER, *lines]))
    (tmp_path / "images").mkdir()
    with pytest.raises(ImagesMissing, match=r"13 of 13 .* 00000009_000.png and 3 more") as refused:
        NihChestXray14(tmp_path / "labels.csv", [tmp_path / "images"])
    assert "00000010_000.png" not in str(refused.value)


def test_missing_images_are_left_out_where_that_was_asked_for(
    labels: Path, images: list[Path]
) -> None:
    nih = NihChestXray14(labels, images[:1], skip_missing=True)
    assert [each.person for each in nih.images] == ["1"]


def test_a_set_of_which_nothing_is_there_is_refused(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelsRefused, match="none of its 3 images"):
        NihChestXray14(labels, [tmp_path / "empty"], skip_missing=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00000001_000.png,Broken Rib,0,1,58,M,PA,1,1,1,1", "broken_rib"),
        ("00000001_000.png,Mass,0,,58,M,PA,1,1,1,1", "no Patient ID"),
        ("00000001_000.png,Mass,0,1,58,M,PA", "7 values for 11 columns"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(
    line: str, message: str, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(LabelsRefused, match=message):
        NihChestXray14(tmp_path / "labels.csv", images)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "has no column"), (HEADER, "labels no image"), ("Image Index\nx", "has no column")],
)
def test_a_label_file_without_labels_is_refused(
    text: str, message: str, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(LabelsRefused, match=message):
        NihChestXray14(tmp_path / "labels.csv", images)


def test_two_images_of_one_name_are_refused(labels: Path, images: list[Path]) -> None:
    other = images[0] / "other"
    other.mkdir()
    (other / "00000001_000.jpg").write_bytes(png(1))
    with pytest.raises(ImagesMissing, match="have one name"):
        NihChestXray14(labels, images)


def test_a_file_that_is_no_zip_is_refused(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"no zip")
    with pytest.raises(ImagesMissing, match="neither a folder nor a zip"):
        NihChestXray14(labels, [tmp_path / "images.zip"])


def test_a_truncated_image_is_unreadable_and_named(labels: Path, images: list[Path]) -> None:
    nih = NihChestXray14(labels, images)
    path = images[0] / "images" / "00000001_000.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnreadableImage, match=r"00000001_000\.png"):
        nih.pixels(nih.images[0])


def _sums(nih: NihChestXray14) -> list[float]:
    return [float(nih.pixels(nih.images[at % len(nih.images)]).sum()) for at in range(60)]


def test_processes_that_fork_off_read_a_zip_without_disturbing_each_other(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    lines = [f"{number:08}_000.png,Mass,0,{number},50,M,PA,1,1,1,1" for number in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join([HEADER, *lines]))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as files:
        for number in range(20):
            out = io.BytesIO()
            Pillow.fromarray(rng.integers(0, 255, (60, 60), dtype=np.uint8)).save(out, "PNG")
            files.writestr(f"{number:08}_000.png", out.getvalue())
    nih = NihChestXray14(tmp_path / "labels.csv", [tmp_path / "images.zip"])
    expected = _sums(nih)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_sums, [nih] * 4) == [expected] * 4
    assert _sums(pickle.loads(pickle.dumps(nih))) == expected  # noqa: S301 - our own
