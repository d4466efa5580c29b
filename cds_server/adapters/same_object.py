"""Whether what a PACS has is the object that this server made.

A PACS may write an object anew: in other lengths, with file meta information of its own, with the
patient and the order corrected. What it may not change is what the object says. The bytes of a PACS
are compared here, and never opened.
"""

import math
from collections.abc import Mapping
from io import BytesIO

import pydicom

from fhir_mappers.dicom_json import Attributes

_META = 132  # preamble and prefix, PS3.10 7.1
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PATIENT = "0010"
_RECONCILED = {
    "00080005",  # Specific Character Set
    "00080020",  # Study Date
    "00080030",  # Study Time
    "00080050",  # Accession Number
    "00080051",  # Issuer of Accession Number Sequence
    "00080080",  # Institution Name
    "00080090",  # Referring Physician's Name
    "00081030",  # Study Description
    "00081110",  # Referenced Study Sequence
    "00081111",  # Referenced Performed Procedure Step Sequence
    "00200010",  # Study ID
    "00400275",  # Request Attributes Sequence
}


def same_bytes(ours: bytes, theirs: bytes) -> bool:
    """Say whether two DICOM files have the same data set, byte for byte."""
    return _data_set(ours) == _data_set(theirs)


def same_content(ours: bytes, theirs: bytes, described: Attributes) -> bool:
    """Say whether a PACS has our object, written anew.

    Parameters
    ----------
    ours
        DICOM file that this server made.
    theirs
        DICOM file that the PACS gives.
    described
        DICOM JSON of the latter.

    Returns
    -------
    bool
        Whether it has every attribute of ours with its value, but for those of patient and order
        that a PACS reconciles, and the same pixel data in the same encoding.

    References
    ----------
    DICOM PS3.4 B.4.1.3 coercion of attributes; IHE RAD Patient Information Reconciliation.
    """
    dataset = pydicom.dcmread(BytesIO(ours))
    pixels = [bytes(dataset[each].value) for each in _PIXELS if each in dataset]
    for tag in [each for each in dataset.keys() if _may_differ(each.json_key)]:  # noqa: SIM118
        del dataset[tag]  # undecoded: what a source says of its patient need not be valid
    for each in _PIXELS:
        dataset.pop(each, None)
    return all(each in theirs for each in pixels) and _says(described, dataset.to_json_dict())


def _data_set(content: bytes) -> bytes:
    """Give a file without preamble and file meta information."""
    if not content.startswith(_GROUP_LENGTH, _META):
        return content
    value = _META + len(_GROUP_LENGTH)
    return content[value + 4 + int.from_bytes(content[value : value + 4], "little") :]


def _says(theirs: Attributes, ours: Attributes) -> bool:
    return all(
        _equal(theirs.get(tag), element) for tag, element in ours.items() if not _may_differ(tag)
    )


def _may_differ(tag: str) -> bool:
    return tag.startswith(_PATIENT) or tag in _RECONCILED


def _equal(theirs: object, ours: object) -> bool:
    """Compare two elements; what is too large to be described counts as equal."""
    mine, other = (each if isinstance(each, Mapping) else {} for each in (ours, theirs))
    if "InlineBinary" in mine or "BulkDataURI" in mine:
        return True
    expected, found = mine.get("Value") or [], other.get("Value") or []
    if not isinstance(expected, list) or not isinstance(found, list):
        return False
    return len(expected) == len(found) and all(map(_same, found, expected))


def _same(theirs: object, ours: object) -> bool:
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            return False
        if any(isinstance(each, Mapping) for each in ours.values()):
            return _says(theirs, ours)
        return {**theirs} == {**ours}  # a person's name
    if isinstance(ours, int | float):
        try:
            return math.isclose(float(str(theirs)), ours, rel_tol=1e-6)
        except ValueError:
            return False
    return str(theirs or "").strip() == str(ours or "").strip()
