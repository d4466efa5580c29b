"""One labelled image of a set to train or to evaluate on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ai_engine.image import View


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """What is known of one image beside its pixels.

    Parameters
    ----------
    address
        Where its set finds the pixels, such as a path below the folder of the set.
    person
        Key of the person imaged within the set, pseudonymous. It serves to keep splits apart and
        to resample by person, and goes nowhere else.
    present
        Findings that were judged to be there.
    judged
        Findings that were judged at all: what is judged and not present is absent, what is not
        judged counts neither way.
    source
        Which collection it came from; figures are never pooled over sources unasked.
    view
        Direction of projection.
    sex
        ``"F"``, ``"M"`` or ``""`` where not known.
    age_years
        Age at the study, or ``None`` where not known.
    site, manufacturer
        Where and on what it was taken, or ``""``.
    """

    address: str
    person: str
    present: frozenset[str]
    judged: frozenset[str]
    source: str = ""
    view: View = View.UNKNOWN
    sex: str = ""
    age_years: float | None = None
    site: str = ""
    manufacturer: str = ""

    def __post_init__(self) -> None:
        """Refuse a finding that is present and was never judged.

        Raises
        ------
        ValueError
            If there is one.
        """
        if unjudged := self.present - self.judged:
            msg = f"{self.address}: {min(unjudged)} is present but was not judged"
            raise ValueError(msg)


class ImageSet(Protocol):
    """Labelled images, and a way to their pixels."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Findings that at least one image was judged for, in a fixed order."""
        ...

    @property
    def images(self) -> Sequence[LabelledImage]:
        """Every image of the set, in a fixed order."""
        ...

    def pixels(self, image: LabelledImage) -> NDArray[np.float32]:
        """Read one image as displayed: **shape** ``(rows, columns)``, 0 to 1, bright is dense.

        Raises
        ------
        UnreadableImage
            If it is missing or cannot be decoded; the message names the address.
        """
        ...
