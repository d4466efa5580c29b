"""Which image is drawn when, whatever the number of processes and after whatever stop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_engine.errors import ConfigurationRefused
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.training.configuration import Stage
from ai_engine.training.draws import DrawOrder, draw_shares

orders = st.builds(
    lambda images, batch, accumulation, epochs, seed: DrawOrder(
        max(images, batch * accumulation), None, batch, accumulation, epochs, seed
    ),
    st.integers(1, 70),
    st.integers(1, 5),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(0, 99),
)


@given(orders)
def test_an_epoch_shows_no_image_twice_and_leaves_less_than_a_step(order: DrawOrder) -> None:
    for epoch in range(order.epochs):
        drawn = order.of_epoch(epoch).tolist()
        assert len(set(drawn)) == len(drawn)
        assert order.images - len(drawn) < order.batch * order.accumulation


@given(orders, st.data())
def test_going_on_at_any_step_draws_what_would_have_been_drawn(
    order: DrawOrder, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, order.steps))
    whole = list(order.batches(0))
    assert list(order.batches(step)) == whole[step * order.accumulation :]
    assert len(whole) == order.steps * order.accumulation
    assert all(len(batch) == order.batch for batch in whole)


@given(orders, st.data())
def test_processes_share_each_step_as_one_process_takes_it(
    order: DrawOrder, data: st.DataObject
) -> None:
    divisors = [each for each in (1, 2, 4) if order.accumulation % each == 0]
    processes = data.draw(st.sampled_from(divisors))
    alone = list(order.batches(0))
    shared = [list(order.batches(0, rank, processes)) for rank in range(processes)]
    merged = [batch for together in zip(*shared, strict=True) for batch in together]
    assert merged == alone


def test_epochs_and_seeds_differ() -> None:
    order, other = (DrawOrder(50, None, 5, 1, 2, seed) for seed in (1, 2))
    assert order.of_epoch(0).tolist() != order.of_epoch(1).tolist()
    assert order.of_epoch(0).tolist() != other.of_epoch(0).tolist()


def test_fewer_images_than_a_step_takes_are_refused() -> None:
    with pytest.raises(ConfigurationRefused, match="only 7 to train on"):
        DrawOrder(7, None, 4, 2, 1, 0)


def stage(**changes: object) -> Stage:
    values: dict[str, object] = {
        "name": "s", "sets": ("a",), "findings": ("mass",), "rows": 32, "columns": 32,
        "epochs": 1, "batch": 1,
    }  # fmt: skip
    return Stage(**{**values, **changes})  # type: ignore[arg-type]


NOBODY = frozenset[str]()
SOURCES = [LabelledImage(str(n), "p", NOBODY, NOBODY, "A" if n < 90 else "B") for n in range(100)]


def share_of_b(shares: np.ndarray) -> float:
    drawn = DrawOrder(100, shares, 10, 1, 1, 3).of_epoch(0)
    many = np.concatenate(
        [drawn, *(DrawOrder(100, shares, 100, 1, 1, seed).of_epoch(0) for seed in range(50))]
    )
    return float((many >= 90).mean())


def test_balanced_sources_are_drawn_as_often() -> None:
    shares = draw_shares(SOURCES, stage(sampling="balanced"))
    assert shares is not None
    assert share_of_b(shares) == pytest.approx(0.5, abs=0.03)


def test_a_source_of_weight_three_is_drawn_three_times_as_often() -> None:
    shares = draw_shares(SOURCES, stage(sampling="weighted", source_weights={"B": 3.0}))
    assert shares is not None
    assert share_of_b(shares) == pytest.approx(30 / 120, abs=0.03)


def test_a_weight_for_a_source_that_is_not_there_is_refused() -> None:
    wanted = stage(sampling="weighted", source_weights={"C": 3.0})
    with pytest.raises(ConfigurationRefused, match="no image is of 'C'; sources: A, B"):
        draw_shares(SOURCES, wanted)


def test_shuffled_images_have_no_shares() -> None:
    assert draw_shares(SOURCES, stage()) is None
