"""Rule-out: how many normal images could be set aside at a sensitivity nobody argues with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import Estimate, estimate
from ai_engine.evaluation.operating_points import (
    OperatingCharacteristics,
    characteristics,
    threshold_at_sensitivity,
)
from ai_engine.evaluation.ranking import ranking, resampled_rankings
from ai_engine.evaluation.resampling import PersonDraws

Floats = NDArray[np.float64]
SENSITIVITIES = (0.999, 0.99, 0.98, 0.95, 0.90)
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class RuleOutRow:
    """One sensitivity.

    Parameters
    ----------
    sensitivity_aimed
        Share of the images with the finding that must be found.
    specificity_best_case
        Share of the images without it that fall below the threshold, the threshold being set on
        the very images that are measured, and on every resampling anew.
    images_needed
        With fewer images with the finding, this sensitivity cannot be told from finding all.
    told_from_all
        Whether there are that many.
    at_tuned_threshold
        What the threshold does that the tuning split sets; ``None`` without such a split.
    """

    sensitivity_aimed: float
    specificity_best_case: Estimate
    images_needed: int
    told_from_all: bool
    at_tuned_threshold: OperatingCharacteristics | None


@dataclass(frozen=True, slots=True)
class PublishedRuleOut:
    """A figure that others published, on other images: an orientation, not a comparison.

    Parameters
    ----------
    what
        System and images.
    source
        Where it was published.
    sensitivity, specificity
        Of "abnormal", 0 to 1.
    """

    what: str
    source: str
    sensitivity: float
    specificity: float


_PLESNER = (
    "commercial system, 1,961 patients",
    "Plesner et al., Radiology 312 (2024)",
)
_CHEXNET = (
    "CheXNet reproduction, any of 14 labels mined from reports, 22,433 NIH images",
    "from the predictions of github.com/jrzech/reproduce-chexnet (2022)",
)
_CHEXNET_ADJUDICATED = (
    "the same, any of 4 findings that radiologists judged together, 935 of these images",
    _CHEXNET[1],
)
PUBLISHED = (
    PublishedRuleOut(*_PLESNER, 0.999, 0.245),
    PublishedRuleOut(*_PLESNER, 0.99, 0.471),
    PublishedRuleOut(*_PLESNER, 0.98, 0.527),
    PublishedRuleOut(*_CHEXNET, 0.99, 0.097),
    PublishedRuleOut(*_CHEXNET, 0.95, 0.300),
    PublishedRuleOut(*_CHEXNET, 0.90, 0.438),
    PublishedRuleOut(*_CHEXNET_ADJUDICATED, 0.95, 0.648),
    PublishedRuleOut(*_CHEXNET_ADJUDICATED, 0.90, 0.794),
)


@dataclass(frozen=True, slots=True, eq=False)
class FindingScores:
    """The judged images of one finding, **shape** ``(images,)`` each; labels 0 or 1."""

    probabilities: Floats
    labels: Floats
    persons: NDArray[np.int64]


def rule_out_table(
    scores: FindingScores,
    images: NDArray[np.int64],
    draws: PersonDraws,
    *,
    sensitivities: tuple[float, ...] = SENSITIVITIES,
    tuning: FindingScores | None = None,
) -> tuple[RuleOutRow, ...]:
    """Measure the specificity at high sensitivities.

    Parameters
    ----------
    scores
        Of the judged images to measure on, both classes among them.
    images
        Their rows in the draws.
    draws
        Of persons.
    sensitivities
        To aim at, each above 0 and at most 1.
    tuning
        Of the tuning split, to set thresholds that were not chosen on the measured images.

    Raises
    ------
    NotMeasurable
        If a sensitivity is impossible.
    """
    if impossible := [each for each in sensitivities if not 0.0 < each <= 1.0]:
        msg = f"a sensitivity of {impossible[0]} cannot be aimed at: above 0 and at most 1, please."
        raise NotMeasurable(msg)
    aimed = np.array(sensitivities)
    rankings = resampled_rankings(scores.probabilities, scores.labels, images, draws)
    drawn = np.concatenate([each.specificities_at(aimed) for each in rankings])
    value = ranking(scores.probabilities, scores.labels).specificities_at(aimed)[0]
    present = int(scores.labels.sum())
    rows = []
    for place, sensitivity in enumerate(sensitivities):
        needed = int(np.ceil(1.0 / max(1.0 - sensitivity, _ROUNDING) - _ROUNDING))
        rows.append(
            RuleOutRow(
                sensitivity_aimed=sensitivity,
                specificity_best_case=estimate(value[place], drawn[:, place]),
                images_needed=needed,
                told_from_all=present >= needed,
                at_tuned_threshold=_tuned(scores, tuning, sensitivity),
            )
        )
    return tuple(rows)


def _tuned(
    scores: FindingScores, tuning: FindingScores | None, sensitivity: float
) -> OperatingCharacteristics | None:
    if tuning is None or not tuning.labels.any():
        return None
    return characteristics(
        scores.probabilities,
        scores.labels,
        scores.persons,
        threshold_at_sensitivity(tuning.probabilities, tuning.labels, sensitivity),
        chosen=f"sensitivity {sensitivity:g} on the tuning split",
    )
