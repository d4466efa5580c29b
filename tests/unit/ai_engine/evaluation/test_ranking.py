"""Areas and curves, judged by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ai_engine.evaluation.discrimination import auroc, discriminate
from ai_engine.evaluation.estimate import TooFew
from ai_engine.evaluation.ranking import ranking, resampled_rankings
from ai_engine.evaluation.resampling import PersonDraws

pytestmark = pytest.mark.torch
metrics = pytest.importorskip("sklearn.metrics", reason="needs the [torch] extra")

LABELLED = st.integers(4, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.sampled_from(np.linspace(0, 1, 7).tolist())),
        arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])).filter(
            lambda labels: 0 < labels.sum() < len(labels)
        ),
    )
)


@settings(max_examples=15, deadline=None)
@given(LABELLED)
def test_the_areas_are_those_of_scikit_learn_though_scores_are_equal(
    labelled: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, labels = labelled
    measured = ranking(scores, labels)
    assert measured.auroc[0] == pytest.approx(metrics.roc_auc_score(labels, scores))
    precision = metrics.average_precision_score(labels, scores)
    assert measured.average_precision[0] == pytest.approx(precision)


@settings(max_examples=15, deadline=None)
@given(LABELLED, st.integers(0, 100))
def test_a_resampling_is_scikit_learns_weighting_of_images(
    labelled: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    scores, labels = labelled
    persons = np.random.default_rng(seed).integers(0, len(labels), len(labels))
    persons = np.unique(persons, return_inverse=True)[1]
    draws = PersonDraws(persons, resamplings=2, seed=seed)
    rows = np.arange(len(labels))
    weights = np.concatenate(list(draws.weights(rows)))
    areas, precisions = (
        np.concatenate(
            [getattr(each, name) for each in resampled_rankings(scores, labels, rows, draws)]
        )
        for name in ("auroc", "average_precision")
    )
    for drawn, area, precision in zip(weights, areas, precisions, strict=True):
        if not 0 < (drawn * labels).sum() < drawn.sum():
            assert not np.isfinite(area)
            continue
        judge = metrics.roc_auc_score(labels, scores, sample_weight=drawn)
        assert area == pytest.approx(judge, abs=1e-5)
        judge = metrics.average_precision_score(labels, scores, sample_weight=drawn)
        assert precision == pytest.approx(judge, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(LABELLED)
def test_the_roc_curve_is_that_of_scikit_learn(labelled: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = labelled
    false, found, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    between = np.linspace(0.013, 0.987, 31)
    between = between[~np.isclose(between[:, None], false).any(axis=1)]
    read = ranking(scores, labels).sensitivities_at(between)[0]
    assert read == pytest.approx(np.interp(between, false, found))


@settings(max_examples=15, deadline=None)
@given(LABELLED, st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]))
def test_the_specificity_is_that_of_the_highest_threshold_that_finds_enough(
    labelled: tuple[np.ndarray, np.ndarray], sensitivity: float
) -> None:
    scores, labels = labelled
    enough = [
        threshold
        for threshold in np.unique(scores)
        if (scores[labels == 1] >= threshold).mean() >= sensitivity - 1e-9
    ]
    expected = (scores[labels == 0] < max(enough)).mean()
    measured = ranking(scores, labels).specificities_at(np.array([sensitivity]))
    assert measured[0, 0] == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(LABELLED)
def test_turning_the_scores_round_mirrors_the_area(
    labelled: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, labels = labelled
    assert auroc(scores, labels) == pytest.approx(1.0 - auroc(-scores, labels))
    assert auroc(np.exp(3 * scores), labels) == pytest.approx(auroc(scores, labels))


def test_all_images_of_a_person_are_drawn_together() -> None:
    persons = np.array([0, 0, 1, 2, 2, 2])
    draws = PersonDraws(persons, resamplings=50)
    weights = np.concatenate(list(draws.weights(np.arange(6))))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3:] == weights[:, 3:4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights.std() > 0


def test_images_of_one_person_make_the_interval_wider_than_as_many_people() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(300) < 0.4).astype(float)
    scores = rng.normal(size=300) + labels
    fivefold, people = np.tile(np.arange(300), 5), np.arange(1500)
    widths = []
    for persons in (fivefold, people):
        measured = discriminate(
            np.tile(scores, 5), np.tile(labels, 5), np.arange(1500), persons,
            PersonDraws(persons, resamplings=300),
        )  # fmt: skip
        assert not isinstance(measured, TooFew)
        widths.append(measured.auroc.high - measured.auroc.low)
    assert widths[0] > 1.9 * widths[1]


def test_the_interval_is_that_of_resampling_people_one_by_one() -> None:
    rng = np.random.default_rng(3)
    persons = np.sort(rng.integers(0, 80, 200))
    persons = np.unique(persons, return_inverse=True)[1]
    labels = (rng.random(200) < 0.4).astype(float)
    scores = rng.normal(size=200) + labels
    measured = discriminate(
        scores, labels, np.arange(200), persons, PersonDraws(persons, resamplings=500)
    )
    assert not isinstance(measured, TooFew)
    drawn = []
    for _ in range(150):
        people = rng.integers(0, persons.max() + 1, persons.max() + 1)
        rows = np.concatenate([np.flatnonzero(persons == person) for person in people])
        drawn.append(metrics.roc_auc_score(labels[rows], scores[rows]))
    assert (measured.auroc.low, measured.auroc.high) == pytest.approx(
        np.quantile(drawn, (0.025, 0.975)), abs=0.02
    )


def test_nothing_is_said_of_nine_people() -> None:
    labels = np.r_[np.ones(9), np.zeros(50)]
    persons = np.arange(59)
    measured = discriminate(labels, labels, persons, persons, PersonDraws(persons, resamplings=5))
    assert isinstance(measured, TooFew)
    assert "9 persons with and 50 without" in measured.too_few
