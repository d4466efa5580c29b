"""When a model should say "not sure: read as usual": split-conformal sets of two labels.

For each class a limit is set on a tuning split so that an image of that class keeps its label in
the set with a chosen probability, whatever the distribution of scores. The guarantee holds for an
image drawn at random from those of one class of a new person like the tuning persons
(exchangeable); it holds on average over tuning splits, and not at a site whose images differ.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import Rate, rate

Floats = NDArray[np.float64]
COVERAGE = 0.95
_ROUNDING = 1e-9


class Answer(StrEnum):
    """What the set says."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    NOT_SURE = "not sure: read as usual"


@dataclass(frozen=True, slots=True)
class AbstentionRule:
    """Between which probabilities the model is not sure.

    Parameters
    ----------
    abnormal_from_probability
        "Abnormal" is possible at or above it.
    normal_to_probability
        "Normal" is possible at or below it.
    coverage
        Share of each class that keeps its label, as guaranteed.
    persons_abnormal, persons_normal
        Persons of the tuning split that each limit rests on.
    """

    abnormal_from_probability: float
    normal_to_probability: float
    coverage: float
    persons_abnormal: int
    persons_normal: int

    def answers(self, probabilities: Floats) -> NDArray[np.object_]:
        """Answer for each image: a set of both labels, and one of none, is "not sure"."""
        abnormal = probabilities >= self.abnormal_from_probability
        normal = probabilities <= self.normal_to_probability
        answers = np.full(len(probabilities), Answer.NOT_SURE, dtype=object)
        answers[abnormal & ~normal] = Answer.ABNORMAL
        answers[normal & ~abnormal] = Answer.NORMAL
        return answers


@dataclass(frozen=True, slots=True)
class AbstentionResult:
    """What the rule does on held-out images.

    Parameters
    ----------
    rule
        The rule.
    coverage_abnormal, coverage_normal
        Share of each class whose answer does not contradict its label, each person counting once:
        what is guaranteed.
    images_abnormal_kept, images_normal_kept
        The same with each image counting once, which people with many images weigh on.
    answered_normal, answered_abnormal, not_sure
        Share of all images with each answer.
    abnormal_among_answered_normal
        Share of the images answered "normal" that are abnormal: what would be missed; ``None``
        where none is answered so.
    """

    rule: AbstentionRule
    coverage_abnormal: Rate | None
    coverage_normal: Rate | None
    images_abnormal_kept: Rate | None
    images_normal_kept: Rate | None
    answered_normal: Rate | None
    answered_abnormal: Rate | None
    not_sure: Rate | None
    abnormal_among_answered_normal: Rate | None


def abstention_rule(
    probabilities: Floats,
    labels: Floats,
    persons: NDArray[np.int64],
    *,
    coverage: float = COVERAGE,
    seed: int = 1,
) -> AbstentionRule:
    """Set the limits on a tuning split.

    One image of each person and class is drawn, since images of one person are not exchangeable
    with those of another.

    Parameters
    ----------
    probabilities, labels, persons
        **shape** ``(images,)`` of the judged images of the split; labels 1 abnormal, 0 normal.
    coverage
        Share of each class to keep, between 0 and 1.
    seed
        Of the draw.

    Raises
    ------
    NotMeasurable
        If the coverage is no share, or the split has no image of one class.

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; label-conditional:
    Vovk, ACML 2012.
    """
    if not 0.0 < coverage < 1.0:
        msg = f"a coverage of {coverage} cannot be guaranteed. Give one between 0 and 1."
        raise NotMeasurable(msg)
    rng = np.random.default_rng(seed)
    strangeness = {1: -probabilities, 0: probabilities}
    limits, counts = {}, {}
    for label, values in strangeness.items():
        rows = _one_image_per_person(np.flatnonzero(labels == label), persons, rng)
        if not len(rows):
            which = "abnormal" if label else "normal"
            msg = f"the tuning split has no {which} image, so nothing can be guaranteed of them."
            raise NotMeasurable(msg)
        limits[label], counts[label] = _limit(values[rows], coverage), len(rows)
    lowest, highest = max(0.0, -limits[1]), min(1.0, limits[0])
    return AbstentionRule(lowest, highest, coverage, counts[1], counts[0])


def measure_abstention(
    rule: AbstentionRule, probabilities: Floats, labels: Floats, persons: NDArray[np.int64]
) -> AbstentionResult:
    """Measure the rule on held-out images.

    Parameters
    ----------
    rule
        Of the tuning split.
    probabilities, labels, persons
        **shape** ``(images,)`` of the judged images to measure on.
    """
    answers = rule.answers(probabilities)
    normal, abnormal, unsure = (answers == each for each in Answer)
    present = labels == 1

    def share(counted: NDArray[np.bool_], among: NDArray[np.bool_]) -> Rate | None:
        return rate(counted[among], persons[among])

    everything = np.ones_like(present)
    return AbstentionResult(
        rule=rule,
        coverage_abnormal=_by_person(~normal[present], persons[present]),
        coverage_normal=_by_person(~abnormal[~present], persons[~present]),
        images_abnormal_kept=share(~normal, present),
        images_normal_kept=share(~abnormal, ~present),
        answered_normal=share(normal, everything),
        answered_abnormal=share(abnormal, everything),
        not_sure=share(unsure, everything),
        abnormal_among_answered_normal=share(present, normal),
    )


def _by_person(kept: NDArray[np.bool_], persons: NDArray[np.int64]) -> Rate | None:
    """Give the chance that a random image of a random person keeps its label."""
    keys, member_of = np.unique(persons, return_inverse=True)
    if not len(keys):
        return None
    return rate(np.bincount(member_of, weights=kept) / np.bincount(member_of), keys)


def _limit(strangeness: Floats, coverage: float) -> float:
    """Give the conformal quantile; infinity, which keeps every label, where there are too few."""
    rank = int(np.ceil((len(strangeness) + 1) * coverage - _ROUNDING))
    return float(np.append(np.sort(strangeness), np.inf)[min(rank - 1, len(strangeness))])


def _one_image_per_person(
    rows: NDArray[np.int64], persons: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    shuffled = rng.permutation(rows)
    _, first = np.unique(persons[shuffled], return_index=True)
    return shuffled[first]
