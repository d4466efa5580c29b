"""Workitems in and out: whatever comes is read or explained, whatever goes out is DICOM."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from fhir_mappers.workitem import (
    OBJECT_SET_INCOMPLETE,
    OBJECT_TYPES_NOT_SUPPORTED,
    OBJECTS_INCORRECTLY_FORMATTED,
    UNSPECIFIED_REASON,
    Asked,
    Discontinued,
    InvalidWorkitem,
    Stage,
    State,
    Wanted,
    Workitem,
    workitem,
)
from fhir_mappers.workitem_changes import (
    OutputInstance,
    Performed,
    discontinued,
    output_instances,
    performed,
    progress,
    state_change,
)

AT = datetime(2026, 11, 20, 10, 30, 4, tzinfo=timezone(timedelta(hours=1)))
STATION = Code("RADCDS-1", "99NORTH", "radcds at North Hospital")
TAGS = (
    "00080018", "00100020", "00100021", "00404005", "00404010", "00404018", "00404021", "00404025",
    "00404041", "00741000", "00741002", "00741200", "00741202", "00081199", "00081155", "0020000D",
    "0020000E", "0040E020", "00080100", "00080102", "00080104", "00741006", "00741238", "0074100E",
    "00404052",
)  # fmt: skip


def described(**changes: Any) -> dict[str, Any]:
    """A workitem in DICOM JSON, by keywords."""
    dataset = Dataset()
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.ProcedureStepState = "SCHEDULED"
    dataset.ScheduledProcedureStepPriority = "HIGH"
    dataset.ScheduledProcedureStepStartDateTime = "20261120093004.5+0100"
    dataset.InputReadinessState = "READY"
    dataset.WorklistLabel = "AI"
    dataset.PatientID = "MRN 123456"
    dataset.ScheduledStationNameCodeSequence = [coded("RADCDS-1", "99NORTH")]
    dataset.ScheduledWorkitemCodeSequence = [coded("110004", "DCM")]
    dataset.InputInformationSequence = [an_input("1.2.9", "1.2.9.1", "1.2.9.1.1")]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset.to_json_dict()


def coded(value: str, scheme: str, meaning: str = "meaning") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def an_input(study: str, series: str = "", instance: str = "", kind: str = "DICOM") -> Dataset:
    item, reference = Dataset(), Dataset()
    item.TypeOfInstances = kind
    item.StudyInstanceUID = study
    item.SeriesInstanceUID = series
    reference.ReferencedSOPInstanceUID = instance
    item.ReferencedSOPSequence = [reference]
    return item


def read(attributes: Mapping[str, object]) -> Workitem:
    return workitem(attributes, timezone="Europe/London")


def test_a_workitem_says_what_is_asked_of_whom() -> None:
    item = read(described())
    assert item.uid == "1.2.3.4"
    assert item.state is State.SCHEDULED
    assert item.ready
    assert item.asked == Asked("1.2.9", frozenset({"1.2.9.1"}), frozenset({"1.2.9.1.1"}))
    assert item.scheduled == datetime(2026, 11, 20, 8, 30, 4, tzinfo=UTC)
    assert item.stations == (STATION,)
    assert (item.label, item.patient_id, item.issuer) == ("AI", "MRN 123456", "")
    assert item.shown is None
    assert item.discontinued is None


def test_inputs_of_several_series_are_one_study() -> None:
    inputs = [an_input("1.2.9", "1.2.9.1"), an_input("1.2.9", "1.2.9.2")]
    asked = read(described(InputInformationSequence=inputs)).asked
    assert asked == Asked("1.2.9", frozenset({"1.2.9.1", "1.2.9.2"}), frozenset())


@pytest.mark.parametrize(
    ("inputs", "reason", "words"),
    [
        ([], OBJECT_SET_INCOMPLETE, "no input"),
        ([an_input("")], OBJECT_SET_INCOMPLETE, "no study"),
        ([an_input("1.2.9"), an_input("")], OBJECT_SET_INCOMPLETE, "no study"),
        ([an_input("1.2.9"), an_input("1.2.8")], OBJECT_TYPES_NOT_SUPPORTED, "2 studies"),
        ([an_input("1.2.9", kind="CDA")], OBJECT_TYPES_NOT_SUPPORTED, "not DICOM"),
    ],
)
def test_what_cannot_be_followed_is_explained(
    inputs: list[Dataset], reason: Code, words: str
) -> None:
    asked = read(described(InputInformationSequence=inputs)).asked
    assert isinstance(asked, Discontinued)
    assert asked.reason == reason
    assert words in asked.words


@pytest.mark.parametrize("bad", ["../../etc", "1.2." + "9" * 70, "1.2.x", "1..2", "*", "1.2?a=b"])
@pytest.mark.parametrize("tag", ["0020000D", "0020000E"])
def test_an_input_with_a_bad_identifier_is_explained_without_repeating_it(
    bad: str, tag: str
) -> None:
    attributes = described()
    attributes["00404021"]["Value"][0][tag] = {"vr": "UI", "Value": [bad]}
    asked = read(attributes).asked
    assert isinstance(asked, Discontinued)
    assert asked.reason == OBJECTS_INCORRECTLY_FORMATTED
    assert bad not in asked.words


@pytest.mark.parametrize("bad", ["", "../1.2", "1.2/state", "x" * 10_000, False, {"a": 1}, ["1.2"]])
def test_a_workitem_that_cannot_be_named_is_none(bad: Any) -> None:
    with pytest.raises(InvalidWorkitem) as refused:
        read(described() | {"00080018": {"vr": "UI", "Value": [bad]}})
    assert len(str(refused.value)) < 200


def test_urgent_before_routine_and_earlier_before_later() -> None:
    def at(uid: str, priority: str, start: str) -> Workitem:
        return read(
            described(
                SOPInstanceUID=uid,
                ScheduledProcedureStepPriority=priority,
                ScheduledProcedureStepStartDateTime=start,
            )
        )

    items = [
        at("1.1", "LOW", "20261120"),
        at("1.2", "MEDIUM", "202611200900+0000"),
        at("1.3", "MEDIUM", "202611200930+0100"),
        at("1.4", "HIGH", "20261121"),
        at("1.5", "", "202611200845+0000"),
        at("1.6", "HIGH", ""),
    ]
    ordered = [item.uid for item in sorted(items, key=lambda item: item.urgency)]
    assert ordered == ["1.4", "1.6", "1.3", "1.5", "1.2", "1.1"]


@pytest.mark.parametrize(
    ("wanted", "included"),
    [
        (Wanted(station=STATION), True),
        (Wanted(station=Code("RADCDS-1", "99SOUTH", "")), False),
        (Wanted(station=Code("RADCDS-2", "99NORTH", "")), False),
        (Wanted(code=Code("110004", "DCM", "Computer Aided Detection")), True),
        (Wanted(code=Code("110004", "99X", "")), False),
        (Wanted(label="AI"), True),
        (Wanted(label="ai"), False),
        (Wanted(station=STATION, label="other"), False),
    ],
)
def test_ours_is_what_matches_in_everything_that_is_asked(wanted: Wanted, included: bool) -> None:  # noqa: FBT001
    assert wanted.includes(read(described())) is included


def test_nobody_takes_all_the_work_there_is() -> None:
    with pytest.raises(ValueError, match="station"):
        Wanted()


def test_progress_and_reason_are_read_back_as_they_were_told() -> None:
    why = Discontinued(OBJECT_SET_INCOMPLETE, "The workitem names no input.")
    assert read(described() | progress(Stage.READING)).shown is Stage.READING
    item = read(described() | discontinued(why, AT))
    assert item.discontinued == why
    assert item.shown is None


def test_a_request_to_cancel_without_words_is_understood() -> None:
    stamp = {"00404052": {"vr": "DT", "Value": ["20261120"]}}
    shown = {"00741002": {"vr": "SQ", "Value": [stamp]}}
    found = read(described() | shown).discontinued
    assert found == Discontinued(UNSPECIFIED_REASON, "Canceled on request.")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["1.2.3", "SCHEDULED", "READY", "20261120", "00010101000000+1400",
                       "99991231235959-1200", "99999999999999", "20261120093004+9999"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(TAGS), inner, max_size=4)
    | st.fixed_dictionaries({"vr": st.just("XX"), "Value": st.lists(inner, max_size=3)}),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(TAGS), JUNK, max_size=12))
def test_whatever_a_worklist_sends_is_read_or_refused(junk: dict[str, Any]) -> None:
    try:
        item = read(junk)
    except InvalidWorkitem:
        return
    assert item.urgency <= (2, True, float("inf"), "")
    assert Wanted(label="AI").includes(item) in {True, False}
    assert isinstance(item.asked, Asked | Discontinued)
    if item.modified:
        assert isinstance(max(item.modified, AT) - AT, timedelta)


# --- out


def done(**changes: Any) -> Performed:
    values: dict[str, Any] = {
        "station": STATION,
        "code": Code("110004", "DCM", "Computer Aided Detection"),
        "began": AT - timedelta(seconds=2),
        "ended": AT,
        "outputs": (
            OutputInstance("1.2.9", "2.25.1", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.11"),
            OutputInstance("1.2.9", "2.25.2", "1.2.840.10008.5.1.4.1.1.7", "2.25.21"),
            OutputInstance("1.2.9", "2.25.2", "1.2.840.10008.5.1.4.1.1.7", "2.25.22"),
        ),
        "retrieved_from": "https://pacs.example.org/dicom-web",
    }
    return Performed(**{**values, **changes})


def test_what_was_done_names_every_output_by_its_series_and_where_it_is() -> None:
    dataset = Dataset.from_json(dict(performed(done())))
    (step,) = dataset.UnifiedProcedureStepPerformedProcedureSequence
    assert step.PerformedStationNameCodeSequence[0].CodeValue == "RADCDS-1"
    assert step.PerformedWorkitemCodeSequence[0].CodeMeaning == "Computer Aided Detection"
    assert step.PerformedProcedureStepStartDateTime == "20261120093002.000000+0000"
    assert step.PerformedProcedureStepEndDateTime == "20261120093004.000000+0000"
    first, second = step.OutputInformationSequence
    assert first.TypeOfInstances == "DICOM"
    assert [r.ReferencedSOPInstanceUID for r in second.ReferencedSOPSequence] == [
        "2.25.21",
        "2.25.22",
    ]
    url = "https://pacs.example.org/dicom-web/studies/1.2.9/series/2.25.2"
    assert second.WADORSRetrievalSequence[0].RetrieveURL == url
    assert "CommentsOnThePerformedProcedureStep" not in step


def test_the_same_is_told_in_the_same_words() -> None:
    assert performed(done()) == performed(done())


@given(words=st.text(st.characters(codec="utf-8"), min_size=1), padding=st.integers(0, 12_000))
def test_words_stay_within_what_dicom_holds(words: str, padding: int) -> None:
    long = words + "x" * padding
    told = discontinued(Discontinued(UNSPECIFIED_REASON, long), AT)
    commented = performed(done(comment=long))
    for changes in (told, commented):
        for item in _texts(changes):
            assert len(item) <= 10_240
    step = Dataset.from_json(dict(commented)).UnifiedProcedureStepPerformedProcedureSequence[0]
    assert len(step.CommentsOnThePerformedProcedureStep) <= 1024


def _texts(changes: Any) -> list[str]:
    if isinstance(changes, Mapping):
        return [text for value in changes.values() for text in _texts(value)]
    if isinstance(changes, list):
        return [text for value in changes for text in _texts(value)]
    return [changes] if isinstance(changes, str) else []


def test_another_state_is_asked_for_with_the_claim_and_nothing_else() -> None:
    asked = Dataset.from_json(dict(state_change(State.IN_PROGRESS, "2.25.7")))
    assert [element.keyword for element in asked] == ["TransactionUID", "ProcedureStepState"]
    assert asked.ProcedureStepState == "IN PROGRESS"


def test_outputs_are_named_from_their_files() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.21"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.9", "2.25.2"
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=True)
    outputs = output_instances({"secondary-capture.dcm": written.getvalue()})
    assert outputs == (OutputInstance("1.2.9", "2.25.2", str(dataset.SOPClassUID), "2.25.21"),)
