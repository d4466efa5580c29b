"""Pixels as a radiologist would see them, or a reason why not."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from conftest import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import MPEG2MPML, MPEG4HP41, JPEG2000Lossless
from studies import chest_instance

from ai_engine.image import AgeBand, Subject, View
from ai_engine.result import Reason
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.pixels import image


def test_the_lung_is_darker_than_the_mediastinum_in_a_monochrome1_image(rg1: Dataset) -> None:
    assert rg1.PhotometricInterpretation == "MONOCHROME1"
    pixels = image(rg1).pixels
    assert pixels[700:900, 400:500].mean() < pixels[900:1100, 880:960].mean() - 0.2


def test_monochrome1_and_its_monochrome2_complement_are_the_same_image(rg1: Dataset) -> None:
    as_monochrome1 = image(rg1).pixels
    highest = 2**rg1.BitsStored - 1
    rg1.PixelData = (highest - rg1.pixel_array).astype(np.uint16).tobytes()
    rg1.PhotometricInterpretation = "MONOCHROME2"
    rg1.WindowCenter = highest - float(rg1.WindowCenter) + 1
    assert np.abs(image(rg1).pixels - as_monochrome1).max() < 1e-3


def test_a_dx_image_that_says_inverse_twice_is_inverted_once() -> None:
    plain = image(chest_instance()).pixels
    once = image(chest_instance(PhotometricInterpretation="MONOCHROME1")).pixels
    both = chest_instance(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert np.allclose(once, 1 - plain, atol=1e-6)
    assert np.array_equal(image(both).pixels, once)


def test_lossless_compression_gives_the_same_image(rg1: Dataset) -> None:
    compressed = image(pydicom.dcmread(sample("RG1_J2KR.dcm"))).pixels
    assert np.array_equal(compressed, image(rg1).pixels)


def test_an_image_is_the_same_however_often_it_is_made(rg1: Dataset) -> None:
    assert np.array_equal(image(rg1).pixels, image(rg1).pixels)


def test_a_compressed_image_of_another_size_than_its_header_is_not_decoded() -> None:
    compressed = chest_instance()
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    compressed.Rows, compressed.Columns = compressed.Columns, compressed.Rows
    with pytest.raises(ImageDeclined, match="not of the size") as declined:
        image(compressed)
    assert declined.value.outcome.reason is Reason.UNREADABLE


def test_a_private_syntax_is_not_named() -> None:
    dataset = chest_instance()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.113619.5.2")
    with pytest.raises(ImageDeclined, match=r"\(private\) cannot be decoded"):
        image(dataset)


def test_an_attribute_of_half_a_number_is_damage_like_any_other() -> None:
    file = BytesIO()
    chest_instance(PixelPaddingValue=1).save_as(file, enforce_file_format=True)
    broken = file.getvalue().replace(
        b"\x28\x00\x20\x01US\x02\x00\x01", b"\x28\x00\x20\x01FD\x02\x00\x01"
    )
    with pytest.raises(ImageDeclined, match="damaged"):
        image(pydicom.dcmread(BytesIO(broken)))


def test_padding_stretches_no_scale_and_is_black() -> None:
    ct = pydicom.dcmread(sample("693_UNCR.dcm"))
    assert ct.PixelPaddingValue == -2000
    del ct.WindowCenter, ct.WindowWidth
    padding = ct.pixel_array == -2000
    pixels = image(ct).pixels
    assert padding.any()
    assert not pixels[padding].any()
    assert pixels[~padding].max() == pytest.approx(1.0)
    assert pixels[~padding].min() == 0.0


def test_a_spacing_of_zero_is_no_spacing(rg1: Dataset) -> None:
    assert list(rg1.PixelSpacing) == [0, 0]
    assert image(rg1).pixel_spacing_mm is None
    assert image(chest_instance(ImagerPixelSpacing=[0.14, 0.15])).pixel_spacing_mm == (0.14, 0.15)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PixelData": None}, Reason.NO_IMAGE),
        ({"NumberOfFrames": 7}, Reason.MULTI_FRAME),
        ({"SamplesPerPixel": 3}, Reason.POOR_QUALITY),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, Reason.POOR_QUALITY),
        ({"PresentationIntentType": "FOR PROCESSING"}, Reason.POOR_QUALITY),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, Reason.POOR_QUALITY),
        ({"Rows": 65535, "Columns": 65535}, Reason.UNREADABLE),
        ({"Rows": 0}, Reason.UNREADABLE),
        ({"Rows": 2000}, Reason.UNREADABLE),
        ({"PixelData": b"\x00" * 256 * 224 * 2}, Reason.POOR_QUALITY),
        ({"BitsAllocated": 7}, Reason.UNREADABLE),
        ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, Reason.UNREADABLE),
        ({"BitsStored": 1, "HighBit": 40}, Reason.UNREADABLE),
        ({"BitsStored": 0}, Reason.UNREADABLE),
        ({"HighBit": 3}, Reason.UNREADABLE),
        ({"PixelRepresentation": 65535}, Reason.UNREADABLE),
        ({"Rows": 12000, "Columns": 12000}, Reason.UNREADABLE),
        ({"RescaleSlope": 1e300, "RescaleIntercept": 0, "WindowWidth": 0}, Reason.POOR_QUALITY),
    ],
)
def test_an_impossible_header_is_declined_with_its_reason(
    changes: dict[str, object], reason: Reason
) -> None:
    with pytest.raises(ImageDeclined) as declined:
        image(chest_instance(**changes))
    assert declined.value.outcome.reason is reason


@pytest.mark.parametrize("syntax", [MPEG2MPML, MPEG4HP41])
def test_a_syntax_that_nothing_decodes_is_named(syntax: pydicom.uid.UID) -> None:
    dataset = chest_instance()
    dataset.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(ImageDeclined, match="cannot be decoded") as declined:
        image(dataset)
    assert declined.value.outcome.reason is Reason.UNSUPPORTED_TRANSFER_SYNTAX
    assert syntax.name in declined.value.outcome.detail


def test_a_window_of_width_zero_falls_back_to_the_range_of_the_image() -> None:
    pixels = image(chest_instance(WindowWidth=0)).pixels
    assert pixels.min() == 0.0
    assert pixels.max() == 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-5000, 9000),
    st.floats(0, 20000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_whatever_the_window_pixels_stay_between_0_and_1(
    center: float, width: float, function: str, photometric: str
) -> None:
    dataset = chest_instance(
        WindowCenter=round(center, 3),
        WindowWidth=round(width, 3),
        VOILUTFunction=function,
        PhotometricInterpretation=photometric,
    )
    try:
        pixels = image(dataset).pixels
    except ImageDeclined as declined:
        assert declined.outcome.reason is Reason.POOR_QUALITY
        return
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0.0
    assert pixels.max() <= 1.0


@pytest.mark.parametrize("name", ["mlut_18.dcm", "vlut_04.dcm"])
def test_lut_sequences_are_applied(name: str) -> None:
    dataset = pydicom.dcmread(sample(name))
    pixels = image(dataset).pixels
    assert 0.0 <= pixels.min() < pixels.max() <= 1.0


def coded(value: str) -> Sequence:
    item = Dataset()
    item.CodeValue = value
    return Sequence([item])


@pytest.mark.parametrize(
    ("changes", "subject", "view"),
    [
        ({}, Subject.CHEST_RADIOGRAPH, View.PA),
        ({"ViewPosition": "AP"}, Subject.CHEST_RADIOGRAPH, View.AP),
        ({"ViewPosition": "LL"}, Subject.CHEST_RADIOGRAPH, View.LATERAL),
        ({"BodyPartExamined": "HAND"}, Subject.OTHER_RADIOGRAPH, View.PA),
        (
            {"BodyPartExamined": "", "StudyDescription": "CXR PA"},
            Subject.CHEST_RADIOGRAPH,
            View.PA,
        ),
        ({"BodyPartExamined": "", "StudyDescription": ""}, Subject.UNKNOWN_RADIOGRAPH, View.PA),
        ({"ViewPosition": "", "StudyDescription": "Chest"}, Subject.CHEST_RADIOGRAPH, View.UNKNOWN),
        (
            {"ViewPosition": "", "SeriesDescription": "lateral"},
            Subject.CHEST_RADIOGRAPH,
            View.LATERAL,
        ),
        (
            {"ViewPosition": None, "ViewCodeSequence": coded("399348003")},
            Subject.CHEST_RADIOGRAPH,
            View.AP,
        ),
        ({"Modality": "MR"}, Subject.OTHER, View.PA),
        ({"Modality": "CT"}, Subject.CT, View.PA),
    ],
)
def test_body_part_and_view_are_found_where_the_header_says_them(
    changes: dict[str, object], subject: Subject, view: View
) -> None:
    made = image(chest_instance(**changes))
    assert (made.subject, made.view) == (subject, view)


@pytest.mark.parametrize(
    ("age", "born", "band"),
    [
        ("045Y", "", AgeBand.ADULT),
        ("015Y", "", AgeBand.CHILD),
        ("006M", "", AgeBand.CHILD),
        ("", "20150101", AgeBand.CHILD),
        ("", "20101121", AgeBand.CHILD),
        ("", "20101120", AgeBand.ADULT),
        ("", "", AgeBand.UNKNOWN),
    ],
)
def test_only_a_coarse_age_goes_on(age: str, born: str, band: AgeBand) -> None:
    assert image(chest_instance(PatientAge=age, PatientBirthDate=born)).age_band is band


def test_identity_stops_at_the_image(rg1: Dataset) -> None:
    made = image(rg1)
    known = {str(rg1.PatientID), "CompressedSamples", str(rg1.StudyInstanceUID), "1940"}
    values = [getattr(made, name) for name in made.__slots__ if name != "pixels"]
    assert not any(secret in repr(values) for secret in known)
