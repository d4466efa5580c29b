"""Pictures are what they were drawn as, for other people's readers."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pillow
from studies import OUTCOMES, chest_image

from ai_engine.result import TriageResult
from fhir_mappers.overlay import original_png, overlay_png, overlay_rgb, shrunk

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_a_grey_png_holds_every_pixel(pixels: np.ndarray) -> None:
    read = Pillow.open(io.BytesIO(original_png(pixels)))
    assert read.mode == "L"
    assert (np.asarray(read) == pixels).all()


@settings(deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, (*shape, 3))))
def test_a_colour_png_holds_every_pixel(pixels: np.ndarray) -> None:
    read = Pillow.open(io.BytesIO(overlay_png(pixels)))
    assert read.mode == "RGB"
    assert (np.asarray(read) == pixels).all()


def test_where_there_is_no_evidence_the_image_is_as_it_was() -> None:
    result = OUTCOMES["urgent"]
    assert isinstance(result, TriageResult)
    grey = shrunk(chest_image())
    saliency = result.saliency[0]
    drawn = overlay_rgb(grey, saliency, caption=["any"])[: grey.shape[0]].astype(int)
    strength = Pillow.fromarray(saliency.grid).resize(grey.shape[::-1], Pillow.Resampling.BICUBIC)
    nothing = np.asarray(strength) < 0.5 / 255
    assert nothing.any()
    assert (drawn[nothing] == grey[nothing][:, np.newaxis]).all()
    strongest = np.unravel_index(int(np.asarray(strength).argmax()), grey.shape)
    red, green, blue = drawn[strongest]
    expected = np.array([253, 231, 37]) * 0.55 + int(grey[strongest]) * 0.45
    assert np.abs(np.array([red, green, blue]) - expected).max() <= 3
