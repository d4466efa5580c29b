"""What knows nothing of disease and must be beaten: brightness, order of keys, source, view."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.discrimination import auroc, auroc_draws
from ai_engine.evaluation.estimate import Estimate, estimate
from ai_engine.evaluation.predictions import Predictions
from ai_engine.evaluation.resampling import PersonDraws

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A trivial score, whichever way round it separates better.

    Parameters
    ----------
    baseline
        What it is, in words.
    auroc
        Its area, at least 0.5.
    model_minus_baseline
        How much better the model is on the same resamplings.
    """

    baseline: str
    auroc: Estimate
    model_minus_baseline: Estimate

    @property
    def beaten(self) -> bool:
        """Whether the model is better beyond chance."""
        return self.model_minus_baseline.low > 0.0


def baselines(
    predictions: Predictions,
    finding: str,
    model_auroc: float,
    model_draws: Floats,
    draws: PersonDraws,
) -> tuple[Baseline, ...]:
    """Measure every trivial score that the set allows.

    Parameters
    ----------
    predictions
        Of the model.
    finding
        Judged for persons of both classes.
    model_auroc, model_draws
        Area of the model's own score on the same images, and on every resampling.
    draws
        Of persons.
    """
    rows = predictions.judged(finding)
    labels = predictions.labels[rows, predictions.column(finding)]
    measured = []
    for name, scores in _trivial_scores(predictions, rows, labels):
        value = auroc(scores, labels)
        if value < 0.5:  # noqa: PLR2004 - the area of a coin
            scores, value = -scores, 1.0 - value  # noqa: PLW2901 - turned round
        drawn = auroc_draws(scores, labels, rows, draws)
        difference = estimate(model_auroc - value, model_draws - drawn)
        measured.append(Baseline(name, estimate(value, drawn), difference))
    return tuple(measured)


def _trivial_scores(
    predictions: Predictions, rows: NDArray[np.int64], labels: Floats
) -> Iterator[tuple[str, Floats]]:
    images = [predictions.images[row] for row in rows]
    if predictions.brightness is not None:
        yield "mean brightness of the image", predictions.brightness[rows]
    yield "order of the person keys", _key_order([image.person for image in images])
    for name, groups in (
        ("source of the image", [image.source for image in images]),
        ("view of the image", [image.view.value for image in images]),
    ):
        if len(set(groups)) > 1:
            yield name, _share_of_group(groups, labels)


def _key_order(persons: list[str]) -> Floats:
    """Give the place of each key: by number where all are numbers, else by letter."""
    if all(person.isascii() and person.isdigit() for person in persons):
        return np.array([float(person) for person in persons])
    _, place = np.unique(persons, return_inverse=True)
    return place.astype(np.float64)


def _share_of_group(groups: list[str], labels: Floats) -> Floats:
    """Score each image by the share of its group that has the finding, on these very images."""
    _, member_of = np.unique(groups, return_inverse=True)
    shares = np.bincount(member_of, weights=labels) / np.bincount(member_of)
    return np.asarray(shares[member_of])
