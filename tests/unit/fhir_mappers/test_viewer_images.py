"""The viewer shows what is stored, all 16 bits of it, slices in the order of the body."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from studies import STUDY_UID, chest_instance

from fhir_mappers.dicom_study import study_of
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.viewer_images import pixels, shown_images


def shown(dataset: Dataset, frame: int = 0) -> np.ndarray:
    """Give the values that a viewer shows."""
    found = pixels(dataset, frame)
    stored = np.frombuffer(found.stored, dtype="<u2").astype(np.float64)
    return stored * found.slope + found.intercept


def slice_at(number: int, position: float, **changes: Any) -> Dataset:
    values = np.full((4, 4), number, dtype=np.int16)
    values_of: dict[str, Any] = dict(  # noqa: C408 - attributes read as such
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        SOPInstanceUID=f"{STUDY_UID}.9.{number}",
        SeriesInstanceUID=f"{STUDY_UID}.9",
        Modality="CT",
        InstanceNumber=number,
        ImagePositionPatient=[0, 0, position],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        Rows=4,
        Columns=4,
        PixelRepresentation=1,
        BitsStored=16,
        HighBit=15,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        PixelSpacing=[0.7, 0.7],
        PixelData=values.tobytes(),
    )
    return chest_instance(**{**values_of, **changes})


def listed(*instances: Dataset) -> list[str]:
    metadata = [each.to_json_dict() for each in instances]
    _, images = shown_images(study_of(metadata, timezone="UTC"), metadata)
    return [image.sop_instance_uid.rsplit(".", 1)[1] for image in images]


@given(st.permutations([-30.0, -12.5, 0.0, 4.0, 90.0]))
def test_slices_stand_in_the_order_of_the_body_whatever_their_numbers(
    positions: list[float],
) -> None:
    slices = [slice_at(number, place) for number, place in enumerate(positions, start=1)]
    expected = [str(positions.index(place) + 1) for place in sorted(positions)]
    assert listed(*slices) == expected


def test_without_geometry_the_numbers_count() -> None:
    slices = [slice_at(number, 0.0, ImageOrientationPatient=None) for number in (3, 1, 2)]
    assert listed(*slices) == ["1", "2", "3"]


def test_two_slices_at_one_place_are_not_sorted_by_it() -> None:
    assert listed(slice_at(2, 5.0), slice_at(1, 5.0)) == ["1", "2"]


def test_colour_and_what_is_no_image_are_left_out() -> None:
    colour = slice_at(5, 1.0, SamplesPerPixel=3)
    report = chest_instance(
        SOPInstanceUID=f"{STUDY_UID}.8.1", Rows=None, Columns=None, PixelData=None
    )
    assert listed(slice_at(1, 0.0), colour, report) == ["1"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-32768, 32767), min_size=16, max_size=16),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(-2000, 2000),
)
def test_every_stored_value_is_shown_as_it_is(
    values: list[int], slope: float, intercept: int
) -> None:
    dataset = slice_at(1, 0.0)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.PixelData = np.array(values, dtype=np.int16).tobytes()
    assert shown(dataset) == pytest.approx(np.array(values) * slope + intercept)


def test_a_window_of_the_header_is_kept_and_a_missing_one_comes_from_the_image() -> None:
    assert pixels(chest_instance(), 0).window == (2048.0, 4096.0)
    without = pixels(chest_instance(WindowCenter=None, WindowWidth=None), 0)
    center, width = without.window
    assert 1000 < center < 3500
    assert 500 < width <= 4096


def test_the_first_of_several_windows_is_the_one() -> None:
    several = chest_instance(WindowCenter=[40, -600], WindowWidth=[400, 1500])
    assert pixels(several, 0).window == (40.0, 400.0)


def test_monochrome1_is_said_and_not_applied() -> None:
    dataset = chest_instance(PhotometricInterpretation="MONOCHROME1")
    assert pixels(dataset, 0).invert
    assert not pixels(chest_instance(), 0).invert
    assert pixels(dataset, 0).stored == pixels(chest_instance(), 0).stored


def test_a_frame_is_the_one_that_was_asked_for() -> None:
    frames = np.stack([np.full((4, 4), value, dtype=np.uint16) for value in (7, 9)])
    dataset = chest_instance(Rows=4, Columns=4, NumberOfFrames=2, PixelData=frames.tobytes())
    assert set(shown(dataset, 1)) == {9.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"PixelData": b"\x00" * 10},
        {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelData": b"\xff\x7f" * 114688},
        {"SamplesPerPixel": 3},
        {"Rows": 60000, "Columns": 60000},
        {"PixelData": None},
    ],
)
def test_what_cannot_be_shown_is_declined_in_words(changes: dict[str, Any]) -> None:
    with pytest.raises(ImageDeclined) as declined:
        pixels(chest_instance(**changes), 0)
    assert len(declined.value.outcome.detail) > 20
