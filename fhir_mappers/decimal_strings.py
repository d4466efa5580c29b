"""Numbers of a header as VR DS writes them.

References
----------
DICOM PS3.5 6.2 DS: at most 16 bytes.
"""

import math

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DSfloat


def decimal(number: float | str) -> DSfloat:
    """Give a number as it stands where it fits, else rounded until it does.

    Raises
    ------
    ValueError
        If it is no finite number.
    """
    if not math.isfinite(float(number)):
        msg = "a decimal string holds no infinity"
        raise ValueError(msg)
    return DSfloat(number, auto_format=True)


def decimals(header: Dataset, keyword: str) -> list[DSfloat]:
    """Give all numbers of an attribute; nothing where one of them is none, or is not finite."""
    value = header.get(keyword)
    try:
        return [decimal(each) for each in (value if isinstance(value, MultiValue) else [value])]
    except (TypeError, ValueError):
        return []
