"""DICOM files of nobody, for tests of what is stored and fetched."""

from io import BytesIO

import pydicom
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_instance, chest_study

from cds_server.ports import StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

SERIES_UID = f"{STUDY_UID}.9"


def dicom_file(number: int = 1, *, size: int = 0, **changes: object) -> bytes:
    """Write an instance of the test study; ``size`` fills it up with pixels."""
    values = {
        "SeriesInstanceUID": SERIES_UID,
        "SOPInstanceUID": f"{SERIES_UID}.{number}",
        "InstanceNumber": number,
        **changes,
    }
    if size:
        rows = size // 2048
        values |= {"Rows": rows, "Columns": 1024, "PixelData": bytes(range(256)) * (rows * 8)}
    dataset = chest_instance(**values)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    written = BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()


def result() -> StoredResult:
    """A result of the test study."""
    return StoredResult(
        result_id(STUDY_UID, MODEL.sha256), chest_study(), OUTCOMES["flagged"], ISSUED, {}
    )


def artefacts(**dicom: bytes) -> ReportSet:
    """A report set with these DICOM files, by name without ``.dcm``."""
    named = {f"{name.replace('_', '-')}.dcm": content for name, content in dicom.items()}
    return ReportSet(bundle=b"{}", oru=b"MSH", card=b"{}", dicom=named)
