"""The report of an evaluation, as data: what ``report.json`` holds and the page is drawn from."""

import json
from dataclasses import asdict, dataclass

from ai_engine.evaluation.abstention import AbstentionResult
from ai_engine.evaluation.baselines import Baseline
from ai_engine.evaluation.calibration import HeadCalibration
from ai_engine.evaluation.discrimination import Discrimination
from ai_engine.evaluation.estimate import TooFew
from ai_engine.evaluation.operating_points import OperatingCharacteristics
from ai_engine.evaluation.randomisation import RandomisationResult
from ai_engine.evaluation.reliability import Reliability
from ai_engine.evaluation.rule_out import RuleOutRow
from ai_engine.evaluation.saliency_quality import SaliencyQuality
from ai_engine.evaluation.subgroups import SubgroupTable

FORMAT = 1
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class About:
    """What was evaluated, and on what.

    Parameters
    ----------
    model, model_version
        As on its card.
    data
        Name of the set and of the part that was held out, in words.
    labels_from
        Where the labels come from, in words: they bound every figure.
    model_sha256
        Digest of the bundle, or ``""`` for a model that is none.
    made_on
        Date, as the caller writes it, or ``""``.
    """

    model: str
    model_version: str
    data: str
    labels_from: str
    model_sha256: str = ""
    made_on: str = ""


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """How the probabilities lie in each class.

    Parameters
    ----------
    edges_probability
        Of the bins, one more than there are bins.
    images_with, images_without
        Images in each bin.
    """

    edges_probability: tuple[float, ...]
    images_with: tuple[int, ...]
    images_without: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What calibration on the tuning split would change.

    Parameters
    ----------
    calibration
        What was fitted, and why.
    reliability
        Of the held-out probabilities once calibrated.
    """

    calibration: HeadCalibration
    reliability: Reliability


@dataclass(frozen=True, slots=True)
class FindingDetails:
    """The parts that are measured for the triage finding, and for others when asked.

    Parameters
    ----------
    baselines
        Trivial scores, and whether the model beats them.
    rule_out
        Specificity at high sensitivities.
    abstention
        ``None`` without a tuning split.
    subgroups
        One table per attribute with more than one group.
    """

    baselines: tuple[Baseline, ...]
    rule_out: tuple[RuleOutRow, ...]
    abstention: AbstentionResult | None
    subgroups: tuple[SubgroupTable, ...]


@dataclass(frozen=True, slots=True)
class FindingReport:
    """One finding.

    Parameters
    ----------
    finding
        Its name.
    images_judged
        Images with a label for it.
    discrimination
        Or why nothing can be said.
    reliability, histogram
        Of the probabilities as the model gives them; ``None`` where nothing can be said.
    tuning_too_few
        Why the tuning split serves nothing for this finding, where it does not.
    calibrated
        ``None`` without a tuning split that serves.
    operating_points
        The thresholds that ship with the model, and those chosen on the tuning split.
    details
        ``None`` where they were not asked for.
    """

    finding: str
    images_judged: int
    discrimination: Discrimination | TooFew
    reliability: Reliability | None = None
    histogram: ScoreHistogram | None = None
    tuning_too_few: TooFew | None = None
    calibrated: CalibrationReport | None = None
    operating_points: tuple[OperatingCharacteristics, ...] = ()
    details: FindingDetails | None = None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything measured of one model on one set. Its keys in JSON are stable within a format.

    Parameters
    ----------
    about
        What was evaluated.
    images, persons
        How many.
    sources
        Collections the images come from; more than one only where pooling was asked for.
    triage_finding
        The finding that decides about reading order.
    findings
        In the order of the model.
    attributes_not_known
        Attributes for which no group can be looked at.
    resamplings, seed, confidence
        Of the intervals.
    saliency, randomisation
        Whether the maps follow the model, and whether they point right; ``None`` where not
        measured.
    format
        Of this layout.
    """

    about: About
    images: int
    persons: int
    sources: tuple[str, ...]
    triage_finding: str
    findings: tuple[FindingReport, ...]
    attributes_not_known: tuple[str, ...]
    resamplings: int
    seed: int
    confidence: float
    saliency: SaliencyQuality | None = None
    randomisation: RandomisationResult | None = None
    format: int = FORMAT

    def of(self, finding: str) -> FindingReport:
        """Give the report of one finding.

        Raises
        ------
        KeyError
            If the model has no such finding.
        """
        for each in self.findings:
            if each.finding == finding:
                return each
        raise KeyError(finding)

    def as_json(self) -> dict[str, object]:
        """Give it as JSON values, numbers rounded to six digits after the point."""
        return {key: _rounded(value) for key, value in asdict(self).items()}

    def json_bytes(self) -> bytes:
        """Give the bytes of ``report.json``."""
        text = json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
