"""The key objects of a result: what a worklist shows first, and what belongs to the report."""

from collections.abc import Sequence

from highdicom.sr import ContentItem
from pydicom.uid import KeyObjectSelectionDocumentStorage

from ai_engine.result import TriageResult
from fhir_mappers import codes
from fhir_mappers.dicom_header import Basis, Part, Written, new_object, written
from fhir_mappers.sr_document import (
    complete_document,
    device_observer,
    referring,
    root,
    worded,
)
from fhir_mappers.wording import DISCLAIMER, headline

KEY_OBJECT = Part(
    "key-object.dcm",
    KeyObjectSelectionDocumentStorage,
    "KO",
    9005,
    "AI key images (not for diagnosis)",
)
_SOURCE = ("260753009", "SCT", "Source")


def key_object(result: TriageResult, parts: Sequence[Written], basis: Basis) -> Written:
    """Point to the analysed image, the overlay and the report.

    "Of Interest" where a finding is above its threshold; otherwise no image is called so, and the
    same objects are "For Report Attachment".

    Raises
    ------
    InvalidMessage
        If the image has no UID.

    References
    ----------
    DICOM PS3.3 A.35.4 Key Object Selection Document IOD; PS3.16 TID 2010, CID 7010.
    """
    dataset = new_object(basis, KEY_OBJECT)
    title = codes.OF_INTEREST if result.top_findings else codes.FOR_REPORT_ATTACHMENT
    selected = [basis.image, *(each.reference for each in parts)]
    items: list[ContentItem] = [
        *device_observer(basis.context),
        worded(codes.KEY_OBJECT_DESCRIPTION, f"{headline(result)} {DISCLAIMER}"),
        *(referring(_SOURCE, each) for each in selected),
    ]
    complete_document(dataset, root(title, "2010", items), evidence=selected)
    return written(dataset, KEY_OBJECT, basis.context)
