"""Each AIR rule fires on what breaks it and on nothing else, and garbage never stops the check."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping

import pytest
from air_objects import (
    MODEL,
    air_set,
    coded,
    pointing_at,
    report,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from studies import chest_instance

from fhir_mappers.air.access import UNDECODABLE, walk
from fhir_mappers.air.rule import Severity
from fhir_mappers.air.rules import RULES, AirReport, check

_GOOD = air_set()


class Objects(dict[str, Dataset]):
    """Good objects, each copied when a test first takes hold of it."""

    def __init__(self) -> None:
        super().__init__(_GOOD)
        self._own: set[str] = set()

    def __getitem__(self, name: str) -> Dataset:
        if name not in self._own:
            self._own.add(name)
            self[name] = copy.deepcopy(super().__getitem__(name))
        return super().__getitem__(name)


Mutation = Callable[[Objects], None]


def good() -> Objects:
    return Objects()


def found(objects: Mapping[str, Dataset]) -> set[str]:
    return {each.rule.id for each in check(objects.items()).findings}


def tree(dataset: Dataset, code: str) -> Dataset:
    """Give the first content item of that concept name."""
    waiting = [dataset]
    while waiting:
        item = waiting.pop(0)
        named = item.get("ConceptNameCodeSequence")
        if named and named[0].CodeValue == code:
            return item
        waiting.extend(item.get("ContentSequence", []))
    raise AssertionError(code)


def parent_of(dataset: Dataset, code: str) -> Dataset:
    waiting = [dataset]
    while waiting:
        item = waiting.pop(0)
        for child in item.get("ContentSequence", []):
            named = child.get("ConceptNameCodeSequence")
            if named and named[0].CodeValue == code:
                return item
            waiting.append(child)
    raise AssertionError(code)


def without(dataset: Dataset, code: str) -> None:
    parent = parent_of(dataset, code)
    parent.ContentSequence = Items(
        [
            each
            for each in parent.ContentSequence
            if each.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeValue") != code
        ]
    )


def equipment(objects: Objects) -> Dataset:
    return objects["report.dcm"].ContributingEquipmentSequence[0]


def evidence(dataset: Dataset) -> list[Dataset]:
    """Give every referenced SOP item of the evidence sequence."""
    return [
        item
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def put(dataset: Dataset, keyword: str, value: object) -> None:
    """Set a value that pydicom warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setattr(dataset, keyword, value)


def set_meta(dataset: Dataset) -> None:
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID


def rename_everywhere(objects: Objects, old: str, new: str) -> None:
    for name in objects:
        for element in objects[name].iterall():
            if element.VR == "UI" and element.value == old:
                element.value = new


# ── One mutation a rule ──────────────────────────────────────────────────────────────────────────

MUTATIONS: dict[str, Mutation] = {}


def breaks(rule: str) -> Callable[[Mutation], Mutation]:
    def register(mutation: Mutation) -> Mutation:
        assert rule not in MUTATIONS
        MUTATIONS[rule] = mutation
        return mutation

    return register


@breaks("machine-readable")
def _pictures_alone(objects: Objects) -> None:
    for name in ("report.dcm", "segmentation.dcm", "map.dcm", "root.dcm", "capture.dcm"):
        del objects[name]
    del objects["state.dcm"], objects["key-object.dcm"]


@breaks("root-result")
def _no_root(objects: Objects) -> None:
    without_one = tree(objects["root.dcm"], "126010")
    without_one.ContentSequence = Items(without_one.ContentSequence[1:])


@breaks("same-study")
def _study_of_nobody(objects: Objects) -> None:
    lone = objects["report.dcm"]
    objects.clear()
    other = chest_instance(
        StudyInstanceUID="2.25.5001", SeriesInstanceUID="2.25.5002", SOPInstanceUID="2.25.5003"
    )
    objects.update({"chest.dcm": other, "report.dcm": lone})


@breaks("patient-attributes")
def _another_sex(objects: Objects) -> None:
    objects["map.dcm"].PatientSex = "M"


@breaks("study-attributes")
def _another_accession(objects: Objects) -> None:
    objects["segmentation.dcm"].AccessionNumber = "OTHER"


@breaks("inherited-attributes")
def _no_issuer(objects: Objects) -> None:
    del objects["capture.dcm"].IssuerOfPatientID


@breaks("sop-instance-unique")
def _twice(objects: Objects) -> None:
    objects["again.dcm"] = copy.deepcopy(objects["map.dcm"])


@breaks("own-series")
def _in_series_of_source(objects: Objects) -> None:
    rename_everywhere(
        objects,
        objects["segmentation.dcm"].SeriesInstanceUID,
        objects["slice.dcm"].SeriesInstanceUID,
    )


@breaks("series-modality")
def _mixed_series(objects: Objects) -> None:
    rename_everywhere(
        objects, objects["capture.dcm"].SeriesInstanceUID, objects["state.dcm"].SeriesInstanceUID
    )


@breaks("reference-found")
def _dangling(objects: Objects) -> None:
    del objects["chest.dcm"]


@breaks("reference-class")
def _wrong_class(objects: Objects) -> None:
    tree(objects["report.dcm"], "111030").ContentSequence[0].ReferencedSOPSequence[
        0
    ].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


@breaks("reference-place")
def _wrong_series(objects: Objects) -> None:
    study = objects["report.dcm"].CurrentRequestedProcedureEvidenceSequence[0]
    study.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.77"


@breaks("tracking-consistent")
def _other_uid(objects: Objects) -> None:
    objects["segmentation.dcm"].SegmentSequence[0].TrackingUID = "2.25.2002"


@breaks("tracking-unique")
def _two_findings(objects: Objects) -> None:
    measurements = tree(objects["report.dcm"], "126010")
    second = copy.deepcopy(measurements.ContentSequence[0])
    tree(second, "121071").ConceptCodeSequence = Items([coded("4147007", "SCT", "Mass")])
    measurements.ContentSequence.append(second)


@breaks("equipment")
def _no_equipment(objects: Objects) -> None:
    equipment(objects).PurposeOfReferenceCodeSequence = Items(
        [coded("109101", "DCM", "Acquisition Equipment")]
    )


@breaks("equipment-purpose")
def _placeholder(objects: Objects) -> None:
    equipment(objects).PurposeOfReferenceCodeSequence = Items(
        [coded("Newcode1", "DCM", "Processing Algorithm")]
    )


@breaks("equipment-manufacturer")
def _no_manufacturer(objects: Objects) -> None:
    equipment(objects).Manufacturer = ""


@breaks("equipment-model")
def _no_model(objects: Objects) -> None:
    del equipment(objects).ManufacturerModelName


@breaks("equipment-version")
def _no_version(objects: Objects) -> None:
    del equipment(objects).SoftwareVersions


@breaks("equipment-device")
def _no_device(objects: Objects) -> None:
    equipment(objects).DeviceUID = None


@breaks("picture-equipment")
def _picture_of_nobody(objects: Objects) -> None:
    del objects["state.dcm"].ContributingEquipmentSequence


@breaks("content-date")
def _no_date(objects: Objects) -> None:
    del objects["report.dcm"].ContentDate


@breaks("content-after-creation")
def _from_the_future(objects: Objects) -> None:
    objects["report.dcm"].ContentTime = "093004.000001"
    objects["report.dcm"].InstanceCreationTime = "093004.000000"


@breaks("uid")
def _leading_zero(objects: Objects) -> None:
    put(equipment(objects), "DeviceUID", "2.25.007")


@breaks("file-meta")
def _other_meta(objects: Objects) -> None:
    objects["report.dcm"].file_meta.MediaStorageSOPInstanceUID = "2.25.1"


@breaks("modality")
def _other_modality(objects: Objects) -> None:
    objects["segmentation.dcm"].Modality = "OT"


@breaks("coding-scheme")
def _unknown_scheme(objects: Objects) -> None:
    tree(objects["report.dcm"], "121071").ConceptCodeSequence[0].CodingSchemeDesignator = "HOUSE"


@breaks("private-scheme")
def _private_scheme(objects: Objects) -> None:
    tree(objects["report.dcm"], "121071").ConceptCodeSequence[0].CodingSchemeDesignator = "99HOUSE"


@breaks("report-class")
def _basic_text(objects: Objects) -> None:
    sop_class = "1.2.840.10008.5.1.4.1.1.88.11"
    changed = objects["report.dcm"]
    changed.SOPClassUID = sop_class
    set_meta(changed)
    root = objects["root.dcm"]
    named = [
        *evidence(root),
        *(c.ReferencedSOPSequence[0] for c in tree(root, "126010").ContentSequence),
    ]
    for item in named:
        if item.ReferencedSOPInstanceUID == changed.SOPInstanceUID:
            item.ReferencedSOPClassUID = sop_class


@breaks("report-title")
def _other_title(objects: Objects) -> None:
    objects["report.dcm"].ConceptNameCodeSequence = Items(
        [coded("18748-4", "LN", "Diagnostic Imaging Report")]
    )


@breaks("report-template")
def _no_template(objects: Objects) -> None:
    del objects["report.dcm"].ContentTemplateSequence


@breaks("procedure-reported")
def _no_procedure(objects: Objects) -> None:
    without(objects["report.dcm"], "121058")


@breaks("procedure-algorithm")
def _procedure_is_algorithm(objects: Objects) -> None:
    tree(objects["report.dcm"], "121058").ConceptCodeSequence[0].CodeMeaning = MODEL.upper()


@breaks("observer")
def _nobody_observed(objects: Objects) -> None:
    without(objects["report.dcm"], "121012")


@breaks("flags")
def _no_flag(objects: Objects) -> None:
    del objects["report.dcm"].CompletionFlag


@breaks("verification")
def _verified_by_nobody(objects: Objects) -> None:
    objects["report.dcm"].VerificationFlag = "VERIFIED"


@breaks("run-status")
def _unknown_status(objects: Objects) -> None:
    tree(objects["report.dcm"], "111017").ConceptCodeSequence = Items(
        [coded("111222", "DCM", "Succeeded")]
    )


@breaks("evidence")
def _not_in_evidence(objects: Objects) -> None:
    series = objects["report.dcm"].CurrentRequestedProcedureEvidenceSequence[0]
    series.ReferencedSeriesSequence[0].ReferencedSOPSequence = Items(
        [pointing_at(objects["slice.dcm"])]
    )
    series.ReferencedSeriesSequence[0].SeriesInstanceUID = objects["slice.dcm"].SeriesInstanceUID


@breaks("evidence-absent")
def _refers_to_nothing(objects: Objects) -> None:
    lone = objects["report.dcm"]
    del lone.CurrentRequestedProcedureEvidenceSequence
    without(lone, "111030")
    for name in ("segmentation.dcm", "map.dcm", "capture.dcm", "state.dcm", "key-object.dcm"):
        del objects[name]
    del objects["root.dcm"]


@breaks("content-item")
def _no_relationship(objects: Objects) -> None:
    del tree(objects["report.dcm"], "121058").RelationshipType


@breaks("concept-name")
def _no_name(objects: Objects) -> None:
    tree(objects["report.dcm"], "111012").ConceptNameCodeSequence[0].CodeMeaning = ""


@breaks("coded-value")
def _no_code(objects: Objects) -> None:
    tree(objects["report.dcm"], "121071").ConceptCodeSequence = Items()


@breaks("content-depth")
def _deep(objects: Objects) -> None:
    item = objects["report.dcm"]
    for _ in range(70):
        inner = Dataset()
        inner.ValueType, inner.RelationshipType = "CONTAINER", "CONTAINS"
        item.ContentSequence = Items([*item.get("ContentSequence", []), inner])
        item = inner


@breaks("tracking")
def _untracked(objects: Objects) -> None:
    without(objects["report.dcm"], "112040")


@breaks("group-algorithm")
def _group_of_nobody(objects: Objects) -> None:
    without(objects["report.dcm"], "111001")
    without(objects["report.dcm"], "111003")


@breaks("algorithm-version")
def _versionless(objects: Objects) -> None:
    without(objects["report.dcm"], "111003")


@breaks("measurement-units")
def _unitless(objects: Objects) -> None:
    measured = tree(objects["report.dcm"], "111012").MeasuredValueSequence[0]
    del measured.MeasurementUnitsCodeSequence


@breaks("measurement-absent")
def _valueless(objects: Objects) -> None:
    tree(objects["report.dcm"], "111012").MeasuredValueSequence = Items()


@breaks("location")
def _odd_coordinates(objects: Objects) -> None:
    tree(objects["report.dcm"], "111030").GraphicData = [1.0, 2, 3]


@breaks("location-inside")
def _outside(objects: Objects) -> None:
    columns = objects["chest.dcm"].Columns
    tree(objects["report.dcm"], "111030").GraphicData = [0.0, 0, columns + 0.5, 3]


@breaks("location-3d")
def _nowhere_in_space(objects: Objects) -> None:
    location = tree(objects["report.dcm"], "111030")
    location.ValueType = "SCOORD3D"
    location.GraphicData = [1.0, 2, 3]


@breaks("segment-algorithm-type")
def _by_hand(objects: Objects) -> None:
    objects["segmentation.dcm"].SegmentSequence[0].SegmentAlgorithmType = "MANUAL"


@breaks("segment-algorithm-name")
def _nameless_segment(objects: Objects) -> None:
    objects["segmentation.dcm"].SegmentSequence[0].SegmentAlgorithmName = ""


@breaks("segment-codes")
def _uncoded_segment(objects: Objects) -> None:
    del objects["segmentation.dcm"].SegmentSequence[0].SegmentedPropertyTypeCodeSequence


@breaks("segments-overlap")
def _overlap_unsaid(objects: Objects) -> None:
    segmentation = objects["segmentation.dcm"]
    second = copy.deepcopy(segmentation.SegmentSequence[0])
    second.SegmentNumber, second.TrackingID, second.TrackingUID = 2, "mass 1", "2.25.2003"
    segmentation.SegmentSequence.append(second)
    del segmentation.SegmentsOverlap


@breaks("segment-tracking-pair")
def _half_tracked(objects: Objects) -> None:
    del objects["segmentation.dcm"].SegmentSequence[0].TrackingUID


@breaks("segment-tracking")
def _untracked_segment(objects: Objects) -> None:
    segment = objects["segmentation.dcm"].SegmentSequence[0]
    del segment.TrackingUID, segment.TrackingID


@breaks("referenced-series")
def _unlisted(objects: Objects) -> None:
    del objects["segmentation.dcm"].ReferencedSeriesSequence


@breaks("map-units")
def _map_without_units(objects: Objects) -> None:
    del mapping(objects).MeasurementUnitsCodeSequence


@breaks("map-quantity")
def _map_of_nothing(objects: Objects) -> None:
    del mapping(objects).QuantityDefinitionSequence


def mapping(objects: Objects) -> Dataset:
    shared = objects["map.dcm"].SharedFunctionalGroupsSequence[0]
    mapped: Dataset = shared.RealWorldValueMappingSequence[0]
    return mapped


def test_a_good_set_has_no_finding() -> None:
    report_ = check(good().items())
    assert report_ == AirReport((), (), results=7, sources=2)
    assert report_.clean


@pytest.mark.parametrize("rule", [each.id for each in RULES])
def test_each_rule_is_broken_by_one_thing_and_nothing_else_is(rule: str) -> None:
    objects = good()
    MUTATIONS[rule](objects)
    assert found(objects) == {rule}


def test_every_mutation_is_of_a_rule() -> None:
    ids = [each.id for each in RULES]
    assert sorted(MUTATIONS) == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_what_is_only_believed_is_a_warning_and_says_so() -> None:
    for rule in RULES:
        assert rule.source.startswith("believed: ") is (rule.severity is Severity.WARNING), rule.id
        assert rule.says.endswith("."), rule.id


def test_pictures_alone_are_no_air_results() -> None:
    objects = good()
    for name in ("report.dcm", "segmentation.dcm", "map.dcm", "root.dcm"):
        del objects[name]
    findings = check(objects.items()).findings
    (alone,) = [each for each in findings if each.rule.id == "machine-readable"]
    assert alone.object == ""
    assert "key object selection, presentation state, secondary capture" in alone.what


def test_an_empty_set_is_never_clean() -> None:
    assert found({}) == {"machine-readable"}
    assert not check([]).clean


def test_images_alone_are_never_clean() -> None:
    assert found({"chest.dcm": chest_instance()}) == {"machine-readable"}


def test_one_segment_cannot_overlap() -> None:
    objects = good()
    del objects["segmentation.dcm"].SegmentsOverlap
    assert found(objects) == set()


def test_a_report_that_nothing_was_analysed_refers_to_nothing() -> None:
    objects = good()
    MUTATIONS["evidence-absent"](objects)
    tree(objects["report.dcm"], "111017").ConceptCodeSequence = Items(
        [coded("111245", "DCM", "No algorithms succeeded; without findings")]
    )
    assert found(objects) == set()


def test_one_report_that_is_all_an_algorithm_made_is_its_own_root() -> None:
    objects = good()
    assert found({name: objects[name] for name in ("chest.dcm", "report.dcm")}) == set()


def test_a_segmentation_alone_has_no_root_result() -> None:
    objects = good()
    assert found({name: objects[name] for name in ("slice.dcm", "segmentation.dcm")}) == {
        "root-result"
    }


def test_a_root_that_names_a_result_as_evidence_alone_is_told_apart() -> None:
    objects = good()
    measurements = tree(objects["root.dcm"], "126010")
    measurements.ContentSequence = Items(measurements.ContentSequence[1:])
    (finding,) = check(objects.items()).findings
    assert finding.object == "report.dcm"
    assert "as evidence, and not in its content tree" in finding.what


def test_results_of_another_algorithm_need_no_common_root() -> None:
    objects = good()
    other = report(objects["chest.dcm"], 18, [objects["chest.dcm"]])
    other.ContributingEquipmentSequence[0].DeviceUID = "2.25.1002"
    tree(other, "112040").UID = "2.25.2009"
    assert found({**objects, "other.dcm": other}) == set()


def test_references_are_followed_only_where_the_images_of_the_study_were_given() -> None:
    objects = good()
    del objects["chest.dcm"], objects["slice.dcm"]
    told = check(objects.items())
    assert told.findings == ()
    (note,) = told.notes
    assert note.startswith("2 instances that the results refer to were not given")


def test_a_scanned_picture_is_a_source_and_a_drawn_one_a_result() -> None:
    capture = good()["capture.dcm"]
    capture.ConversionType = "SD"
    assert check([("c.dcm", capture)]).results == 1
    del capture.ContributingEquipmentSequence
    assert check([("c.dcm", capture)]).sources == 1


def test_a_private_scheme_that_is_identified_is_a_good_one() -> None:
    objects = good()
    tree(objects["report.dcm"], "121071").ConceptCodeSequence[0].CodingSchemeDesignator = "99HOUSE"
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = "99HOUSE", "House codes"
    objects["report.dcm"].CodingSchemeIdentificationSequence = Items([scheme])
    assert found(objects) == set()


def test_a_name_and_a_time_are_compared_as_what_they_mean() -> None:
    objects = good()
    objects["map.dcm"].PatientName = "TEST^PATIENT^^^"
    objects["map.dcm"].StudyTime = "091200.000"
    assert found(objects) == set()


def test_nothing_of_the_patient_is_told() -> None:
    objects = good()
    for name in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
        objects["report.dcm"][name].value = "19700102" if name.endswith("Date") else "SECRET"
    told = [each.what for each in check(objects.items()).findings]
    assert len(told) == 4
    assert not any("SECRET" in each or "19700102" in each for each in told)


def test_what_would_move_a_cursor_is_not_told() -> None:
    objects = good()
    put(objects["report.dcm"], "Modality", "S\x1b[2J" + "R" * 900)
    (finding,) = check(objects.items()).findings
    assert "\x1b" not in finding.what
    assert len(finding.what) < 150


def test_a_thousand_faults_of_a_kind_are_counted_and_not_listed() -> None:
    objects = good()
    root = objects["report.dcm"]
    bad = Dataset()
    bad.ValueType, bad.RelationshipType = "NUM", "CONTAINS"
    bad.ConceptNameCodeSequence = Items([coded("111012", "DCM", "Certainty of Finding")])
    root.ContentSequence = Items([*root.ContentSequence, *(copy.deepcopy(bad) for _ in range(999))])
    findings = check(objects.items()).findings
    assert len(findings) == 21
    assert findings[-1].what == "and 979 more of this kind"


# ── Nothing stops the check ──────────────────────────────────────────────────────────────────────

_KEYWORDS = sorted(
    {
        *(element.keyword for each in _GOOD.values() for element in each.iterall()),
        "PatientWeight",
        "ReferencedFrameOfReferenceUID",
        "VerifyingObserverSequence",
    }
    - {"", "PixelData", "FloatPixelData"}
)
_GARBAGE = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.binary(max_size=20),
    st.lists(st.text(max_size=5), max_size=3),
    st.lists(st.builds(Dataset), max_size=2).map(Items),
)
_VRS = st.sampled_from(["UI", "SQ", "CS", "DS", "FL", "PN", "OB", "UN", "US", "LO", "TM", "AT"])


@given(
    name=st.sampled_from(sorted(_GOOD)),
    garbage=st.lists(st.tuples(st.sampled_from(_KEYWORDS), _VRS, _GARBAGE), min_size=1, max_size=8),
    place=st.integers(0, 400),
)
@settings(deadline=None, max_examples=60)
def test_garbage_in_an_object_is_found_or_passed_by_and_never_raised(
    name: str, garbage: list[tuple[str, str, object]], place: int
) -> None:
    objects = {**_GOOD, name: copy.deepcopy(_GOOD[name])}
    datasets = [inner for _, inner in walk(objects[name])]
    for keyword, vr, value in garbage:
        with disable_value_validation(), contextlib.suppress(*UNDECODABLE):
            datasets[place % len(datasets)].add_new(keyword, vr, value)
    for each in check(objects.items()).findings:
        assert each.what
        assert each.what.isprintable()


@given(st.binary(max_size=64), st.sampled_from(["report.dcm", "map.dcm"]))
@settings(deadline=None, max_examples=30)
def test_raw_values_that_nobody_decoded_are_never_raised(raw: bytes, name: str) -> None:
    objects = {**_GOOD, name: copy.deepcopy(_GOOD[name])}
    for keyword in ("ContentSequence", "ContentDate", "SharedFunctionalGroupsSequence"):
        tag = Tag(keyword)
        objects[name]._dict[tag] = RawDataElement(
            tag, dictionary_VR(tag), len(raw), raw, 0, is_implicit_VR=False, is_little_endian=True
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not check(objects.items()).clean
