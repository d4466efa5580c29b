"""DICOM objects of a result that a radiologist signed, or that was withdrawn.

What was stored in a PACS stays there. The report comes again, as a later one that names its
predecessor, with a root result that lists what is valid now; a withdrawal also rejects every
object of the result, so that a PACS that knows that hides them.

References
----------
DICOM PS3.3 C.17.2 SR Document General, A.35.4 Key Object Selection; IHE RAD Imaging Object Change
Management (IOCM), 4.66 Rejection Note; IHE RAD AI Results (AIR), root results.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from fhir_mappers import codes
from fhir_mappers.codes import Coded
from fhir_mappers.dicom_header import MANUFACTURER, Part, Written, basis_of, new_object, written
from fhir_mappers.dicom_items import Reference, plain
from fhir_mappers.dicom_sr import REPORT
from fhir_mappers.key_object import KEY_OBJECT
from fhir_mappers.later_document import (
    date,
    hold,
    list_objects,
    local_time,
    person_name,
    read_document,
    reference_to,
    said_by_people,
    strip_regions,
    successor,
)
from fhir_mappers.report_context import DisplayMode, Recall, ReportContext, SignOff, Verdict
from fhir_mappers.root_result import ROOT_RESULT
from fhir_mappers.sr_document import complete_document, device_observer, referring, root
from fhir_mappers.study import Study

_OBJECT = ("260753009", "SCT", "Source")
_SAYS = {Verdict.CONFIRMED: "confirms", Verdict.CORRECTED: "corrects"}


def signed_objects(
    objects: Mapping[str, bytes], signed: SignOff, context: ReportContext
) -> dict[str, bytes]:
    """Give report and root result again, verified by a radiologist; the AI's words stay below.

    Parameters
    ----------
    objects
        DICOM files of the result by name, as they were last published.
    signed
        What the radiologist says.
    context
        Of the result, with the site as it is now: where it is ``triage_only``, no location is
        published again.

    Returns
    -------
    dict[str, bytes]
        Empty where the result has no report, so no object.

    Raises
    ------
    InvalidMessage
        If the report or the root result is none of this server.
    """
    if REPORT.name not in objects:
        return {}
    with _quietly():
        report = _written(_signed(objects[REPORT.name], signed, context), REPORT, context)
        made = {REPORT.name: report.content}
        if ROOT_RESULT.name in objects:
            listing = _signed(objects[ROOT_RESULT.name], signed, context)
            list_objects(listing, _valid(objects, report, context))
            made[ROOT_RESULT.name] = _written(listing, ROOT_RESULT, context).content
    return made


def withdrawn_objects(
    objects: Mapping[str, bytes],
    study: Study,
    recall: Recall,
    context: ReportContext,
    earlier: Sequence[bytes] = (),
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
        Of the result, with the site as it is now: where it is ``triage_only``, no location is
        published again.
    earlier
        Every other DICOM file that was published of the result; one that is also in ``objects``
        is rejected once.

    Returns
    -------
    dict[str, bytes]
        Report, rejection note, and the root result that lists these two. Empty where the result
        has no report, so no object.

    Raises
    ------
    InvalidMessage
        If the report or the root result is none of this server, or is of another study.
    """
    if REPORT.name not in objects:
        return {}
    with _quietly():
        report = _written(_withdrawn(objects[REPORT.name], recall, context), REPORT, context)
        note = _rejection(
            [*objects.values(), *earlier], objects[REPORT.name], study, recall, context
        )
        made = {REPORT.name: report.content, KEY_OBJECT.name: note.content}
        if ROOT_RESULT.name in objects:
            listing = _withdrawn(objects[ROOT_RESULT.name], recall, context)
            valid = [
                (codes.RESULT_PARTS[REPORT.name], report.reference),
                (codes.REJECTED, note.reference),
            ]
            list_objects(listing, valid)
            made[ROOT_RESULT.name] = _written(listing, ROOT_RESULT, context).content
    return made


def _signed(report: bytes, signed: SignOff, context: ReportContext) -> Dataset:
    """Complete and verify a report: VERIFIED is only what is COMPLETE (DICOM PS3.3 C.17.2)."""
    name = person_name(signed.radiologist, signed.identifier[1], "Radiologist")
    lines = [f"{name} {_SAYS[signed.verdict]} the AI result.", signed.statement]
    dataset = successor(report, lines)
    dataset.PreliminaryFlag = "FINAL"
    dataset.CompletionFlag = "COMPLETE"
    dataset.pop("CompletionFlagDescription", None)
    dataset.VerificationFlag = "VERIFIED"
    at = local_time(dataset, signed.at, context)
    verifying = Dataset()
    verifying.VerifyingOrganization = plain(context.site.name, 64).strip() or MANUFACTURER
    verifying.VerificationDateTime = f"{at:%Y%m%d%H%M%S%z}"
    verifying.VerifyingObserverName = name
    verifying.VerifyingObserverIdentificationCodeSequence = Items([])
    dataset.VerifyingObserverSequence = Items([verifying])
    date(dataset, signed.at, context)
    return dataset


def _withdrawn(report: bytes, recall: Recall, context: ReportContext) -> Dataset:
    """Withdraw a report: whoever verified the earlier one has not seen this one."""
    dataset = successor(report, ["AI RESULT WITHDRAWN - DO NOT USE.", recall.reason])
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.pop("VerifyingObserverSequence", None)
    date(dataset, recall.at, context)
    return dataset


def _written(dataset: Dataset, part: Part, context: ReportContext) -> Written:
    if context.site.display_mode is not DisplayMode.OVERLAY:
        strip_regions(dataset)
    return written(dataset, part, context)


def _valid(
    objects: Mapping[str, bytes], report: Written, context: ReportContext
) -> list[tuple[Coded, Reference]]:
    """Give the objects of a signed result; of those with the overlay, none where none is shown."""
    if context.site.display_mode is not DisplayMode.OVERLAY:
        return [(codes.RESULT_PARTS[REPORT.name], report.reference)]
    references = {
        name: reference_to(read_document(content))
        for name, content in objects.items()
        if name in codes.RESULT_PARTS
    }
    references[REPORT.name] = report.reference
    return [(codes.RESULT_PARTS[name], each) for name, each in references.items()]


def _rejection(
    published: Sequence[bytes], report: bytes, study: Study, recall: Recall, context: ReportContext
) -> Written:
    dataset = new_object(basis_of(read_document(report), study, context), KEY_OBJECT)
    dataset.InstanceNumber = 2
    date(dataset, recall.at, context)
    rejected = list(dict.fromkeys(reference_to(read_document(each)) for each in published))
    items = [
        *device_observer(context),
        *said_by_people(codes.KEY_OBJECT_DESCRIPTION, [recall.reason]),
        *(referring(_OBJECT, each) for each in rejected),
    ]
    complete_document(dataset, root(codes.REJECTED, "2010", items), evidence=rejected)
    hold(dataset, [recall.reason])
    return written(dataset, KEY_OBJECT, context)


@contextmanager
def _quietly() -> Iterator[None]:
    """Let pydicom say nothing of values that are copied as they stand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
