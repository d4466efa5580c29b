"""Reading attributes of the DICOM JSON model.

References
----------
DICOM PS3.18 F.2.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.valuerep import STR_VR

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Attributes = Mapping[str, object]
_DEEPEST = 16
"""How many sequences may stand within each other; no attribute of a radiograph needs half of it."""
_ELSEWHERE = {"BulkDataURI", "InlineBinary"}
_TEXT_VR = STR_VR - {"DS", "IS", "PN"}
_NONE_OF_DICOM = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,  # of it: RecursionError, NotImplementedError
    TypeError,
    ValueError,
)
"""What pydicom raises of a value that its VR does not hold."""


def values(attributes: Attributes, tag: str) -> Sequence[object]:
    """Give the values of an attribute that are not null."""
    element = attributes.get(tag)
    found = element.get("Value") if isinstance(element, Mapping) else None
    return [value for value in found if value is not None] if isinstance(found, list) else []


def text(attributes: Attributes, tag: str) -> str:
    """Give the first value as text without control characters; empty where there is none."""
    found = values(attributes, tag)
    usable = found and isinstance(found[0], str | int | float)
    return CONTROL.sub("", str(found[0])).strip() if usable else ""


def integer(attributes: Attributes, tag: str) -> int | None:
    """Give the first value as a whole number, or ``None``."""
    try:
        return int(text(attributes, tag))
    except ValueError:
        return None


def numbers(attributes: Attributes, tag: str) -> Sequence[float]:
    """Give all values as numbers; nothing where one of them is none, or is not finite."""
    found = []
    for value in values(attributes, tag):
        try:
            number = float(str(value))
        except ValueError:
            return []
        if number != number or abs(number) == float("inf"):  # noqa: PLR0124 - not a number
            return []
        found.append(number)
    return found


def header(attributes: Attributes) -> Dataset:
    """Give the attributes as a dataset; what is none, stands elsewhere or fits no file is left out.

    Archives write numbers where DICOM has text, and leave out the VR; both are mended.
    """
    dataset = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, described in attributes.items():
            if not isinstance(described, Mapping) or _ELSEWHERE & set(described):
                continue
            try:
                mended = _mended(tag, described, _DEEPEST)
                element = DataElement.from_json(
                    Dataset, tag, mended["vr"], mended["Value"], "Value"
                )
                write_data_element(_scratch(), element, ["utf8"])
            except _NONE_OF_DICOM:
                continue
            dataset.add(element)
    return dataset


def _scratch() -> DicomBytesIO:
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    return file


def _mended(tag: str, described: Attributes, deepest: int) -> dict[str, Any]:
    """Give an attribute and all below it with a VR, and with text where DICOM has text.

    Raises
    ------
    AttributeError, LookupError
        If it is no attribute, or one without VR that DICOM does not know.
    TypeError
        If its values are no list.
    ValueError
        If it holds more sequences within each other than allowed.
    """
    if _ELSEWHERE & set(described):
        return {**described}
    vr, found = described.get("vr") or dictionary_VR(tag), described.get("Value", [])
    if not isinstance(found, list):
        msg = "values that are no list"
        raise TypeError(msg)
    if vr == "SQ":
        if not deepest:
            msg = "too many sequences within each other"
            raise ValueError(msg)
        found = [
            {inner: _mended(inner, each, deepest - 1) for inner, each in (item or {}).items()}
            for item in found
        ]
    elif vr in _TEXT_VR:
        found = [str(each) if isinstance(each, int | float) else each for each in found]
    return {"vr": vr, "Value": found}
