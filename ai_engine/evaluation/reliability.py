"""Whether a probability means what it says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.estimate import Rate, rate

Floats = NDArray[np.float64]
_BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images of like probability.

    Parameters
    ----------
    mean_probability
        What the model said, on average.
    observed
        Share that has the finding.
    """

    mean_probability: float
    observed: Rate


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far probabilities are from what is observed.

    Parameters
    ----------
    expected_calibration_error
        Mean distance between probability and observed share over bins of equally many images.
    brier
        Mean squared distance of probability and label: ``calibration_loss - resolution +
        uncertainty + spread_within_bins``.
    calibration_loss
        The part of it that calibration could mend (0 is best).
    resolution
        How far the observed share differs between bins (more is better).
    uncertainty
        What the prevalence alone would give.
    spread_within_bins
        What is lost by putting images of unlike probability into one bin.
    bins
        The reliability curve.

    References
    ----------
    Brier 1950; Murphy, J Applied Meteorology 12 (1973) 595; Stephenson et al., Weather and
    Forecasting 23 (2008) 752 for the part within bins.
    """

    expected_calibration_error: float
    brier: float
    calibration_loss: float
    resolution: float
    uncertainty: float
    spread_within_bins: float
    bins: tuple[ReliabilityBin, ...]


def reliability(
    probabilities: Floats, labels: Floats, persons: NDArray[np.int64], *, bins: int = _BINS
) -> Reliability:
    """Measure calibration in bins of equally many images.

    Images of equal probability stay in one bin, so there may be fewer bins than asked for.

    Parameters
    ----------
    probabilities, labels, persons
        **shape** ``(images,)`` of the judged images, at least one; labels 0 or 1.
    bins
        How many, at most.
    """
    quantiles = np.quantile(probabilities, np.arange(1, bins) / bins, method="higher")
    bin_of = np.searchsorted(np.unique(quantiles), probabilities, side="right")
    _, bin_of = np.unique(bin_of, return_inverse=True)
    weight = np.bincount(bin_of) / len(labels)
    said = np.bincount(bin_of, weights=probabilities) / np.bincount(bin_of)
    seen = np.bincount(bin_of, weights=labels) / np.bincount(bin_of)
    prevalence = float(labels.mean())
    brier = float(np.mean((probabilities - labels) ** 2))
    calibration_loss = float(weight @ (said - seen) ** 2)
    resolution = float(weight @ (seen - prevalence) ** 2)
    uncertainty = prevalence * (1.0 - prevalence)
    rates = [rate(labels[bin_of == each], persons[bin_of == each]) for each in range(len(weight))]
    return Reliability(
        expected_calibration_error=float(weight @ np.abs(said - seen)),
        brier=brier,
        calibration_loss=calibration_loss,
        resolution=resolution,
        uncertainty=uncertainty,
        spread_within_bins=brier - (calibration_loss - resolution + uncertainty),
        bins=tuple(
            ReliabilityBin(float(mean), observed)
            for mean, observed in zip(said, rates, strict=True)
            if observed is not None
        ),
    )
