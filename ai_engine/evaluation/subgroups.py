"""Whether a model serves one group of people, or one kind of equipment, worse than another."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.discrimination import auroc, auroc_draws, too_few
from ai_engine.evaluation.estimate import (
    CONFIDENCE,
    LEAST_PERSONS_PER_CLASS,
    Estimate,
    Rate,
    TooFew,
    estimate,
    rate,
)
from ai_engine.evaluation.predictions import Predictions
from ai_engine.evaluation.resampling import PersonDraws
from ai_engine.image import View
from ai_engine.labelled_images.labelled_image import LabelledImage

Floats = NDArray[np.float64]
_AGE_BANDS_YEARS = ((18.0, "under 18"), (40.0, "18 to 39"), (60.0, "40 to 59"), (75.0, "60 to 74"))
_OLDEST = "75 and over"
_NOT_KNOWN = "not known"
_SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The figures of one group.

    Parameters
    ----------
    group
        Such as ``"F"`` or ``"40 to 59"``.
    images, persons, images_with
        How many, and how many of the images have the finding.
    auroc
        Within the group.
    sensitivity, specificity
        At the threshold of the report; ``None`` where it has none.
    """

    group: str
    images: int
    persons: int
    images_with: int
    auroc: Estimate | TooFew
    sensitivity: Rate | TooFew | None
    specificity: Rate | TooFew | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference between two groups of an attribute.

    Parameters
    ----------
    best, worst
        The groups.
    difference
        Of the figure.
    pairs
        Pairs of groups that it is the largest difference of.
    beyond_chance
        Whether it is above 0 at a confidence that allows for the number of pairs (Bonferroni).
    """

    best: str
    worst: str
    difference: Estimate
    pairs: int
    beyond_chance: bool


@dataclass(frozen=True, slots=True)
class SubgroupTable:
    """The groups of one attribute.

    Parameters
    ----------
    attribute
        Such as ``"sex"``.
    groups
        In order.
    auroc_gap, sensitivity_gap
        ``None`` where fewer than two groups can be measured.
    """

    attribute: str
    groups: tuple[Subgroup, ...]
    auroc_gap: Gap | None
    sensitivity_gap: Gap | None


def age_band(age_years: float | None) -> str:
    """Name the band of an age in years."""
    if age_years is None:
        return _NOT_KNOWN
    return next((name for limit, name in _AGE_BANDS_YEARS if age_years < limit), _OLDEST)


def _view(image: LabelledImage) -> str:
    return _NOT_KNOWN if image.view is View.UNKNOWN else image.view.value


_ATTRIBUTES: dict[str, Callable[[LabelledImage], str]] = {
    "sex": lambda image: image.sex or _NOT_KNOWN,
    "age in years": lambda image: age_band(image.age_years),
    "view": _view,
    "site": lambda image: image.site or _NOT_KNOWN,
    "manufacturer": lambda image: image.manufacturer or _NOT_KNOWN,
    _SOURCE: lambda image: image.source or _NOT_KNOWN,
}


def unknown_attributes(predictions: Predictions) -> tuple[str, ...]:
    """Name the attributes that no image of the set states."""
    return tuple(
        name
        for name, of in _ATTRIBUTES.items()
        if name != _SOURCE and {of(image) for image in predictions.images} == {_NOT_KNOWN}
    )


def subgroups(
    predictions: Predictions, finding: str, threshold: float | None, draws: PersonDraws
) -> tuple[SubgroupTable, ...]:
    """Measure one finding in every group; an attribute with one group only gives no table.

    Parameters
    ----------
    predictions
        Of the model.
    finding
        To measure.
    threshold
        Probability at which it is called, or ``None``.
    draws
        Of persons.
    """
    rows = predictions.judged(finding)
    tables = []
    for attribute, of in _ATTRIBUTES.items():
        names = np.array([of(predictions.images[row]) for row in rows])
        if len(set(names)) > 1:
            groups = _in_order({str(name) for name in names})
            measured = [
                _Measured(predictions, finding, threshold, draws, rows[names == group])
                for group in groups
            ]
            tables.append(_table(attribute, groups, measured))
    return tuple(tables)


def _in_order(groups: set[str]) -> list[str]:
    bands = [name for _, name in _AGE_BANDS_YEARS] + [_OLDEST]
    return sorted(
        groups,
        key=lambda name: (name == _NOT_KNOWN, bands.index(name) if name in bands else 0, name),
    )


class _Measured:
    """One group, with its figures on every resampling."""

    def __init__(
        self,
        predictions: Predictions,
        finding: str,
        threshold: float | None,
        draws: PersonDraws,
        rows: NDArray[np.int64],
    ) -> None:
        column = predictions.column(finding)
        self.labels = predictions.labels[rows, column]
        self.persons = predictions.persons[rows]
        scores = predictions.probabilities[rows, column]
        self.auroc: Estimate | TooFew
        self.auroc_draws: Floats | None = None
        if few := too_few(self.labels, self.persons):
            self.auroc = few
        else:
            self.auroc_draws = auroc_draws(scores, self.labels, rows, draws)
            self.auroc = estimate(auroc(scores, self.labels), self.auroc_draws)
        self.sensitivity: Rate | TooFew | None = None
        self.specificity: Rate | TooFew | None = None
        self.sensitivity_draws: Floats | None = None
        if threshold is not None:
            called = scores >= threshold
            self.sensitivity = self._rate(called, self.labels == 1)
            self.specificity = self._rate(~called, self.labels == 0)
            if isinstance(self.sensitivity, Rate):
                found = self.labels == 1
                self.sensitivity_draws = draws.shares(called[found].astype(float), rows[found])

    def _rate(self, counted: NDArray[np.bool_], among: NDArray[np.bool_]) -> Rate | TooFew:
        persons = len(np.unique(self.persons[among]))
        measured = rate(counted[among], self.persons[among])
        if measured is None or persons < LEAST_PERSONS_PER_CLASS:
            return TooFew(f"{persons} persons; at least {LEAST_PERSONS_PER_CLASS} are needed")
        return measured


def _table(attribute: str, groups: list[str], measured: list[_Measured]) -> SubgroupTable:
    return SubgroupTable(
        attribute=attribute,
        groups=tuple(
            Subgroup(
                group=group,
                images=len(each.labels),
                persons=len(np.unique(each.persons)),
                images_with=int(each.labels.sum()),
                auroc=each.auroc,
                sensitivity=each.sensitivity,
                specificity=each.specificity,
            )
            for group, each in zip(groups, measured, strict=True)
        ),
        auroc_gap=_gap(groups, [(each.auroc, each.auroc_draws) for each in measured]),
        sensitivity_gap=_gap(
            groups, [(each.sensitivity, each.sensitivity_draws) for each in measured]
        ),
    )


def _gap(
    groups: list[str],
    figures: Sequence[tuple[Estimate | Rate | TooFew | None, Floats | None]],
) -> Gap | None:
    known = [
        (figure.value, group, drawn)
        for group, (figure, drawn) in zip(groups, figures, strict=True)
        if isinstance(figure, Estimate | Rate) and drawn is not None and group != _NOT_KNOWN
    ]
    if len(known) < 2:  # noqa: PLR2004 - a gap is between two
        return None
    worst, best = min(known, key=lambda each: each[0]), max(known, key=lambda each: each[0])
    pairs = math.comb(len(known), 2)
    drawn = best[2] - worst[2]
    lowest = float(np.nanquantile(drawn, (1.0 - CONFIDENCE) / 2 / pairs))
    difference = estimate(best[0] - worst[0], drawn)
    return Gap(best[1], worst[1], difference, pairs, lowest > 0.0)
