"""Figures that say how sure they are."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
LEAST_PERSONS_PER_CLASS = 10
"""With fewer persons with, or without, a finding, nothing is said of it."""

_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval.

    Parameters
    ----------
    value
        The figure on the images at hand.
    low, high
        Ends of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval and what it was counted from.

    Parameters
    ----------
    value
        The share, 0 to 1.
    low, high
        Ends of the interval, 0 to 1.
    count, of
        The images counted, and out of how many.
    """

    value: float
    low: float
    high: float
    count: int
    of: int


@dataclass(frozen=True, slots=True)
class TooFew:
    """That there is too little to say anything of, instead of a figure that misleads."""

    too_few: str


def estimate(value: float, draws: NDArray[np.float64]) -> Estimate:
    """Put the percentile interval of resampled values around a figure.

    Parameters
    ----------
    value
        The figure on the images at hand.
    draws
        The figure on each resampling; what is not a number (a resampling that drew one class
        only) is left out.
    """
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.nanquantile(draws, (tail, 1.0 - tail))
    return Estimate(float(value), float(low), float(high))


def rate(hits: ArrayLike, persons: ArrayLike) -> Rate | None:
    """Count a share; the interval allows for several images of one person being alike.

    It is Wilson's interval with the effective number of images: as many independent images as
    would vary as much as the persons do. Where every image counts the same way, nothing can be
    said of how alike they are, and each person counts once.

    Parameters
    ----------
    hits
        **shape** ``(images,)``, 0 to 1, whether each image counts.
    persons
        **shape** ``(images,)``, key or number of the person of each.

    Returns
    -------
    Rate | None
        ``None`` where there is no image.

    References
    ----------
    Wilson, JASA 22 (1927) 209; Kott and Carr, J Official Statistics 13 (1997) 43 for the effective
    sample size.
    """
    counted = np.asarray(hits, dtype=np.float64)
    images = len(counted)
    if not images:
        return None
    _, member_of = np.unique(np.asarray(persons), return_inverse=True)
    share = float(counted.mean())
    deviation = np.bincount(member_of, weights=counted - share)
    variance = float((deviation**2).sum()) / images**2
    binomial = share * (1.0 - share) / images
    effective = (
        images * min(1.0, binomial / variance) if variance > 0.0 else float(member_of.max() + 1)
    )
    low, high = _wilson(share, effective)
    return Rate(share, low, high, round(float(counted.sum())), images)


def _wilson(share: float, images: float) -> tuple[float, float]:
    """Give Wilson's score interval of a share."""
    shrink = 1.0 + _Z**2 / images
    middle = (share + _Z**2 / (2 * images)) / shrink
    half = _Z / shrink * (share * (1 - share) / images + _Z**2 / (4 * images**2)) ** 0.5
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
