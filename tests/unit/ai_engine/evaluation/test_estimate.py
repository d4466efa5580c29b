"""Figures that say how sure they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_engine.evaluation.estimate import rate


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_with_one_image_per_person_the_interval_is_wilsons(hits: list[bool]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the [torch] extra")
    measured = rate(hits, np.arange(len(hits)))
    assert measured is not None
    judge = stats.binomtest(sum(hits), len(hits)).proportion_ci(0.95, method="wilson")
    assert measured.low == pytest.approx(judge.low, abs=1e-9)
    assert measured.high == pytest.approx(judge.high, abs=1e-9)
    assert (measured.count, measured.of) == (sum(hits), len(hits))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(2, 5))
def test_copies_of_an_image_add_no_certainty(hits: list[bool], copies: int) -> None:
    once = rate(hits, np.arange(len(hits)))
    again = rate(np.repeat(hits, copies), np.repeat(np.arange(len(hits)), copies))
    assert once is not None
    assert again is not None
    assert again.low == pytest.approx(once.low, abs=1e-9)
    assert again.high == pytest.approx(once.high, abs=1e-9)
    assert again.of == once.of * copies


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=80))
def test_an_interval_holds_its_share_and_stays_between_none_and_all(
    images: list[tuple[bool, int]],
) -> None:
    measured = rate([hit for hit, _ in images], [person for _, person in images])
    assert measured is not None
    assert 0.0 <= measured.low <= measured.value <= measured.high <= 1.0
    assert measured.low < measured.high


def test_finding_all_of_twenty_is_not_certainty() -> None:
    measured = rate(np.ones(20), np.arange(20))
    assert measured is not None
    assert measured.value == measured.high == 1.0
    assert measured.low == pytest.approx(0.839, abs=1e-3)


def test_where_all_images_agree_each_person_counts_once() -> None:
    of_twenty = rate(np.ones(20), np.arange(20))
    of_forty_images = rate(np.ones(40), np.repeat(np.arange(20), 2))
    assert of_twenty is not None
    assert of_forty_images is not None
    assert of_forty_images.low == pytest.approx(of_twenty.low)


def test_no_image_gives_no_rate() -> None:
    assert rate([], []) is None


def test_the_interval_covers_the_truth_as_often_as_it_says_though_people_come_in_clusters() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        chance = rng.beta(4, 2, size=60)
        people = np.repeat(np.arange(60), 4)
        measured = rate(rng.random(240) < chance[people], people)
        assert measured is not None
        held += measured.low <= 4 / 6 <= measured.high
    assert 0.92 <= held / 300 <= 0.98
