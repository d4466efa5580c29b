"""Resampling of persons: all images of a person are drawn together, or none of them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.estimate import Estimate, estimate

RESAMPLINGS = 2000
_CHUNK_VALUES = 250_000


class PersonDraws:
    """How often each person was drawn in each resampling.

    The same draws serve every figure, so that two figures can be compared draw by draw.

    Parameters
    ----------
    persons
        Number of the person of each image, **shape** ``(images,)``, from 0 upwards.
    resamplings
        How many.
    seed
        Of the random numbers: the same seed gives the same intervals.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.
    """

    def __init__(
        self, persons: NDArray[np.int64], *, resamplings: int = RESAMPLINGS, seed: int = 1
    ) -> None:
        self._persons = persons
        number = int(persons.max()) + 1
        rng = np.random.default_rng(seed)
        self._counts = np.empty((resamplings, number), dtype=np.uint8)
        for row in self._counts:
            row[:] = np.bincount(rng.integers(0, number, number), minlength=number)

    @property
    def resamplings(self) -> int:
        """How many times persons were drawn."""
        return len(self._counts)

    def weights(self, images: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Give how often each image was drawn, a bounded number of resamplings at a time.

        Parameters
        ----------
        images
            Rows wanted, in the order wanted.

        Yields
        ------
        NDArray[np.float32]
            **shape** ``(some resamplings, images)``.
        """
        members = self._persons[images]
        step = max(1, _CHUNK_VALUES // max(1, len(members)))
        for start in range(0, len(self._counts), step):
            counts = self._counts[start : start + step].astype(np.float32)
            yield np.take(counts, members, axis=1)

    def shares(self, hits: NDArray[np.float64], images: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the mean of a value on each resampling, ``nan`` where it drew no such image.

        Parameters
        ----------
        hits
            **shape** ``(images,)``, such as 1 for an image found and 0 for one missed.
        images
            Their rows.
        """
        values = hits.astype(np.float32)
        with np.errstate(invalid="ignore"):
            chunks = [w @ values / w.sum(axis=1) for w in self.weights(images)]
        return np.concatenate(chunks).astype(np.float64)


def mean_over_persons(values: NDArray[np.float64], draws: PersonDraws) -> Estimate:
    """Give the mean of one value per image, with its interval."""
    return estimate(float(values.mean()), draws.shares(values, np.arange(len(values))))


def numbered(persons: Sequence[str]) -> NDArray[np.int64]:
    """Give each key a number from 0 upwards: the same person, the same number."""
    _, numbers = np.unique(list(persons), return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)
