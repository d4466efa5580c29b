"""A stored result comes back as it was, also one that an earlier version stored."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import OUTCOMES, chest_instance, chest_study

from ai_engine.result import Outcome, Reason, TriageResult
from cds_server.adapters.result_json import decode, encode
from cds_server.ports import StoredResult
from fhir_mappers.candidate import PassedOver
from fhir_mappers.dicom_study import study_of
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.selection import Exclusion, select_images
from fhir_mappers.study import Instance, Plane, Series, Study

STORED_AT = datetime(2026, 11, 20, 9, 30, 4, 250_000, tzinfo=UTC)

EVERYTHING = Instance(
    sop_instance_uid="1.2.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    instance_number=None,
    rows=512,
    columns=512,
    number_of_frames=1,
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    view_position="",
    modality="CT",
    body_part="HEAD",
    description="Böne",
    region_codes=("51185008",),
    view_codes=("1", "2"),
    protocol_name="THORAX",
    presentation_intent="FOR PRESENTATION",
    samples_per_pixel=3,
    burned_in_annotation=True,
    quality_control=True,
    acquired="20261120090101.250000",
    acquisition_number=2,
    irradiation_event_uids=("1.2.3",),
    kernel="BR40D",
    plane=Plane("1.9", (-0.1, 1e-17, 47.3), (1.0, 0.0, 0.0, 0.0, 0.94, -0.34), (0.7, 1 / 3)),
    rejects=("1.2.5",),
)

# As version 0.1.0 wrote it: no other field of a study, a series or an instance was known.
OLD = {
    "result_id": "r-1",
    "study": {
        "study_instance_uid": "1.2",
        "accession_number": "ACC1001",
        "patient": {
            "patient_id": "MRN 123456",
            "issuer": "",
            "name": {"family": "TEST", "given": "", "middle": "", "prefix": "", "suffix": ""},
            "birth_date": None,
            "sex": "F",
        },
        "started": "2026-11-20T09:12:00+00:00",
        "description": "Chest PA",
        "referring_physician": {
            "family": "",
            "given": "",
            "middle": "",
            "prefix": "",
            "suffix": "",
        },
        "series": [
            {
                "series_instance_uid": "1.2.1",
                "modality": "DX",
                "body_part": "CHEST",
                "description": "PA",
                "series_number": 1,
                "instances": [
                    {
                        "sop_instance_uid": "1.2.1.1",
                        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
                        "instance_number": 1,
                        "rows": 256,
                        "columns": 224,
                        "number_of_frames": 1,
                        "image_type": ["ORIGINAL", "PRIMARY"],
                        "view_position": "PA",
                    }
                ],
            }
        ],
    },
    "outcome": {
        "not_analysed": {"reason": "LATERAL_VIEW", "detail": "A lateral view.", "model": None}
    },
    "stored_at": "2026-11-20T09:30:04+00:00",
    "seconds": {"fetch": 0.02},
}


def stored(study: Study, outcome: Outcome = OUTCOMES["failed"], **changes: Any) -> StoredResult:
    return StoredResult("r-1", study, outcome, STORED_AT, {"fetch": 0.25}, **changes)


def with_instances(*instances: Instance) -> Study:
    return chest_study(series=(Series("1.2", "DX", "CHEST", "", None, instances),))


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_every_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    back = decode(encode(stored(chest_study(), outcome))).outcome
    if not isinstance(outcome, TriageResult):
        assert back == outcome
        return
    assert isinstance(back, TriageResult)
    assert (back.priority, back.findings, back.model) == (
        outcome.priority,
        outcome.findings,
        outcome.model,
    )
    for one, other in zip(back.saliency, outcome.saliency, strict=True):
        assert one.label == other.label
        assert np.array_equal(one.grid, other.grid)


def test_everything_that_is_known_of_an_instance_comes_back() -> None:
    plain = {each.name: each.default for each in fields(Instance)}
    left = {each for each in plain if getattr(EVERYTHING, each) == plain[each]}
    assert not left, "the example leaves a field at its default"
    study = with_instances(EVERYTHING, replace(EVERYTHING, plane=None, kernel=""))
    assert decode(encode(stored(study))).study == study


def test_what_was_read_and_what_was_not_come_back_in_order() -> None:
    exclusions = (
        Exclusion("1.1", PassedOver.OTHER_SERIES, "Another series was read."),
        Exclusion("1.2", PassedOver.OTHER_SERIES, "Another series was read."),
        Exclusion("1.3", Reason.LATERAL_VIEW, "A lateral view."),
        Exclusion("1.4", PassedOver.OTHER_SERIES, "Another series was read."),
    )
    result = stored(chest_study(), chosen={"1.5": "ab" * 32, "1.3": ""}, exclusions=exclusions)
    back = decode(encode(result))
    assert back == result
    assert [type(each.reason) for each in back.exclusions] == [
        type(each.reason) for each in exclusions
    ]


def test_no_code_means_two_things() -> None:
    assert not {each.value for each in Reason} & {each.value for each in PassedOver}
    assert all(each.name == each.value for each in PassedOver)


def test_a_result_of_an_earlier_version_is_still_read() -> None:
    back = decode(json.dumps(OLD))
    assert back.study.institution == ""
    assert (back.shadow, back.chosen, back.exclusions) == (False, {}, ())
    (series,) = back.study.series
    (instance,) = series.instances
    assert instance == Instance(
        "1.2.1.1",
        "1.2.840.10008.5.1.4.1.1.1.1",
        1,
        256,
        224,
        1,
        ("ORIGINAL", "PRIMARY"),
        "PA",
    )
    assert [each.sop_instance_uid for each in select_images(back.study).chosen] == ["1.2.1.1"]


def test_a_radiograph_takes_no_room_for_what_only_slices_have() -> None:
    (written,) = json.loads(encode(stored(chest_study())))["study"]["series"][0]["instances"]
    assert set(written) == {each.name for each in fields(Instance)[:8]}


header = dict(chest_instance(PixelData=None).to_json_dict())
more = ("00200032", "00200037", "00280030", "0040A043", "0040A375", "00083010", "00181210")
value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=9,
)


@given(
    st.dictionaries(
        st.sampled_from(sorted({*header, *more})),
        st.fixed_dictionaries({"Value": st.lists(value, max_size=7)}),
        max_size=6,
    )
)
def test_whatever_an_archive_says_of_a_study_can_be_stored(damage: dict[str, Any]) -> None:
    try:
        study = study_of([{**header, **damage}], timezone="UTC")
    except InvalidStudy:
        return
    exclusions = select_images(study).excluded
    result = stored(study, exclusions=exclusions)
    assert decode(encode(result)) == result
