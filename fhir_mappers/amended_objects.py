"""DICOM objects of a result that a radiologist signed, or that was withdrawn.

What was stored in a PACS stays there. The report comes again, as a later one that names its
predecessor; a withdrawal also rejects every object of the result, so that a PACS that knows that
hides them.

References
----------
DICOM PS3.3 C.17.2 SR Document General, A.35.4 Key Object Selection; IHE RAD Imaging Object Change
Management (IOCM), 4.66 Rejection Note.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from fhir_mappers import codes
from fhir_mappers.acquisition import text
from fhir_mappers.dicom_header import basis_of, new_object, written
from fhir_mappers.dicom_items import Reference, plain, study_items
from fhir_mappers.dicom_sr import REPORT
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.key_object import KEY_OBJECT
from fhir_mappers.report_context import Recall, ReportContext, SignOff, Verdict
from fhir_mappers.sr_document import complete_document, device_observer, referring, root, worded
from fhir_mappers.study import Study

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_EVALUATIONS = codes.QUALITATIVE_EVALUATIONS[0]
_OBJECT = ("260753009", "SCT", "Source")


def signed_report(report: bytes, signed: SignOff, context: ReportContext) -> bytes:
    """Give the report again, verified by a radiologist; the AI's words stay under theirs.

    Parameters
    ----------
    report
        The DICOM file of the report, or of an earlier signed one.
    signed
        What the radiologist says.
    context
        Of the result.

    Raises
    ------
    InvalidMessage
        If that is no such report.
    """
    said = {Verdict.CONFIRMED: "confirms", Verdict.CORRECTED: "corrects"}[signed.verdict]
    lines = [f"{signed.radiologist} {said} the AI result.", signed.statement]
    with _quietly():
        dataset = _successor(report, lines, signed.number)
        dataset.PreliminaryFlag = "FINAL"
        dataset.VerificationFlag = "VERIFIED"
        dataset.VerifyingObserverSequence = Items([_verifying(signed, context)])
        _date(dataset, signed.at.strftime("%Y%m%d"), signed.at.strftime("%H%M%S"))
        return written(dataset, REPORT, context).content


def withdrawn_objects(
    objects: Mapping[str, bytes], study: Study, recall: Recall, context: ReportContext
) -> dict[str, bytes]:
    """Give the report again, withdrawn, and the note that rejects every object of a result.

    Parameters
    ----------
    objects
        DICOM files of the result by name, as they were last published.
    study
        Of the result.
    recall
        Why, and when.
    context
        Of the result.

    Returns
    -------
    dict[str, bytes]
        Empty where the result has no report, so no object.
    """
    report = objects.get(REPORT.name)
    if report is None:
        return {}
    lines = ["AI RESULT WITHDRAWN - DO NOT USE.", recall.reason]
    with _quietly():
        dataset = _successor(report, lines, text_number(report))
        _date(dataset, recall.at.strftime("%Y%m%d"), recall.at.strftime("%H%M%S"))
        withdrawn = written(dataset, REPORT, context).content
        note = _rejection(objects, study, recall, context)
    return {REPORT.name: withdrawn, KEY_OBJECT.name: note}


def text_number(report: bytes) -> int:
    """Give the Instance Number (0020,0013) of a report: how many there were before."""
    return int(_read(report).get("InstanceNumber") or 1)


def _rejection(
    objects: Mapping[str, bytes], study: Study, recall: Recall, context: ReportContext
) -> bytes:
    header = _read(objects[REPORT.name])
    basis = basis_of(header, study, context)
    dataset = new_object(basis, KEY_OBJECT)
    dataset.InstanceNumber = 2
    _date(dataset, recall.at.strftime("%Y%m%d"), recall.at.strftime("%H%M%S"))
    rejected = [_reference(_read(content)) for content in objects.values()]
    items = [
        *device_observer(context),
        worded(codes.KEY_OBJECT_DESCRIPTION, recall.reason),
        *(referring(_OBJECT, each) for each in rejected),
    ]
    complete_document(dataset, root(codes.REJECTED, "2010", items), evidence=rejected)
    return written(dataset, KEY_OBJECT, context).content


def _successor(report: bytes, lines: Sequence[str], number: int) -> Dataset:
    """Give a report that takes the place of another, with some words before the others.

    Raises
    ------
    InvalidMessage
        If the other is no report of this server.
    """
    dataset = _read(report)
    dataset.PredecessorDocumentsSequence = study_items([_reference(dataset)])
    dataset.InstanceNumber = number + 1
    del dataset.SOPInstanceUID
    for container in dataset.get("ContentSequence", ()):
        names = container.get("ConceptNameCodeSequence")
        if names and names[0].get("CodeValue") == _EVALUATIONS:
            said = [worded(codes.COMMENT, plain(line)) for line in lines if line.strip()]
            container.ContentSequence = Items([*said, *container.ContentSequence])
            return dataset
    msg = "the report to amend has no qualitative evaluations, as every report of radcds has"
    raise InvalidMessage(msg)


def _verifying(signed: SignOff, context: ReportContext) -> Dataset:
    """Say who verified (DICOM PS3.3 C.17.2, Verifying Observer Sequence)."""
    item = Dataset()
    item.VerifyingOrganization = plain(context.site.name, 64)
    item.VerificationDateTime = signed.at.strftime("%Y%m%d%H%M%S%z")
    item.VerifyingObserverName = plain(signed.radiologist, 64)
    item.VerifyingObserverIdentificationCodeSequence = Items([])
    return item


def _date(dataset: Dataset, date: str, time: str) -> None:
    dataset.ContentDate = dataset.InstanceCreationDate = date
    dataset.ContentTime = dataset.InstanceCreationTime = time


def _reference(dataset: Dataset) -> Reference:
    return Reference(*(text(dataset, name) for name in _REFERENCE))


def _read(content: bytes) -> Dataset:
    """Read a DICOM file of this server, without pixels and without what only files have."""
    read = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    dataset = Dataset()
    dataset.update({element.tag: element for element in read})
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=read._character_set,  # noqa: SLF001
    )
    return dataset


@contextmanager
def _quietly() -> Iterator[None]:
    """Let pydicom say nothing of values that are copied as they stand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
