"""A compressed frame is asked for its size before anything decodes it."""

import struct

import pydicom
import pytest
from conftest import sample
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import get_frame

from fhir_mappers.codestream import FrameSize, frame_size


@pytest.mark.parametrize(
    ("name", "rows", "columns", "samples"),
    [
        ("RG1_J2KR.dcm", 1955, 1841, 1),
        ("693_J2KI.dcm", 512, 512, 1),
        ("JPEG-LL.dcm", 1024, 256, 1),
        ("JPGExtended.dcm", 1024, 256, 1),
        ("emri_small_jpeg_ls_lossless.dcm", 64, 64, 1),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", 100, 100, 3),
    ],
)
def test_the_size_is_read_where_the_format_says_it(
    name: str, rows: int, columns: int, samples: int
) -> None:
    dataset = pydicom.dcmread(sample(name))
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    encoded = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    assert frame_size(encoded) == FrameSize(rows, columns, samples)


def test_filling_and_markers_without_a_segment_are_passed_over() -> None:
    frame = b"\xff\xc3\x00\x0b\x08\x00\x07\x00\x09\x01\x01\x11\x00"
    assert frame_size(b"\xff\xd8\xff\xff\xff\xd0\xff\xe0\x00\x04AB" + frame) == FrameSize(7, 9, 1)


def boxed(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def test_a_jpeg_2000_file_around_the_codestream_is_opened_box_by_box() -> None:
    real, decoy = (
        b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, n, n, 0, 0) + bytes(16) + b"\x00\x01"
        for n in (60000, 64)
    )
    start = boxed(b"jP  ", b"\r\n\x87\n")
    hidden = start + boxed(b"free", decoy) + boxed(b"jp2c", real)
    assert frame_size(hidden) == FrameSize(60000, 60000, 1)
    assert frame_size(start + struct.pack(">I4s", 0, b"free") + real) is None


@pytest.mark.parametrize(
    "encoded",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xc3\x00\x0b\x08", b"\xff\xd8\xff\xda", b"\xff\x4f\xff\x51"],
)
def test_a_frame_that_says_no_size_has_none(encoded: bytes) -> None:
    assert frame_size(encoded) is None


@given(
    st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "]), st.binary()
)
def test_whatever_comes_nothing_breaks(start: bytes, rest: bytes) -> None:
    size = frame_size(start + rest)
    assert size is None or (size.rows >= 0 and size.columns >= 0)
