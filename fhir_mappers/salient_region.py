"""The strongest cells of a saliency grid as regions of the image, never finer than a cell.

A cell is salient when it has at least half the strength of the strongest. Cells that touch along
an edge make one region.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SALIENT = 0.5
"""Of the strongest cell."""

Cell = tuple[int, int]
_RIGHT, _DOWN, _LEFT, _UP = (0, 1), (1, 0), (0, -1), (-1, 0)
_CLOCKWISE = (_RIGHT, _DOWN, _LEFT, _UP)


@dataclass(frozen=True, slots=True, eq=False)
class SalientRegion:
    """One region.

    Parameters
    ----------
    cells
        Row and column of each of its cells.
    outline
        Its outer edge, **shape** ``(corners + 1, 2)``, **dtype** ``float64``: column and row in
        pixels from the top left corner of the image, clockwise, closed.
    """

    cells: frozenset[Cell]
    outline: NDArray[np.float64]


def salient_regions(
    grid: NDArray[np.float32], *, rows: int, columns: int
) -> tuple[SalientRegion, ...]:
    """Give the regions of a saliency grid, the one with the strongest cell first.

    Parameters
    ----------
    grid
        **shape** ``(grid rows, grid columns)``, range 0 to 1, covering the image edge to edge.
    rows, columns
        Size of the image in pixels.

    Returns
    -------
    tuple[SalientRegion, ...]
        None where the grid is zero everywhere.
    """
    strongest = float(grid.max())
    if strongest <= 0.0:
        return ()
    left = {(int(row), int(column)) for row, column in np.argwhere(grid >= SALIENT * strongest)}
    regions = []
    for cell in sorted(left, key=lambda each: (-float(grid[each]), each)):
        if cell in left:
            cells = _touching(cell, left)
            left -= cells
            corners = np.array(_outline(cells), dtype=np.float64)
            scale = np.array([columns / grid.shape[1], rows / grid.shape[0]])
            regions.append(SalientRegion(cells, corners[:, ::-1] * scale))
    return tuple(regions)


def _touching(start: Cell, cells: set[Cell]) -> frozenset[Cell]:
    found, waiting = {start}, [start]
    while waiting:
        row, column = waiting.pop()
        around = {(row + down, column + right) for down, right in _CLOCKWISE} & cells - found
        found |= around
        waiting += around
    return frozenset(found)


def _outline(cells: frozenset[Cell]) -> list[Cell]:
    """Walk clockwise around the region, its cells on the right hand; give the corners, closed."""
    start = min(cells)
    corner, heading = start, _RIGHT
    corners = [start]
    while True:
        corner = (corner[0] + heading[0], corner[1] + heading[1])
        turned = _turn(corner, heading, cells)
        if turned != heading:
            corners.append(corner)
        if corner == start:
            return corners
        heading = turned


def _turn(corner: Cell, heading: Cell, cells: frozenset[Cell]) -> Cell:
    """Choose where to go on at a corner: right, straight on, or left."""
    index = _CLOCKWISE.index(heading)
    for step in (1, 0):
        onward = _CLOCKWISE[(index + step) % 4]
        if _on_the_right(corner, onward) in cells and _on_the_left(corner, onward) not in cells:
            return onward
    return _CLOCKWISE[(index - 1) % 4]


def _on_the_right(corner: Cell, heading: Cell) -> Cell:
    return _beside(corner, heading, _CLOCKWISE[(_CLOCKWISE.index(heading) + 1) % 4])


def _on_the_left(corner: Cell, heading: Cell) -> Cell:
    return _beside(corner, heading, _CLOCKWISE[(_CLOCKWISE.index(heading) - 1) % 4])


def _beside(corner: Cell, heading: Cell, side: Cell) -> Cell:
    """Give the cell that touches the corner, ahead and to that side."""
    return (
        corner[0] - (heading[0] + side[0] < 0),
        corner[1] - (heading[1] + side[1] < 0),
    )
