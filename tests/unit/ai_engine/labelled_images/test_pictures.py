"""Pictures as pixels from 0 to 1."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image as Pillow

from ai_engine.errors import UnreadableImage
from ai_engine.labelled_images.label_file import age_years, finding_name
from ai_engine.labelled_images.pixel_reader import decode_picture


def picture(values: NDArray[np.generic], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(values).save(out, kind)
    return out.getvalue()


def array(values: NDArray[np.generic]) -> bytes:
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


@settings(max_examples=25)
@given(arrays.arrays(np.uint8, (3, 4)))
def test_eight_bits_become_0_to_1(values: NDArray[np.uint8]) -> None:
    assert np.allclose(decode_picture("a.png", picture(values)), values / 255.0, atol=1e-7)


@settings(max_examples=25)
@given(arrays.arrays(np.uint16, (3, 4)))
def test_sixteen_bits_keep_their_depth(values: NDArray[np.uint16]) -> None:
    assert np.allclose(decode_picture("a.png", picture(values)), values / 65535.0, atol=1e-7)
    assert np.allclose(decode_picture("a.npy", array(values)), values / 65535.0, atol=1e-7)


def test_a_grey_picture_stored_as_colour_is_grey() -> None:
    grey = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4, 3, axis=2)
    assert decode_picture("a.jpeg", picture(grey, "JPEG")).shape == (8, 8)


def test_a_picture_in_colour_is_refused() -> None:
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0] = 200
    with pytest.raises(UnreadableImage, match="in colour"):
        decode_picture("a.png", picture(red))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, np.nan]], dtype=np.float32), "no numbers"),
        (np.array([[0.0, np.inf]], dtype=np.float32), "no numbers"),
        (np.array([[0.0, 1.5]], dtype=np.float32), "outside 0 to 1"),
        (np.array([[-5, 7]], dtype=np.int16), "outside 0 to 1"),
        (np.zeros((2, 3, 4, 5), dtype=np.float32), "one channel"),
        (np.zeros((4, 4, 2), dtype=np.float32), "one channel"),
        (np.zeros((0, 4), dtype=np.float32), "one channel"),
    ],
)
def test_an_array_that_is_no_image_is_refused(values: NDArray[np.generic], message: str) -> None:
    with pytest.raises(UnreadableImage, match=message):
        decode_picture("a.npy", array(values))


def test_an_array_of_python_objects_is_never_unpickled() -> None:
    out = io.BytesIO()
    np.save(out, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode_picture("a.npy", out.getvalue())


@settings(max_examples=40)
@given(st.binary(max_size=200), st.sampled_from(["a.png", "a.jpg", "a.npy"]))
def test_bytes_that_are_no_picture_are_refused(content: bytes, name: str) -> None:
    with pytest.raises(UnreadableImage, match=name):
        decode_picture(name, content)


@pytest.mark.parametrize(
    ("text", "years"),
    [("58", 58.0), ("058Y", 58.0), ("006M", 0.5), ("", None), ("414", None), ("old", None)],
)
def test_an_age_is_read_as_dicom_writes_it(text: str, years: float | None) -> None:
    assert age_years(text) == years


@settings(max_examples=40)
@given(st.text(max_size=30))
def test_a_name_of_a_finding_names_itself(label: str) -> None:
    assert finding_name(finding_name(label)) == finding_name(label)
