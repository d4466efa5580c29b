"""Operating points: chosen on a tuning split, never on the images that are measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import Rate, rate

Floats = NDArray[np.float64]
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class OperatingCharacteristics:
    """What happens at one threshold.

    Parameters
    ----------
    threshold_probability
        Images at or above it are called.
    chosen
        How the threshold came about, in words.
    sensitivity, specificity
        Share called of the images with, and not called of those without, the finding.
    positive_predictive_value, negative_predictive_value
        At the prevalence of these images, and at no other; ``None`` where no image is called, or
        where all are.
    """

    threshold_probability: float
    chosen: str
    sensitivity: Rate | None
    specificity: Rate | None
    positive_predictive_value: Rate | None
    negative_predictive_value: Rate | None


def threshold_at_sensitivity(probabilities: Floats, labels: Floats, sensitivity: float) -> float:
    """Give the highest threshold that finds at least a share of the images with the finding.

    Parameters
    ----------
    probabilities, labels
        **shape** ``(images,)`` of a tuning split; labels 0 or 1.
    sensitivity
        Above 0, at most 1.

    Raises
    ------
    NotMeasurable
        If no image has the finding, or the share is impossible.
    """
    present = np.sort(probabilities[labels == 1])[::-1]
    _check(sensitivity, len(present), "sensitivity", "with")
    return float(present[int(np.ceil(sensitivity * len(present) - _ROUNDING)) - 1])


def threshold_at_specificity(probabilities: Floats, labels: Floats, specificity: float) -> float:
    """Give the lowest threshold that leaves at least a share of the other images uncalled.

    It lies just above the highest probability that must not be called, and may be just above 1,
    where nothing is called.

    Parameters
    ----------
    probabilities, labels
        **shape** ``(images,)`` of a tuning split; labels 0 or 1.
    specificity
        Above 0, at most 1.

    Raises
    ------
    NotMeasurable
        If every image has the finding, or the share is impossible.
    """
    absent = np.sort(probabilities[labels == 0])
    _check(specificity, len(absent), "specificity", "without")
    uncalled = absent[int(np.ceil(specificity * len(absent) - _ROUNDING)) - 1]
    return float(np.nextafter(uncalled, np.inf))


def characteristics(
    probabilities: Floats,
    labels: Floats,
    persons: NDArray[np.int64],
    threshold: float,
    *,
    chosen: str,
) -> OperatingCharacteristics:
    """Measure what a threshold does.

    Parameters
    ----------
    probabilities, labels, persons
        **shape** ``(images,)`` of the judged images to measure on.
    threshold
        Images at or above it are called.
    chosen
        How it came about, in words.
    """
    called, present = probabilities >= threshold, labels == 1

    def share(counted: NDArray[np.bool_], among: NDArray[np.bool_]) -> Rate | None:
        return rate(counted[among], persons[among])

    return OperatingCharacteristics(
        threshold_probability=threshold,
        chosen=chosen,
        sensitivity=share(called, present),
        specificity=share(~called, ~present),
        positive_predictive_value=share(present, called),
        negative_predictive_value=share(~present, ~called),
    )


def _check(share: float, images: int, what: str, which: str) -> None:
    """Refuse a share that is none and a class without images.

    Raises
    ------
    NotMeasurable
        With the remedy.
    """
    if not 0.0 < share <= 1.0:
        msg = f"a {what} of {share} cannot be aimed at. Give one above 0 and at most 1."
        raise NotMeasurable(msg)
    if not images:
        msg = (
            f"the tuning split has no image {which} the finding, so no threshold has a {what} "
            f"there. Add such images, or leave the finding out."
        )
        raise NotMeasurable(msg)
