"""The overlay as a DICOM object that every viewer shows."""

import io

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from ai_engine.result import TriageResult
from fhir_mappers.identifiers import instance_uid
from fhir_mappers.report_context import ReportContext

IMPLEMENTATION_CLASS_UID = UID("2.25.178459382147718233361254012874634198812")
IMPLEMENTATION_VERSION = "RADCDS"
_SERIES_NUMBER = 9001

# Copied verbatim, so that the object lands in the same patient and study.
_PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "InstitutionName",
)
# Type 2: present even when empty (DICOM PS3.3 C.7.1.1, C.7.2.1).
_NEVER_ABSENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)


def secondary_capture(
    source: Dataset, rgb: NDArray[np.uint8], *, outcome: TriageResult, context: ReportContext
) -> bytes:
    """Wrap the overlay picture as Secondary Capture, in the study of the analysed image.

    Parameters
    ----------
    source
        The analysed instance; patient and study attributes are copied from it.
    rgb
        The picture, **shape** ``(rows, columns, 3)``, **dtype** ``uint8``.
    outcome
        What the model said.
    context
        Identifiers and times; the same context gives the same bytes.

    Returns
    -------
    bytes
        A DICOM Part 10 file, Explicit VR Little Endian.

    References
    ----------
    DICOM PS3.3 A.8.1 Secondary Capture Image IOD, C.12.1.1 Contributing Equipment Sequence.
    """
    pixels = np.ascontiguousarray(rgb).tobytes()
    dataset = Dataset()
    _copy_patient_and_study(source, dataset)
    _describe_series(source, dataset, context, outcome)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = instance_uid(context.result_id, "secondary-capture", pixels)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.InstanceNumber = 1
    dataset.PatientOrientation = None
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "YES"
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = rgb.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.add_new("PixelData", "OB", pixels + b"\x00" * (len(pixels) % 2))
    return _part10(dataset)


def _copy_patient_and_study(source: Dataset, dataset: Dataset) -> None:
    for keyword in _PATIENT_AND_STUDY:
        if keyword in source:
            dataset[keyword] = source[keyword]
    for keyword in _NEVER_ABSENT:
        if keyword not in dataset:
            setattr(dataset, keyword, None)


def _describe_series(
    source: Dataset, dataset: Dataset, context: ReportContext, outcome: TriageResult
) -> None:
    issued = context.issued
    dataset.Modality = "OT"
    dataset.SeriesInstanceUID = instance_uid(context.result_id, "series")
    dataset.SeriesNumber = _SERIES_NUMBER
    dataset.SeriesDescription = "AI saliency overlay (not for diagnosis)"
    if source.get("BodyPartExamined"):
        dataset.BodyPartExamined = source.BodyPartExamined
    else:
        dataset.Laterality = None
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{name}Date", f"{issued:%Y%m%d}")
        setattr(dataset, f"{name}Time", f"{issued:%H%M%S}")
    dataset.Manufacturer = "radcds"
    dataset.ManufacturerModelName = outcome.model.name
    dataset.SoftwareVersions = [context.software_version, outcome.model.version]
    dataset.DerivationDescription = (
        f"Grad-CAM of {outcome.model.name} {outcome.model.version}; AI output, not a diagnosis"
    )
    dataset.SourceImageSequence = Items([_reference(source)])
    dataset.ContributingEquipmentSequence = Items([_equipment(context, outcome)])


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def _equipment(context: ReportContext, outcome: TriageResult) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue = "109102"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Items([purpose])
    item.Manufacturer = "radcds"
    item.ManufacturerModelName = outcome.model.name
    item.SoftwareVersions = [context.software_version, outcome.model.version]
    item.ContributionDescription = f"AI triage, model sha256 {outcome.model.sha256}"
    return item


def _part10(dataset: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    file = FileDataset("", dataset, file_meta=meta, preamble=b"\x00" * 128)
    written = io.BytesIO()
    file.save_as(written, enforce_file_format=True)
    return written.getvalue()
