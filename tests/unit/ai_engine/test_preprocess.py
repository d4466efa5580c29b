"""The network's input does not depend on what a modality happens to do."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import chest_pixels

from ai_engine.preprocess import InputSpec, network_input, thumbnail

SPEC = InputSpec(rows=64, columns=64, mean=0.5, std=0.25)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.2, 3.0), st.floats(-1.0, 1.0))
def test_brightness_and_contrast_of_the_window_make_no_difference(
    gain: float, offset: float
) -> None:
    plain = network_input(chest_pixels(), SPEC)
    shifted = network_input((chest_pixels() * gain + offset).astype(np.float32), SPEC)
    assert np.abs(plain - shifted).max() < 1e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 300), st.integers(16, 300))
def test_any_shape_becomes_the_networks(rows: int, columns: int) -> None:
    made = network_input(chest_pixels(rows, columns), SPEC)
    assert made.shape == (1, 1, 64, 64)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert made.min() >= -2.0
    assert made.max() <= 2.0


def test_a_constant_image_gives_numbers_all_the_same() -> None:
    assert np.isfinite(network_input(np.full((99, 77), 0.4, np.float32), SPEC)).all()
    assert not thumbnail(np.full((99, 77), 0.4, np.float32), 8).any()
