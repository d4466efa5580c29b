"""The attributes of patient and study, copied verbatim into every object of a study.

References
----------
DICOM PS3.3 C.7.1.1 Patient, C.7.1.3 Clinical Trial Subject, C.7.2.1 General Study, C.7.2.2 Patient
Study, C.7.2.3 Clinical Trial Study.
"""

import copy
import io
import re
from datetime import timedelta, timezone, tzinfo

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, STR_VR

from fhir_mappers.acquisition import text

_DEFAULT_REPERTOIRE = {"", "ISO_IR 6", "ISO 2022 IR 6"}
_NEVER_ALONE = {"ISO 2022 IR 87", "ISO 2022 IR 159"}
"""Two bytes a letter: nothing of ASCII, as all of our own words are, can be written in them."""
_UTF8 = "ISO_IR 192"
_OFFSET = re.compile(r"([+-])(\d{2})([0-5]\d)")
_FARTHEST_OFFSET = timedelta(hours=14)

_PATIENT_AND_STUDY = (
    # What the texts below are written in, and what their times refer to (C.12.1).
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    # Patient
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # Clinical trial
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    # Study
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingServiceCodeSequence",
    "ProcedureCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    # The patient at the time of the study
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "SmokingStatus",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientState",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "PatientSexNeutered",
    # Where the images were made (C.7.5.1): results are filed by it
    "InstitutionName",
)

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
"""Type 2: present even when empty."""


def patient_and_study(header: Dataset) -> Dataset:
    """Copy the attributes of patient and study verbatim, in a character set that holds them."""
    copied = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        if keyword in header:
            copied[keyword] = _as_it_stands(header, keyword)
    for keyword in _NEVER_ABSENT:
        if keyword not in copied:
            setattr(copied, keyword, None)
    if not zone_of(text(copied, "TimezoneOffsetFromUTC")):
        copied.pop("TimezoneOffsetFromUTC", None)
    if not (
        copied.get("DeidentificationMethod") or copied.get("DeidentificationMethodCodeSequence")
    ):
        copied.pop("PatientIdentityRemoved", None)  # 1C: it may not stand without the method
    _settle_character_set(copied)
    return copied


def zone_of(offset: str) -> tzinfo | None:
    """Read Timezone Offset From UTC (0008,0201); ``None`` where it is none."""
    match = _OFFSET.fullmatch(offset)
    if not match:
        return None
    sign, hours, minutes = match.groups()
    delta = timedelta(hours=int(hours), minutes=int(minutes))
    if delta > _FARTHEST_OFFSET:
        return None
    return timezone(-delta if sign == "-" else delta)


def _as_it_stands(header: Dataset, keyword: str) -> DataElement | RawDataElement:
    """Give an attribute; where nobody has decoded it yet, it keeps its bytes."""
    element: object = header.get_item(keyword)
    vr = dictionary_VR(keyword)
    if isinstance(element, RawDataElement) and element.value is not None and vr in STR_VR:
        return element._replace(VR=vr)
    return copy.deepcopy(header[keyword])


def _settle_character_set(copied: Dataset) -> None:
    """Keep the declared character set where it holds every text; else take UTF-8.

    It does not where the header came as JSON, which is always UTF-8, or declares a set that is
    none, or declares none and is not ASCII, or declares one first that may only come second.

    References
    ----------
    DICOM PS3.3 C.12.1.1.2 Specific Character Set; PS3.18 F.2.
    """
    decoded = copy.deepcopy(copied)
    value = decoded.get("SpecificCharacterSet")
    declared = [str(each) for each in (value if isinstance(value, MultiValue) else [value or ""])]
    ascii_only = all(each.isascii() for each in _texts(decoded))
    only_default = set(declared) <= _DEFAULT_REPERTOIRE
    known = declared[0] not in _NEVER_ALONE and all(each in python_encoding for each in declared)
    if known and (ascii_only or (not only_default and _survives(decoded))):
        return
    copied.update(decoded)
    copied.SpecificCharacterSet = _UTF8


def _survives(decoded: Dataset) -> bool:
    """Say whether every text comes back as it was when written in the declared character set."""
    file = io.BytesIO(encoded(copy.deepcopy(decoded)))
    return _texts(read_dataset(file, is_implicit_VR=False, is_little_endian=True)) == _texts(
        decoded
    )


def _texts(dataset: Dataset) -> list[str]:
    return [
        str(each.value or "") for each in dataset.iterall() if each.VR in CUSTOMIZABLE_CHARSET_VR
    ]


def encoded(dataset: Dataset) -> bytes:
    """Encode an object; attributes that nobody decoded keep their bytes."""
    character_set = dataset._character_set  # noqa: SLF001 - what pydicom compares with
    dataset.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=character_set
    )
    file = io.BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=True)
    return file.getvalue()
