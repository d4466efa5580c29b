"""Saliency maps on paper: cells drawn as cells, and never more said than the cells can say."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.pointing_game import Box

_COLOURS = "viridis"
_MOST_OPAQUE = 0.6
_BOX_COLOUR = "#D55E00"
_DOTS_PER_INCH = 110
_PICTURE_INCHES = 4.0
_WIDTH_LIMITS_INCHES = (3.6, 5.2)


@dataclass(frozen=True, slots=True, eq=False)
class MappedImage:
    """An image and the map of one finding.

    Parameters
    ----------
    pixels
        **shape** ``(rows, columns)``, 0 to 1, as displayed.
    grid
        **shape** ``(map rows, map columns)`` over the whole image: evidence for the finding where
        above 0, in units of its logit.
    finding
        Its name.
    boxes
        Where readers saw it.
    pixel_spacing_mm
        Distance of pixels, down and across, or ``None`` where not known.
    """

    pixels: NDArray[np.float32]
    grid: NDArray[np.float32]
    finding: str
    boxes: tuple[Box, ...] = ()
    pixel_spacing_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no picture.

        Raises
        ------
        NotMeasurable
            If an array is not two-dimensional, is empty, or holds what is no number.
        """
        for name, array in (("image", self.pixels), ("map", self.grid)):
            if array.ndim != 2 or not array.size or not np.isfinite(array).all():  # noqa: PLR2004 - rows and columns
                msg = (
                    f"the {name} to draw has shape {array.shape} or holds what is no number. Give "
                    f"one finding's finite array of rows and columns."
                )
                raise NotMeasurable(msg)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """Evidence for the finding, 1 at the strongest cell; all 0 where there is none."""
        positive = np.maximum(self.grid.astype(np.float64), 0.0)
        return np.asarray(positive / (positive.max() or 1.0))

    @property
    def cell(self) -> str:
        """The size of a cell, in words."""
        down = self.pixels.shape[0] / self.grid.shape[0]
        across = self.pixels.shape[1] / self.grid.shape[1]
        size = f"1 cell = {across:.0f} by {down:.0f} pixels"
        if self.pixel_spacing_mm is None:
            return size
        row_mm, column_mm = self.pixel_spacing_mm
        return f"{size} = {across * column_mm:.0f} by {down * row_mm:.0f} mm"


def overlay_png(image: MappedImage, *, smooth: bool = False) -> bytes:
    """Draw the image, and beside it the image under its map, with scale bar and legend.

    Parameters
    ----------
    image
        What to draw.
    smooth
        Whether to blend neighbouring cells, which looks finer than it is and is said so beside
        it; otherwise cells are drawn as cells.
    """
    rows, columns = image.pixels.shape
    picture = float(np.clip(_PICTURE_INCHES * columns / rows, *_WIDTH_LIMITS_INCHES))
    width, height = 2 * picture + 1.35, _PICTURE_INCHES + 1.0
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    share = (picture / width, _PICTURE_INCHES / height)
    bottom = 0.7 / height
    plain = figure.add_axes((0.05 / width, bottom, *share))
    mapped = figure.add_axes(((picture + 0.15) / width, bottom, *share))
    for axes in (plain, mapped):
        axes.imshow(image.pixels, cmap="gray", vmin=0.0, vmax=1.0, aspect="auto")
        axes.set_axis_off()
    plain.set_title("as displayed", fontsize=9)
    legend = figure.add_axes(((2 * picture + 0.25) / width, bottom, 0.15 / width, share[1]))
    _draw_map(mapped, legend, image, smooth=smooth)
    _draw_boxes(mapped, image)
    _draw_scale_bar(figure, image, picture / width, (picture + 0.15) / width, smooth=smooth)
    return png(figure)


def png(figure: Figure) -> bytes:
    """Give a figure as PNG, the same bytes for the same figure."""
    with io.BytesIO() as content:
        figure.savefig(content, format="png", metadata={"Software": None})
        return content.getvalue()


def _draw_map(mapped: Axes, legend: Axes, image: MappedImage, *, smooth: bool) -> None:
    rows, columns = image.pixels.shape
    evidence = image.evidence
    if not evidence.any():
        legend.set_axis_off()
        mapped.set_title(f"no cell spoke for {image.finding}", fontsize=9)
        return
    drawn = mapped.imshow(
        evidence,
        cmap=_COLOURS,
        vmin=0.0,
        vmax=1.0,
        alpha=evidence * _MOST_OPAQUE,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        interpolation="bilinear" if smooth else "nearest",
        aspect="auto",
    )
    legend.figure.colorbar(drawn, cax=legend)
    legend.set_ylabel("evidence, as a share of the strongest cell of this image", fontsize=8)
    legend.tick_params(labelsize=8)
    mapped.set_title(f"what spoke for {image.finding}", fontsize=9)


def _draw_boxes(axes: Axes, image: MappedImage) -> None:
    rows, columns = image.pixels.shape
    for box in image.boxes:
        corner = (box.left * columns - 0.5, box.top * rows - 0.5)
        axes.add_patch(
            Rectangle(
                corner,
                box.width * columns,
                box.height * rows,
                fill=False,
                edgecolor=_BOX_COLOUR,
                linewidth=1.8,
                linestyle="--",
            )
        )


def _draw_scale_bar(
    figure: Figure, image: MappedImage, width: float, left: float, *, smooth: bool
) -> None:
    """Draw a bar as wide as one cell below the picture, and say what it means."""
    height = 0.04 / figure.get_figheight()
    figure.add_artist(
        Rectangle(
            (left, 0.55 / figure.get_figheight()),
            width / image.grid.shape[1],
            height,
            color="black",
            transform=figure.transFigure,
        )
    )
    lines = [
        f"bar: {image.cell}; nothing finer can be read off",
        "cells are blended: finer in looks, not in knowledge" if smooth else "drawn cell by cell",
    ]
    if image.boxes:
        lines[1] += "; dashed: where a reader saw it"
    figure.text(
        left, 0.48 / figure.get_figheight(), "\n".join(lines), fontsize=8, va="top", linespacing=1.3
    )
