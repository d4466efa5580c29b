"""References, codes and words of our own in the DICOM objects that radcds makes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from fhir_mappers.codes import Coded

_SH, _LO = 16, 64


@dataclass(frozen=True, slots=True)
class Reference:
    """Which instance is meant."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str

    @property
    def item(self) -> Dataset:
        """Give the item of a reference sequence (DICOM PS3.3 table 10-11)."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        return item


def plain(words: str, longest: int | None = None) -> str:
    """Give our own words in ASCII, without backslash and control characters."""
    decomposed = unicodedata.normalize("NFKD", words)
    letters = "".join(each for each in decomposed if not unicodedata.combining(each))
    ascii_only = letters.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return re.sub(r"[\x00-\x1f\x7f]+", " ", ascii_only).strip()[:longest]


def label(words: str) -> str:
    """Give our own words as one line of at most 64 characters, as VR LO wants."""
    return plain(words, _LO).strip()


def code_item(code: Coded) -> Dataset:
    """Give the item of a code sequence.

    References
    ----------
    DICOM PS3.3 8.8: a code of more than 16 characters is a Long Code Value.
    """
    value, scheme, meaning = code
    item = Dataset()
    setattr(item, "CodeValue" if len(value) <= _SH else "LongCodeValue", value)
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = label(meaning)
    return item


def series_items(references: Iterable[Reference]) -> Items:
    """Give the items of Referenced Series Sequence (0008,1115): the instances series by series."""
    series: dict[str, list[Dataset]] = {}
    for each in references:
        series.setdefault(each.series_instance_uid, []).append(each.item)
    return Items([_series_item(uid, instances) for uid, instances in series.items()])


def study_items(references: Sequence[Reference]) -> Items:
    """Give the items of a sequence of the hierarchical SOP instance reference macro.

    References
    ----------
    DICOM PS3.3 C.17.2.1 Hierarchical SOP Instance Reference Macro.
    """
    items = []
    for uid in dict.fromkeys(each.study_instance_uid for each in references):
        item = Dataset()
        item.StudyInstanceUID = uid
        of_study = [each for each in references if each.study_instance_uid == uid]
        item.ReferencedSeriesSequence = series_items(of_study)
        items.append(item)
    return Items(items)


def _series_item(uid: str, instances: list[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = uid
    item.ReferencedSOPSequence = Items(instances)
    return item
