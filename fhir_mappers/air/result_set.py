"""What AIR and DICOM ask of the objects of a study together."""

from collections import defaultdict
from collections.abc import Iterator

from fhir_mappers.air.access import shown, text
from fhir_mappers.air.kinds import PRIMITIVES, RESULTS, Kind
from fhir_mappers.air.objects import AirObject, ResultSet, run
from fhir_mappers.air.references import Place, Reference
from fhir_mappers.air.rule import Breach, Rule, Severity, error, warning

_AIR = "IHE RAD AIR 6.5.3"
_TRACKED = frozenset({Kind.REPORT, Kind.SEGMENTATION})
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName")
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription")


def _machine_readable(checked: ResultSet) -> Iterator[Breach]:
    if any(each.kind in PRIMITIVES for each in checked.results):
        return
    found = ", ".join(sorted({each.kind for each in checked.results}))
    yield (
        "",
        f"there are only results that are no AIR results: {found}"
        if found
        else "there is no result",
    )


def _same_study(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    study = checked.uid("StudyInstanceUID")
    if all_.source_studies and study not in all_.source_studies:
        yield "its study is not the study of any image that was given"
    evidence = {each.study for each in checked.references if each.place is Place.EVIDENCE}
    if evidence and study not in evidence:
        yield "its evidence sequences name other studies, and not its own"


def _equal(keywords: tuple[str, ...], checked: AirObject, all_: ResultSet) -> Iterator[str]:
    """Compare with the first object of the study: a source image, where one was given."""
    first = all_.first_of_study[checked.uid("StudyInstanceUID")]
    for keyword in keywords:
        if _plain(checked, keyword) != _plain(first, keyword):
            yield f"{keyword} is not that of {first.name}"


def _plain(checked: AirObject, keyword: str) -> str:
    value = text(checked.dataset, keyword)
    if keyword.endswith("Name"):
        return "=".join(group.rstrip("^ ") for group in value.split("=")).rstrip("=")
    if keyword.endswith("Time") and "." in value:
        return value.rstrip("0").rstrip(".")
    return value


def _patient(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    return _equal(_PATIENT, checked, all_)


def _study(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    return _equal(_STUDY, checked, all_)


def _optional(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    return _equal(_OPTIONAL, checked, all_)


def _unique(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    uid = checked.uid("SOPInstanceUID")
    first = all_.by_uid.get(uid)
    if uid and first is not None and first is not checked:
        yield f"its SOP Instance UID is that of {first.name}"


def _own_series(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    if checked.uid("SeriesInstanceUID") in all_.source_series:
        yield "it stands in a series of source images"


def _series_modality(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    first = all_.first_of_series[checked.uid("SeriesInstanceUID")]
    if text(first.dataset, "Modality") != text(checked.dataset, "Modality"):
        yield f"its series holds {first.name} of another modality"
    if first.uid("StudyInstanceUID") != checked.uid("StudyInstanceUID"):
        yield f"its series holds {first.name} of another study"


def _resolves(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    for uid, study in sorted(_missing(checked, all_).items()):
        if study in all_.source_studies:
            yield f"instance {shown(uid)} is not among the given files"


def unfollowed(all_: ResultSet) -> set[str]:
    """Give the instances that are referred to, in studies of which no image was given."""
    return {
        uid
        for each in all_.results
        for uid, study in _missing(each, all_).items()
        if study not in all_.source_studies
    }


def _missing(checked: AirObject, all_: ResultSet) -> dict[str, str]:
    """Give the instances that are referred to and not there, with their studies.

    A reference that names no study goes to the object's own.
    """
    studies = {each.sop_instance_uid: each.study for each in checked.references if each.study}
    own = checked.uid("StudyInstanceUID")
    named = {each.sop_instance_uid for each in checked.references} - set(all_.by_uid)
    return {uid: studies.get(uid, own) for uid in named}


def _reference_class(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    for uid, found in sorted(_met(checked, all_).items()):
        classes = {each.sop_class_uid for each in found}
        if classes != {all_.by_uid[uid].uid("SOPClassUID")}:
            yield f"a reference to {all_.by_uid[uid].name} has another SOP Class UID"


def _reference_place(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    for uid, found in sorted(_met(checked, all_).items()):
        target = all_.by_uid[uid]
        if any(each.study and each.study != target.uid("StudyInstanceUID") for each in found):
            yield f"a reference to {target.name} has another Study Instance UID"
        if any(each.series and each.series != target.uid("SeriesInstanceUID") for each in found):
            yield f"a reference to {target.name} has another Series Instance UID"


def _met(checked: AirObject, all_: ResultSet) -> dict[str, list[Reference]]:
    met: dict[str, list[Reference]] = defaultdict(list)
    for each in checked.references:
        if each.sop_instance_uid in all_.by_uid:
            met[each.sop_instance_uid].append(each)
    return met


def _root_result(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    uid, study = checked.uid("SOPInstanceUID"), checked.uid("StudyInstanceUID")
    roots = [each for each in all_.roots if each.uid("StudyInstanceUID") == study]
    alone = checked.kind is Kind.REPORT and all_.run_sizes[run(checked)] == 1
    if alone or checked in roots or any(uid in each.named_at[Place.TREE] for each in roots):
        return
    if any(uid in each.named_at[Place.EVIDENCE] for each in roots):
        yield "the root result names it as evidence, and not in its content tree"
    else:
        yield "no root result refers to it"


def _tracking_consistent(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    """Compare with every object of the same algorithms and study."""
    for each in checked.tracked:
        if len({other.uid for other in all_.tracking[run(checked), each.identifier]}) > 1:
            yield f"the Tracking Identifier of {each.where} has another UID elsewhere"
        if len({other.identifier for other in all_.tracking[run(checked), each.uid]}) > 1:
            yield f"the Tracking UID of {each.where} has another identifier elsewhere"


def _tracking_unique(checked: AirObject, _: ResultSet) -> Iterator[str]:
    findings: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for node in checked.nodes:
        for uid in node.named("112040"):
            for finding in node.named("121071"):
                findings[text(uid.item, "UID")].add((finding.value.scheme, finding.value.value))
    for value, named in sorted(findings.items()):
        if len(named) > 1:
            yield f"Tracking UID {shown(value)} stands for different findings"


SET_RULES: tuple[Rule, ...] = (
    Rule(
        "machine-readable",
        Severity.ERROR,
        "the set",
        "There is an AIR result: an SR, a SEG or a parametric map. Secondary captures, "
        "presentation states and key object selections are allowed beside it.",
        f"{_AIR}, Table 6.5.3-1; Rev. 1.3, scope: pictures are a fallback in addition",
        _machine_readable,
    ),
    error(
        "root-result",
        RESULTS,
        "A root result, an SR, refers to every result of its study in its content tree. A report "
        "that is all that an algorithm made is its own.",
        f"{_AIR}: Root Result",
        _root_result,
    ),
    error(
        "same-study",
        RESULTS,
        "A result stands in the study of the images that were analysed.",
        "IHE RAD AIR, Study Integrated Results; PS3.3 C.17.2.3",
        _same_study,
    ),
    error(
        "patient-attributes",
        RESULTS,
        "The patient is the same in every object of a study, attribute by attribute.",
        "PS3.3 A.1.2.1, C.7.1.1",
        _patient,
    ),
    error(
        "study-attributes",
        RESULTS,
        "The study is the same in every object of a study, attribute by attribute.",
        "PS3.3 A.1.2.2, C.7.2.1",
        _study,
    ),
    warning(
        "inherited-attributes",
        RESULTS,
        "Issuer of Patient ID and Study Description are inherited too.",
        "believed: PS3.3 C.7.1.1 and C.7.2.1 allow them to be absent; an archive may part what "
        "differs",
        _optional,
    ),
    error(
        "sop-instance-unique",
        RESULTS,
        "No two objects have one SOP Instance UID.",
        "PS3.3 C.12.1; PS3.5 9",
        _unique,
    ),
    error(
        "own-series",
        RESULTS,
        "Results stand in series of their own.",
        "PS3.3 A.1.2.3: a series is of one equipment",
        _own_series,
    ),
    error(
        "series-modality",
        RESULTS,
        "A series has one modality and one study.",
        "PS3.3 A.1.2.3, C.7.3.1",
        _series_modality,
    ),
    error(
        "reference-found",
        RESULTS,
        "What an object refers to is there, where images of that study were given.",
        "PS3.3 10.8: a reference is to an instance",
        _resolves,
    ),
    error(
        "reference-class",
        RESULTS,
        "A reference has the SOP Class UID of the instance that it goes to.",
        "PS3.3 10.8, Table 10-11",
        _reference_class,
    ),
    error(
        "reference-place",
        RESULTS,
        "A reference names the study and the series of the instance that it goes to.",
        "PS3.3 C.17.2.1, C.12.4",
        _reference_place,
    ),
    error(
        "tracking-consistent",
        _TRACKED,
        "One Tracking Identifier of an algorithm has one UID, in every object.",
        "PS3.16 TID 1501, 1410, 1411; PS3.3 C.8.20.2",
        _tracking_consistent,
    ),
    error(
        "tracking-unique",
        frozenset({Kind.REPORT}),
        "One Tracking Unique Identifier stands for one finding.",
        "PS3.16 TID 1501, 1410, 1411",
        _tracking_unique,
    ),
)
