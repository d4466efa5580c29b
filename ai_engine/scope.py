"""Is this an image that the model was built for? If not, it is declined with a coded reason."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.image import AgeBand, Image, Subject, View
from ai_engine.preprocess import thumbnail
from ai_engine.result import Reason

_LEAST_SIDE = 128
_LEAST_CONTRAST = 0.02

_SUBJECT = {
    Subject.OTHER_RADIOGRAPH: (
        Reason.NON_CHEST,
        "The radiograph is of another body part; the model reads chest radiographs.",
    ),
    Subject.UNKNOWN_RADIOGRAPH: (
        Reason.NON_CHEST,
        "The header does not say that this is a chest; the model reads chest radiographs.",
    ),
    Subject.CT: (
        Reason.UNSUPPORTED_MODALITY,
        "This is a CT slice; the model reads chest radiographs.",
    ),
    Subject.OTHER: (
        Reason.UNSUPPORTED_MODALITY,
        "This is no radiograph; the model reads chest radiographs.",
    ),
}
_VIEW = {
    View.LATERAL: (Reason.LATERAL_VIEW, "A lateral view; the model reads frontal views (PA, AP)."),
    View.OTHER: (Reason.UNKNOWN_VIEW, "An oblique or special view; the model reads PA and AP."),
    View.UNKNOWN: (Reason.UNKNOWN_VIEW, "The header names no view; the model reads PA and AP."),
}


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """How unlike the training images an image is.

    Parameters
    ----------
    mean, components
        Principal components of standardised thumbnails of the training images, **shapes**
        ``(side²,)`` and ``(k, side²)``.
    limit
        Reconstruction error, 0 to 1, above which an image is too unlike them.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    limit: float

    def error(self, pixels: NDArray[np.float32]) -> float:
        """Give the share of an image's variance that the training images do not explain, 0 to 1."""
        side = round(self.mean.size**0.5)
        centred = thumbnail(pixels, side) - self.mean
        explained = self.components.T @ (self.components @ centred)
        return float(np.mean((centred - explained) ** 2) / max(float(np.mean(centred**2)), 1e-12))


def out_of_scope(image: Image, familiarity: Familiarity) -> tuple[Reason, str] | None:
    """Say why an image must not be read, or ``None`` where it may.

    An unknown age is accepted: most archives leave it out, and the birth date never comes here.
    """
    if image.subject in _SUBJECT:
        return _SUBJECT[image.subject]
    if image.view in _VIEW:
        return _VIEW[image.view]
    if image.age_band is AgeBand.CHILD:
        return Reason.PAEDIATRIC, "The patient is a child; the model was trained on adults."
    if poor := _poor_quality(image.pixels):
        return Reason.POOR_QUALITY, poor
    error = familiarity.error(image.pixels)
    if error > familiarity.limit:
        unlike = f"difference {error:.2f}, limit {familiarity.limit:.2f}"
        return Reason.OUT_OF_DISTRIBUTION, f"Too unlike the training images to be read: {unlike}."
    return None


def _poor_quality(pixels: NDArray[np.float32]) -> str | None:
    if pixels.ndim != 2 or min(pixels.shape) < _LEAST_SIDE:  # noqa: PLR2004 - rows and columns
        return f"The image is smaller than {_LEAST_SIDE} pixels."
    if not np.isfinite(pixels).all():
        return "The image holds values that are no numbers."
    low, high = np.percentile(pixels[::4, ::4], (1, 99))
    if high - low < _LEAST_CONTRAST:
        return "The image is blank or nearly so."
    return None
