"""How well scores put images with a finding before images without: ROC, precision and recall."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.resampling import PersonDraws

Floats = NDArray[np.float64]
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Images found and falsely called as the threshold falls, for one or many resamplings.

    A score that no image with the finding has changes neither area, so only the scores of images
    with the finding are kept as thresholds, highest first.

    Parameters
    ----------
    found
        Images with the finding at or above each threshold, **shape** ``(resamplings,
        thresholds)``.
    false_above, false
        Images without the finding above, and at or above, each threshold, of the same shape.
    absent
        All images without the finding, **shape** ``(resamplings,)``.
    """

    found: NDArray[np.floating]
    false_above: NDArray[np.floating]
    false: NDArray[np.floating]
    absent: NDArray[np.floating]

    @property
    def auroc(self) -> Floats:
        """Area under the ROC curve, **shape** ``(resamplings,)``; ``nan`` for one class only."""
        lower = self.absent[:, np.newaxis] - (self.false_above + self.false) / 2
        pairs = np.einsum("rt,rt->r", self._gains, lower)
        with np.errstate(invalid="ignore"):
            return np.asarray(pairs / (self._present * self.absent), dtype=np.float64)

    @property
    def average_precision(self) -> Floats:
        """Mean precision over recall, **shape** ``(resamplings,)``, without interpolation."""
        precision = self.found / np.maximum(self.found + self.false, _ROUNDING)
        with np.errstate(invalid="ignore"):
            return np.asarray(
                np.einsum("rt,rt->r", precision, self._gains) / self._present, dtype=np.float64
            )

    def specificities_at(self, sensitivities: Floats) -> Floats:
        """Give the specificity at the highest threshold that reaches each sensitivity.

        Returns
        -------
        NDArray[np.float64]
            **shape** ``(resamplings, sensitivities)``.
        """
        false = np.take_along_axis(self.false, self._reaching(sensitivities), axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(1.0 - false / self.absent[:, np.newaxis], dtype=np.float64)

    def sensitivities_at(self, false_positive_rates: Floats) -> Floats:
        """Read the ROC curve, **shape** ``(resamplings, rates)``."""
        corners = 2 * self.found.shape[1]
        across, up = np.zeros(corners + 2), np.zeros(corners + 2)
        read = np.empty((len(self.found), len(false_positive_rates)))
        for row, found in enumerate(self.found):
            across[1:-1:2], across[2:-1:2] = self.false_above[row], self.false[row]
            up[2:-1:2], up[3:-1:2] = found, found[:-1]
            across[-1], up[-1] = self.absent[row], found[-1]
            read[row] = np.interp(false_positive_rates * self.absent[row], across, up)
        with np.errstate(invalid="ignore"):
            return read / self._present[:, np.newaxis]

    def precisions_at(self, recalls: Floats) -> Floats:
        """Read the precision-recall curve, **shape** ``(resamplings, recalls)``."""
        indices = self._reaching(recalls)
        found = np.take_along_axis(self.found, indices, axis=1)
        false = np.take_along_axis(self.false, indices, axis=1)
        return np.asarray(found / np.maximum(found + false, _ROUNDING), dtype=np.float64)

    def _reaching(self, sensitivities: Floats) -> NDArray[np.int64]:
        """Give the first threshold at which each resampling has found enough."""
        last = self.found.shape[1] - 1
        indices = np.empty((len(self.found), len(sensitivities)), dtype=np.int64)
        for row, found in enumerate(self.found):
            wanted = np.maximum(sensitivities * found[-1] - _ROUNDING, _ROUNDING)
            indices[row] = np.searchsorted(found, wanted.astype(found.dtype))
        return np.asarray(np.minimum(indices, last), dtype=np.int64)

    @property
    def _gains(self) -> NDArray[np.floating]:
        return np.diff(self.found, axis=1, prepend=self.found.dtype.type(0))

    @property
    def _present(self) -> NDArray[np.floating]:
        return np.asarray(self.found[:, -1])


def ranking(scores: Floats, labels: Floats) -> Ranking:
    """Rank the images at hand.

    Parameters
    ----------
    scores, labels
        **shape** ``(images,)``; labels 0 or 1, at least one of them 1.
    """
    order = np.argsort(-scores, kind="stable")
    return _Thresholds(scores[order], labels[order]).ranking(np.ones((1, len(order))))


def resampled_rankings(
    scores: Floats, labels: Floats, images: NDArray[np.int64], draws: PersonDraws
) -> Iterator[Ranking]:
    """Rank the images of every resampling, many at a time.

    Parameters
    ----------
    scores, labels
        **shape** ``(images,)`` of the chosen images; at least one label is 1.
    images
        Their rows in the draws.
    draws
        Of persons.
    """
    order = np.argsort(-scores, kind="stable")
    thresholds = _Thresholds(scores[order], labels[order])
    for weights in draws.weights(images[order]):
        yield thresholds.ranking(weights)


class _Thresholds:
    """Where the distinct scores of images with the finding begin and end in descending order."""

    def __init__(self, scores: Floats, labels: Floats) -> None:
        breaks = np.flatnonzero(np.diff(scores)) + 1
        first = np.concatenate(([0], breaks))
        last = np.concatenate((breaks, [len(scores)])) - 1
        self._present = np.flatnonzero(labels > 0)
        group_of = np.searchsorted(last, self._present)
        held = np.unique(group_of)
        self._first, self._last = first[held], last[held]
        self._last_present = np.searchsorted(group_of, held, side="right") - 1
        self._tied = bool((self._first != self._last).any())

    def ranking(self, weights: NDArray[np.floating]) -> Ranking:
        called = np.cumsum(weights, axis=1)
        found = np.cumsum(weights[:, self._present], axis=1)[:, self._last_present]
        false = called[:, self._last] - found
        above = false
        if self._tied:
            before = called[:, self._first] - weights[:, self._first]
            earlier = np.zeros_like(found)
            earlier[:, 1:] = found[:, :-1]
            above = before - earlier
        return Ranking(found, above, false, called[:, -1] - found[:, -1])
