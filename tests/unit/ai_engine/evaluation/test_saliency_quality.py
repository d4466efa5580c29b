"""Maps that follow the model are told from maps that do not, and following from pointing right."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.pointing_game import Box, point
from ai_engine.evaluation.saliency_quality import Infer, SaliencyCase, judge_saliency

CELLS, SIDE = 5, 40
BLOCK = SIDE // CELLS


def model(told: Callable[[np.ndarray], np.ndarray] = lambda grid: grid) -> Infer:
    """Give a model of bright cells; ``told`` is what becomes of its maps."""

    def infer(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = image[0, 0].reshape(CELLS, BLOCK, CELLS, BLOCK).mean((1, 3))
        grid = 60.0 * np.maximum(cells - 0.5, 0.0) - 1.0
        maps = np.stack([np.zeros_like(grid), told(grid)]).astype(np.float32)
        return np.array([0.0, grid.mean()], dtype=np.float32), maps

    return infer


def cases(number: int = 20, *, boxed: bool = True, row: int | None = None) -> list[SaliencyCase]:
    """Give images with two bright cells each, the brighter one in a box."""
    rng = np.random.default_rng(1)
    made = []
    for index in range(number):
        image = np.full((1, 1, SIDE, SIDE), 0.3, dtype=np.float32)
        down, across = (row, row) if row is not None else rng.choice([0, 1, 3, 4], 2)
        image[0, 0, down * BLOCK :, across * BLOCK :][:BLOCK, :BLOCK] = 1.0
        box = Box(across / CELLS, down / CELLS, 1 / CELLS, 1 / CELLS)
        made.append(SaliencyCase(image, 1, str(index // 2), (box,) if boxed else ()))
    return made


def test_a_map_that_follows_the_model_beats_random_maps_and_the_image_centre() -> None:
    quality = judge_saliency(cases(), model(), steps=10)
    assert quality.model_minus_random.low > 0.0
    assert quality.model_minus_centre.low > 0.0
    assert quality.model.insertion_auc.value > quality.model.deletion_auc.value
    assert (quality.images, quality.persons) == (20, 10)
    assert (quality.map_rows, quality.map_columns) == (5, 5)


def test_a_flipped_map_is_worse_than_a_random_one() -> None:
    quality = judge_saliency(cases(), model(lambda grid: -grid), steps=10)
    assert quality.model_minus_random.high < 0.0


def test_random_maps_have_no_gap_but_chance() -> None:
    quality = judge_saliency(cases(40), model(), steps=10)
    assert quality.random_maps.gap.low <= 0.05
    assert quality.random_maps.gap.high >= -0.05


def test_pointing_right_beats_chance_and_the_image_centre() -> None:
    game = judge_saliency(cases(), model(), steps=2).pointing
    assert game is not None
    assert game.hits.value == 1.0
    assert game.chance == pytest.approx(1 / 25, abs=1e-3)
    assert game.image_centre.value == 0.0
    assert game.hits_minus_image_centre.low > 0.0


def test_a_map_can_follow_the_model_and_still_point_no_better_than_the_centre() -> None:
    quality = judge_saliency(cases(row=2), model(), steps=10)
    assert quality.model_minus_random.low > 0.0
    assert quality.pointing is not None
    assert quality.pointing.image_centre.value == 1.0
    assert quality.pointing.hits_minus_image_centre.low <= 0.0


def test_without_boxes_nothing_is_said_of_pointing() -> None:
    assert judge_saliency(cases(4, boxed=False), model()).pointing is None


def test_the_same_seed_gives_the_same_figures() -> None:
    assert judge_saliency(cases(4), model()) == judge_saliency(cases(4), model())


@settings(max_examples=40)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 0.8),
    st.floats(0, 0.8),
    st.floats(0.05, 0.2),
)
def test_a_flat_map_hits_as_often_as_its_cells_lie_in_the_box(
    rows: int, columns: int, left: float, top: float, side: float
) -> None:
    played = point(np.zeros((rows, columns)), [Box(left, top, side, side)], "1")
    assert 0.0 <= played.hit <= 1.0
    assert played.area == pytest.approx(side * side, abs=0.01)
    inside = sum(
        left <= (column + 0.5) / columns <= left + side and top <= (row + 0.5) / rows <= top + side
        for row in range(rows)
        for column in range(columns)
    )
    assert played.hit == pytest.approx(inside / (rows * columns))


def test_overlapping_boxes_count_their_area_once() -> None:
    boxes = [Box(0.2, 0.2, 0.4, 0.4), Box(0.2, 0.2, 0.4, 0.4)]
    assert point(np.eye(3), boxes, "1").area == pytest.approx(0.16, abs=0.01)


@pytest.mark.parametrize(
    "box", [(0.5, 0.5, 0.6, 0.1), (-0.1, 0, 0.5, 0.5), (0, 0, 0, 0.5), (100, 50, 20, 20)]
)
def test_a_box_in_pixels_or_beyond_the_image_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(NotMeasurable, match="shares of the image"):
        Box(*box)


def test_no_case_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="images that have a finding"):
        judge_saliency([], model())


def test_a_map_that_is_no_number_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="no number"):
        judge_saliency(cases(2), model(lambda grid: grid * np.nan))


def test_maps_of_another_shape_are_refused() -> None:
    def flat(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, maps = model()(image)
        return logits, maps[0]

    with pytest.raises(NotMeasurable, match=r"expected \(findings, rows, columns\)"):
        judge_saliency(cases(2), flat)
