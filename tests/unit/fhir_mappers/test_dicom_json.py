"""What an archive says in JSON becomes a header that can be written, whatever it says."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from studies import OUTCOMES, chest_instance, chest_study, context

from fhir_mappers.dicom_json import header
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.patient_and_study import encoded

PICTURE = np.full((24, 20, 3), 90, np.uint8)
SEQUENCE = "00081032"


def nested(depth: int) -> dict[str, object]:
    inside: dict[str, object] = {"00080100": {"vr": "SH", "Value": [5]}}
    for _ in range(depth):
        inside = {SEQUENCE: {"vr": "SQ", "Value": [inside]}}
    return inside


def report_of(attributes: dict[str, object]) -> Dataset:
    described = {**chest_instance(PixelData=None).to_json_dict(), **attributes}
    made = dicom_results(
        chest_study(),
        OUTCOMES["urgent"],
        header=header(described),
        picture=PICTURE,
        context=context(),
    )
    return pydicom.dcmread(io.BytesIO(made["report.dcm"]))


def test_a_number_is_text_where_dicom_has_text() -> None:
    report = report_of(
        {
            "00100020": {"vr": "LO", "Value": [123456]},
            "00080050": {"vr": "SH", "Value": [1.5]},
            SEQUENCE: {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": [71020]}}]},
        }
    )
    assert report.PatientID == "123456"
    assert report.AccessionNumber == "1.5"
    assert report.ProcedureCodeSequence[0].CodeValue == "71020"


def test_a_missing_vr_is_that_of_the_dictionary() -> None:
    said = header(
        {
            "00100010": {"Value": [{"Alphabetic": "TEST^PATIENT"}]},
            "00280010": {"Value": [7]},
            "00990010": {"Value": ["nobody knows"]},
        }
    )
    assert (str(said.PatientName), said.Rows, len(said)) == ("TEST^PATIENT", 7, 2)


@pytest.mark.parametrize(
    "described",
    [
        {"vr": "US", "Value": [70000]},
        {"vr": "US", "Value": ["many"]},
        {"vr": "IS", "Value": [float("inf")]},
        {"vr": "DS", "Value": ["72,5"]},
        {"vr": "XX", "Value": ["?"]},
        {"vr": ["SQ"], "Value": [{}]},
        {"vr": "SQ", "Value": [{"00100020": 5}]},
        {"vr": "SQ", "Value": [5]},
        {"vr": "PN", "Value": [5]},
        {"vr": "LO", "Value": 5},
        {"vr": "OW", "InlineBinary": "AAA="},
        "text",
        None,
    ],
)
def test_what_cannot_be_written_is_left_out_and_the_rest_stays(described: object) -> None:
    said = header(
        {"00101030": described, SEQUENCE: described, "00100020": {"vr": "LO", "Value": ["1"]}}
    )
    assert [each.keyword for each in said] == ["PatientID"]


def test_sequences_within_sequences_are_read_as_deep_as_anyone_nests_them() -> None:
    assert [len(header(nested(depth))) for depth in (1, 16, 17, 400)] == [1, 1, 0, 0]
    assert report_of(nested(16)).ProcedureCodeSequence
    assert "ProcedureCodeSequence" not in report_of(nested(400))


def test_a_table_inside_an_item_is_kept() -> None:
    table = {"00283006": {"vr": "OW", "InlineBinary": "AAECAw=="}}
    (item,) = header({"00283010": {"vr": "SQ", "Value": [table]}}).VOILUTSequence
    assert item.LUTData == b"\0\1\2\3"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.fixed_dictionaries({"Alphabetic": inner})
        | st.fixed_dictionaries({"00080100": st.fixed_dictionaries({"vr": st.just("SH")})})
    ),
    max_leaves=4,
)
VRS = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OW", "PN"),
    *("SH", "SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV"),
    "XX",
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(VRS),
    st.lists(json_values, max_size=3),
    st.sampled_from(["00100020", SEQUENCE, "00990010"]),
)
@example("LO", ["\ud800"], "00100020")
def test_every_header_can_be_written(vr: str, found: list[object], tag: str) -> None:
    said = header({tag: {"vr": vr, "Value": found}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are copied as they stand
        assert bool(encoded(said)) is bool(said)
