"""From an image to the network's input: the same NumPy and Pillow code in training and serving."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5
_LEAST_RANGE = 1e-6


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the network takes.

    Parameters
    ----------
    rows, columns
        Size of the input in pixels.
    mean, std
        Of the pixel values 0 to 1 that normalisation maps to 0 and 1.
    """

    rows: int
    columns: int
    mean: float
    std: float


def network_input(pixels: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Scale, resize and normalise one image.

    The values are stretched from their 0.5th to their 99.5th percentile, so that the window chosen
    at the modality makes little difference, and clipped to 0 to 1. The picture is resized by area
    to the network's rows and columns, whatever its shape, as the training images were.

    Parameters
    ----------
    pixels
        **shape** ``(rows, columns)``, finite, any range.
    spec
        What the network takes.

    Returns
    -------
    NDArray[np.float32]
        **shape** ``(1, 1, spec.rows, spec.columns)``.
    """
    low, high = np.percentile(_thinned(pixels), (_LOW_PERCENTILE, _HIGH_PERCENTILE))
    resized = resize(pixels, spec.rows, spec.columns)
    stretched = np.clip((resized - low) / max(high - low, _LEAST_RANGE), 0.0, 1.0)
    normalised = (stretched - spec.mean) / spec.std
    return np.ascontiguousarray(normalised[np.newaxis, np.newaxis], dtype=np.float32)


def resize(pixels: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Resize by area with antialiasing.

    Parameters
    ----------
    pixels
        **shape** ``(rows, columns)``.
    rows, columns
        Wanted size in pixels.

    Returns
    -------
    NDArray[np.float32]
        **shape** ``(rows, columns)``.
    """
    picture = Pillow.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    shrunk = picture.resize((columns, rows), Pillow.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(shrunk, dtype=np.float32)


def thumbnail(pixels: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Give the image as a standardised square thumbnail, flattened: zero mean, unit variance.

    Returns
    -------
    NDArray[np.float32]
        **shape** ``(side * side,)``; all zero for a constant image.
    """
    small = resize(pixels, side, side).ravel()
    spread = float(small.std())
    if spread < _LEAST_RANGE:
        return np.zeros_like(small)
    return np.asarray((small - small.mean()) / spread, dtype=np.float32)


def _thinned(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take about every tenth row and column: percentiles need no more, and cost less."""
    step = max(1, min(pixels.shape) // 256)
    return pixels[::step, ::step]
