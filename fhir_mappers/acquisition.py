"""What an instance shows, from its header: body part, view, coarse age, spacing."""

import math
import re
from collections.abc import Collection, Sequence
from datetime import date

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from ai_engine.image import AgeBand, Subject, View

_ADULT_YEARS = 16
_AGE = re.compile(r"(\d{3})([DWMY])")
_CHEST_WORDS = re.compile(r"chest|thorax|cxr|lung", re.IGNORECASE)
_CHEST_CODES = frozenset({"51185008", "816094009", "T-D3000"})
_VIEW_WORDS = {
    View.PA: re.compile(r"\bp\.?a\b", re.IGNORECASE),
    View.AP: re.compile(r"\ba\.?p\b", re.IGNORECASE),
    View.LATERAL: re.compile(r"\blat(eral)?\b", re.IGNORECASE),
}
_VIEW_CODES = {
    "272479007": View.PA,
    "R-10214": View.PA,
    "399348003": View.AP,
    "R-10206": View.AP,
    "399067008": View.LATERAL,
    "399198007": View.LATERAL,
    "399173006": View.LATERAL,
    "R-10232": View.LATERAL,
    "R-10236": View.LATERAL,
}
_VIEW_POSITIONS = {
    "PA": View.PA,
    "AP": View.AP,
    "LL": View.LATERAL,
    "RL": View.LATERAL,
    "LAT": View.LATERAL,
    "LATERAL": View.LATERAL,
}


def subject(dataset: Dataset) -> Subject:
    """Say what is imaged: by body part, by coded region, by the words of the descriptions.

    References
    ----------
    DICOM PS3.3 C.7.3.1 Body Part Examined (0018,0015); Anatomic Region Sequence (0008,2218).
    """
    modality = text(dataset, "Modality").upper()
    if modality == "CT":
        return Subject.CT
    if modality not in {"CR", "DX"}:
        return Subject.OTHER
    chest = is_chest(
        text(dataset, "BodyPartExamined"),
        _codes(dataset, "AnatomicRegionSequence"),
        _descriptions(dataset),
    )
    if chest is None:
        return Subject.UNKNOWN_RADIOGRAPH
    return Subject.CHEST_RADIOGRAPH if chest else Subject.OTHER_RADIOGRAPH


def is_chest(
    body_part: str, region_codes: Collection[str], descriptions: Collection[str]
) -> bool | None:
    """Whether a header speaks of a chest; ``None`` where it names no part of the body.

    Parameters
    ----------
    body_part
        Body Part Examined (0018,0015).
    region_codes
        Code values of Anatomic Region Sequence (0008,2218).
    descriptions
        Descriptions of series, protocol and study. They can say that it is a chest, never that it
        is none.
    """
    if body_part:
        return bool(_CHEST_WORDS.search(body_part))
    if region_codes:
        return bool(_CHEST_CODES.intersection(region_codes))
    return True if any(_CHEST_WORDS.search(each) for each in descriptions) else None


def view(dataset: Dataset) -> View:
    """Give the direction of projection: by position, by view code, by the words of descriptions.

    References
    ----------
    DICOM PS3.3 C.8.1.1 View Position (0018,5101); PS3.16 CID 4010 DX View.
    """
    return named_view(
        text(dataset, "ViewPosition"), _codes(dataset, "ViewCodeSequence"), _descriptions(dataset)
    )


def named_view(position: str, codes: Collection[str], descriptions: Sequence[str]) -> View:
    """Give the view that a header names.

    Parameters
    ----------
    position
        View Position (0018,5101).
    codes
        Code values of View Code Sequence (0054,0220).
    descriptions
        Of series, protocol and study, in that order. The first that names a view decides; one that
        names several ("PA and lateral") is of a whole study and says nothing of an image.
    """
    if position:
        return _VIEW_POSITIONS.get(position.upper(), View.OTHER)
    if codes:
        known = {_VIEW_CODES[code] for code in codes if code in _VIEW_CODES}
        return known.pop() if len(known) == 1 else View.OTHER
    for description in descriptions:
        words = description.replace("_", " ")
        named = [found for found, pattern in _VIEW_WORDS.items() if pattern.search(words)]
        if named:
            return named[0] if len(named) == 1 else View.UNKNOWN
    return View.UNKNOWN


def age_band(dataset: Dataset) -> AgeBand:
    """Give the coarse age at the time of the study; the birth date itself goes no further."""
    match = _AGE.fullmatch(text(dataset, "PatientAge"))
    if match:
        number, unit = match.groups()
        years = int(number) if unit == "Y" else 0
        return AgeBand.ADULT if years >= _ADULT_YEARS else AgeBand.CHILD
    born, taken = _day(text(dataset, "PatientBirthDate")), _day(text(dataset, "StudyDate"))
    if born is None or taken is None:
        return AgeBand.UNKNOWN
    years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    return AgeBand.ADULT if years >= _ADULT_YEARS else AgeBand.CHILD


def pixel_spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """Give the spacing between rows and between columns in mm; ``None`` where none can be trusted.

    References
    ----------
    DICOM PS3.3 10.7.1.3 Pixel Spacing (0028,0030), Imager Pixel Spacing (0018,1164).
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = dataset.get(keyword)
        if isinstance(value, MultiValue) and len(value) == 2:  # noqa: PLR2004 - rows, columns
            rows, columns = (float(each) for each in value)
            if min(rows, columns) > 0 and math.isfinite(rows) and math.isfinite(columns):
                return rows, columns
    return None


def text(dataset: Dataset, keyword: str) -> str:
    """Give an attribute's first value as text; empty where there is none."""
    value = dataset.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return "" if value is None else str(value).strip()


def _codes(dataset: Dataset, keyword: str) -> set[str]:
    return {text(item, "CodeValue") for item in dataset.get(keyword) or []} - {""}


def _descriptions(dataset: Dataset) -> list[str]:
    keywords = ("SeriesDescription", "ProtocolName", "StudyDescription")
    return [text(dataset, keyword) for keyword in keywords]


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None
