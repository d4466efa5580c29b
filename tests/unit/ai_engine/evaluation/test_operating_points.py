"""Thresholds for a fixed sensitivity or specificity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.operating_points import (
    characteristics,
    threshold_at_sensitivity,
    threshold_at_specificity,
)

SCORES = arrays(np.float64, st.integers(1, 80), elements=st.integers(0, 12).map(lambda n: n / 12))
SHARES = st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.95, 0.99, 1.0])


@settings(max_examples=40)
@given(SCORES, SHARES)
def test_a_threshold_finds_the_share_aimed_at_and_the_next_higher_does_not(
    scores: np.ndarray, share: float
) -> None:
    threshold = threshold_at_sensitivity(scores, np.ones_like(scores), share)
    assert (scores >= threshold).mean() >= share - 1e-9
    higher = scores[scores > threshold]
    if len(higher):
        assert (scores >= higher.min()).mean() < share


@settings(max_examples=40)
@given(SCORES, SHARES)
def test_a_threshold_leaves_the_share_aimed_at_and_no_lower_one_does(
    scores: np.ndarray, share: float
) -> None:
    threshold = threshold_at_specificity(scores, np.zeros_like(scores), share)
    assert (scores < threshold).mean() >= share - 1e-9
    assert (scores < np.nextafter(threshold, -1)).mean() < share


def test_the_four_figures_are_those_of_the_table() -> None:
    scores = np.repeat([0.9, 0.1, 0.9, 0.1], [40, 10, 30, 120])
    labels = np.repeat([1.0, 1.0, 0.0, 0.0], [40, 10, 30, 120])
    measured = characteristics(scores, labels, np.arange(200), 0.5, chosen="by hand")
    figures = (
        (measured.sensitivity, 40, 50),
        (measured.specificity, 120, 150),
        (measured.positive_predictive_value, 40, 70),
        (measured.negative_predictive_value, 120, 130),
    )
    for rate, count, of in figures:
        assert rate is not None
        assert (rate.count, rate.of) == (count, of)
        assert rate.value == pytest.approx(count / of)


def test_where_nothing_is_called_there_is_no_predictive_value() -> None:
    measured = characteristics(
        np.array([0.1, 0.2]), np.array([1.0, 0.0]), np.arange(2), 0.5, chosen="by hand"
    )
    assert measured.positive_predictive_value is None
    assert measured.sensitivity is not None
    assert measured.sensitivity.value == 0.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(NotMeasurable, match="cannot be aimed at"):
        threshold_at_sensitivity(np.ones(3), np.ones(3), share)


def test_a_split_without_the_finding_is_refused_with_the_remedy() -> None:
    with pytest.raises(NotMeasurable, match=r"no image with the finding.*Add such images"):
        threshold_at_sensitivity(np.ones(3), np.zeros(3), 0.9)
    with pytest.raises(NotMeasurable, match="no image without the finding"):
        threshold_at_specificity(np.ones(3), np.ones(3), 0.9)
