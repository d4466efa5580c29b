"""Everything that is measured of one finding."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.evaluation.abstention import (
    COVERAGE,
    AbstentionResult,
    abstention_rule,
    measure_abstention,
)
from ai_engine.evaluation.baselines import baselines
from ai_engine.evaluation.calibration import calibrate
from ai_engine.evaluation.discrimination import Discrimination, auroc_draws, discriminate, too_few
from ai_engine.evaluation.estimate import TooFew
from ai_engine.evaluation.operating_points import (
    OperatingCharacteristics,
    characteristics,
    threshold_at_sensitivity,
    threshold_at_specificity,
)
from ai_engine.evaluation.predictions import ABNORMAL, Predictions
from ai_engine.evaluation.reliability import reliability
from ai_engine.evaluation.report import (
    CalibrationReport,
    FindingDetails,
    FindingReport,
    ScoreHistogram,
)
from ai_engine.evaluation.resampling import RESAMPLINGS, PersonDraws
from ai_engine.evaluation.rule_out import SENSITIVITIES, FindingScores, rule_out_table
from ai_engine.evaluation.subgroups import subgroups

_HISTOGRAM_BINS = 25
_WHERE_SHIPPED = "as the model ships"


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to measure, and how.

    Parameters
    ----------
    triage_finding
        The finding that decides about reading order.
    sensitivities, specificities
        At which operating points are chosen on the tuning split, 0 to 1.
    rule_out_sensitivities
        Of the rule-out table.
    coverage
        That the abstention rule guarantees for each class, 0 to 1.
    detailed
        Findings, beside the triage finding, to measure baselines, rule-out, abstention and
        subgroups of.
    pool_sources
        Whether images of several sources may be measured together. Off, since a model can tell
        sources apart and look good for it.
    resamplings, seed
        Of the intervals.
    """

    triage_finding: str = ABNORMAL
    sensitivities: tuple[float, ...] = (0.95,)
    specificities: tuple[float, ...] = (0.95,)
    rule_out_sensitivities: tuple[float, ...] = SENSITIVITIES
    coverage: float = COVERAGE
    detailed: tuple[str, ...] = ()
    pool_sources: bool = False
    resamplings: int = RESAMPLINGS
    seed: int = 1


class FindingEvaluation:
    """Measures one finding after the other on the same draws of persons.

    Parameters
    ----------
    predictions
        On the images to measure on.
    thresholds
        Probability at or above which the model calls each finding, as it ships.
    tuning
        Predictions on a tuning split, or ``None``.
    options
        What to measure.
    draws
        Of the persons of ``predictions``.
    """

    def __init__(
        self,
        predictions: Predictions,
        thresholds: Mapping[str, float],
        tuning: Predictions | None,
        options: EvaluationOptions,
        draws: PersonDraws,
    ) -> None:
        self._predictions = predictions
        self._thresholds = thresholds
        self._tuning = tuning
        self._options = options
        self._draws = draws
        self._persons = predictions.persons

    def report(self, finding: str) -> FindingReport:
        """Measure one finding."""
        rows = self._predictions.judged(finding)
        held_out = _scores(self._predictions, finding)
        discrimination = discriminate(
            held_out.probabilities, held_out.labels, rows, self._persons[rows], self._draws
        )
        if isinstance(discrimination, TooFew):
            return FindingReport(finding, len(rows), discrimination)
        tuning = self._tuning_scores(finding)
        usable = None if isinstance(tuning, TooFew) else tuning
        points = self._operating_points(finding, held_out, usable)
        detailed = finding in {self._options.triage_finding, *self._options.detailed}
        return FindingReport(
            finding=finding,
            images_judged=len(rows),
            discrimination=discrimination,
            reliability=reliability(held_out.probabilities, held_out.labels, held_out.persons),
            histogram=_histogram(held_out),
            tuning_too_few=tuning if isinstance(tuning, TooFew) else None,
            calibrated=_calibrated(held_out, usable),
            operating_points=points,
            details=(
                self._details(finding, discrimination, points, held_out, usable)
                if detailed
                else None
            ),
        )

    def _tuning_scores(self, finding: str) -> FindingScores | TooFew | None:
        """Give the tuning split, or why it serves nothing for this finding."""
        if self._tuning is None:
            return None
        scores = _scores(self._tuning, finding)
        return too_few(scores.labels, scores.persons) or scores

    def _operating_points(
        self, finding: str, held_out: FindingScores, tuning: FindingScores | None
    ) -> tuple[OperatingCharacteristics, ...]:
        chosen = []
        if finding in self._thresholds:
            chosen.append((self._thresholds[finding], _WHERE_SHIPPED))
        if tuning is not None:
            for what, at, shares in (
                ("sensitivity", threshold_at_sensitivity, self._options.sensitivities),
                ("specificity", threshold_at_specificity, self._options.specificities),
            ):
                chosen += [
                    (
                        at(tuning.probabilities, tuning.labels, share),
                        f"{what} {share:g} on the tuning split",
                    )
                    for share in shares
                ]
        return tuple(
            characteristics(
                held_out.probabilities, held_out.labels, held_out.persons, threshold, chosen=how
            )
            for threshold, how in chosen
        )

    def _details(
        self,
        finding: str,
        discrimination: Discrimination,
        points: tuple[OperatingCharacteristics, ...],
        held_out: FindingScores,
        tuning: FindingScores | None,
    ) -> FindingDetails:
        rows = self._predictions.judged(finding)
        drawn = auroc_draws(held_out.probabilities, held_out.labels, rows, self._draws)
        threshold = points[0].threshold_probability if points else None
        return FindingDetails(
            baselines=baselines(
                self._predictions, finding, discrimination.auroc.value, drawn, self._draws
            ),
            rule_out=rule_out_table(
                held_out,
                rows,
                self._draws,
                sensitivities=self._options.rule_out_sensitivities,
                tuning=tuning,
            ),
            abstention=self._abstention(held_out, tuning),
            subgroups=subgroups(self._predictions, finding, threshold, self._draws),
        )

    def _abstention(
        self, held_out: FindingScores, tuning: FindingScores | None
    ) -> AbstentionResult | None:
        if tuning is None:
            return None
        rule = abstention_rule(
            tuning.probabilities,
            tuning.labels,
            tuning.persons,
            coverage=self._options.coverage,
            seed=self._options.seed,
        )
        return measure_abstention(rule, held_out.probabilities, held_out.labels, held_out.persons)


def _scores(predictions: Predictions, finding: str) -> FindingScores:
    rows: NDArray[np.int64] = predictions.judged(finding)
    column = predictions.column(finding)
    return FindingScores(
        predictions.probabilities[rows, column],
        predictions.labels[rows, column],
        predictions.persons[rows],
    )


def _calibrated(held_out: FindingScores, tuning: FindingScores | None) -> CalibrationReport | None:
    if tuning is None:
        return None
    fitted = calibrate(tuning.probabilities, tuning.labels, tuning.persons)
    calibrated = fitted(held_out.probabilities)
    return CalibrationReport(fitted, reliability(calibrated, held_out.labels, held_out.persons))


def _histogram(scores: FindingScores) -> ScoreHistogram:
    edges = np.linspace(0.0, 1.0, _HISTOGRAM_BINS + 1)
    counts = [
        np.histogram(scores.probabilities[scores.labels == label], edges)[0] for label in (1, 0)
    ]
    with_it, without = (tuple(int(count) for count in each) for each in counts)
    return ScoreHistogram(tuple(map(float, edges)), with_it, without)
