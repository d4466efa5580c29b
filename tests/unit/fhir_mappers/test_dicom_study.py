"""A study is read from its metadata, or refused; nothing in it can become a path."""

import string
from copy import deepcopy
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from studies import OUTCOMES, STUDY_UID, chest_instance, context

from fhir_mappers.dicom_study import check_uid, study_of
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.oru_r01 import oru_r01
from fhir_mappers.study import Instance, Plane


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


@pytest.mark.parametrize("offset", ["+1500", "-1401", "+0160", "+2400", "0100"])
def test_an_offset_that_no_place_has_gives_way_to_the_zone_of_the_site(offset: str) -> None:
    study = study_of([metadata(TimezoneOffsetFromUTC=offset)], timezone="Asia/Tokyo")
    assert study.started is not None
    assert study.started.utcoffset() == timedelta(hours=9)
    assert oru_r01(study, OUTCOMES["flagged"], context=context(), overlay_jpeg=None)


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


def instance(**changes: object) -> Instance:
    (series,) = study_of([metadata(**changes)], timezone="UTC").series
    return series.instances[0]


def raw(tag: str, *values: object) -> Instance:
    """The instance of a header in which an attribute has values that DICOM would not write."""
    (series,) = study_of([{**metadata(), tag: {"Value": list(values)}}], timezone="UTC").series
    return series.instances[0]


AXIAL = [1, 0, 0, 0, 1, 0]


def slice_at(position: object, orientation: object, **changes: object) -> Plane | None:
    places = {"ImagePositionPatient": position, "ImageOrientationPatient": orientation}
    return instance(**places, **changes).plane


def test_the_place_of_a_slice_is_read() -> None:
    plane = slice_at([-150.5, -150, 47], AXIAL, FrameOfReferenceUID="1.9", PixelSpacing=[0.7, 0.8])
    assert plane == Plane("1.9", (-150.5, -150.0, 47.0), (1, 0, 0, 0, 1, 0), (0.7, 0.8))
    assert plane.normal == (0, 0, 1)


@pytest.mark.parametrize(
    ("position", "orientation"),
    [
        (None, AXIAL),
        ([0, 0, 0], None),
        ([0, 0], AXIAL),
        ([0, 0, 0], [1, 0, 0, 0, 1]),
        ([0, 0, 0], [0, 0, 0, 0, 0, 0]),
        ([0, 0, 0], [1, 0, 0, 1, 0, 0]),
        ([0, 0, 0], [2, 0, 0, 0, 2, 0]),
        ([0, 0, 0], [1e200, 0, 0, 0, -1e200, 0]),
        ([0, 0, 1e300], AXIAL),
    ],
)
def test_numbers_that_are_no_plane_in_a_patient_give_none(
    position: object, orientation: object
) -> None:
    assert slice_at(position, orientation) is None


@pytest.mark.parametrize("spacing", [None, [0, 0], [0.7, -0.7], [0.7], [1e300, 1]])
def test_a_spacing_that_cannot_be_is_left_out(spacing: object) -> None:
    plane = slice_at([0, 0, 0], AXIAL, PixelSpacing=spacing)
    assert plane is not None
    assert plane.spacing_mm is None


@pytest.mark.parametrize(
    ("changes", "acquired"),
    [
        ({}, ""),
        ({"AcquisitionDate": "20261120"}, "20261120"),
        ({"AcquisitionDate": "20261120", "AcquisitionTime": "09"}, "20261120090000.000000"),
        ({"AcquisitionDate": "20261120", "AcquisitionTime": "090102.5"}, "20261120090102.500000"),
        ({"AcquisitionDateTime": "20261120090102.25+0100"}, "20261120090102.250000"),
        ({"AcquisitionTime": "0901", "ContentDate": "20261121"}, "20261121"),
        ({"ContentDate": "20261120", "ContentTime": "0901"}, "20261120090100.000000"),
    ],
)
def test_the_moment_of_an_image_is_text_that_sorts(
    changes: dict[str, object], acquired: str
) -> None:
    assert instance(**changes).acquired == acquired


def test_dates_and_times_in_the_old_way_of_writing_are_read() -> None:
    old = {
        **metadata(),
        "00080022": {"vr": "DA", "Value": ["2026.11.20"]},
        "00080032": {"vr": "TM", "Value": ["09:01:02"]},
    }
    (series,) = study_of([old], timezone="UTC").series
    assert series.instances[0].acquired == "20261120090102.000000"


@pytest.mark.parametrize("number", [10**30, -(2**40), 1.5, True, "", "9" * 5000, {}, [3]])
def test_what_is_no_whole_number_of_32_bits_is_none(number: object) -> None:
    assert raw("00200013", number).instance_number is None


def test_bulk_data_and_nulls_are_as_absent() -> None:
    value = metadata()
    value["00200032"] = {"vr": "DS", "BulkDataURI": "https://pacs.example.org/bulk/1"}
    value["00080008"] = {"vr": "CS", "Value": [None, "primary", 3]}
    value["00540220"] = {"vr": "SQ", "Value": [None, {}, "1"]}
    (series,) = study_of([value], timezone="UTC").series
    (read,) = series.instances
    assert (read.plane, read.image_type, read.view_codes) == (None, ("PRIMARY",), ())


def coded(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    return item


@pytest.mark.parametrize(
    ("title", "rejects"),
    [
        ("113001", ("1.2.3", "1.2.4")),
        ("113037", ("1.2.3", "1.2.4")),
        ("113038", ("1.2.3", "1.2.4")),
        ("113039", ("1.2.3", "1.2.4")),
        ("113000", ()),
    ],
)
def test_a_rejection_note_names_what_it_withdraws(title: str, rejects: tuple[str, ...]) -> None:
    evidence = []
    for uid in ("1.2.3", "1.2.4"):
        object_, of_series, of_study = Dataset(), Dataset(), Dataset()
        object_.ReferencedSOPInstanceUID = uid
        of_series.ReferencedSOPSequence = [object_]
        of_study.ReferencedSeriesSequence = [of_series]
        evidence.append(of_study)
    note = instance(
        ConceptNameCodeSequence=[coded(title)], CurrentRequestedProcedureEvidenceSequence=evidence
    )
    assert note.rejects == rejects


def test_an_instance_says_only_what_its_series_does_not() -> None:
    first = metadata(SOPInstanceUID="1.1", InstanceNumber=1)
    other = metadata(SOPInstanceUID="1.2", InstanceNumber=2, Modality="CR", SeriesDescription="LAT")
    (series,) = study_of([other, first], timezone="UTC").series
    one, two = series.instances
    assert (series.modality, series.description) == ("DX", "")
    assert (one.modality, one.body_part, one.description) == ("", "", "")
    assert (two.modality, two.body_part, two.description) == ("CR", "", "LAT")


@given(st.permutations(range(6)))
def test_a_study_is_the_same_in_whatever_order_the_archive_lists_it(order: list[int]) -> None:
    listed = [
        metadata(
            SOPInstanceUID=f"1.{n}",
            SeriesInstanceUID=f"1.9.{n % 2}",
            InstanceNumber=None if n > 3 else 7 - n,
            Modality="CR" if n % 3 else "DX",
            InstitutionName=f"Hospital {n}",
        )
        for n in range(6)
    ]
    assert study_of([listed[n] for n in order], timezone="UTC") == study_of(listed, timezone="UTC")
