"""What the figures say, in words a radiologist can act on. Computed, and never kinder than they."""

from ai_engine.evaluation.discrimination import Discrimination
from ai_engine.evaluation.estimate import Estimate, Rate, TooFew
from ai_engine.evaluation.report import EvaluationReport, FindingReport
from ai_engine.evaluation.saliency_quality import SaliencyQuality
from ai_engine.evaluation.subgroups import Gap

_COIN = 0.5
_PERCENT = "\N{NO-BREAK SPACE}%"
_NOTICEABLE_ERROR = 0.05
_RULE_OUT = 0.99


def in_plain_words(report: EvaluationReport) -> tuple[str, ...]:
    """Give the sentences that open a report.

    Parameters
    ----------
    report
        The figures.
    """
    closing = (
        "The figures hold for images and people like these. They say nothing of another site, "
        "another machine or another mix of patients: measure there before relying on the model."
    )
    sentences = (
        _what(report),
        *_triage(report.of(report.triage_finding)),
        _others(report),
        _maps(report),
        closing,
    )
    return tuple(sentence for sentence in sentences if sentence)


def percent(share: float) -> str:
    """Write a share as a percentage that never rounds to all or nothing."""
    text = f"{100 * share:.1f}"
    if share < 1.0 and text == "100.0":
        text = "over 99.9"
    if share > 0.0 and text == "0.0":
        text = "under 0.1"
    return text + _PERCENT


def between(figure: Estimate | Rate) -> str:
    """Write the interval of a share, such as "3.9 to 5.5 %"."""
    return f"{percent(figure.low).removesuffix(_PERCENT)} to {percent(figure.high)}"


def readable(finding: str) -> str:
    """Write the key of a finding as words."""
    return finding.replace("_", " ").lower()


def _what(report: EvaluationReport) -> str:
    about = report.about
    sentence = (
        f"{about.model} {about.model_version} was measured on {report.images:,} images of "
        f"{report.persons:,} people ({about.data}); what counts as right is {about.labels_from}."
    )
    if len(report.sources) > 1:
        sentence += (
            f" The images of {len(report.sources)} sources were pooled because that was asked "
            f"for: a model that tells the sources apart looks better for it."
        )
    return sentence


def _triage(report: FindingReport) -> tuple[str, ...]:
    name = readable(report.finding)
    measured = report.discrimination
    if isinstance(measured, TooFew):
        return (f"Whether it recognises {name} images cannot be said: {measured.too_few}.",)
    return (
        _discrimination(measured.auroc, name),
        _baselines(report),
        _operating_point(report, name),
        _rule_out(report, measured, name),
        _probabilities(report),
        _abstention(report),
        _groups(report),
    )


def _discrimination(area: Estimate, name: str) -> str:
    if area.low <= _COIN:
        return (
            f"It could not be shown to recognise {name} images any better than a coin "
            f"(AUROC {_interval(area)}; a coin has 0.5)."
        )
    return (
        f"Given one {name} image and one other, it scores the right one higher in "
        f"{percent(area.value)} of all pairs (AUROC {_interval(area)}; a coin has 0.5)."
    )


def _baselines(report: FindingReport) -> str:
    tried = report.details.baselines if report.details else ()
    if not tried:
        return "It was not compared with any trivial score."
    if unbeaten := [each for each in tried if not each.beaten]:
        named = " and ".join(
            f"the {each.baseline} alone (AUROC {each.auroc.value:.3f})" for each in unbeaten
        )
        none = "none of which knows" if len(unbeaten) > 1 else "which does not know"
        return (
            f"It could not be shown to do better than {named}, {none} of disease: what it has "
            f"learned may be no more than that."
        )
    strongest = max(tried, key=lambda each: each.auroc.value)
    named = f"the {strongest.baseline}, has AUROC {strongest.auroc.value:.3f}"
    return (
        f"It does better than what knows nothing of disease ({len(tried)} such scores were tried; "
        f"the strongest, {named})."
    )


def _operating_point(report: FindingReport, name: str) -> str:
    if not report.operating_points:
        return (
            "No threshold was given and there was no tuning split to choose one on, so nothing is "
            "said of how many findings it misses in use."
        )
    point = report.operating_points[0]
    if point.sensitivity is None or point.specificity is None:
        return ""
    return (
        f"At its threshold ({point.chosen}) it misses {_complement(point.sensitivity)} of the "
        f"{name} images and wrongly calls {_complement(point.specificity)} of the others."
    )


def _rule_out(report: FindingReport, measured: Discrimination, name: str) -> str:
    rows = report.details.rule_out if report.details else ()
    told = [row for row in rows if row.told_from_all]
    if not told:
        few = f"With {measured.images_with} {name} images"
        return f"{few}, nothing can be said of ruling out safely."
    row = max(told, key=lambda each: (each.sensitivity_aimed <= _RULE_OUT, each.sensitivity_aimed))
    allowed = percent(1 - row.sensitivity_aimed)
    tuned = row.at_tuned_threshold
    if tuned and tuned.sensitivity and tuned.specificity:
        return (
            f"With a threshold set on the tuning split to miss {allowed} of the {name} images it "
            f"missed {_complement(tuned.sensitivity)}, and set aside "
            f"{percent(tuned.specificity.value)} of the others."
        )
    best = row.specificity_best_case
    return (
        f"If it may miss no more than {allowed} of the {name} images, it sets aside at best "
        f"{percent(best.value)} of the others ({between(best)})."
    )


def _probabilities(report: FindingReport) -> str:
    if report.reliability is None:
        return ""
    error = report.reliability.expected_calibration_error
    verdict = "single patients may be further off"
    if error > _NOTICEABLE_ERROR:
        verdict = "do not read them as chances"
    points = f"{100 * error:.1f} percentage points"
    return f"Its probabilities are off by {points} on average: {verdict}."


def _abstention(report: FindingReport) -> str:
    result = report.details.abstention if report.details else None
    if result is None or result.not_sure is None:
        return ""
    return (
        f"Allowed to say that it is not sure, it does so for {percent(result.not_sure.value)} of "
        f"the images, which are then read as usual."
    )


def _groups(report: FindingReport) -> str:
    tables = report.details.subgroups if report.details else ()
    gaps = [
        (table.attribute, gap, figure)
        for table in tables
        for gap, figure in ((table.auroc_gap, "AUROC"), (table.sensitivity_gap, "sensitivity"))
        if gap is not None
    ]
    if worse := [each for each in gaps if each[1].beyond_chance]:
        named = "; ".join(_gap(*each) for each in worse)
        return f"It serves some groups worse beyond chance: {named}."
    if gaps:
        return (
            "Among the groups that were large enough to compare, none was served worse beyond "
            "chance; that is no proof that all are served alike."
        )
    return "No two groups of people were large enough to compare."


def _gap(attribute: str, gap: Gap, figure: str) -> str:
    lower = f"{figure} lower by {gap.difference.value:.3f}"
    return f"{attribute} {gap.worst} worse than {gap.best} ({lower})"


def _others(report: EvaluationReport) -> str:
    others = [each for each in report.findings if each.finding != report.triage_finding]
    if not others:
        return ""
    too_few = [each.finding for each in others if isinstance(each.discrimination, TooFew)]
    coins = [
        each.finding
        for each in others
        if isinstance(each.discrimination, Discrimination)
        and each.discrimination.auroc.low <= _COIN
    ]
    better = len(others) - len(too_few) - len(coins)
    recognised = f"{better}" if better else "none"
    sentence = (
        f"Of {len(others)} single findings it recognises {recognised} better than a coin would"
    )
    if coins:
        sentence += f"{', but' if better else ':'} not {_listed(coins)}"
    if too_few:
        sentence += f"; too few people to say of {_listed(too_few)}"
    return sentence + "."


def _maps(report: EvaluationReport) -> str:
    quality = report.saliency
    if quality is None:
        return "Its maps were not judged: do not take them for the place of a finding."
    lost = report.randomisation is None or report.randomisation.passes
    if quality.model_minus_random.low <= 0.0:
        sentence = "Its maps do not show what the model looks at better than random maps would"
    elif lost:
        sentence = "Its maps show what the model looks at"
    else:
        sentence = "Its maps stay when the weights are lost, so they hardly explain the model"
    return f"{sentence}; {_pointing(quality)}"


def _pointing(quality: SaliencyQuality) -> str:
    game = quality.pointing
    if game is None:
        return "whether that is where the finding is was not judged: do not locate anything by it."
    ours, centre = percent(game.hits.value), percent(game.image_centre.value)
    if game.hits_minus_image_centre.low > 0.0 and game.hits.low > game.chance:
        return (
            f"the strongest cell lies on the finding in {ours} of the boxed images, more often "
            f"than the image centre does ({centre}), and misses it in the others."
        )
    return (
        f"they could not be shown to point at the finding better than the image centre does "
        f"({ours} against {centre} of the boxed images): do not locate anything by them."
    )


def _listed(findings: list[str]) -> str:
    named = [readable(each) for each in findings]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _complement(share: Rate) -> str:
    missed = Estimate(1.0 - share.value, 1.0 - share.high, 1.0 - share.low)
    return f"{percent(missed.value)} ({between(missed)})"


def _interval(figure: Estimate) -> str:
    return f"{figure.value:.3f}, 95{_PERCENT} interval {figure.low:.3f} to {figure.high:.3f}"
