"""What an object is to AIR, by its SOP Class."""

from enum import StrEnum

from pydicom.dataset import Dataset

from fhir_mappers.air.access import items, text

_STORAGE = "1.2.840.10008.5.1.4.1.1."
AIR_REPORTS = frozenset({f"{_STORAGE}88.{n}" for n in (22, 33, 34)})
"""Enhanced, Comprehensive and Comprehensive 3D SR."""
_OTHER_REPORTS = {f"{_STORAGE}88.{n}" for n in (11, 35, 50, 65, 69)}
"""Basic Text, Extensible, and the CAD reports: SR that algorithms write, but not as AIR asks."""
_NOT_IMAGES = (f"{_STORAGE}88.", f"{_STORAGE}104.", f"{_STORAGE}9.", f"{_STORAGE}66")
_SCANNED = {"DF", "DI", "DV", "SD", "SI"}


class Kind(StrEnum):
    """What an object is to AIR. Every kind but the last two is a result."""

    REPORT = "SR"
    SEGMENTATION = "SEG"
    PARAMETRIC_MAP = "parametric map"
    CAPTURE = "secondary capture"
    PRESENTATION_STATE = "presentation state"
    KEY_OBJECT = "key object selection"
    SOURCE = "source image"
    OTHER = "other"


PRIMITIVES = frozenset({Kind.REPORT, Kind.SEGMENTATION, Kind.PARAMETRIC_MAP})
"""The encodings that AIR defines (Table 6.5.3-1)."""
MAPS = frozenset({Kind.SEGMENTATION, Kind.PARAMETRIC_MAP})
PICTURES = frozenset({Kind.CAPTURE, Kind.PRESENTATION_STATE, Kind.KEY_OBJECT})
"""Allowed beside AIR results, and no AIR results themselves."""
RESULTS = PRIMITIVES | PICTURES


def kind_of(dataset: Dataset) -> Kind:
    """Tell what an object is; a scanned picture that no algorithm made is a source."""
    sop_class = text(dataset, "SOPClassUID")
    if sop_class in AIR_REPORTS | _OTHER_REPORTS:
        return Kind.REPORT
    exact = {
        f"{_STORAGE}66.4": Kind.SEGMENTATION,
        f"{_STORAGE}66.7": Kind.SEGMENTATION,
        f"{_STORAGE}30": Kind.PARAMETRIC_MAP,
        f"{_STORAGE}88.59": Kind.KEY_OBJECT,
    }
    if sop_class in exact:
        return exact[sop_class]
    if sop_class.startswith(f"{_STORAGE}11."):
        return Kind.PRESENTATION_STATE
    if sop_class == f"{_STORAGE}7" or sop_class.startswith(f"{_STORAGE}7."):
        return _capture(dataset)
    is_image = sop_class.startswith(_STORAGE) and not sop_class.startswith(_NOT_IMAGES)
    return Kind.SOURCE if is_image else Kind.OTHER


def _capture(dataset: Dataset) -> Kind:
    """Tell a scanned picture from one that a program drew."""
    scanned = text(dataset, "ConversionType") in _SCANNED
    made = items(dataset, "ContributingEquipmentSequence")
    return Kind.SOURCE if scanned and not made else Kind.CAPTURE
