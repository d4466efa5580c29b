"""Labels from FHIR R4: what final Observations and DiagnosticReports say of a study or image.

Reports that are preliminary are not read: among them are those of AI, and a network that learns
from itself learns nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.label_file import read_text

_SETTLED = frozenset({"final", "amended", "corrected", "appended"})
_PRESENT = frozenset(
    {
        "http://snomed.info/sct|52101004",
        "http://loinc.org|LA9633-4",
        "http://loinc.org|LA33-6",
        "http://terminology.hl7.org/CodeSystem/v2-0136|Y",
        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation|POS",
    }
)
_ABSENT = frozenset(
    {
        "http://snomed.info/sct|2667000",
        "http://loinc.org|LA9634-2",
        "http://loinc.org|LA32-8",
        "http://terminology.hl7.org/CodeSystem/v2-0136|N",
        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation|NEG",
    }
)
_OID = "urn:oid:"
Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FhirJudgement:
    """What one resource says of the images of one study, series instance, or both.

    Parameters
    ----------
    uid
        Study Instance UID or SOP Instance UID.
    person
        Reference of the subject.
    present, absent
        Findings.
    """

    uid: str
    person: str
    present: frozenset[str]
    absent: frozenset[str]


def read_resources(path: Path) -> list[Resource]:
    """Read NDJSON, one resource, a list of them, or a Bundle; plain or ``.gz``.

    Raises
    ------
    LabelsRefused
        If it is no JSON, or holds what is no resource.
    """
    text = read_text(path)
    try:
        try:
            top = json.loads(text)
        except ValueError:
            top = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        msg = f"{path} is neither JSON nor one JSON resource a line ({error})."
        raise LabelsRefused(msg) from error
    resources = list(_opened(top))
    for each in resources:
        if not isinstance(each, dict) or not isinstance(each.get("resourceType"), str):
            msg = f"{path} holds something without a resourceType; FHIR R4 resources are read."
            raise LabelsRefused(msg)
    return resources


def _opened(top: object) -> Iterator[Any]:
    if isinstance(top, list):
        for each in top:
            yield from _opened(each)
    elif isinstance(top, dict) and top.get("resourceType") == "Bundle":
        for entry in _objects(top, "entry"):
            yield from _opened(entry.get("resource"))
    else:
        yield top


def judgements(
    resources: Sequence[Resource], findings: Mapping[str, str], *, complete_reports: bool
) -> list[FhirJudgement]:
    """Read what the resources say of the findings.

    An Observation speaks of a finding by its ``code`` and says present or absent by a boolean, a
    coded value or its interpretation; or its coded value names the finding itself. A
    DiagnosticReport speaks by its ``conclusionCode``. The images are those of
    ``Observation.derivedFrom``, ``focus`` and ``partOf``, of ``DiagnosticReport.imagingStudy``,
    and of the reports that list an Observation as their result.

    Parameters
    ----------
    resources
        Observation, DiagnosticReport and ImagingStudy; others are passed over.
    findings
        The finding that each code means, by ``system|code``.
    complete_reports
        Whether a finding of the mapping that a report does not conclude is absent, as opposed to
        not judged.

    Raises
    ------
    LabelsRefused
        If a resource that says something about a study has no subject.

    References
    ----------
    HL7 FHIR R4, Observation, DiagnosticReport, ImagingStudy.
    """
    studies = _studies(resources)
    told = []
    reported = _reported(resources)
    for each in resources:
        kind = each["resourceType"]
        if kind not in {"Observation", "DiagnosticReport"} or each.get("status") not in _SETTLED:
            continue
        if kind == "Observation":
            present, absent = _observed(each, findings)
            uids = _uids(each, ("derivedFrom", "focus", "partOf"), studies)
            uids |= {
                uid
                for report in reported.get(f"Observation/{each.get('id')}", ())
                for uid in _uids(report, ("imagingStudy",), studies)
            }
        else:
            present, absent = _concluded(each, findings, complete=complete_reports)
            uids = _uids(each, ("imagingStudy",), studies)
        if (present or absent) and uids:
            person = _person(each)
            told += [FhirJudgement(uid, person, present, absent) for uid in sorted(uids)]
    return told


def _reported(resources: Iterable[Resource]) -> dict[str, list[Resource]]:
    """Give the reports that list each Observation as a result."""
    reports: dict[str, list[Resource]] = {}
    for each in resources:
        if each["resourceType"] == "DiagnosticReport":
            for result in _objects(each, "result"):
                reference = _last_two(str(result.get("reference", "")))
                reports.setdefault(reference, []).append(each)
    return reports


def _observed(
    observation: Resource, findings: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Give the findings that an Observation says are there, and those that are not."""
    spoken = _meant(_codes(observation.get("code")), findings)
    value = _codes(observation.get("valueCodeableConcept"))
    named = _meant(value, findings)
    if not spoken:
        return named, frozenset()
    said = value | {
        code for concept in _objects(observation, "interpretation") for code in _codes(concept)
    }
    boolean = observation.get("valueBoolean")
    present = boolean is True or bool(said & _PRESENT)
    absent = boolean is False or bool(said & _ABSENT)
    if present == absent:
        return frozenset(), frozenset()
    return (spoken, frozenset()) if present else (frozenset(), spoken)


def _concluded(
    report: Resource, findings: Mapping[str, str], *, complete: bool
) -> tuple[frozenset[str], frozenset[str]]:
    codes = {code for concept in _objects(report, "conclusionCode") for code in _codes(concept)}
    present = _meant(codes, findings)
    spoke = bool(codes) and complete
    return present, frozenset(findings.values()) - present if spoke else frozenset()


def _meant(codes: set[str], findings: Mapping[str, str]) -> frozenset[str]:
    return frozenset(findings[code] for code in codes if code in findings)


def _codes(concept: object) -> set[str]:
    if not isinstance(concept, dict):
        return set()
    return {
        f"{each.get('system', '')}|{each.get('code', '')}" for each in _objects(concept, "coding")
    }


def _studies(resources: Iterable[Resource]) -> dict[str, str]:
    """Give the Study Instance UID of each ``ImagingStudy/id``."""
    return {
        f"ImagingStudy/{each['id']}": uid
        for each in resources
        if each["resourceType"] == "ImagingStudy" and "id" in each
        for uid in sorted(_oids(_objects(each, "identifier")))[:1]
    }


def _uids(resource: Resource, elements: Sequence[str], studies: Mapping[str, str]) -> set[str]:
    """Give the DICOM UIDs that a resource points at, by identifier or through an ImagingStudy."""
    inside = {
        f"#{each.get('id')}": uid
        for each in _objects(resource, "contained")
        if each.get("resourceType") == "ImagingStudy"
        for uid in _oids(_objects(each, "identifier"))
    }
    found = set[str]()
    for element in elements:
        for reference in _objects(resource, element):
            named = str(reference.get("reference", ""))
            found |= _oids([reference.get("identifier")])
            found |= {uid for uid in (studies.get(_last_two(named)), inside.get(named)) if uid}
            if named.startswith(_OID):
                found.add(named.removeprefix(_OID))
    return found


def _oids(identifiers: Iterable[object]) -> set[str]:
    return {
        str(each["value"]).removeprefix(_OID)
        for each in identifiers
        if isinstance(each, dict)
        and each.get("system") == "urn:dicom:uid"
        and str(each.get("value", "")).startswith(_OID)
    }


def _person(resource: Resource) -> str:
    """Give the subject.

    Raises
    ------
    LabelsRefused
        If there is none.
    """
    subject = resource.get("subject")
    reference = str(subject.get("reference", "")) if isinstance(subject, dict) else ""
    if not reference:
        msg = (
            f"{resource['resourceType']}/{resource.get('id', '')} has no subject reference, so its "
            "images cannot be split by person. Export it with its subject."
        )
        raise LabelsRefused(msg)
    return _last_two(reference)


def _last_two(reference: str) -> str:
    """Give ``Type/id`` of an absolute or relative reference, without its version."""
    return "/".join(reference.partition("/_history/")[0].split("/")[-2:])


def _objects(resource: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    values = resource.get(name)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []
