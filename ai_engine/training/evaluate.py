"""Calibration and operating points from validation patients; figures from held-out patients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ai_engine.bundle import Calibration
from ai_engine.training.dataset import Radiograph
from ai_engine.triage_rule import OperatingPoint

Floats = NDArray[np.float64]

FLAG_SENSITIVITY = 0.90
FLAG_SPECIFICITY = 0.95
URGENT_SPECIFICITY = 0.95
_RESAMPLINGS = 2000
_LEAST_OF_EACH_CLASS = 5


def calibrate(logits: Floats, labels: Floats) -> Calibration:
    """Fit Platt scaling: one logistic regression on the logit.

    Parameters
    ----------
    logits, labels
        **shape** ``(images,)``; labels 0 or 1.

    References
    ----------
    Platt, Probabilistic outputs for support vector machines, 1999.
    """
    fitted = LogisticRegression().fit(logits[:, np.newaxis], labels)
    return Calibration(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def probabilities(logits: Floats, calibration: Calibration) -> Floats:
    """Apply Platt scaling."""
    return np.asarray(1.0 / (1.0 + np.exp(-(calibration.slope * logits + calibration.offset))))


def flag_at_sensitivity(scores: Floats, labels: Floats) -> float:
    """Give the highest threshold that still finds ``FLAG_SENSITIVITY`` of the positives."""
    return float(np.quantile(scores[labels > 0], 1.0 - FLAG_SENSITIVITY, method="lower"))


def at_specificity(scores: Floats, labels: Floats, specificity: float) -> float:
    """Give the lowest threshold that leaves ``specificity`` of the negatives below it."""
    return float(np.quantile(scores[labels == 0], specificity, method="higher"))


def operating_points(
    scores: dict[str, Floats], labels: dict[str, Floats]
) -> dict[str, OperatingPoint]:
    """Choose the operating points on validation patients.

    ``abnormal`` flags at a set sensitivity and is urgent at a set specificity; every other finding
    flags at a set specificity and is never urgent by itself.
    """
    points = {}
    for finding, score in scores.items():
        label = labels[finding]
        if finding == "abnormal":
            flag = flag_at_sensitivity(score, label)
            urgent = max(flag, at_specificity(score, label, URGENT_SPECIFICITY))
            points[finding] = OperatingPoint(flag, urgent)
        else:
            points[finding] = OperatingPoint(at_specificity(score, label, FLAG_SPECIFICITY))
    return points


@dataclass(frozen=True, slots=True)
class Auroc:
    """Area under the ROC curve with its 95 % interval by resampling patients."""

    value: float
    low: float
    high: float
    positives: int
    negatives: int

    def as_json(self) -> dict[str, object]:
        """Give it for the model card, rounded to three digits."""
        return {
            "auroc": round(self.value, 3),
            "interval_95": [round(self.low, 3), round(self.high, 3)],
            "positives": self.positives,
            "negatives": self.negatives,
        }


def auroc(
    scores: Floats, labels: Floats, patients: list[str], rng: np.random.Generator
) -> Auroc | None:
    """Measure how well scores separate the classes; ``None`` with too few of either."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if min(positives, negatives) < _LEAST_OF_EACH_CLASS:
        return None
    keys, member_of = np.unique(patients, return_inverse=True)
    images_of = [np.flatnonzero(member_of == index) for index in range(len(keys))]
    resampled = []
    for _ in range(_RESAMPLINGS):
        drawn = np.concatenate([images_of[i] for i in rng.integers(0, len(keys), len(keys))])
        if 0 < labels[drawn].sum() < len(drawn):
            resampled.append(roc_auc_score(labels[drawn], scores[drawn]))
    low, high = np.quantile(resampled, (0.025, 0.975))
    value = float(roc_auc_score(labels, scores))
    return Auroc(value, float(low), float(high), positives, negatives)


def held_out_report(
    scores: dict[str, Floats],
    labels: dict[str, Floats],
    radiographs: list[Radiograph],
    brightness: Floats,
    points: dict[str, OperatingPoint],
) -> dict[str, object]:
    """Measure on patients that neither training nor validation saw.

    Parameters
    ----------
    scores, labels
        Calibrated probabilities and labels of each finding, **shape** ``(images,)``.
    radiographs
        The images, all of one source.
    brightness
        Mean pixel value of each: a trivial baseline.
    points
        Operating points.
    """
    rng = np.random.default_rng(1)
    patients = [each.patient for each in radiographs]
    measured = {
        finding: auroc(scores[finding], labels[finding], patients, rng) for finding in scores
    }
    abnormal, score = labels["abnormal"] > 0, scores["abnormal"]
    flagged = np.any([scores[finding] >= point.flag for finding, point in points.items()], axis=0)
    urgent = score >= (points["abnormal"].urgent or 1.0)
    patient_ids = np.array([float(patient) for patient in patients])
    return {
        "images": len(radiographs),
        "patients": len(set(patients)),
        "findings": {
            finding: result.as_json() if result else "too few images of one class to measure"
            for finding, result in measured.items()
        },
        "trivial_baselines_auroc": {
            "patient_id": _either_way(patient_ids, abnormal),
            "mean_brightness": _either_way(brightness, abnormal),
        },
        "flagged_or_urgent": _rates(flagged, abnormal),
        "urgent": _rates(urgent, abnormal),
        "brier_abnormal": round(float(np.mean((score - abnormal) ** 2)), 3),
    }


def _rates(called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    return {
        "sensitivity": round(float(called[truth].mean()), 3),
        "specificity": round(float((~called[~truth]).mean()), 3),
    }


def _either_way(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """Give the AUROC of a trivial score, whichever way round it separates better."""
    value = float(roc_auc_score(labels, scores))
    return round(max(value, 1.0 - value), 3)
