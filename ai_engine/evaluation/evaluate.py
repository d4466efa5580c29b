"""Everything that is measured of a model, in one call."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.progress import Progress

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import CONFIDENCE, TooFew
from ai_engine.evaluation.finding_evaluation import EvaluationOptions, FindingEvaluation
from ai_engine.evaluation.predictions import Predictions, refuse_shared_persons
from ai_engine.evaluation.randomisation import RandomisationResult
from ai_engine.evaluation.report import About, EvaluationReport
from ai_engine.evaluation.resampling import PersonDraws
from ai_engine.evaluation.saliency_quality import SaliencyQuality
from ai_engine.evaluation.subgroups import unknown_attributes


@dataclass(frozen=True, slots=True)
class SaliencyFigures:
    """What was measured of the maps, each where it could be."""

    quality: SaliencyQuality | None = None
    randomisation: RandomisationResult | None = None


def evaluate(  # noqa: PLR0913 - each is another input of an evaluation
    predictions: Predictions,
    about: About,
    *,
    thresholds: Mapping[str, float] | None = None,
    tuning: Predictions | None = None,
    saliency: SaliencyFigures | None = None,
    options: EvaluationOptions | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Measure a model on held-out images.

    Parameters
    ----------
    predictions
        On the images to measure on, which neither training nor tuning has seen.
    about
        What is evaluated.
    thresholds
        Probability at or above which the model calls each finding, as it ships.
    tuning
        Predictions on a tuning split: calibration, operating points and the abstention rule are
        set there and measured on ``predictions``.
    saliency
        Of ``judge_saliency`` and ``cascading_randomisation``.
    options
        What to measure.
    progress
        Where to show how far it is, or ``None``.

    Raises
    ------
    NotMeasurable
        If sources are mixed unasked, a person is in both sets, the findings differ, a threshold is
        no probability, or no finding has enough persons of both classes.
    """
    chosen = options or EvaluationOptions()
    _refuse_what_flatters(predictions, tuning, chosen)
    _refuse_impossible_thresholds(predictions, thresholds or {})
    draws = PersonDraws(predictions.persons, resamplings=chosen.resamplings, seed=chosen.seed)
    names = predictions.findings
    shown = progress.track(names, description="measuring findings") if progress else names
    measuring = FindingEvaluation(predictions, thresholds or {}, tuning, chosen, draws)
    findings = tuple(measuring.report(finding) for finding in shown)
    if all(isinstance(each.discrimination, TooFew) for each in findings):
        reasons = "; ".join(
            f"{each.finding}: {each.discrimination.too_few}"
            for each in findings
            if isinstance(each.discrimination, TooFew)
        )
        msg = f"nothing can be measured ({reasons}). Evaluate on more images of both classes."
        raise NotMeasurable(msg)
    maps = saliency or SaliencyFigures()
    return EvaluationReport(
        about=about,
        images=len(predictions),
        persons=int(predictions.persons.max()) + 1,
        sources=predictions.sources,
        triage_finding=chosen.triage_finding,
        findings=findings,
        attributes_not_known=unknown_attributes(predictions),
        resamplings=chosen.resamplings,
        seed=chosen.seed,
        confidence=CONFIDENCE,
        saliency=maps.quality,
        randomisation=maps.randomisation,
    )


def _refuse_what_flatters(
    predictions: Predictions, tuning: Predictions | None, options: EvaluationOptions
) -> None:
    """Refuse mixed sources, shared persons and unknown findings.

    Raises
    ------
    NotMeasurable
        With the remedy.
    """
    if len(predictions.sources) > 1 and not options.pool_sources:
        named = ", ".join(source or "(none)" for source in predictions.sources)
        msg = (
            f"the images come from {len(predictions.sources)} sources ({named}); figures pooled "
            f"over them flatter a model that can tell them apart. Evaluate one source at a time, "
            f"or ask for pooling."
        )
        raise NotMeasurable(msg)
    for finding in (options.triage_finding, *options.detailed):
        predictions.column(finding)
    if tuning is not None:
        refuse_shared_persons(predictions.images, tuning.images, other_is="tuning")
        if tuning.findings != predictions.findings:
            msg = (
                f"the tuning split was predicted for {', '.join(tuning.findings)}, the images to "
                f"measure on for {', '.join(predictions.findings)}. Run the same model on both."
            )
            raise NotMeasurable(msg)


def _refuse_impossible_thresholds(
    predictions: Predictions, thresholds: Mapping[str, float]
) -> None:
    """Refuse a threshold for a finding that the model lacks, or that is no probability.

    Raises
    ------
    NotMeasurable
        With the remedy.
    """
    for finding, threshold in thresholds.items():
        predictions.column(finding)
        if not 0.0 <= threshold <= 1.0:
            msg = (
                f"the threshold of {finding} is {threshold}, which is no probability. Give one "
                f"from 0 to 1, on the scale of the probabilities."
            )
            raise NotMeasurable(msg)
