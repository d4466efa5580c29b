"""What is told to a worklist of the work done, as DICOM JSON.

========================  =====================================================================
told                      where it stands
========================  =====================================================================
how far the work is       Procedure Step Progress Information Sequence (0074,1002)
why it is given up        in the same, with Cancellation DateTime and Discontinuation Reason Code
what was done             Unified Procedure Step Performed Procedure Sequence (0074,1216)
where the results are     in the same: Output Information Sequence (0040,4033), one item a series
========================  =====================================================================

A sequence replaces the one before, so each is told whole.

References
----------
DICOM PS3.3 C.30.2 and C.30.3, Table 10-3b; PS3.4 Table CC.2.1-1 and Table CC.2.5-3.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code

from fhir_mappers.workitem import Discontinued, Stage, State

COMPUTER_AIDED_DETECTION = Code("110004", "DCM", "Computer Aided Detection")
"""Of DICOM PS3.16 CID 9231: what is performed where the workitem names no other."""
_SHORT_TEXT, _LONG_TEXT = 1024, 10240
Changes = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OutputInstance:
    """One result object, by its identifiers."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Performed:
    """What was done.

    Parameters
    ----------
    station
        Who did it.
    code
        What it was.
    began, ended
        With an offset.
    outputs
        Every result object, at least one.
    retrieved_from
        DICOMweb address under which they are found, without a trailing slash.
    comment
        One sentence for a person, or empty.
    """

    station: Code
    code: Code
    began: datetime
    ended: datetime
    outputs: tuple[OutputInstance, ...]
    retrieved_from: str
    comment: str = ""


def state_change(state: State, transaction_uid: str) -> Changes:
    """Ask for another state: claim, complete or cancel."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ProcedureStepState = state.value
    return dataset.to_json_dict()


def progress(stage: Stage) -> Changes:
    """Tell how far the work is."""
    item = Dataset()
    item.ProcedureStepProgressDescription = stage.value
    return _progress(item)


def discontinued(why: Discontinued, at: datetime, shown: Stage | None = None) -> Changes:
    """Tell why the work is given up, beside the stage that is shown; the state is changed apart."""
    item = Dataset()
    item.ProcedureStepProgressDescription = shown.value if shown else "Canceled"
    item.ProcedureStepCancellationDateTime = _date_time(at)
    item.ReasonForCancellation = why.words[:_LONG_TEXT]
    item.ProcedureStepDiscontinuationReasonCodeSequence = Items([_code(why.reason)])
    return _progress(item)


def performed(done: Performed) -> Changes:
    """Tell what was done and where the results are; the state is changed apart."""
    item = Dataset()
    item.PerformedStationNameCodeSequence = Items([_code(done.station)])
    item.PerformedProcedureStepStartDateTime = _date_time(done.began)
    item.PerformedProcedureStepEndDateTime = _date_time(done.ended)
    item.PerformedWorkitemCodeSequence = Items([_code(done.code)])
    if done.comment:
        item.CommentsOnThePerformedProcedureStep = done.comment[:_SHORT_TEXT]
    item.OutputInformationSequence = Items(_outputs(done))
    dataset = Dataset()
    dataset.UnifiedProcedureStepPerformedProcedureSequence = Items([item])
    return dataset.to_json_dict()


def output_instances(files: Mapping[str, bytes]) -> tuple[OutputInstance, ...]:
    """Give the identifiers of DICOM Part 10 files of our own making."""
    found = []
    for content in files.values():
        dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        found.append(
            OutputInstance(
                str(dataset.StudyInstanceUID),
                str(dataset.SeriesInstanceUID),
                str(dataset.SOPClassUID),
                str(dataset.SOPInstanceUID),
            )
        )
    return tuple(found)


def _outputs(done: Performed) -> Sequence[Dataset]:
    series: dict[tuple[str, str], list[OutputInstance]] = {}
    for each in done.outputs:
        series.setdefault((each.study_instance_uid, each.series_instance_uid), []).append(each)
    return [_output(done.retrieved_from, *uids, members) for uids, members in series.items()]


def _output(
    retrieved_from: str, study_uid: str, series_uid: str, members: Sequence[OutputInstance]
) -> Dataset:
    retrieval = Dataset()
    retrieval.RetrieveURL = f"{retrieved_from}/studies/{study_uid}/series/{series_uid}"
    item = Dataset()
    item.TypeOfInstances = "DICOM"
    item.StudyInstanceUID = study_uid
    item.SeriesInstanceUID = series_uid
    item.ReferencedSOPSequence = Items(_reference(each) for each in members)
    item.WADORSRetrievalSequence = Items([retrieval])
    return item


def _reference(output: OutputInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = output.sop_class_uid
    item.ReferencedSOPInstanceUID = output.sop_instance_uid
    return item


def _progress(item: Dataset) -> Changes:
    dataset = Dataset()
    dataset.ProcedureStepProgressInformationSequence = Items([item])
    return dataset.to_json_dict()


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _date_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
