"""A drawn map says no more than its cells."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from ai_engine.errors import NotMeasurable

pytestmark = pytest.mark.torch
pytest.importorskip("matplotlib", reason="needs the [torch] extra")
from ai_engine.evaluation.pointing_game import Box  # noqa: E402 - after the skip
from ai_engine.evaluation.saliency_overlay import MappedImage, overlay_png  # noqa: E402

GREY = np.full((120, 120), 0.5, dtype=np.float32)
GRID = np.array([[1.0, 0.4, -3.0], [0.0, 0.6, 0.3], [0.5, -1.0, 0.9]], dtype=np.float32)


def colours(content: bytes, *, dots: int) -> set[tuple[int, ...]]:
    """Give the colours, those of greys aside, that fill more than some dots."""
    with Pillow.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    found, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    tinted = (np.ptp(found.astype(int), axis=1) > 8) & (counts > dots)
    return {tuple(map(int, colour)) for colour in found[tinted]}


def test_each_cell_has_one_colour() -> None:
    content = overlay_png(MappedImage(GREY, GRID, "mass"))
    assert len(colours(content, dots=100)) == (GRID > 0).sum()
    assert len(colours(content, dots=5000)) == (GRID > 0).sum()


def test_blended_cells_have_more_colours_than_there_are_cells() -> None:
    content = overlay_png(MappedImage(GREY, GRID, "mass"), smooth=True)
    assert len(colours(content, dots=100)) > 5 * GRID.size


def test_a_map_without_evidence_colours_nothing() -> None:
    assert colours(overlay_png(MappedImage(GREY, -np.abs(GRID), "mass")), dots=100) == set()
    assert not MappedImage(GREY, -np.abs(GRID), "mass").evidence.any()


def test_the_scale_says_how_large_a_cell_is() -> None:
    assert MappedImage(GREY, GRID, "mass").cell == "1 cell = 40 by 40 pixels"
    spaced = MappedImage(GREY, GRID[:2], "mass", pixel_spacing_mm=(0.5, 0.4))
    assert spaced.cell == "1 cell = 40 by 60 pixels = 16 by 30 mm"


def test_evidence_is_a_share_of_the_strongest_cell_and_never_against() -> None:
    evidence = MappedImage(GREY, GRID * 7, "mass").evidence
    assert evidence.max() == 1.0
    assert evidence.min() == 0.0
    assert evidence[1, 1] == pytest.approx(0.6)


def test_the_same_map_gives_the_same_bytes() -> None:
    image = MappedImage(GREY, GRID, "mass", boxes=(Box(0.1, 0.1, 0.5, 0.5),))
    assert overlay_png(image) == overlay_png(image)


@pytest.mark.parametrize(
    ("pixels", "grid"), [(GREY[0], GRID), (GREY, GRID[0]), (GREY * np.nan, GRID), (GREY, GRID[:0])]
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray, grid: np.ndarray) -> None:
    with pytest.raises(NotMeasurable, match="rows and columns"):
        MappedImage(pixels, grid, "mass")
