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
    Subject.CHEST_RADIOGRAPH: (Reason.UNSUPPORTED_MODALITY, "This is a chest radiograph"),
    Subject.OTHER_RADIOGRAPH: (Reason.NON_CHEST, "The radiograph is of another body part"),
    Subject.UNKNOWN_RADIOGRAPH: (
        Reason.NON_CHEST,
        "The header does not say that this is a chest",
    ),
    Subject.CT: (Reason.UNSUPPORTED_MODALITY, "This is a CT slice"),
    Subject.OTHER: (Reason.UNSUPPORTED_MODALITY, "This is no radiograph"),
}
_READS = {
    Subject.CHEST_RADIOGRAPH: "chest radiographs",
    Subject.OTHER_RADIOGRAPH: "radiographs of other body parts",
    Subject.CT: "CT",
}
_VIEW = {
    View.PA: (Reason.UNKNOWN_VIEW, "A view from behind (PA)"),
    View.AP: (Reason.UNKNOWN_VIEW, "A view from the front (AP)"),
    View.LATERAL: (Reason.LATERAL_VIEW, "A lateral view"),
    View.OTHER: (Reason.UNKNOWN_VIEW, "An oblique or special view"),
    View.UNKNOWN: (Reason.UNKNOWN_VIEW, "The header names no view"),
}
_AGE = {
    AgeBand.CHILD: (Reason.PAEDIATRIC, "The patient is a child; the model was trained on adults."),
    AgeBand.ADULT: (Reason.ADULT, "The patient is an adult; the model was trained on children."),
    AgeBand.UNKNOWN: (
        Reason.UNKNOWN_AGE,
        "The header does not say how old the patient is; the model reads children alone.",
    ),
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


@dataclass(frozen=True, slots=True)
class Range:
    """From the least to the most that is accepted, both included."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Scope:
    """What a model reads, as its bundle says.

    Parameters
    ----------
    subjects, views, age_bands
        Of the images that it reads. Adults' models read an unknown age too: most archives leave it
        out, and the birth date never comes here. A children's model does not.
    field_of_view_mm
        Length and width of what an image shows, where its pixel spacing is known.
    """

    subjects: frozenset[Subject]
    views: frozenset[View]
    age_bands: frozenset[AgeBand]
    field_of_view_mm: Range

    def refusal(self, image: Image, familiarity: Familiarity) -> tuple[Reason, str] | None:
        """Say why an image must not be read, or ``None`` where it may."""
        if image.subject not in self.subjects:
            reason, what = _SUBJECT[image.subject]
            return reason, f"{what}; the model reads {_listed(self.subjects, _READS)}."
        if image.view not in self.views:
            reason, what = _VIEW[image.view]
            return reason, f"{what}; the model reads {' and '.join(sorted(self.views))}."
        if image.age_band not in self.age_bands:
            return _AGE[image.age_band]
        if poor := _poor_quality(image.pixels):
            return Reason.POOR_QUALITY, poor
        if unlike := self._wrong_size(image) or _unfamiliar(image, familiarity):
            return unlike
        return None

    def _wrong_size(self, image: Image) -> tuple[Reason, str] | None:
        if image.pixel_spacing_mm is None:
            return None
        sides = [n * mm for n, mm in zip(image.pixels.shape, image.pixel_spacing_mm, strict=True)]
        accepted = self.field_of_view_mm
        if accepted.least <= min(sides) and max(sides) <= accepted.most:
            return None
        shows = f"The image shows {sides[0]:.0f} by {sides[1]:.0f} mm"
        reads = f"the model reads sides of {accepted.least:.0f} to {accepted.most:.0f} mm"
        return Reason.FIELD_OF_VIEW, f"{shows}; {reads}."


def _unfamiliar(image: Image, familiarity: Familiarity) -> tuple[Reason, str] | None:
    error = familiarity.error(image.pixels)
    if error <= familiarity.limit:
        return None
    unlike = f"difference {error:.2f}, limit {familiarity.limit:.2f}"
    return Reason.OUT_OF_DISTRIBUTION, f"Too unlike the training images to be read: {unlike}."


def _listed(subjects: frozenset[Subject], words: dict[Subject, str]) -> str:
    return " and ".join(sorted(words.get(each, each.value) for each in subjects))


def _poor_quality(pixels: NDArray[np.float32]) -> str | None:
    if pixels.ndim != 2 or min(pixels.shape) < _LEAST_SIDE:  # noqa: PLR2004 - rows and columns
        return f"The image is smaller than {_LEAST_SIDE} pixels."
    if not np.isfinite(pixels).all():
        return "The image holds values that are no numbers."
    low, high = np.percentile(pixels[::4, ::4], (1, 99))
    if high - low < _LEAST_CONTRAST:
        return "The image is blank or nearly so."
    return None
