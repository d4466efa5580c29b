"""What the viewer shows of a study: which images in which order, and the pixels of each.

Pixels keep their 16 bits: window and level are the reader's. Values shown are
``stored * slope + intercept``, such as Hounsfield units.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from ai_engine.result import Reason
from fhir_mappers.dicom_json import Attributes, integer, numbers, text
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.pixels import (
    DAMAGED,
    DECODER_ERRORS,
    check_decodable,
    is_inverted,
    stored_values,
)
from fhir_mappers.study import Series, Study

_SHADES = 1 << 16
_MOST_FRAMES = 4096
_MAP = "SEG"
"""A map of numbers, such as our saliency, is no picture: it is shown over one, when asked for."""
_AXES, _DIRECTIONS = 3, 6
CT_WINDOWS = (
    ("Soft tissue", 40.0, 400.0),
    ("Lung", -600.0, 1500.0),
    ("Bone", 400.0, 1800.0),
    ("Brain", 40.0, 80.0),
)
"""Name, centre and width in Hounsfield units: the windows that every CT viewer offers."""


@dataclass(frozen=True, slots=True)
class ShownImage:
    """One image of the viewer.

    Parameters
    ----------
    series_instance_uid, sop_instance_uid, frame
        Which image; frames count from 0.
    rows, columns
        Its size in pixels.
    label
        What it is, in words.
    spacing_mm
        Between rows and between columns, or ``None``.
    """

    series_instance_uid: str
    sop_instance_uid: str
    frame: int
    rows: int
    columns: int
    label: str
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ShownSeries:
    """One series of the viewer: ``count`` images from the one with number ``first``."""

    label: str
    modality: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of one image.

    Parameters
    ----------
    stored
        **dtype** ``uint16``, little-endian, row by row.
    slope, intercept
        Value shown = stored * slope + intercept.
    window
        Centre and width in values shown: of the header, else of the image itself.
    invert
        Whether low values are shown bright (MONOCHROME1).
    of
        Study and SOP Instance UID, as the instance itself names them.
    """

    stored: bytes
    slope: float
    intercept: float
    window: tuple[float, float]
    invert: bool
    of: tuple[str, str]


def shown_images(
    study: Study, metadata: Sequence[Attributes]
) -> tuple[Sequence[ShownSeries], Sequence[ShownImage]]:
    """List what can be shown of a study: every greyscale image, series by series.

    The slices of a series stand in the order of their position along its normal; where the header
    gives no geometry, in the order of their numbers.

    Parameters
    ----------
    study
        As the archive describes it.
    metadata
        DICOM JSON of each instance.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 Image Position and Orientation (Patient).
    """
    by_uid = {text(each, "00080018"): each for each in metadata}
    series: list[ShownSeries] = []
    images: list[ShownImage] = []
    for one in study.series:
        of_series = _images(one, by_uid)
        if of_series:
            label = " ".join(p for p in (one.modality, one.body_part, one.description) if p)
            series.append(ShownSeries(label, one.modality, len(images), len(of_series)))
            images += of_series
    return series, images


def _images(series: Series, by_uid: dict[str, Attributes]) -> list[ShownImage]:
    if series.modality == _MAP:
        return []
    instances = [i for i in series.instances if i.number_of_frames and _is_grey(by_uid, i)]
    places = [_place(by_uid[each.sop_instance_uid]) for each in instances]
    if None not in places and len(set(places)) == len(places):
        order = sorted(range(len(instances)), key=lambda index: places[index] or 0.0)
        instances = [instances[index] for index in order]
    images = []
    for number, each in enumerate(instances, start=1):
        for frame in range(min(each.number_of_frames, _MOST_FRAMES)):
            of_frame = f", frame {frame + 1}" if each.number_of_frames > 1 else ""
            view = f"{each.view_position}, " if each.view_position else ""
            images.append(
                ShownImage(
                    series.series_instance_uid,
                    each.sop_instance_uid,
                    frame,
                    each.rows,
                    each.columns,
                    f"{view}image {number} of {len(instances)}{of_frame}",
                    _spacing_mm(by_uid[each.sop_instance_uid]),
                )
            )
    return images


def _is_grey(by_uid: dict[str, Attributes], instance: object) -> bool:
    attributes = by_uid.get(getattr(instance, "sop_instance_uid", ""))
    return attributes is not None and (integer(attributes, "00280002") or 1) == 1


def _place(attributes: Attributes) -> float | None:
    """Give the place of a slice along the normal of its plane in mm."""
    position, directions = numbers(attributes, "00200032"), numbers(attributes, "00200037")
    if len(position) != _AXES or len(directions) != _DIRECTIONS:
        return None
    normal = np.cross(directions[:3], directions[3:])
    return round(float(np.dot(normal, position)), 4)


def _spacing_mm(attributes: Attributes) -> tuple[float, float] | None:
    for tag in ("00280030", "00181164"):
        found = numbers(attributes, tag)
        if len(found) == 2 and min(found) > 0:  # noqa: PLR2004 - rows, columns
            return found[0], found[1]
    return None


def pixels(dataset: Dataset, frame: int) -> Pixels:
    """Give the pixels of one frame.

    Raises
    ------
    ImageDeclined
        If they cannot be decoded here, or not be shown in 16 bits; with a sentence for the reader.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_decodable(dataset)
        try:
            return _sixteen_bits(dataset, stored_values(dataset, frame))
        except DECODER_ERRORS as error:
            raise ImageDeclined(Reason.UNREADABLE, DAMAGED) from error


def _sixteen_bits(dataset: Dataset, decoded: NDArray[np.generic]) -> Pixels:
    """Shift what is stored to unsigned 16 bits.

    Raises
    ------
    ImageDeclined
        If it does not fit, or the header's slope is no number.
    """
    slope, intercept = 1.0, 0.0
    if dataset.get("ModalityLUTSequence"):
        decoded = np.asarray(apply_modality_lut(decoded, dataset))
    else:
        slope = float(dataset.get("RescaleSlope", 1) or 1)
        intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise ImageDeclined(Reason.UNREADABLE, "The header's rescale values are no numbers.")
    low = int(min(int(decoded.min()), 0))
    if int(decoded.max()) - low >= _SHADES:
        msg = "The image has more than 16 bits and cannot be shown here."
        raise ImageDeclined(Reason.POOR_QUALITY, msg)
    stored = (decoded.astype(np.int32) - np.int32(low)).astype("<u2")
    intercept += low * slope
    window = _window(dataset)
    if window is None:
        dark, bright = (float(each) for each in np.percentile(stored[::4, ::4], (0.5, 99.5)))
        width = max((bright - dark) * abs(slope), abs(slope))
        window = ((dark + bright) / 2 * slope + intercept, width)
    of = str(dataset.get("StudyInstanceUID", "")), str(dataset.get("SOPInstanceUID", ""))
    return Pixels(stored.tobytes(), slope, intercept, window, is_inverted(dataset), of)


def _window(dataset: Dataset) -> tuple[float, float] | None:
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = dataset.get(keyword)
        first = value[0] if isinstance(value, list | tuple) or hasattr(value, "__iter__") else value
        try:
            found.append(float(first))
        except (TypeError, ValueError):
            return None
    center, width = found
    return (center, width) if width >= 1 and np.isfinite(center) else None
