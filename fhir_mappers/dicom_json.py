"""Reading attributes of the DICOM JSON model.

References
----------
DICOM PS3.18 F.2.
"""

import re
import warnings
from collections.abc import Mapping, Sequence

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Attributes = Mapping[str, object]


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
    """Give the attributes as a dataset; what is no attribute, or stands elsewhere, is left out."""
    dataset = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, element in attributes.items():
            if not isinstance(element, Mapping) or {"BulkDataURI", "InlineBinary"} & set(element):
                continue
            try:
                dataset.add(
                    DataElement.from_json(
                        Dataset, tag, str(element.get("vr")), element.get("Value", []), "Value"
                    )
                )
            except (AttributeError, KeyError, LookupError, TypeError, ValueError):
                continue
    return dataset
