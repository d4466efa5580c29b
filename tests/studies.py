"""A fixed study with each outcome, for tests and golden files. Nobody real."""

from datetime import UTC, datetime
from typing import cast

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ai_engine.image import AgeBand, Image, Subject, View
from ai_engine.result import (
    Finding,
    ModelIdentity,
    NotAnalysed,
    Outcome,
    Priority,
    Reason,
    Saliency,
    TriageResult,
)
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import DisplayMode, ReportContext, Site
from fhir_mappers.study import Instance, Patient, PersonName, Series, Study

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
MODEL = ModelIdentity("cxr-test", "2.1.0", "5f" * 32)
ISSUED = datetime(2026, 11, 20, 9, 30, 4, tzinfo=UTC)


def site(display_mode: DisplayMode = DisplayMode.OVERLAY, **changes: object) -> Site:
    values: dict[str, object] = {
        "name": "Example Radiology Network",
        "base_url": "https://radcds.example.org",
        "hl7_application": "RADCDS",
        "hl7_facility": "RADNET",
        "hl7_receiver": ("RIS", "TRUST"),
        "accession_issuer": "urn:oid:2.999.1",
        "timezone": "Europe/London",
        "display_mode": display_mode,
    }
    return Site(**{**values, **changes})  # type: ignore[arg-type]


def context(display_mode: DisplayMode = DisplayMode.OVERLAY, **changes: object) -> ReportContext:
    return ReportContext(
        result_id=result_id(STUDY_UID, MODEL.sha256),
        site=site(display_mode, **changes),
        model=MODEL,
        issued=ISSUED,
        software_version="0.1.0",
        model_card={"status": "Research demonstration, not for clinical use."},
    )


def chest_study(**changes: object) -> Study:
    instance = Instance(
        sop_instance_uid=f"{STUDY_UID}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        instance_number=1,
        rows=256,
        columns=224,
        number_of_frames=1,
        image_type=("ORIGINAL", "PRIMARY"),
        view_position="PA",
    )
    series = Series(f"{STUDY_UID}.1", "DX", "CHEST", "PA", 1, (instance,))
    patient = Patient(
        patient_id="MRN 123456",
        issuer="Example Trust",
        name=PersonName("TEST", "PATIENT"),
        birth_date="1970-01-01",
        sex="F",
    )
    values: dict[str, object] = {
        "study_instance_uid": STUDY_UID,
        "accession_number": "ACC1001",
        "patient": patient,
        "started": datetime(2026, 11, 20, 9, 12, tzinfo=UTC),
        "description": "Chest PA",
        "referring_physician": PersonName("REFERRER"),
        "series": (series,),
    }
    return Study(**{**values, **changes})  # type: ignore[arg-type]


def outcome(priority: Priority) -> TriageResult:
    high = {Priority.URGENT: 0.97, Priority.FLAGGED: 0.71, Priority.NORMAL: 0.12}[priority]
    values = {"abnormal": (high, 0.5), "effusion": (high * 0.9, 0.6), "infiltration": (0.1, 0.4)}
    rows, columns = np.mgrid[0:10, 0:10].astype(np.float32)
    blob = np.exp(-((rows - 6) ** 2 + (columns - 3) ** 2) / 6).astype(np.float32)
    return TriageResult(
        priority=priority,
        findings=tuple(Finding(label, p, t) for label, (p, t) in values.items()),
        saliency=tuple(Saliency(label, blob / blob.max()) for label in values),
        model=MODEL,
    )


def declined() -> NotAnalysed:
    return NotAnalysed(
        Reason.LATERAL_VIEW, "A lateral view; the model reads frontal views (PA, AP).", MODEL
    )


def failed() -> NotAnalysed:
    return NotAnalysed(Reason.MODEL_FAILED, "The network gave values that are no numbers.", MODEL)


OUTCOMES: dict[str, Outcome] = {
    "urgent": outcome(Priority.URGENT),
    "flagged": outcome(Priority.FLAGGED),
    "normal": outcome(Priority.NORMAL),
    "not_analysed": declined(),
    "failed": failed(),
}


def chest_pixels(rows: int = 256, columns: int = 224) -> np.ndarray:
    """Two dark lungs beside a bright middle, 0 to 1: shaped like a chest, of nobody."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    picture = np.full((rows, columns), 0.8, dtype=np.float32)
    for centre in (0.3, 0.7):
        lung = ((x / columns - centre) / 0.16) ** 2 + ((y / rows - 0.45) / 0.32) ** 2
        picture -= 0.55 * np.clip(1.4 - lung, 0, 1).astype(np.float32)
    return cast("np.ndarray", np.clip(picture, 0, 1))


def chest_image() -> Image:
    return Image(chest_pixels(), Subject.CHEST_RADIOGRAPH, View.PA, AgeBand.ADULT)


def chest_instance(**changes: object) -> Dataset:
    """A DX instance of ``chest_study``, 12 bit."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored = np.rint(chest_pixels() * 4095).astype(np.uint16)
    values: dict[str, object] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
        "SOPInstanceUID": f"{STUDY_UID}.1.1",
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": f"{STUDY_UID}.1",
        "StudyDate": "20261120",
        "StudyTime": "091200",
        "TimezoneOffsetFromUTC": "+0000",
        "AccessionNumber": "ACC1001",
        "ReferringPhysicianName": "REFERRER",
        "StudyDescription": "Chest PA",
        "StudyID": "1",
        "Modality": "DX",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientName": "TEST^PATIENT",
        "PatientID": "MRN 123456",
        "IssuerOfPatientID": "Example Trust",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "PresentationIntentType": "FOR PRESENTATION",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 256,
        "Columns": 224,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": 2048,
        "WindowWidth": 4096,
        "PixelData": stored.tobytes(),
        **changes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    return dataset
