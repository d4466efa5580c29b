"""Plots of a report, as PNG, in colours that colour-blind eyes tell apart."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ai_engine.evaluation.discrimination import Discrimination
from ai_engine.evaluation.estimate import Estimate, Rate
from ai_engine.evaluation.reliability import Reliability
from ai_engine.evaluation.report import FindingReport, ScoreHistogram
from ai_engine.evaluation.saliency_overlay import png
from ai_engine.evaluation.saliency_quality import SaliencyQuality
from ai_engine.evaluation.subgroups import Subgroup, SubgroupTable

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#595959"
_DOTS_PER_INCH = 100
_PANEL_INCHES = 3.3
_BAND = "95 % of resamplings"


def finding_png(report: FindingReport, *, columns: int) -> bytes:
    """Draw ROC, precision-recall, reliability and scores of one finding.

    Parameters
    ----------
    report
        Of a finding that could be measured.
    columns
        Panels side by side: 2 or 4.

    Raises
    ------
    ValueError
        If the finding could not be measured.
    """
    measured, told = report.discrimination, report.reliability
    if not isinstance(measured, Discrimination) or told is None or report.histogram is None:
        msg = f"{report.finding} was not measured, so there is nothing to draw"
        raise ValueError(msg)
    rows = 4 // columns
    width, height = _PANEL_INCHES * columns, _PANEL_INCHES * rows
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    panels = figure.subplots(rows, columns).ravel()
    figure.subplots_adjust(
        left=0.5 / width,
        right=1.0 - 0.1 / width,
        bottom=0.45 / height,
        top=1.0 - 0.25 / height,
        wspace=0.24,
        hspace=0.28,
    )
    _roc(panels[0], measured)
    _precision_recall(panels[1], measured)
    calibrated = report.calibrated
    _reliability(panels[2], told, calibrated.reliability if calibrated else None)
    thresholds = [point.threshold_probability for point in report.operating_points]
    _scores(panels[3], report.histogram, thresholds)
    return png(figure)


def subgroups_png(tables: Sequence[SubgroupTable], overall: Estimate) -> bytes:
    """Draw the AUROC of every group, one line each, with the whole set as a dashed line.

    Parameters
    ----------
    tables
        At least one.
    overall
        AUROC of the whole set.
    """
    lines = [(table.attribute, group) for table in tables for group in table.groups]
    figure = Figure(
        figsize=(8.0, 1.0 + 0.32 * len(lines)), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    axes = figure.subplots()
    for place, (_, group) in enumerate(lines):
        if isinstance(group.auroc, Estimate):
            _interval(axes, group.auroc, place, _BLUE)
        else:
            axes.text(0.505, place, "too few to say", va="center", fontsize=8, color=_GREY)
    axes.axvspan(overall.low, overall.high, color=_GREY, alpha=0.15, linewidth=0)
    axes.axvline(overall.value, color=_GREY, linestyle="--", linewidth=1, label="all images")
    axes.set_yticks(
        range(len(lines)),
        [f"{attribute}: {group.group}  ({group.images} images)" for attribute, group in lines],
        fontsize=8,
    )
    axes.invert_yaxis()
    axes.set_xlim(_lowest(lines), 1.0)
    axes.set_xlabel("AUROC (0.5 = a coin, 1 = every pair right), 95 % interval", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=8, loc="lower left", frameon=False)
    return png(figure)


def saliency_png(quality: SaliencyQuality) -> bytes:
    """Draw insertion minus deletion, and hits of the pointing game, beside what chance gives."""
    figure = Figure(figsize=(9.0, 2.3), dpi=_DOTS_PER_INCH, layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = (
        ("map of the model", quality.model.gap, _BLUE),
        ("random maps", quality.random_maps.gap, _GREY),
        ("image centre first", quality.image_centre.gap, _GREY),
    )
    for place, (_, gap, colour) in enumerate(kinds):
        _interval(left, gap, place, colour)
    _name_lines(left, [name for name, _, _ in kinds])
    left.axvline(0.0, color=_GREY, linewidth=0.8)
    left.set_xlabel("insertion minus deletion (probability), 95 % interval", fontsize=8)
    game = quality.pointing
    if game is None:
        right.set_axis_off()
        right.text(0.5, 0.5, "no image with a box: pointing not measured", ha="center", fontsize=9)
        return png(figure)
    _interval(right, game.hits, 0, _BLUE)
    _interval(right, game.image_centre, 1, _GREY)
    right.plot(game.chance, 2, "s", color=_GREY)
    _name_lines(right, ["strongest cell of the map", "image centre", "chance (area of boxes)"])
    right.set_xlim(0.0, 1.0)
    right.set_xlabel("share of boxed images hit, 95 % interval", fontsize=8)
    return png(figure)


def _roc(axes: Axes, measured: Discrimination) -> None:
    curve = measured.roc
    axes.fill_between(curve.at, curve.low, curve.high, color=_BLUE, alpha=0.2, label=_BAND)
    axes.plot(curve.at, curve.value, color=_BLUE)
    axes.plot((0, 1), (0, 1), color=_GREY, linestyle="--", linewidth=1, label="a coin")
    _finish(
        axes,
        f"ROC: area {measured.auroc.value:.3f}",
        "1 - specificity (false alarms)",
        "sensitivity",
    )


def _precision_recall(axes: Axes, measured: Discrimination) -> None:
    curve = measured.precision_recall
    axes.fill_between(curve.at, curve.low, curve.high, color=_BLUE, alpha=0.2, label=_BAND)
    axes.plot(curve.at, curve.value, color=_BLUE)
    axes.axhline(
        measured.prevalence, color=_GREY, linestyle="--", linewidth=1, label="share with it"
    )
    title = f"precision and recall: average {measured.average_precision.value:.3f}"
    _finish(axes, title, "recall (sensitivity)", "precision (PPV)")


def _reliability(axes: Axes, shipped: Reliability, calibrated: Reliability | None) -> None:
    axes.plot((0, 1), (0, 1), color=_GREY, linestyle="--", linewidth=1, label="as said")
    for told, colour, marker, name in (
        (shipped, _BLUE, "o", "as it ships"),
        (calibrated, _ORANGE, "^", "calibrated on tuning split"),
    ):
        if told is not None:
            said = [each.mean_probability for each in told.bins]
            seen = [each.observed.value for each in told.bins]
            errors = (
                [each.observed.value - each.observed.low for each in told.bins],
                [each.observed.high - each.observed.value for each in told.bins],
            )
            axes.errorbar(
                said, seen, yerr=errors, color=colour, marker=marker, markersize=4, linewidth=1,
                elinewidth=0.8, label=name,
            )  # fmt: skip
    error = shipped.expected_calibration_error
    _finish(axes, f"reliability: error {error:.3f}", "probability said", "share observed")


def _scores(axes: Axes, histogram: ScoreHistogram, thresholds: Sequence[float]) -> None:
    edges = histogram.edges_probability
    for counts, colour, style, name in (
        (histogram.images_without, _GREY, "-", "without it"),
        (histogram.images_with, _ORANGE, "--", "with it"),
    ):
        total = max(1, sum(counts))
        axes.stairs(
            [count / total for count in counts], edges, color=colour, linestyle=style,
            linewidth=1.6, label=name,
        )  # fmt: skip
    for threshold in thresholds:
        axes.axvline(threshold, color="black", linestyle=":", linewidth=1)
    if thresholds:
        axes.plot([], [], color="black", linestyle=":", linewidth=1, label="thresholds")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_title("scores of each class", fontsize=9)
    axes.set_xlabel("probability said", fontsize=8)
    axes.set_ylabel("share of the class's images (log)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)


def _finish(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.02)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False, loc="best")


def _interval(axes: Axes, figure: Estimate | Rate, place: int, colour: str) -> None:
    axes.plot((figure.low, figure.high), (place, place), color=colour, linewidth=2)
    axes.plot(figure.value, place, "o", color=colour, markersize=5)


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)


def _lowest(lines: Sequence[tuple[str, Subgroup]]) -> float:
    lows = [group.auroc.low for _, group in lines if isinstance(group.auroc, Estimate)]
    return min([0.5, *lows])
