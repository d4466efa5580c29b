"""Tables of images: pictures, and DICOM files by a reader that is brought along."""

import csv
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from ai_engine.errors import ImagesMissing, LabelsRefused, UnreadableImage
from ai_engine.image import View
from ai_engine.labelled_images.image_table import ImageTable
from ai_engine.labelled_images.official_split import Part
from ai_engine.labelled_images.pixel_reader import ImageHeader
from fhir_mappers.acquisition import text, view
from fhir_mappers.pixels import image


@dataclass(frozen=True)
class DicomReader:
    """Reads DICOM files as the server does."""

    def header(self, path: Path) -> ImageHeader:
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
        except InvalidDicomError as error:
            msg = f"{path.name} is no DICOM file"
            raise UnreadableImage(msg) from error
        return ImageHeader(
            study_uid=text(dataset, "StudyInstanceUID"),
            instance_uid=text(dataset, "SOPInstanceUID"),
            view=view(dataset),
            sex=text(dataset, "PatientSex"),
            manufacturer=text(dataset, "Manufacturer"),
        )

    def pixels(self, path: Path) -> NDArray[np.float32]:
        return image(pydicom.dcmread(path)).pixels


def written(folder: Path, text_of_table: str, names: list[str]) -> Path:
    for name in names:
        np.save(folder / name, np.full((4, 5), 0.25, dtype=np.float32))
    (folder / "labels.csv").write_text(text_of_table)
    return folder / "labels.csv"


def test_each_column_is_read(tmp_path: Path) -> None:
    table = written(
        tmp_path,
        "path,person,view,sex,age,site,manufacturer,source,split,Pleural Effusion,Mass\n"
        "a.npy,p1,PA,F,61,north,Acme,A,test,1,\n"
        "b.npy,p2,,,,,,,,0,1\n",
        ["a.npy", "b.npy"],
    )
    images = ImageTable(table, [tmp_path])
    first, second = images.images
    assert images.findings == ("pleural_effusion", "mass")
    assert (first.present, first.judged) == ({"pleural_effusion"}, {"pleural_effusion"})
    assert (second.present, second.judged) == ({"mass"}, {"pleural_effusion", "mass"})
    assert (first.view, first.sex, first.age_years, first.site) == (View.PA, "F", 61.0, "north")
    assert (second.view, second.sex, second.age_years) == (View.UNKNOWN, "", None)
    assert images.parts == {"a.npy": Part.TEST}
    assert images.pixels(first).shape == (4, 5)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "0", "1"]), st.sampled_from(["", "0", "1"])),
        min_size=1,
        max_size=12,
    )
)
def test_present_absent_and_unjudged_are_never_mixed_up(told: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["path", "person", "left lung", "right lung"])
    rows.writerows([f"{at}.npy", f"p{at}", *each] for at, each in enumerate(told))
    with tempfile.TemporaryDirectory() as folder:
        table = written(Path(folder), out.getvalue(), [f"{at}.npy" for at in range(len(told))])
        if not any(value for each in told for value in each):
            with pytest.raises(LabelsRefused, match="judged for any finding"):
                ImageTable(table, [Path(folder)])
            return
        images = ImageTable(table, [Path(folder)]).images
    for each, (left, right) in zip(images, told, strict=True):
        for name, value in (("left_lung", left), ("right_lung", right)):
            assert (name in each.judged) == (value != "")
            assert (name in each.present) == (value == "1")


@pytest.mark.parametrize(
    ("text_of_table", "message"),
    [
        ("path,person,mass\na.npy,p,2\n", "'2' is none of 0, 1"),
        ("path,person,mass,view\na.npy,p,1,front\n", "'front' is none of AP, LATERAL"),
        ("path,person,mass,split\na.npy,p,1,tune\n", "none of test, training, validation"),
        ("path,person,mass\na.npy,,1\n", "names no person"),
        ("path,person\na.npy,p\n", "columns of findings"),
        ("path,person,Mass,mass\na.npy,p,1,1\n", "two columns mean 'mass'"),
        ("path,person,mass,mass\na.npy,p,1,1\n", "'mass' is there twice"),
        ("path,person,mass\na.npy,p,1\na.npy,p,0\n", "listed twice"),
        ("path,mass\na.npy,1\n", "no column 'person'"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    tmp_path: Path, text_of_table: str, message: str
) -> None:
    with pytest.raises(LabelsRefused, match=message):
        ImageTable(written(tmp_path, text_of_table, ["a.npy"]), [tmp_path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    table = written(tmp_path, "path,person,mass\na.npy,p,1\nb.npy,q,0\n", ["a.npy"])
    with pytest.raises(ImagesMissing, match=r"1 of 2 .*: b.npy"):
        ImageTable(table, [tmp_path])
    assert len(ImageTable(table, [tmp_path], skip_missing=True).images) == 1


def test_dicom_files_say_what_the_table_leaves_out(tmp_path: Path, rg1_path: Path) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir()
    shutil.copy(rg1_path, folder / "one.dcm")
    (tmp_path / "labels.csv").write_text("path,person,sex,mass\none.dcm,p,M,1\n")
    read = []
    images = ImageTable(
        tmp_path / "labels.csv", [folder], reader=DicomReader(), noted=lambda: read.append(1)
    )
    (one,) = images.images
    header = DicomReader().header(folder / "one.dcm")
    assert one.manufacturer == header.manufacturer != ""
    assert one.view == header.view
    assert one.sex == "M"
    pixels = images.pixels(one)
    assert pixels.dtype == np.float32
    assert pixels.shape == (1955, 1841)
    assert 0.0 <= pixels.min() < pixels.max() <= 1.0
    assert read == [1]


def test_a_file_that_is_no_dicom_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "one.dcm").write_bytes(b"no dicom")
    (tmp_path / "labels.csv").write_text("path,person,mass\none.dcm,p,1\n")
    with pytest.raises(UnreadableImage, match="no DICOM file"):
        ImageTable(tmp_path / "labels.csv", [tmp_path], reader=DicomReader())
