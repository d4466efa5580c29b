"""What the DICOM objects of one result share: patient and study, series, equipment, the file.

Patient and study are those of the images, verbatim. What radcds says itself is ASCII, so that it
can be written in whatever character set the archive uses.
"""

import copy
import struct
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from ai_engine.image import Subject
from fhir_mappers import codes
from fhir_mappers.acquisition import subject, text
from fhir_mappers.dicom_items import Reference, code_item, label
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.identifiers import device_uid, instance_uid
from fhir_mappers.patient_and_study import encoded, patient_and_study, zone_of
from fhir_mappers.report_context import ReportContext
from fhir_mappers.study import Study

IMPLEMENTATION_CLASS_UID = UID("2.25.178459382147718233361254012874634198812")
IMPLEMENTATION_VERSION = "RADCDS"
MANUFACTURER = "radcds"
_CHEST = "CHEST"


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of object; each has a series of its own.

    Parameters
    ----------
    name
        Its file name; the identifiers derive from it.
    sop_class_uid
        SOP Class UID (0008,0016).
    modality, series_number, series_description
        Of its series.
    transfer_syntax
        How it is written; pixels are compressed where that keeps results small.
    """

    name: str
    sop_class_uid: UID
    modality: str
    series_number: int
    series_description: str
    transfer_syntax: UID = ExplicitVRLittleEndian


@dataclass(frozen=True, slots=True)
class Written:
    """A finished object: the bytes of its DICOM Part 10 file, and how others refer to it."""

    content: bytes
    reference: Reference


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What every object of a result rests on.

    Parameters
    ----------
    header
        An instance of the study without pixel data: the analysed one, where one was analysed.
    patient_and_study
        What every object repeats, in a character set that holds it.
    context
        Identifiers, times and model.
    began
        When the analysis began, in the time zone of the study.
    """

    header: Dataset
    patient_and_study: Dataset
    context: ReportContext
    began: datetime

    @property
    def image(self) -> Reference:
        """The analysed image.

        Raises
        ------
        InvalidMessage
            If it has no UID by which it could be referred to.
        """
        names = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        image = Reference(*(text(self.header, name) for name in names))
        if not (image.sop_class_uid and image.sop_instance_uid and image.series_instance_uid):
            msg = "the analysed instance lacks a UID, so no DICOM object can refer to it"
            raise InvalidMessage(msg)
        return image


def basis_of(header: Dataset, study: Study, context: ReportContext) -> Basis:
    """Take what every object needs from an instance of the study.

    Raises
    ------
    InvalidMessage
        If the instance is of another study.
    """
    if text(header, "StudyInstanceUID") != study.study_instance_uid:
        msg = "the analysed instance says that it belongs to another study"
        raise InvalidMessage(msg)
    shared = patient_and_study(header)
    zone = zone_of(text(shared, "TimezoneOffsetFromUTC")) or ZoneInfo(context.site.timezone)
    began = (context.began or context.issued).astimezone(zone)
    return Basis(header, shared, context, began)


def new_object(basis: Basis, part: Part) -> Dataset:
    """Begin an object: patient, study, series, equipment and times, without its content.

    References
    ----------
    DICOM PS3.3 C.7.3.1 General Series, C.7.5.2 Enhanced General Equipment, C.12.1 SOP Common.
    """
    context = basis.context
    dataset = copy.deepcopy(basis.patient_and_study)
    dataset.SOPClassUID = part.sop_class_uid
    dataset.Modality = part.modality
    dataset.SeriesInstanceUID = instance_uid(context.result_id, f"series|{part.name}")
    dataset.SeriesNumber = part.series_number
    dataset.SeriesDescription = part.series_description
    dataset.InstanceNumber = 1
    issued = context.issued.astimezone(basis.began.tzinfo)
    for name, when in (("Series", basis.began), ("Content", basis.began)):
        setattr(dataset, f"{name}Date", f"{when:%Y%m%d}")
        setattr(dataset, f"{name}Time", f"{when:%H%M%S}")
    dataset.InstanceCreationDate = f"{issued:%Y%m%d}"
    dataset.InstanceCreationTime = f"{issued:%H%M%S}"
    _describe_equipment(dataset, context)
    dataset.DeviceSerialNumber = context.model.sha256
    dataset.ContributingEquipmentSequence = Items([_contributing_equipment(basis)])
    return dataset


def describe_body_part(basis: Basis, dataset: Dataset, *, sided: bool) -> None:
    """Say that a chest is shown, however the source says it; of the rest, that the side is unknown.

    Parameters
    ----------
    basis, dataset
        The source, and what is described.
    sided
        Whether the object has a Laterality; a segmentation has none.

    References
    ----------
    DICOM PS3.3 C.7.3.1 Body Part Examined (0018,0015), Laterality (0020,0060) of type 2C.
    """
    header = basis.header
    named = text(header, "BodyPartExamined") == _CHEST
    if named or subject(header) is Subject.CHEST_RADIOGRAPH:
        dataset.BodyPartExamined = _CHEST
    elif sided:
        dataset.Laterality = None


def written(dataset: Dataset, part: Part, context: ReportContext) -> Written:
    """Name the object by its content and give its file: explicit VR, little endian.

    References
    ----------
    DICOM PS3.10 7.1 File Meta Information.
    """
    unnamed = encoded(dataset)
    uid = instance_uid(context.result_id, part.name, unnamed)
    head, of_class, tail = unnamed.partition(_element(0x0016, part.sop_class_uid))
    named = b"".join((head, of_class, _element(0x0018, uid), tail))
    reference = Reference(
        part.sop_class_uid, uid, dataset.SeriesInstanceUID, dataset.StudyInstanceUID
    )
    return Written(_file_meta(part, uid) + named, reference)


def _element(number: int, uid: str) -> bytes:
    """Encode SOP Class UID (0008,0016) or SOP Instance UID (0008,0018): neighbours in an object.

    References
    ----------
    DICOM PS3.5 7.1.2 Data Element Structure with Explicit VR, 9.1 UID Encoding Rules.
    """
    value = uid.encode("ascii") + b"\x00" * (len(uid) % 2)
    return struct.pack("<HH2sH", 0x0008, number, b"UI", len(value)) + value


def encapsulated(dataset: Dataset, frame: bytes) -> None:
    """Give an object its only frame, compressed.

    References
    ----------
    DICOM PS3.5 A.4 Encapsulation of encoded Pixel Data.
    """
    dataset.add_new("PixelData", "OB", encapsulate([frame]))
    dataset["PixelData"].is_undefined_length = True


def _file_meta(part: Part, sop_instance_uid: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = part.sop_class_uid
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = part.transfer_syntax
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    file = DicomBytesIO()
    file.write(b"\x00" * 128 + b"DICM")
    write_file_meta_info(file, meta)
    return file.getvalue()


def _describe_equipment(dataset: Dataset, context: ReportContext) -> None:
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = label(context.model.name)
    dataset.SoftwareVersions = [label(context.software_version), label(context.model.version)]


def _contributing_equipment(basis: Basis) -> Dataset:
    """Name the algorithm; its Device UID changes whenever the model is trained again.

    References
    ----------
    DICOM PS3.3 C.12.1.1 Contributing Equipment Sequence; IHE RAD AI Results 6.5.3.1.
    """
    context = basis.context
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Items([code_item(codes.PROCESSING_EQUIPMENT)])
    _describe_equipment(item, context)
    item.DeviceUID = device_uid(context.model.sha256)
    item.ContributionDateTime = f"{basis.began:%Y%m%d%H%M%S%z}"
    item.ContributionDescription = f"AI triage, model sha256 {context.model.sha256}"
    return item
