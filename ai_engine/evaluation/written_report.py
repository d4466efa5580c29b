"""The report on paper: ``report.json`` for programs, ``report.html`` for people. No scripts."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.progress import Progress

from ai_engine.evaluation.discrimination import Discrimination
from ai_engine.evaluation.estimate import LEAST_PERSONS_PER_CLASS, Estimate
from ai_engine.evaluation.plain_words import between, in_plain_words, percent, readable
from ai_engine.evaluation.plots import finding_png, saliency_png, subgroups_png
from ai_engine.evaluation.report import EvaluationReport, FindingReport
from ai_engine.evaluation.rule_out import PUBLISHED
from ai_engine.evaluation.saliency_overlay import MappedImage, overlay_png
from ai_engine.evaluation.saliency_quality import SaliencyQuality

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An image to show with its map.

    Parameters
    ----------
    image
        With its map.
    caption
        What is to be seen, in words. Holds no patient data.
    """

    image: MappedImage
    caption: str


def write_report(
    report: EvaluationReport,
    folder: Path,
    *,
    examples: Sequence[Example] = (),
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into a folder, which is made if missing.

    Parameters
    ----------
    report
        The figures.
    folder
        Where to write.
    examples
        Images to show with their maps.
    progress
        Where to show how far the drawing is, or ``None``.

    Returns
    -------
    tuple[Path, Path]
        The JSON and the page.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures, page = folder / "report.json", folder / "report.html"
    figures.write_bytes(report.json_bytes())
    page.write_text(html_report(report, examples=examples, progress=progress), encoding="utf-8")
    return figures, page


def html_report(
    report: EvaluationReport,
    *,
    examples: Sequence[Example] = (),
    progress: Progress | None = None,
) -> str:
    """Draw the page: one file that needs nothing else, every text escaped.

    Parameters
    ----------
    report
        The figures.
    examples
        Images to show with their maps.
    progress
        Where to show how far the drawing is, or ``None``.
    """
    measured = [each for each in report.findings if each.reliability is not None]
    shown = progress.track(measured, description="drawing plots") if progress else measured
    triage = report.of(report.triage_finding)
    others = [each for each in report.findings if each is not triage]
    detailed = [each for each in report.findings if each.details]
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            plain_words=in_plain_words(report),
            triage=triage,
            others=others,
            detailed=detailed,
            plots={
                each.finding: _source(finding_png(each, columns=2 if each is triage else 4))
                for each in shown
            },
            subgroup_plots={
                each.finding: _source(
                    subgroups_png(each.details.subgroups, each.discrimination.auroc)
                )
                for each in detailed
                if each.details
                and each.details.subgroups
                and isinstance(each.discrimination, Discrimination)
            },
            saliency_plot=_source(saliency_png(report.saliency)) if report.saliency else "",
            examples=[
                {
                    "picture": _source(overlay_png(example.image)),
                    "text": _example_text(example.image),
                    "caption": example.caption,
                }
                for example in examples
            ],
            published=PUBLISHED,
            least_persons=LEAST_PERSONS_PER_CLASS,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(
        percent=percent,
        between=between,
        readable=readable,
        plot_text=_plot_text,
        subgroup_text=_subgroup_text,
        saliency_text=_saliency_text,
    )
    return environment


def _source(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def _example_text(image: MappedImage) -> str:
    finding = readable(image.finding)
    return f"An image, and beside it the same under the map for {finding}; {image.cell}."


def _plot_text(report: FindingReport) -> str:
    measured, told = report.discrimination, report.reliability
    if not isinstance(measured, Discrimination) or told is None:
        return ""
    steps = ", ".join(
        f"{bin_.mean_probability:.2f} said and {bin_.observed.value:.2f} observed"
        for bin_ in told.bins
    )
    return (
        f"Four plots for {readable(report.finding)}. ROC curve with area "
        f"{measured.auroc.value:.3f}. Precision over recall, average "
        f"{measured.average_precision.value:.3f} at a share of {measured.prevalence:.3f}. "
        f"Reliability: {steps}. Scores of images with and without it."
    )


def _subgroup_text(report: FindingReport) -> str:
    tables = report.details.subgroups if report.details else ()
    lines = [
        f"{table.attribute} {group.group}: "
        + (f"{group.auroc.value:.3f}" if isinstance(group.auroc, Estimate) else "too few to say")
        for table in tables
        for group in table.groups
    ]
    return "AUROC of each group. " + "; ".join(lines) + "."


def _saliency_text(quality: SaliencyQuality) -> str:
    text = (
        f"Insertion minus deletion: {quality.model.gap.value:.3f} for the map of the model, "
        f"{quality.random_maps.gap.value:.3f} for random maps, "
        f"{quality.image_centre.gap.value:.3f} for the image centre."
    )
    game = quality.pointing
    if game is None:
        return text
    return (
        f"{text} In a box: strongest cell {percent(game.hits.value)}, image centre "
        f"{percent(game.image_centre.value)}, chance {percent(game.chance)}."
    )
