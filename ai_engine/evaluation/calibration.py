"""Calibration of one head: temperature or Platt scaling of its logit."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.discrimination import too_few
from ai_engine.evaluation.estimate import TooFew

Floats = NDArray[np.float64]
_LEAST_PROBABILITY = 1e-7

Method = Literal["none", "temperature", "platt"]


@dataclass(frozen=True, slots=True)
class HeadCalibration:
    """Probability = 1 / (1 + exp(-(slope · logit + offset))).

    Parameters
    ----------
    method
        What was fitted; ``"none"`` leaves the probability as it is.
    slope, offset
        Of the logit; a temperature T is a slope of 1/T.
    why
        Why this method, in words.
    """

    method: Method
    slope: float
    offset: float
    why: str

    def __call__(self, probabilities: Floats) -> Floats:
        """Calibrate probabilities: order and range 0 to 1 stay."""
        if self.method == "none":
            return probabilities
        return np.asarray(_sigmoid(self.slope * logits(probabilities) + self.offset))


def logits(probabilities: Floats) -> Floats:
    """Give log-odds; 0 and 1 count as one in ten million."""
    held = np.clip(probabilities, _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
    return np.asarray(np.log(held) - np.log1p(-held))


def temperature(logit: Floats, labels: Floats) -> HeadCalibration:
    """Fit one number, the slope.

    Parameters
    ----------
    logit, labels
        **shape** ``(images,)`` of a tuning split, both classes among them.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    slope, offset = _fit(logit, labels, intercept=False)
    return HeadCalibration("temperature", slope, offset, "asked for")


def platt(logit: Floats, labels: Floats) -> HeadCalibration:
    """Fit slope and offset.

    Parameters
    ----------
    logit, labels
        **shape** ``(images,)`` of a tuning split, both classes among them.

    References
    ----------
    Platt, Probabilistic outputs for support vector machines, 1999.
    """
    slope, offset = _fit(logit, labels, intercept=True)
    return HeadCalibration("platt", slope, offset, "asked for")


def calibrate(probabilities: Floats, labels: Floats, persons: NDArray[np.int64]) -> HeadCalibration:
    """Fit the calibration of one head; the rule chooses how.

    Temperature has one number, Platt scaling two. Platt is taken only where it lowers the Bayesian
    information criterion, that is, where its likelihood gains more than the second number costs.
    Neither is taken where there are too few persons, nor where scores do not rise with the label:
    a calibration never turns a score round.

    Parameters
    ----------
    probabilities, labels, persons
        **shape** ``(images,)`` of the judged images of a tuning split.

    References
    ----------
    Schwarz, Annals of Statistics 6 (1978) 461.
    """
    few = too_few(labels, persons)
    if isinstance(few, TooFew):
        return HeadCalibration("none", 1.0, 0.0, f"tuning split: {few.too_few}")
    logit = logits(probabilities)
    one, two = temperature(logit, labels), platt(logit, labels)
    gain = 2 * (_likelihood(two, logit, labels) - _likelihood(one, logit, labels))
    cost = float(np.log(len(labels)))
    chosen = two if gain > cost else one
    if min(chosen.slope, two.slope) <= 0.0:
        return HeadCalibration("none", 1.0, 0.0, "tuning split: scores do not rise with the label")
    better = "more" if gain > cost else "no more"
    why = (
        f"an offset gains {gain:.1f} of twice the log likelihood, {better} than its cost {cost:.1f}"
    )
    return HeadCalibration(chosen.method, chosen.slope, chosen.offset, why)


def _fit(logit: Floats, labels: Floats, *, intercept: bool) -> tuple[float, float]:
    """Fit with Platt's smoothed targets, so that separable classes stay finite."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - of the [torch] extra

    present, absent = float(labels.sum()), float(len(labels) - labels.sum())
    target = np.where(labels == 1, (present + 1) / (present + 2), 1 / (absent + 2))
    fitted = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-8, max_iter=1000).fit(
        np.tile(logit, 2)[:, np.newaxis],
        np.repeat((1, 0), len(labels)),
        sample_weight=np.concatenate((target, 1.0 - target)),
    )
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0]) if intercept else 0.0


def _likelihood(calibration: HeadCalibration, logit: Floats, labels: Floats) -> float:
    signed = np.where(labels == 1, 1.0, -1.0) * (calibration.slope * logit + calibration.offset)
    return float(-np.logaddexp(0.0, -signed).sum())


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(value / 2)))
