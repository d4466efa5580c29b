"""A structured report that takes the place of an earlier one, with people's words before the AI's.

Whatever nobody has to change keeps its bytes, the patient's name above all. The words of people
are not made ASCII: where the character set of the report cannot hold them, all of it is UTF-8.

References
----------
DICOM PS3.3 C.17.2 SR Document General, C.12.1.1.2 Specific Character Set; PS3.5 6.2 VR.
"""

import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pydicom
from highdicom.sr import RelationshipTypeValues, SourceImageForMeasurementGroup, TextContentItem
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from fhir_mappers import codes
from fhir_mappers.acquisition import text
from fhir_mappers.codes import Coded
from fhir_mappers.dicom_items import Reference, study_items
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.patient_and_study import zone_of
from fhir_mappers.report_context import ReportContext
from fhir_mappers.sr_document import concept, referring

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_MEASUREMENTS: Coded = ("126010", "DCM", "Imaging Measurements")
_METHOD, _REGION = "370129005", "SCOORD"
_ALONE = re.compile(r"ISO_IR (?!6$|13$)\d+|GB18030|GBK")
"""Sets that stand alone, hold more than ASCII, and are what the codec of their name writes."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_PARTS_OF_NAMES = re.compile(r"[\^=\\]")
_NAME_LENGTH = 64


def read_document(content: bytes) -> Dataset:
    """Read a DICOM file of this server, without pixels and without what only files have."""
    read = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    dataset = Dataset()
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=read._character_set,  # noqa: SLF001 - what pydicom compares with
    )
    dataset.update({tag: read.get_item(tag) for tag in read.keys()})  # noqa: SIM118 - undecoded
    return dataset


def reference_to(dataset: Dataset) -> Reference:
    """Give how others refer to an object."""
    return Reference(*(text(dataset, name) for name in _REFERENCE))


def successor(report: bytes, lines: Sequence[str]) -> Dataset:
    """Give a report that takes the place of another, with some words before the others.

    Raises
    ------
    InvalidMessage
        If the other is no report of this server.
    """
    dataset = read_document(report)
    dataset.PredecessorDocumentsSequence = study_items([reference_to(dataset)])
    dataset.InstanceNumber = int(dataset.get("InstanceNumber") or 1) + 1
    del dataset.SOPInstanceUID
    said = said_by_people(codes.COMMENT, lines)
    section = _section(dataset, codes.QUALITATIVE_EVALUATIONS)
    section.ContentSequence = Items([*said, *section.ContentSequence])
    hold(dataset, lines)
    return dataset


def said_by_people(name: Coded, paragraphs: Iterable[str]) -> list[TextContentItem]:
    """Give a TEXT item for each paragraph that says something, letter for letter."""
    spoken = (_spoken(each) for each in paragraphs)
    return [
        TextContentItem(concept(name), each, RelationshipTypeValues.CONTAINS)
        for each in spoken
        if each
    ]


def person_name(*candidates: str) -> str:
    """Give the first candidate that names somebody: one component of a person's name.

    References
    ----------
    DICOM PS3.5 6.2 VR PN: at most 64 characters; ``^``, ``=`` and backslash part it.
    """
    names = (_PARTS_OF_NAMES.sub(" ", _UNPRINTABLE.sub(" ", each)) for each in candidates)
    short = (" ".join(each.split())[:_NAME_LENGTH].strip() for each in names)
    return next((each for each in short if each), "")


def hold(dataset: Dataset, words: Iterable[str]) -> None:
    """Write an object in UTF-8 where its character set does not hold some words."""
    said = "".join(_spoken(each) for each in words)
    if said.isascii() or _holds(dataset.get("SpecificCharacterSet"), said):
        return
    for element in dataset.iterall():
        _ = element.value  # decoded, while its character set is known
    dataset.SpecificCharacterSet = "ISO_IR 192"


def local_time(dataset: Dataset, when: datetime, context: ReportContext) -> datetime:
    """Give a time in the zone in which an object tells its times."""
    return when.astimezone(
        zone_of(text(dataset, "TimezoneOffsetFromUTC")) or ZoneInfo(context.site.timezone)
    )


def date(dataset: Dataset, when: datetime, context: ReportContext) -> None:
    """Say when an object was made."""
    local = local_time(dataset, when, context)
    dataset.ContentDate = dataset.InstanceCreationDate = f"{local:%Y%m%d}"
    dataset.ContentTime = dataset.InstanceCreationTime = f"{local:%H%M%S}"


def strip_regions(dataset: Dataset) -> None:
    """Take every region out of a report: its findings then refer to the image as a whole.

    References
    ----------
    DICOM PS3.16 TID 1410 Planar ROI, TID 1501 Measurement and Qualitative Evaluation Group.
    """
    for section in dataset.ContentSequence:
        if _is_named(section, _MEASUREMENTS[0]):
            for group in section.ContentSequence:
                _strip_region(group)


def list_objects(dataset: Dataset, valid: Sequence[tuple[Coded, Reference]]) -> None:
    """Let a root result list some objects, beside the analysed image, in place of earlier ones.

    Raises
    ------
    InvalidMessage
        If it is no root result of this server.
    """
    section = _section(dataset, codes.RESULT_SET)
    images = [each for each in section.ContentSequence if _is_named(each, codes.ANALYSED_IMAGE[0])]
    uids = {str(each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for each in images}
    section.ContentSequence = Items([*images, *(referring(*each) for each in valid)])
    evidence = [each for each in _evidence(dataset) if each.sop_instance_uid in uids]
    dataset.CurrentRequestedProcedureEvidenceSequence = study_items(
        [*evidence, *(reference for _, reference in valid)]
    )


def _spoken(words: str) -> str:
    """Give people's words without what cannot be printed (DICOM PS3.5 6.2 VR UT)."""
    lines = (_UNPRINTABLE.sub(" ", line).strip() for line in words.splitlines())
    return "\r\n".join(lines).strip()


def _holds(declared: object, words: str) -> bool:
    name = str(declared)
    if not _ALONE.fullmatch(name) or name not in python_encoding:
        return False
    try:
        encoded = words.encode(python_encoding[name])
    except UnicodeEncodeError:
        return False
    return encoded.count(b"\\") == words.count("\\")  # half a letter may look like one


def _section(dataset: Dataset, name: Coded) -> Dataset:
    items: Iterable[Dataset] = dataset.get("ContentSequence", ())
    for each in items:
        if _is_named(each, name[0]):
            return each
    msg = f"the report to amend has no {name[2]!r}, as every one of radcds has"
    raise InvalidMessage(msg)


def _is_named(item: Dataset, code: str) -> bool:
    names = item.get("ConceptNameCodeSequence")
    return bool(names) and names[0].get("CodeValue") == code


def _strip_region(group: Dataset) -> None:
    regions = [each for each in group.ContentSequence if each.ValueType == _REGION]
    if not regions:
        return
    image = regions[0].ContentSequence[0].ReferencedSOPSequence[0]
    source = SourceImageForMeasurementGroup(
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID
    )
    kept = (
        each
        for each in group.ContentSequence
        if each.ValueType != _REGION and not _is_named(each, _METHOD)
    )
    group.ContentSequence = Items([*kept, source])
    group.ContentTemplateSequence[0].TemplateIdentifier = "1501"


def _evidence(dataset: Dataset) -> list[Reference]:
    """Read the evidence of a report (DICOM PS3.3 C.17.2.3)."""
    return [
        Reference(
            str(instance.ReferencedSOPClassUID),
            str(instance.ReferencedSOPInstanceUID),
            str(series.SeriesInstanceUID),
            str(study.StudyInstanceUID),
        )
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
