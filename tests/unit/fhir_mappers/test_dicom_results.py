"""One result as DICOM objects: the same words as elsewhere, in the study of its images."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom.charset import python_encoding
from pydicom.data import get_charset_files
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.rle import _rle_decode_frame
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from studies import (
    ISSUED,
    MODEL,
    OUTCOMES,
    STUDY_UID,
    chest_instance,
    chest_pixels,
    chest_study,
    context,
    outcome,
)

from ai_engine.result import (
    Finding,
    NotAnalysed,
    Outcome,
    Priority,
    Reason,
    Saliency,
    TriageResult,
)
from fhir_mappers import codes
from fhir_mappers.dicom_items import label, plain
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.identifiers import result_id
from fhir_mappers.patient_and_study import _PATIENT_AND_STUDY
from fhir_mappers.report_context import DICOM_FILES, DisplayMode, Predecessor, ReportContext
from fhir_mappers.saliency_segmentation import run_lengths
from fhir_mappers.salient_region import salient_regions

PICTURE = np.full((24, 20, 3), 90, np.uint8)
CHARSETS = sorted(
    str(path) for path in get_charset_files("*.dcm") if "chrSQ" not in str(path)
)  # those two have no study
SAID = {name: each for name, each in OUTCOMES.items() if isinstance(each, TriageResult)}
UNSAID = {name: each for name, each in OUTCOMES.items() if isinstance(each, NotAnalysed)}
OVERLAY, TRIAGE_ONLY = DisplayMode.OVERLAY, DisplayMode.TRIAGE_ONLY


def made(
    said: Outcome,
    header: Dataset | None = None,
    told: ReportContext | None = None,
    mode: DisplayMode = OVERLAY,
) -> dict[str, bytes]:
    source = header or chest_instance()
    study = chest_study(study_instance_uid=str(source.StudyInstanceUID))
    return dicom_results(
        study,
        said,
        header=source,
        picture=PICTURE if isinstance(said, TriageResult) else None,
        context=told or context(mode),
    )


def odd_instance(**changes: object) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return chest_instance(**changes)


def with_decimals(header: Dataset, **numbers: str) -> Dataset:
    """Give decimal strings as a file has them, before anybody judged them."""
    for keyword, words in numbers.items():
        tag, value = Tag(keyword), words.encode()
        header[tag] = RawDataElement(
            tag, "DS", len(value), value, 0, is_implicit_VR=False, is_little_endian=True
        )
    return header


def opened(objects: dict[str, bytes]) -> dict[str, Dataset]:
    return {name: pydicom.dcmread(io.BytesIO(content)) for name, content in objects.items()}


def items_of(dataset: Dataset) -> Iterator[Dataset]:
    """Give every content item below the root."""
    for each in dataset.get("ContentSequence", ()):
        yield each
        yield from items_of(each)


def code_of(sequence: Items) -> tuple[str, str, str]:
    item = sequence[0]
    value = item.get("CodeValue") or item.LongCodeValue
    return str(value), str(item.CodingSchemeDesignator), str(item.CodeMeaning)


def values(dataset: Dataset, name: codes.Coded) -> list[object]:
    """Give the values of the content items of that name."""
    found: list[object] = []
    for each in items_of(dataset):
        if "ConceptNameCodeSequence" not in each or code_of(each.ConceptNameCodeSequence) != name:
            continue
        if each.ValueType == "CODE":
            found.append(code_of(each.ConceptCodeSequence))
        elif each.ValueType == "NUM":
            found.append(each.MeasuredValueSequence[0].FloatingPointValue)
        else:
            found.append(each.get("TextValue"))
    return found


FINDING = ("121071", "DCM", "Finding")


def in_words(dataset: Dataset) -> str:
    """Write a report as an integrator reads it: one content item a line."""
    lines = [f"{dataset.CompletionFlag} {dataset.VerificationFlag} {dataset.SeriesDescription}"]

    def write(item: Dataset, depth: int) -> None:
        name = code_of(item.ConceptNameCodeSequence)
        shown = {
            "CODE": lambda: " ".join(code_of(item.ConceptCodeSequence)),
            "TEXT": lambda: item.TextValue,
            "UIDREF": lambda: item.UID,
            "NUM": lambda: (
                f"{item.MeasuredValueSequence[0].NumericValue} "
                f"{item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue}"
            ),
            "SCOORD": lambda: (
                f"{item.GraphicType} {' '.join(f'{each:g}' for each in item.GraphicData)}"
            ),
            "IMAGE": lambda: item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
            "COMPOSITE": lambda: item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
        }.get(item.ValueType, str)()
        relation = item.get("RelationshipType", "")
        lines.append(
            f"{'  ' * depth}{relation} {item.ValueType} {' '.join(name)}: {shown}".rstrip()
        )
        for inner in item.get("ContentSequence", ()):
            write(inner, depth + 1)

    write(dataset, 0)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_what_an_integrator_reads_in_the_report(
    name: str, golden: Callable[[str, bytes], None]
) -> None:
    objects = opened(made(OUTCOMES[name]))
    names = {str(each.SOPInstanceUID): named for named, each in objects.items()}

    def words(dataset: Dataset) -> bytes:
        """Name our own objects: their UIDs derive from pixels that each JPEG encoder packs anew."""
        text = in_words(dataset)
        for uid, named in names.items():
            text = text.replace(uid, f"<{named}>")
        return text.encode("ascii")

    golden(f"dicom/{name}.txt", words(objects["report.dcm"]))
    golden(f"dicom/{name}-root.txt", words(objects["root-result.dcm"]))


@pytest.mark.parametrize("name", sorted(OUTCOMES))
@pytest.mark.parametrize("mode", DisplayMode)
def test_every_outcome_has_its_objects_in_the_order_of_their_references(
    name: str, mode: DisplayMode
) -> None:
    pictured = name in SAID and mode is OVERLAY
    expected = DICOM_FILES if pictured else ("report.dcm", "root-result.dcm")
    objects = made(OUTCOMES[name], mode=mode)
    assert tuple(each for each in DICOM_FILES if each in objects) == expected
    known = {f"{STUDY_UID}.1.1"}
    for dataset in opened(objects).values():
        referred = {
            str(each.value)
            for each in dataset.iterall()
            if each.keyword == "ReferencedSOPInstanceUID"
        }
        assert referred <= known
        known.add(str(dataset.SOPInstanceUID))


def test_the_root_result_lists_every_other_object_and_its_evidence() -> None:
    objects = opened(made(OUTCOMES["urgent"]))
    root = objects.pop("root-result.dcm")
    listed = {
        str(each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for each in items_of(root)
        if each.ValueType in {"IMAGE", "COMPOSITE"}
    }
    assert listed == {str(each.SOPInstanceUID) for each in objects.values()} | {f"{STUDY_UID}.1.1"}
    (evidence,) = root.CurrentRequestedProcedureEvidenceSequence
    assert evidence.StudyInstanceUID == STUDY_UID
    assert listed == {
        str(instance.ReferencedSOPInstanceUID)
        for series in evidence.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_the_same_result_is_the_same_bytes_and_tells_no_other_time(name: str) -> None:
    first = made(OUTCOMES[name])
    assert first == made(OUTCOMES[name])
    for dataset in opened(first).values():
        for each in dataset.iterall():
            if each.VR in {"DA", "TM", "DT"} and each.value:
                assert str(each.value).split("+")[0] in {
                    *("20261120", "093004", "20261120093004"),
                    *("091200", "19700101"),  # of study and patient
                }, each.keyword


def test_changed_content_gets_a_new_uid_and_stays_in_its_series() -> None:
    first = opened(made(outcome(Priority.URGENT)))
    other = opened(made(outcome(Priority.FLAGGED)))
    for name, dataset in first.items():
        assert dataset.SeriesInstanceUID == other[name].SeriesInstanceUID
        same = name in {"secondary-capture.dcm", "saliency.dcm"}  # picture and map are
        assert (dataset.SOPInstanceUID == other[name].SOPInstanceUID) is same


def test_a_new_model_version_adds_one_series_of_each_kind_and_another_device() -> None:
    first = opened(made(OUTCOMES["urgent"]))
    model = replace(MODEL, version="2.2.0", sha256="a0" * 32)
    told = replace(context(), model=model, result_id=result_id(STUDY_UID, model.sha256))
    said = OUTCOMES["urgent"]
    assert isinstance(said, TriageResult)
    second = opened(made(replace(said, model=model), told=told))
    series = {str(each.SeriesInstanceUID) for each in (*first.values(), *second.values())}
    assert len(series) == 2 * len(DICOM_FILES)
    for name, dataset in first.items():
        assert dataset.SeriesNumber == second[name].SeriesNumber
        assert dataset.SeriesDescription == second[name].SeriesDescription
    devices = [
        {str(each.ContributingEquipmentSequence[0].DeviceUID) for each in objects.values()}
        for objects in (first, second)
    ]
    assert [len(each) for each in devices] == [1, 1]
    assert devices[0] != devices[1]


def test_every_object_names_the_algorithm() -> None:
    for dataset in opened(made(OUTCOMES["urgent"])).values():
        (equipment,) = dataset.ContributingEquipmentSequence
        assert code_of(equipment.PurposeOfReferenceCodeSequence) == codes.PROCESSING_EQUIPMENT
        assert equipment.Manufacturer == "radcds"
        assert equipment.ManufacturerModelName == MODEL.name
        assert list(equipment.SoftwareVersions) == ["0.1.0", MODEL.version]
        assert MODEL.sha256 in equipment.ContributionDescription
        assert equipment.ContributionDateTime == "20261120093004+0000"
        assert "AI" in dataset.SeriesDescription


def test_times_are_those_of_the_beginning_in_the_zone_of_the_study() -> None:
    began = ISSUED - timedelta(minutes=40)
    told = replace(context(), began=began, issued=ISSUED)
    west = opened(made(OUTCOMES["flagged"], chest_instance(TimezoneOffsetFromUTC="-0930"), told))
    assert west["report.dcm"].ContentTime == "232004"
    assert west["report.dcm"].ContentDate == "20261119"
    assert west["report.dcm"].InstanceCreationDate == "20261120"
    assert west["report.dcm"].TimezoneOffsetFromUTC == "-0930"
    summer = replace(context(), issued=datetime(2026, 7, 1, 12, tzinfo=UTC))
    local = opened(made(OUTCOMES["flagged"], chest_instance(TimezoneOffsetFromUTC=None), summer))
    assert local["report.dcm"].ContentTime == "130000"
    assert "TimezoneOffsetFromUTC" not in local["report.dcm"]
    odd = opened(made(OUTCOMES["flagged"], chest_instance(TimezoneOffsetFromUTC="+9999"), summer))
    assert "TimezoneOffsetFromUTC" not in odd["report.dcm"]


@pytest.mark.parametrize("name", sorted(SAID))
def test_highdicom_reads_the_same_findings_back(name: str) -> None:
    said = SAID[name]
    for mode in DisplayMode:
        content = made(said, mode=mode)["report.dcm"]
        read = highdicom.sr.srread(io.BytesIO(content)).content
        groups = [
            *read.get_image_measurement_groups(),
            *read.get_planar_roi_measurement_groups(),
        ]
        found = {str(each.tracking_identifier): each for each in groups}
        assert len(found) == len(said.findings)
        for finding in said.findings:
            group = found[f"{MODEL.name} {finding.label}"]
            assert group.finding_type.value == codes.dicom_finding(finding.label)[0]
            certainty, threshold = (each.value for each in group.get_measurements())
            assert certainty == pytest.approx(finding.probability * 100, abs=0.01)
            assert threshold == pytest.approx(finding.threshold * 100, abs=0.01)
            presence = {
                each.name.value: each.value.value for each in group.get_qualitative_evaluations()
            }["121052"]
            expected = codes.ABOVE_THRESHOLD if finding.positive else codes.BELOW_THRESHOLD
            assert presence == expected[0]
        outlined = {
            str(each.tracking_identifier) for each in read.get_planar_roi_measurement_groups()
        }
        shown = said.top_findings if mode is OVERLAY else ()
        assert outlined == {f"{MODEL.name} {each.label}" for each in shown}


def test_a_finding_just_under_its_threshold_does_not_read_as_above() -> None:
    said = outcome(Priority.NORMAL)
    near = Finding("effusion", 0.5 - 2**-54, 0.5)
    report = opened(made(replace(said, findings=(near,), saliency=said.saliency[1:2])))[
        "report.dcm"
    ]
    (certainty,), (threshold,) = values(report, codes.CERTAINTY), values(report, codes.THRESHOLD)
    assert float(str(certainty)) < float(str(threshold))
    assert values(report, codes.PRESENCE) == [codes.BELOW_THRESHOLD]


def test_a_probability_over_a_low_threshold_does_not_read_as_present() -> None:
    said = outcome(Priority.FLAGGED)
    low = Finding("effusion", 0.186, 0.15)
    report = opened(made(replace(said, findings=(low,), saliency=said.saliency[1:2])))["report.dcm"]
    assert values(report, codes.PRESENCE) == [
        ("ABOVE-THRESHOLD", codes.LOCAL_SCHEME, "Above its threshold")
    ]
    assert "121053" not in in_words(report)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_no_report_is_final_and_none_is_called_findings(name: str) -> None:
    objects = opened(made(OUTCOMES[name]))
    for each in ("report.dcm", "root-result.dcm"):
        assert objects[each].PreliminaryFlag == "PRELIMINARY"
    assert objects["report.dcm"].SeriesDescription == "AI report (not for diagnosis)"
    assert "finding" not in codes.RESULT_PARTS["report.dcm"][2].lower()


@pytest.mark.parametrize(
    ("name", "status", "category", "title"),
    [
        ("urgent", codes.WITH_FINDINGS, "RID49481", codes.OF_INTEREST),
        ("flagged", codes.WITH_FINDINGS, "RID49482", codes.OF_INTEREST),
        ("normal", codes.WITHOUT_FINDINGS, None, codes.FOR_REPORT_ATTACHMENT),
    ],
)
def test_priority_status_and_category_are_coded(
    name: str, status: codes.Coded, category: str | None, title: codes.Coded
) -> None:
    objects = opened(made(OUTCOMES[name]))
    for each in ("report.dcm", "root-result.dcm"):
        assert values(objects[each], codes.RUN_SUMMARY) == [status]
        coded = [each[:2] for each in values(objects[each], codes.ACR_CATEGORY)]  # type: ignore[index]
        assert coded == ([(category, "RADLEX")] if category else [])
        ((triage, _, _),) = values(objects[each], codes.TRIAGE)  # type: ignore[misc]
        assert triage == codes.triage(OUTCOMES[name]).code
        assert (objects[each].CompletionFlag, objects[each].VerificationFlag) == (
            "COMPLETE",
            "UNVERIFIED",
        )
    assert code_of(objects["key-object.dcm"].ConceptNameCodeSequence) == title


@pytest.mark.parametrize("reason", Reason)
def test_what_was_not_analysed_never_looks_like_nothing_found(reason: Reason) -> None:
    said = NotAnalysed(reason, "The café's image … was not read.", MODEL)
    header = Dataset.from_json(chest_instance(PixelData=None).to_json())
    objects = opened(made(said, header))
    assert set(objects) == {"report.dcm", "root-result.dcm"}
    for dataset in objects.values():
        assert values(dataset, codes.RUN_SUMMARY) == [codes.NOTHING_SUCCEEDED]
        assert values(dataset, codes.REASON) == [
            (reason.value, codes.LOCAL_SCHEME, codes.REASONS[reason])
        ]
        for absent in (codes.ACR_CATEGORY, codes.CERTAINTY, codes.PRESENCE, FINDING):
            assert values(dataset, absent) == []
        assert dataset.CompletionFlag == "PARTIAL"
        words = " ".join(map(str, values(dataset, codes.COMMENT))).lower()
        assert "no ai result" in words
        assert "the cafe's image ... was not read." in words
        assert "threshold" not in words


def test_every_reason_has_words_that_fit() -> None:
    assert set(codes.REASONS) == set(Reason)
    assert all(len(words) <= 64 for words in codes.REASONS.values())


def test_an_unread_image_makes_the_report_partial() -> None:
    told = replace(context(), unread=1)
    for name, status in (("urgent", codes.PARTLY_WITH), ("normal", codes.PARTLY_WITHOUT)):
        report = opened(made(OUTCOMES[name], told=told))["report.dcm"]
        assert report.CompletionFlag == "PARTIAL"
        assert "1 image" in report.CompletionFlagDescription
        assert values(report, codes.RUN_SUMMARY) == [status]


def test_a_later_result_refers_to_the_report_that_it_supersedes() -> None:
    first = made(OUTCOMES["normal"])
    earlier = opened(first)["report.dcm"]
    told = replace(context(), predecessor=Predecessor("earlier", first["report.dcm"]))
    later = opened(made(OUTCOMES["urgent"], told=told))["report.dcm"]
    (study,) = later.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == earlier.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    without = replace(context(), predecessor=Predecessor("earlier", None))
    assert (
        "PredecessorDocumentsSequence"
        not in opened(made(OUTCOMES["normal"], told=without))["report.dcm"]
    )


def test_a_header_of_another_study_or_without_uids_is_refused() -> None:
    other = chest_instance(StudyInstanceUID="1.2.3")
    with pytest.raises(InvalidMessage, match="another study"):
        dicom_results(
            chest_study(),
            OUTCOMES["urgent"],
            header=other,
            picture=PICTURE,
            context=context(),
        )
    with pytest.raises(InvalidMessage, match="lacks a UID"):
        made(OUTCOMES["urgent"], chest_instance(SOPClassUID=None))


# ── Patient and study ───────────────────────────────────────────────────────────────────────────


def raw(dataset: Dataset, keyword: str) -> bytes:
    """Give the bytes of an attribute without its padding."""
    value = dataset.get_item(keyword).value
    assert isinstance(value, bytes | type(None)), "somebody decoded it"
    return (value or b"").rstrip(b" \0")


@pytest.mark.parametrize("path", CHARSETS, ids=lambda path: path.rpartition("/")[2])
@pytest.mark.parametrize("name", ["urgent", "failed"])
def test_names_in_any_script_are_copied_byte_by_byte(path: str, name: str) -> None:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    for content in made(OUTCOMES[name], header).values():
        source = pydicom.dcmread(path, stop_before_pixels=True)
        result = pydicom.dcmread(io.BytesIO(content))
        for keyword in ("PatientName", "PatientID", "OtherPatientNames", "PatientComments"):
            if keyword in source:
                assert raw(result, keyword) == raw(source, keyword)
        assert result.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
        assert result.PatientName == source.PatientName


@pytest.mark.parametrize("path", CHARSETS, ids=lambda path: path.rpartition("/")[2])
def test_names_that_were_decoded_before_mean_the_same(path: str) -> None:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    header.decode()
    as_json = Dataset.from_json(header.to_json())
    for each in (header, as_json):
        result = opened(made(OUTCOMES["failed"], each))["report.dcm"]
        for keyword in _PATIENT_AND_STUDY[2:]:
            if header.get(keyword):
                assert result[keyword].value == header[keyword].value, keyword


@pytest.mark.parametrize("declared", [None, "ISO_IR 100", "ISO_IR 6", "ISO IR 100", "nonsense", ""])
def test_a_character_set_that_does_not_hold_the_name_becomes_utf_8(declared: str | None) -> None:
    header = odd_instance(SpecificCharacterSet=declared, PatientName="Yamada^Tarou=山田^太郎")
    result = opened(made(OUTCOMES["failed"], header))["report.dcm"]
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert str(result.PatientName) == "Yamada^Tarou=山田^太郎"


def test_ascii_needs_no_other_character_set_than_the_declared_one() -> None:
    for declared in (None, "ISO_IR 6", "ISO_IR 100", "ISO_IR 144"):
        header = chest_instance(SpecificCharacterSet=declared)
        result = opened(made(OUTCOMES["failed"], header))["report.dcm"]
        assert result.get("SpecificCharacterSet") == declared
    header = odd_instance(SpecificCharacterSet="latin-1")
    assert (
        opened(made(OUTCOMES["failed"], header))["report.dcm"].SpecificCharacterSet == "ISO_IR 192"
    )
    assert "latin-1" not in python_encoding


@pytest.mark.parametrize("declared", ["ISO 2022 IR 87", "ISO 2022 IR 159"])
@pytest.mark.parametrize("name", ["TEST^PATIENT", "山田^太郎"])
def test_a_character_set_without_ascii_stands_never_first(declared: str, name: str) -> None:
    for several in (declared, [declared, "ISO_IR 100"]):
        header = odd_instance(SpecificCharacterSet=several, PatientName=name)
        for result in opened(made(OUTCOMES["urgent"], header)).values():
            assert result.SpecificCharacterSet == "ISO_IR 192"
            assert str(result.PatientName) == name
    second = chest_instance(SpecificCharacterSet=["", declared])
    kept = opened(made(OUTCOMES["urgent"], second))["saliency.dcm"].SpecificCharacterSet
    assert list(kept) == ["", declared]


def test_a_nested_item_keeps_its_own_character_set() -> None:
    item = Dataset()
    item.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "胸部"
    header = chest_instance(SpecificCharacterSet="ISO_IR 100", PatientName="Jérôme")
    header.ProcedureCodeSequence = Items([item])
    result = opened(made(OUTCOMES["failed"], header))["report.dcm"]
    assert result.SpecificCharacterSet == "ISO_IR 100"
    assert result.PatientName == "Jérôme"
    assert result.ProcedureCodeSequence[0].CodeMeaning == "胸部"


def test_the_source_is_left_as_it_was() -> None:
    header = chest_instance(PixelData=None)
    header.ProcedureCodeSequence = Items([Dataset()])
    before = header.to_json()
    made(OUTCOMES["urgent"], header)
    assert header.to_json() == before


def test_private_and_unrelated_attributes_are_not_copied() -> None:
    header = chest_instance(KVP="120", OperatorsName="SOMEBODY", PatientAge="056Y")
    header.private_block(0x0011, "VENDOR", create=True).add_new(1, "LO", "secret")
    for dataset in opened(made(OUTCOMES["urgent"], header)).values():
        assert not [each.tag for each in dataset.iterall() if each.tag.is_private]
        assert "KVP" not in dataset
        assert "OperatorsName" not in dataset
        assert dataset.PatientAge == "056Y"


def test_a_de_identified_patient_stays_so_only_with_its_method() -> None:
    bare = chest_instance(PatientIdentityRemoved="YES")
    assert "PatientIdentityRemoved" not in opened(made(OUTCOMES["failed"], bare))["report.dcm"]
    named = chest_instance(PatientIdentityRemoved="YES", DeidentificationMethod="By hand")
    assert opened(made(OUTCOMES["failed"], named))["report.dcm"].PatientIdentityRemoved == "YES"


# ── Where ───────────────────────────────────────────────────────────────────────────────────────

LOCATIONS = {
    "GraphicData",
    "GraphicType",
    "GraphicAnnotationSequence",
    "PixelData",
    "SegmentSequence",
    "RegionOfInterest",
}


def assert_no_location(objects: dict[str, bytes]) -> None:
    assert set(objects) == {"report.dcm", "root-result.dcm"}
    for content in objects.values():
        for each in pydicom.dcmread(io.BytesIO(content)).iterall():
            assert each.keyword not in LOCATIONS
            assert str(each.value) not in {"130403", "130401", "111030", "SCOORD", "SCOORD3D"}
            assert "finding site" not in str(each.value).lower()


unit = st.floats(0, 1)
labels = st.sampled_from(sorted(codes.FINDINGS)) | st.from_regex(
    r"[a-z][a-z_é]{0,40}", fullmatch=True
)
grids = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(0, 1, width=32),
)


@st.composite
def results(draw: st.DrawFn) -> TriageResult:
    named = draw(st.lists(labels, min_size=1, max_size=4, unique=True))
    return TriageResult(
        priority=draw(st.sampled_from(Priority)),
        findings=tuple(Finding(each, draw(unit), draw(unit)) for each in named),
        saliency=tuple(Saliency(each, draw(grids)) for each in named),
        model=replace(MODEL, name=draw(st.text(min_size=1, max_size=80)).strip() or "m"),
    )


@st.composite
def headers(draw: st.DrawFn) -> Dataset:
    changes: dict[str, object] = {
        "Rows": draw(st.integers(1, 40)),
        "Columns": draw(st.integers(1, 40)),
        "PatientName": draw(st.sampled_from([None, "A^B", "Jérôme", "山田^太郎", "x" * 200])),
        "PatientID": draw(st.sampled_from([None, "1", "A\\B", "¥ ~", "é"])),
        "PatientSex": draw(st.sampled_from([None, "F", "X"])),
        "StudyDate": draw(st.sampled_from([None, "20261120", "2026.11.20"])),
        "BodyPartExamined": draw(st.sampled_from([None, "CHEST", "Thorax", "HAND"])),
        "Laterality": draw(st.sampled_from([None, "L", "X"])),
        "PhotometricInterpretation": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        "PixelSpacing": draw(st.sampled_from([None, [0, 0], [0.2, 0.3]])),
        "ImagePositionPatient": draw(st.sampled_from([None, [0, 0, 1]])),
        "ImageOrientationPatient": draw(st.sampled_from([None, [1, 0, 0, 0, 1, 0]])),
        "FrameOfReferenceUID": draw(st.sampled_from([None, "1.2.3"])),
        "PatientOrientation": draw(st.sampled_from([None, ["L", "F"], "L", ["x", "y"]])),
        "WindowWidth": draw(st.sampled_from([None, 0, 4096, [10, 20]])),
        "SOPClassUID": draw(st.sampled_from(["1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"])),
        "PixelData": None,
    }
    return odd_instance(**changes)


quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(results(), headers())
def test_any_result_on_any_header_gives_the_same_objects_again(
    said: TriageResult, header: Dataset
) -> None:
    first = made(said, header)
    assert tuple(first) == tuple(sorted(first, key=DICOM_FILES.index))
    assert set(first) == set(DICOM_FILES)
    assert first == made(said, header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = highdicom.sr.srread(io.BytesIO(first["report.dcm"]))
        assert len(values(report, FINDING)) == len(said.findings)


@quick
@given(results() | st.sampled_from(list(OUTCOMES.values())), headers())
def test_a_triage_only_site_gets_no_location_of_any_kind(said: Outcome, header: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_no_location(made(said, header, mode=TRIAGE_ONLY))


def test_the_check_for_locations_finds_them() -> None:
    objects = made(OUTCOMES["urgent"])
    with pytest.raises(AssertionError):
        assert_no_location({name: objects[name] for name in ("report.dcm", "root-result.dcm")})


def area(outline: np.ndarray) -> float:
    (x, y), (onward_x, onward_y) = outline[:-1].T, outline[1:].T
    return float((x * onward_y - onward_x * y).sum() / 2)


def without_holes(cells: frozenset[tuple[int, int]], shape: tuple[int, int]) -> int:
    """Count the cells that cannot be reached from outside."""
    outside, waiting = {(-1, -1)}, [(-1, -1)]
    while waiting:
        row, column = waiting.pop()
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                next_to = (row + down, column + right)
                inside = -1 <= next_to[0] <= shape[0] and -1 <= next_to[1] <= shape[1]
                if inside and next_to not in cells and next_to not in outside:
                    outside.add(next_to)
                    waiting.append(next_to)
    return (shape[0] + 2) * (shape[1] + 2) - len(outside)


@settings(max_examples=200, deadline=None)
@given(grids)
def test_a_region_is_made_of_whole_cells_and_the_first_has_the_strongest(grid: np.ndarray) -> None:
    regions = salient_regions(grid, rows=grid.shape[0], columns=grid.shape[1])
    assert bool(regions) is bool(grid.max() > 0)
    for region in regions:
        assert (region.outline == np.rint(region.outline)).all()
        assert (region.outline[0] == region.outline[-1]).all()
        assert area(region.outline) == without_holes(region.cells, grid.shape)
    if regions:
        salient = {(int(r), int(c)) for r, c in np.argwhere(grid >= 0.5 * grid.max())}
        assert set().union(*(each.cells for each in regions)) == salient
        strongest = np.unravel_index(int(grid.argmax()), grid.shape)
        assert (int(strongest[0]), int(strongest[1])) in regions[0].cells


@settings(max_examples=100, deadline=None)
@given(grids, st.integers(1, 50), st.integers(1, 50))
def test_no_pixel_of_the_map_is_finer_than_its_cell(
    grid: np.ndarray, rows: int, columns: int
) -> None:
    decoded = _rle_decode_frame(run_lengths(grid, rows, columns), rows, columns, 1, 8)
    pixels = np.frombuffer(decoded, np.uint8).reshape(rows, columns)
    strengths = np.rint(grid * 255).astype(np.uint8)
    for row in range(rows):
        for column in range(columns):
            cell = (
                int((row + 0.5) * grid.shape[0] / rows),
                int((column + 0.5) * grid.shape[1] / columns),
            )
            assert pixels[row, column] == strengths[cell]


def test_the_region_in_the_report_is_the_outline_on_the_original_and_of_the_map() -> None:
    objects = opened(made(OUTCOMES["urgent"]))
    (first, _) = [each for each in items_of(objects["report.dcm"]) if each.ValueType == "SCOORD"]
    (annotation,) = objects["presentation-state.dcm"].GraphicAnnotationSequence
    (outline,) = annotation.GraphicObjectSequence
    assert list(outline.GraphicData) == list(first.GraphicData)
    corners = np.array(first.GraphicData).reshape(-1, 2)
    rows, columns = chest_pixels().shape
    cells = corners / (columns / 10, rows / 10)
    assert cells == pytest.approx(np.rint(cells), abs=1e-4)
    pixels = objects["saliency.dcm"].pixel_array
    salient = float((pixels >= 128).sum())
    assert area(corners) == pytest.approx(salient, rel=0.05)
    segment = objects["saliency.dcm"].SegmentSequence[0]
    tracking = values(objects["report.dcm"], ("112040", "DCM", "Tracking Unique Identifier"))
    assert len(tracking) == 3
    assert code_of(segment.SegmentedPropertyTypeCodeSequence) == codes.GRAD_CAM
    trackers = [str(each.UID) for each in items_of(objects["report.dcm"]) if "UID" in each]
    assert segment.TrackingUID in trackers


def test_a_finding_under_its_threshold_is_not_outlined() -> None:
    objects = opened(made(OUTCOMES["normal"]))
    (annotation,) = objects["presentation-state.dcm"].GraphicAnnotationSequence
    assert "GraphicObjectSequence" not in annotation
    words = annotation.TextObjectSequence[0].UnformattedTextValue
    assert words.startswith("AI, not for diagnosis")
    assert MODEL.name in words
    assert not [each for each in items_of(objects["report.dcm"]) if each.ValueType == "SCOORD"]


def test_the_original_is_shown_as_it_was() -> None:
    inverted = chest_instance(
        PhotometricInterpretation="MONOCHROME1", WindowCenter=[1, 2], WindowWidth=[3, 4]
    )
    state = opened(made(OUTCOMES["urgent"], inverted))["presentation-state.dcm"]
    assert state.PresentationLUTShape == "INVERSE"
    assert list(state.SoftcopyVOILUTSequence[0].WindowWidth) == [3, 4]
    degenerate = chest_instance(WindowWidth=0)
    state = opened(made(OUTCOMES["urgent"], degenerate))["presentation-state.dcm"]
    assert state.PresentationLUTShape == "IDENTITY"
    assert "SoftcopyVOILUTSequence" not in state


def test_a_slice_gives_its_map_a_place_in_space_and_a_radiograph_does_not() -> None:
    plane = {
        "FrameOfReferenceUID": "1.2.3",
        "ImagePositionPatient": [1, 2, 3],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.5],
        "SliceThickness": 5,
    }
    placed = opened(made(OUTCOMES["urgent"], chest_instance(**plane)))["saliency.dcm"]
    assert placed.FrameOfReferenceUID == "1.2.3"
    frame = placed.PerFrameFunctionalGroupsSequence[0]
    assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == [1, 2, 3]
    for changes in ({}, {**plane, "PixelSpacing": [0, 0]}, {**plane, "FrameOfReferenceUID": None}):
        bare = opened(made(OUTCOMES["urgent"], chest_instance(**changes)))["saliency.dcm"]
        assert "FrameOfReferenceUID" not in bare
        assert not bare.SharedFunctionalGroupsSequence[0]


PLACED = {
    "FrameOfReferenceUID": "1.2.3",
    "ImagePositionPatient": [1, 2, 3],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [0.5, 0.5],
}
LONG = ["-1.2345678901e-5", "-.12345678901234", "-1.22460635382238e-16", "0.30000000000000004"]


@pytest.mark.parametrize("thickness", ["abc", "0", "-5", "nan", "1e999", "1\\2", ""])
def test_a_thickness_that_is_none_is_left_out_of_the_map(thickness: str) -> None:
    header = with_decimals(odd_instance(**PLACED), SliceThickness=thickness)
    saliency = opened(made(OUTCOMES["urgent"], header))["saliency.dcm"]
    (measures,) = saliency.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert "SliceThickness" not in measures
    assert list(measures.PixelSpacing) == [0.5, 0.5]


@pytest.mark.parametrize("number", LONG)
def test_numbers_of_the_source_fit_a_decimal_string_and_mean_the_same(number: str) -> None:
    changes = {
        **PLACED,
        "ImagePositionPatient": [number, "2", "3"],
        "PixelSpacing": ["0.30000000000000004", "0.1"],
        "SliceThickness": number.lstrip("-"),
        "RescaleSlope": "1",
        "RescaleIntercept": number,
        "WindowCenter": number,
    }
    objects = opened(made(OUTCOMES["urgent"], odd_instance(**changes)))
    for name in ("saliency.dcm", "presentation-state.dcm"):
        decimals = [each for each in objects[name].iterall() if each.VR == "DS"]
        for each in decimals:
            several = each.value if each.VM > 1 else [each.value]
            assert all(len(str(value)) <= 16 for value in several), each.keyword
    frame = objects["saliency.dcm"].PerFrameFunctionalGroupsSequence[0]
    position = frame.PlanePositionSequence[0].ImagePositionPatient[0]
    assert float(position) == pytest.approx(float(number), rel=1e-9)
    state = objects["presentation-state.dcm"]
    assert float(state.RescaleIntercept) == pytest.approx(float(number), rel=1e-9)
    assert "PresentationPixelSpacing" in state.DisplayedAreaSelectionSequence[0]


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "abc"])
def test_what_is_no_finite_number_gives_no_place_and_no_window(number: str) -> None:
    header = with_decimals(
        odd_instance(**PLACED),
        ImagePositionPatient=f"{number}\\2\\3",
        WindowCenter=number,
        RescaleSlope="1",
        RescaleIntercept=number,
    )
    objects = opened(made(OUTCOMES["urgent"], header))
    assert "FrameOfReferenceUID" not in objects["saliency.dcm"]
    assert "SoftcopyVOILUTSequence" not in objects["presentation-state.dcm"]
    assert "RescaleIntercept" not in objects["presentation-state.dcm"]


@given(st.text(max_size=120))
def test_our_own_words_are_ascii_without_control_characters_and_fit(words: str) -> None:
    assert re.fullmatch(r"[\x20-\x5b\x5d-\x7e]*", plain(words))
    assert len(label(words)) <= 64
