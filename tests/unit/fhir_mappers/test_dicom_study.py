"""A study is read from its metadata, or refused; nothing in it can become a path."""

import string
from copy import deepcopy
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import STUDY_UID, chest_instance

from fhir_mappers.dicom_study import check_uid, study_of
from fhir_mappers.errors import InvalidStudy


def metadata(**changes: object) -> dict[str, object]:
    dataset = chest_instance(PixelData=None, **changes)
    return dict(dataset.to_json_dict())


def test_identity_order_and_series_are_read() -> None:
    study = study_of([metadata()], timezone="Europe/London")
    assert study.study_instance_uid == STUDY_UID
    assert study.accession_number == "ACC1001"
    assert study.patient.patient_id == "MRN 123456"
    assert study.patient.birth_date == "1970-01-01"
    assert study.patient.name.family == "TEST"
    assert study.modalities == ("DX",)
    assert study.number_of_instances == 1
    assert study.series[0].instances[0].view_position == "PA"


def test_a_study_time_is_never_naive() -> None:
    with_offset = study_of([metadata(TimezoneOffsetFromUTC="-0430")], timezone="Europe/London")
    assert with_offset.started is not None
    assert with_offset.started.utcoffset() == -timedelta(hours=4, minutes=30)
    zoned = study_of(
        [metadata(TimezoneOffsetFromUTC=None, StudyDate="20260701")], timezone="Europe/London"
    )
    assert zoned.started is not None
    assert zoned.started.utcoffset() == timedelta(hours=1)


@pytest.mark.parametrize("date", ["", "20261332", "not a date"])
def test_a_study_without_a_date_has_no_time(date: str) -> None:
    value = metadata()
    value["00080020"] = {"vr": "DA", "Value": [date]} if date else {"vr": "DA"}
    assert study_of([value], timezone="UTC").started is None


@pytest.mark.parametrize(
    "uid", ["../../etc", "1.2.3/..", "", "1..2", ".1", "1.", "1.2.a", "1" * 65]
)
def test_what_is_not_a_uid_is_refused_without_repeating_it(uid: str) -> None:
    value = metadata()
    value["0020000D"] = {"vr": "UI", "Value": [uid]}
    with pytest.raises(InvalidStudy) as refused:
        study_of([value], timezone="UTC")
    assert not uid or uid not in str(refused.value)


@given(st.text(alphabet=string.printable, max_size=80))
def test_a_checked_uid_is_safe_as_a_folder_name(text: str) -> None:
    try:
        uid = check_uid(text, "UID")
    except InvalidStudy:
        return
    assert set(uid) <= set("0123456789.")
    assert ".." not in uid
    assert 0 < len(uid) <= 64


@pytest.mark.parametrize("tag", ["0020000D", "00100020"])
def test_instances_that_disagree_about_study_or_patient_are_refused(tag: str) -> None:
    other = deepcopy(metadata())
    other[tag] = {"vr": "UI", "Value": ["1.2.3"]}
    with pytest.raises(InvalidStudy, match="disagree"):
        study_of([metadata(), other], timezone="UTC")


def test_no_instance_is_refused() -> None:
    with pytest.raises(InvalidStudy, match="no instance"):
        study_of([], timezone="UTC")


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
tags = st.sampled_from(sorted(metadata()))


@given(st.dictionaries(tags, st.fixed_dictionaries({"Value": json_value}) | json_value))
def test_whatever_the_archive_sends_is_a_study_or_refused(damage: dict[str, object]) -> None:
    try:
        study = study_of([{**metadata(), **damage}], timezone="UTC")
    except InvalidStudy:
        return
    assert study.started is None or study.started.tzinfo is not None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada"),
        ("=김^희중", "김"),
        ("Äneas^Rüdiger", "Äneas"),
    ],
)
def test_names_of_any_script_survive(name: str, family: str) -> None:
    assert study_of([metadata(PatientName=name)], timezone="UTC").patient.name.family == family
