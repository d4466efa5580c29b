"""Area under the ROC curve and average precision, with intervals by resampling persons."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.estimate import (
    LEAST_PERSONS_PER_CLASS,
    Estimate,
    TooFew,
    estimate,
)
from ai_engine.evaluation.ranking import ranking, resampled_rankings
from ai_engine.evaluation.resampling import PersonDraws

Floats = NDArray[np.float64]
_TAIL = 0.025
_GRID = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve on a fixed grid from 0 to 1, with the band that 95 % of the resamplings keep to.

    Parameters
    ----------
    at
        False-positive rate of a ROC curve, or recall.
    value, low, high
        Sensitivity of a ROC curve, or precision.
    """

    at: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well a score tells images with a finding from images without.

    Parameters
    ----------
    auroc, average_precision
        With 95 % intervals; a score that knows nothing has 0.5, and ``prevalence``.
    prevalence
        Share of the judged images that have the finding.
    images_with, images_without
        Images of each class.
    persons_with, persons_without
        Persons with at least one image of each class.
    roc, precision_recall
        The curves.
    """

    auroc: Estimate
    average_precision: Estimate
    prevalence: float
    images_with: int
    images_without: int
    persons_with: int
    persons_without: int
    roc: Curve
    precision_recall: Curve


def too_few(labels: Floats, persons: NDArray[np.int64]) -> TooFew | None:
    """Say so where persons of one class are too few to measure anything.

    Parameters
    ----------
    labels, persons
        **shape** ``(images,)`` of the judged images; labels 0 or 1.
    """
    with_it, without = (len(np.unique(persons[labels == value])) for value in (1, 0))
    if min(with_it, without) >= LEAST_PERSONS_PER_CLASS:
        return None
    return TooFew(
        f"{with_it} persons with and {without} without it; "
        f"at least {LEAST_PERSONS_PER_CLASS} of each are needed"
    )


def discriminate(
    scores: Floats,
    labels: Floats,
    images: NDArray[np.int64],
    persons: NDArray[np.int64],
    draws: PersonDraws,
) -> Discrimination | TooFew:
    """Measure one finding.

    Parameters
    ----------
    scores, labels, persons
        **shape** ``(images,)`` of the judged images.
    images
        Their rows in the draws.
    draws
        Of persons.
    """
    if few := too_few(labels, persons):
        return few
    areas, precisions, roc, recall = [], [], [], []
    for each in resampled_rankings(scores, labels, images, draws):
        areas.append(each.auroc)
        precisions.append(each.average_precision)
        roc.append(each.sensitivities_at(_GRID))
        recall.append(each.precisions_at(_GRID))
    whole = ranking(scores, labels)
    return Discrimination(
        auroc=estimate(whole.auroc[0], np.concatenate(areas)),
        average_precision=estimate(whole.average_precision[0], np.concatenate(precisions)),
        prevalence=float(labels.mean()),
        images_with=int(labels.sum()),
        images_without=int(len(labels) - labels.sum()),
        persons_with=len(np.unique(persons[labels == 1])),
        persons_without=len(np.unique(persons[labels == 0])),
        roc=_curve(whole.sensitivities_at(_GRID), np.concatenate(roc)),
        precision_recall=_curve(whole.precisions_at(_GRID), np.concatenate(recall)),
    )


def auroc(scores: Floats, labels: Floats) -> float:
    """Give the area under the ROC curve; ``nan`` where one class is missing."""
    if not labels.any():
        return float("nan")
    return float(ranking(scores, labels).auroc[0])


def auroc_draws(
    scores: Floats, labels: Floats, images: NDArray[np.int64], draws: PersonDraws
) -> Floats:
    """Give the area of every resampling, to compare figures draw by draw.

    Parameters
    ----------
    scores, labels
        **shape** ``(images,)`` of the judged images, both classes among them.
    images
        Their rows in the draws.
    draws
        Of persons.
    """
    rankings = resampled_rankings(scores, labels, images, draws)
    return np.concatenate([each.auroc for each in rankings])


def _curve(value: Floats, drawn: Floats) -> Curve:
    low, high = np.nanquantile(drawn, (_TAIL, 1.0 - _TAIL), axis=0)
    return Curve(*(tuple(map(float, line)) for line in (_GRID, value[0], low, high)))
