"""Calibration of a head and what it is worth, judged by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ai_engine.evaluation.calibration import HeadCalibration, calibrate, logits, platt, temperature
from ai_engine.evaluation.reliability import reliability

pytestmark = pytest.mark.torch
pytest.importorskip("sklearn", reason="needs the [torch] extra")


def told(slope: float, offset: float, images: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Give logits that say too much or too little, and labels."""
    rng = np.random.default_rng(5)
    logit = rng.normal(0, 2, images)
    truth = 1 / (1 + np.exp(-(slope * logit + offset)))
    return logit, (rng.random(images) < truth).astype(float)


def sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize(("slope", "offset"), [(0.4, -1.0), (1.0, 0.0), (2.0, 0.7)])
def test_platt_scaling_is_that_of_scikit_learn(slope: float, offset: float) -> None:
    from sklearn.calibration import _SigmoidCalibration  # noqa: PLC0415 - of the extra

    logit, labels = told(slope, offset)
    judge = _SigmoidCalibration().fit(logit, labels)
    ours = platt(logit, labels)
    assert ours(sigmoid(logit)) == pytest.approx(judge.predict(logit), abs=1e-3)
    assert (ours.slope, ours.offset) == pytest.approx((slope, offset), abs=0.1)


def test_temperature_lies_where_the_likelihood_is_highest() -> None:
    logit, labels = told(0.4, 0.0)
    slopes = np.linspace(0.3, 0.5, 401)
    signed = np.where(labels == 1, 1, -1) * logit
    loss = [np.logaddexp(0, -slope * signed).sum() for slope in slopes]
    assert temperature(logit, labels).slope == pytest.approx(slopes[np.argmin(loss)], abs=2e-3)


def test_the_rule_takes_an_offset_only_where_it_pays() -> None:
    for slope, offset, method in ((0.5, 0.0, "temperature"), (0.5, -1.0, "platt")):
        logit, labels = told(slope, offset)
        chosen = calibrate(sigmoid(logit), labels, np.arange(len(labels)))
        assert chosen.method == method
        assert "gains" in chosen.why


def test_a_score_is_never_turned_round() -> None:
    logit, labels = told(-0.8, 0.0)
    chosen = calibrate(sigmoid(logit), labels, np.arange(len(labels)))
    assert chosen.method == "none"
    assert "do not rise with the label" in chosen.why
    assert (chosen(sigmoid(logit)) == sigmoid(logit)).all()


def test_too_few_people_leave_the_probability_as_it_is() -> None:
    labels = np.array([1.0] * 9 + [0.0] * 30)
    chosen = calibrate(np.linspace(0, 1, 39), labels, np.arange(39))
    assert chosen.method == "none"
    assert "9 persons with" in chosen.why


def test_separable_classes_stay_finite() -> None:
    labels = np.repeat([0.0, 1.0], 50)
    chosen = calibrate(np.repeat([0.0, 1.0], 50), labels, np.arange(100))
    calibrated = chosen(np.array([0.0, 1.0]))
    assert np.isfinite([chosen.slope, chosen.offset]).all()
    assert 0.0 < calibrated[0] < 0.1
    assert 0.9 < calibrated[1] < 1.0


@settings(max_examples=30)
@given(arrays(np.float64, 20, elements=st.floats(0, 1)))
def test_calibration_keeps_order_and_range(probabilities: np.ndarray) -> None:
    calibrated = HeadCalibration("platt", 0.5, -1.0, "given")(probabilities)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated[np.argsort(probabilities)]) >= 0).all()


def test_certainty_has_finite_log_odds() -> None:
    assert np.isfinite(logits(np.array([0.0, 1.0]))).all()
    assert logits(np.array([0.25]))[0] == pytest.approx(np.log(1 / 3))


PROBABILITIES = st.integers(2, 120).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.sampled_from(np.linspace(0, 1, 23).tolist())),
        arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])),
    )
)


@settings(max_examples=30)
@given(PROBABILITIES)
def test_the_brier_score_is_that_of_scikit_learn_and_the_sum_of_its_parts(
    told: tuple[np.ndarray, np.ndarray],
) -> None:
    from sklearn.metrics import brier_score_loss  # noqa: PLC0415 - of the extra

    probabilities, labels = told
    measured = reliability(probabilities, labels, np.arange(len(labels)))
    judge = brier_score_loss(labels, probabilities, pos_label=1)
    assert measured.brier == pytest.approx(judge)
    parts = measured.calibration_loss - measured.resolution + measured.uncertainty
    assert measured.brier == pytest.approx(parts + measured.spread_within_bins)
    assert min(measured.calibration_loss, measured.resolution) >= 0.0
    assert sum(each.observed.of for each in measured.bins) == len(labels)
    assert 0.0 <= measured.expected_calibration_error <= 1.0


def test_bins_hold_equally_many_images() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.random(1000) ** 5
    measured = reliability(probabilities, (rng.random(1000) < 0.2).astype(float), np.arange(1000))
    assert [each.observed.of for each in measured.bins] == [100] * 10


def test_a_calibrated_score_has_no_error_but_chance_and_a_shifted_one_has_its_shift() -> None:
    rng = np.random.default_rng(8)
    truth = rng.uniform(0.1, 0.7, 40_000)
    labels = (rng.random(40_000) < truth).astype(float)
    people = np.arange(40_000)
    assert reliability(truth, labels, people).expected_calibration_error < 0.01
    shifted = reliability(truth + 0.2, labels, people)
    assert shifted.expected_calibration_error == pytest.approx(0.2, abs=0.01)
    assert shifted.calibration_loss == pytest.approx(0.04, abs=0.005)


def test_calibration_on_one_half_mends_the_other() -> None:
    logit, labels = told(0.4, -1.0)
    people = np.arange(1500)
    fitted = calibrate(sigmoid(logit[:1500]), labels[:1500], people)
    raw = reliability(sigmoid(logit[1500:]), labels[1500:], people)
    mended = reliability(fitted(sigmoid(logit[1500:])), labels[1500:], people)
    assert raw.expected_calibration_error > 0.1
    assert mended.expected_calibration_error < 0.04
    assert mended.brier < raw.brier
