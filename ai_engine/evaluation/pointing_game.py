"""The pointing game: whether the strongest cell of a map lies where readers saw the finding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import Estimate, Rate, rate
from ai_engine.evaluation.resampling import PersonDraws, mean_over_persons, numbered

Floats = NDArray[np.float64]
_ROUNDING = 1e-6
_AREA_POINTS = 256


@dataclass(frozen=True, slots=True)
class Box:
    """Where a reader saw a finding, in shares of the image from its upper left corner.

    Parameters
    ----------
    left, top, width, height
        0 to 1, not beyond the image.
    """

    left: float
    top: float
    width: float
    height: float

    def __post_init__(self) -> None:
        """Refuse a box that is not on the image.

        Raises
        ------
        NotMeasurable
            If it is empty, or beyond the edges.
        """
        corners = (self.left, self.top, self.left + self.width, self.top + self.height)
        inside = all(-_ROUNDING <= each <= 1.0 + _ROUNDING for each in corners)
        if not inside or min(self.width, self.height) <= 0.0:
            msg = (
                f"a box from {corners[:2]} to {corners[2:]} is not on the image. Give left, top, "
                f"width and height as shares of the image: pixels divided by its columns and rows."
            )
            raise NotMeasurable(msg)

    def holds(self, across: Floats, down: Floats) -> NDArray[np.bool_]:
        """Tell which points, in shares of the image, are in it."""
        return (
            (across >= self.left)
            & (across <= self.left + self.width)
            & (down >= self.top)
            & (down <= self.top + self.height)
        )


@dataclass(frozen=True, slots=True)
class Pointing:
    """How often the strongest cell of the map lies in a box of the finding.

    Parameters
    ----------
    hits
        Share of the boxed images on which the centre of the strongest cell is in a box.
    chance
        Mean share of the image that the boxes take up.
    image_centre
        Share of the images whose very centre is in a box.
    hits_minus_image_centre
        Difference on the same images.
    """

    hits: Rate
    chance: float
    image_centre: Rate
    hits_minus_image_centre: Estimate


@dataclass(frozen=True, slots=True)
class PointedCase:
    """One boxed image.

    Parameters
    ----------
    person
        Key of the person.
    hit
        1 where the strongest cell is in a box, 0 where not; the share of those in a box where
        several are equally strong.
    area
        Share of the image that the boxes take up.
    centre
        1 where the centre of the image is in a box, else 0.
    """

    person: str
    hit: float
    area: float
    centre: float


def point(grid: Floats, boxes: Sequence[Box], person: str) -> PointedCase:
    """Play one image.

    Parameters
    ----------
    grid
        The map, **shape** ``(rows, columns)``, covering the image edge to edge.
    boxes
        Of the finding that the map explains, at least one.
    person
        Key of the person.
    """
    down, across = cell_centres(grid.shape)
    in_a_box = np.any([box.holds(across, down) for box in boxes], axis=0)
    fine = (np.arange(_AREA_POINTS) + 0.5) / _AREA_POINTS
    area = np.any([box.holds(fine[np.newaxis], fine[:, np.newaxis]) for box in boxes], axis=0)
    middle = np.array([0.5])
    centre = any(bool(box.holds(middle, middle)[0]) for box in boxes)
    hit = float(in_a_box[grid == grid.max()].mean())
    return PointedCase(person, hit, float(area.mean()), float(centre))


def pointing_game(cases: Sequence[PointedCase], *, seed: int = 1) -> Pointing | None:
    """Count the hits beside chance and beside the image centre; ``None`` without a case."""
    persons = numbered([case.person for case in cases])
    hit = np.array([case.hit for case in cases])
    centre = np.array([case.centre for case in cases])
    hits, centres = rate(hit, persons), rate(centre, persons)
    if hits is None or centres is None:
        return None
    return Pointing(
        hits=hits,
        chance=float(np.mean([case.area for case in cases])),
        image_centre=centres,
        hits_minus_image_centre=mean_over_persons(hit - centre, PersonDraws(persons, seed=seed)),
    )


def cell_centres(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Give how far down and across the centre of each cell lies, in shares of the image."""
    down = (np.arange(shape[0]) + 0.5) / shape[0]
    across = (np.arange(shape[1]) + 0.5) / shape[1]
    grids = np.meshgrid(down, across, indexing="ij")
    return grids[0], grids[1]
