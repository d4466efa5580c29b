"""The image as the engine sees it: pixels, spacing and what it shows. Nothing of a patient."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class View(StrEnum):
    """Direction of the beam through a radiograph, or that there is none to name.

    References
    ----------
    DICOM PS3.3 C.8.1.1 View Position (0018,5101).
    """

    PA = "PA"
    AP = "AP"
    LATERAL = "LATERAL"
    OTHER = "OTHER"
    UNKNOWN = "UNKNOWN"


class Subject(StrEnum):
    """What is on the image, as far as its acquisition says."""

    CHEST_RADIOGRAPH = "chest radiograph"
    OTHER_RADIOGRAPH = "radiograph of another body part"
    UNKNOWN_RADIOGRAPH = "radiograph of an unnamed body part"
    CT = "CT slice"
    OTHER = "image of another modality"


class AgeBand(StrEnum):
    """Coarse age of the person imaged: enough for the scope gate, too little to identify."""

    CHILD = "child"
    ADULT = "adult"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image, ready for the engine.

    Parameters
    ----------
    pixels
        **shape** ``(rows, columns)``, **dtype** ``float32``, range 0 to 1, as displayed: bright is
        dense (MONOCHROME2), modality and VOI transforms applied. ``fhir_mappers.pixels``
        guarantees this.
    subject
        What the image shows.
    view
        Direction of projection; ``View.OTHER`` for anything that is no radiograph.
    age_band
        Coarse age, for models that must not read children.
    pixel_spacing_mm
        Distance between pixel centres ``(between rows, between columns)`` in mm, or ``None`` where
        the header gives none that can be trusted.
    """

    pixels: NDArray[np.float32]
    subject: Subject
    view: View = View.UNKNOWN
    age_band: AgeBand = AgeBand.UNKNOWN
    pixel_spacing_mm: tuple[float, float] | None = None
