"""DICOM JSON of one instance in, ``Instance`` out: whatever the archive sends, nothing raises."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from fhir_mappers.dicom_json import CONTROL, Attributes, integer, numbers, text, values
from fhir_mappers.study import Instance, Plane, Series

_LARGEST = 2**31 - 1
_FURTHEST_MM = 100_000.0
_AXIS_TOLERANCE = 0.01
_MOMENT = re.compile(r"(\d{8})(?:(\d{2,6})(?:\.(\d{1,6}))?)?")
_MOMENTS = (("0008002A",), ("00080022", "00080032"), ("00080023", "00080033"))

# DICOM PS3.16 CID 7010: titles of key objects that withdraw the instances they name. Rejected for
# quality, rejected for patient safety, incorrect modality worklist entry, data retention expired.
_REJECTING_TITLES = frozenset({"113001", "113037", "113038", "113039"})


def instance_of(attributes: Attributes, series: Series) -> Instance:
    """Read one instance.

    Parameters
    ----------
    attributes
        DICOM JSON of the instance.
    series
        The series that it belongs to; its own instances are not looked at.

    References
    ----------
    DICOM PS3.18 F.2 DICOM JSON model; PS3.3 C.7.6.1, C.7.6.2, C.8.1.1, C.8.11.
    """
    rows = whole_number(attributes, "00280010") or 0
    columns = whole_number(attributes, "00280011") or 0
    frames = whole_number(attributes, "00280008")
    samples = whole_number(attributes, "00280002")
    return Instance(
        sop_instance_uid=text(attributes, "00080018"),
        sop_class_uid=text(attributes, "00080016"),
        instance_number=whole_number(attributes, "00200013"),
        rows=rows,
        columns=columns,
        number_of_frames=(1 if frames is None else frames) if rows and columns else 0,
        image_type=tuple(value.upper() for value in _texts(attributes, "00080008")),
        view_position=text(attributes, "00185101").upper(),
        modality=_own(text(attributes, "00080060").upper(), series.modality),
        body_part=_own(text(attributes, "00180015").upper(), series.body_part),
        description=_own(text(attributes, "0008103E"), series.description),
        region_codes=_codes(attributes, "00082218"),
        view_codes=_codes(attributes, "00540220"),
        protocol_name=text(attributes, "00181030"),
        presentation_intent=text(attributes, "00080068").upper(),
        samples_per_pixel=1 if samples is None else samples,
        burned_in_annotation=text(attributes, "00280301").upper() == "YES",
        quality_control=text(attributes, "00280300").upper() == "YES",
        acquired=_acquired(attributes),
        acquisition_number=whole_number(attributes, "00200012"),
        irradiation_event_uids=_texts(attributes, "00083010"),
        kernel=text(attributes, "00181210").upper(),
        plane=_plane(attributes),
        rejects=_rejects(attributes),
    )


def whole_number(attributes: Attributes, tag: str) -> int | None:
    """Give the first value as a whole number of 32 bits, the range of IS, or ``None``.

    References
    ----------
    DICOM PS3.5 6.2.
    """
    number = integer(attributes, tag)
    return number if number is not None and abs(number) <= _LARGEST else None


def _own(value: str, of_series: str) -> str:
    return "" if value == of_series else value


def _texts(attributes: Attributes, tag: str) -> tuple[str, ...]:
    found = (value for value in values(attributes, tag) if isinstance(value, str))
    return tuple(CONTROL.sub("", value).strip() for value in found)


def _items(attributes: Attributes, *tags: str) -> Iterator[Attributes]:
    """Give the items of a sequence; of several tags, the items of sequences within sequences."""
    tag, *inner = tags
    for item in values(attributes, tag):
        if isinstance(item, Mapping):
            if inner:
                yield from _items(item, *inner)
            else:
                yield item


def _codes(attributes: Attributes, tag: str) -> tuple[str, ...]:
    return tuple(code for item in _items(attributes, tag) if (code := text(item, "00080100")))


def _rejects(attributes: Attributes) -> tuple[str, ...]:
    """Name the instances that a rejection note withdraws.

    References
    ----------
    IHE RAD Image Object Change Management; DICOM PS3.3 C.17.6.2 Key Object Document.
    """
    if _REJECTING_TITLES.isdisjoint(_codes(attributes, "0040A043")):
        return ()
    evidence = _items(attributes, "0040A375", "00081115", "00081199")
    return tuple(text(item, "00081155") for item in evidence)


def _acquired(attributes: Attributes) -> str:
    """Say when, as text that sorts; the first of acquisition and content that has a date."""
    for tags in _MOMENTS:
        day, *times = (text(attributes, tag).replace(":", "") for tag in tags)
        if times:
            day = day.replace(".", "")
        match = _MOMENT.match("".join((day, *times)))
        if match:
            date, clock, fraction = match.groups()
            return f"{date}{clock:0<6}.{fraction or '':0<6}" if clock else date
    return ""


def _plane(attributes: Attributes) -> Plane | None:
    """Read where a slice lies; ``None`` where the numbers cannot be a plane in a patient."""
    position = numbers(attributes, "00200032")
    orientation = numbers(attributes, "00200037")
    if len(position) != 3 or len(orientation) != 6:  # noqa: PLR2004 - x, y, z; row and column
        return None
    if not _are_axes(orientation) or max(map(abs, position)) > _FURTHEST_MM:
        return None
    spacing = numbers(attributes, "00280030")
    usable = len(spacing) == 2 and all(0 < each < _FURTHEST_MM for each in spacing)  # noqa: PLR2004
    return Plane(
        frame_of_reference_uid=text(attributes, "00200052"),
        position_mm=tuple(position),
        orientation=tuple(orientation),
        spacing_mm=tuple(spacing) if usable else None,
    )


def _are_axes(cosines: Sequence[float]) -> bool:
    """Whether six direction cosines are two unit vectors at right angles."""
    if max(map(abs, cosines)) > 1.0 + _AXIS_TOLERANCE:
        return False
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    turned = sum(along * across for along, across in zip(row, column, strict=True))
    return max(abs(turned), *(abs(length - 1.0) for length in lengths)) <= _AXIS_TOLERANCE
