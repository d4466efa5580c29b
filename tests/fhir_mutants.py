"""Good resources of every type that radcds emits, and single faults in them."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

from studies import ISSUED, OUTCOMES, STUDY_UID, chest_study, context
from studies import site as example_site

from cds_server.web.fhir_api import capability_statement
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.operation_outcome import operation_outcome
from fhir_mappers.report_context import ReportContext, SignOff, Verdict
from fhir_mappers.transaction import transaction_bundle

Resource = dict[str, Any]
Step = str | int
JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"
RADIOLOGIST = "Dr Ada Reader"


def sign_off(verdict: Verdict, **changes: Any) -> SignOff:
    values: dict[str, Any] = {
        "number": 1,
        "verdict": verdict,
        "at": ISSUED.replace(hour=11),
        "radiologist": RADIOLOGIST,
        "identifier": ("https://fhir.hl7.org.uk/Id/gmc-number", "C1234567"),
        "statement": "Left lower lobe pneumonia." if verdict is Verdict.CORRECTED else "",
    }
    return SignOff(**{**values, **changes})


def bundle(
    name: str = "flagged",
    verdict: Verdict | None = None,
    *,
    overlay: bytes | None = JPEG,
    base: ReportContext | None = None,
    **changes: Any,
) -> bytes:
    """Give the transaction of a fixed study."""
    signed = sign_off(verdict) if verdict else None
    return transaction_bundle(
        chest_study(**changes),
        OUTCOMES[name],
        context=replace(base or context(), signed=signed),
        overlay_jpeg=overlay,
    )


def resources(content: bytes) -> list[Resource]:
    """Give the resources of a Bundle."""
    return [entry["resource"] for entry in json.loads(content)["entry"]]


def of_type(content: bytes, kind: str) -> list[Resource]:
    """Give the resources of one type in a Bundle."""
    return [each for each in resources(content) if each["resourceType"] == kind]


@cache
def _good() -> dict[str, Resource]:
    fact = AuditFact(
        AuditKind.VIEW_RESULT,
        ISSUED,
        "dr.who",
        "192.0.2.10",
        study_instance_uid=STUDY_UID,
        patient_id="MRN 123456",
        detail={"model": "cxr-test"},
    )
    found = {each["resourceType"]: each for each in resources(bundle())}
    found["Signed report"] = of_type(bundle(verdict=Verdict.CORRECTED), "DiagnosticReport")[0]
    found["Bundle"] = json.loads(bundle(overlay=None))
    found["AuditEvent"] = json.loads(audit_event(fact, example_site()))
    found["OperationOutcome"] = json.loads(operation_outcome("not-found", "nothing here"))
    found["CapabilityStatement"] = capability_statement(
        "https://radcds.example.org", "1.0.0", "2026-11-20"
    )
    return found


def good() -> dict[str, Resource]:
    """Give good resources by a name of each."""
    return deepcopy(_good())


def leaves(value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Give every value below a JSON value, objects and lists as well, with its path."""
    pairs: Iterator[tuple[Step, Any]] = iter(())
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list):
        pairs = enumerate(value)
    for step, each in pairs:
        yield (*path, step), each
        yield from leaves(each, (*path, step))


def changed(resource: Resource, path: tuple[Step, ...], value: Any) -> Resource:
    """Give a resource with another value at a path."""
    copied = deepcopy(resource)
    at: Any = copied
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copied


def with_(**values: Any) -> Callable[[Resource], Resource]:
    """Set elements of a resource; ``None`` takes one away."""

    def change(resource: Resource) -> Resource:
        kept = {**deepcopy(resource), **values}
        return {name: each for name, each in kept.items() if each is not None}

    return change


def at(*path: Step, to: Any) -> Callable[[Resource], Resource]:
    """Set the value at a path."""
    return lambda resource: changed(resource, path, to)


def without(*path: Step) -> Callable[[Resource], Resource]:
    """Take away the element at a path."""

    def change(resource: Resource) -> Resource:
        copied = deepcopy(resource)
        inner: Any = copied
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        return copied

    return change


def _div(inner: str) -> Callable[[Resource], Resource]:
    return at("text", "div", to=f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>')


_CODE = {"coding": [{"system": "http://loinc.org", "code": "59776-5"}]}
_QUANTITY = {"value": 1, "system": "http://unitsofmeasure.org", "code": "1"}

MUTANTS: dict[str, tuple[str, Callable[[Resource], Resource]]] = {
    # codes
    "report status": ("DiagnosticReport", with_(status="prelim")),
    "report status of another resource": ("DiagnosticReport", with_(status="active")),
    "report status in capitals": ("DiagnosticReport", with_(status="Preliminary")),
    "study status": ("ImagingStudy", with_(status="final")),
    "observation status": ("Observation", with_(status="done")),
    "media status": ("Media", with_(status="final")),
    "device status": ("Device", with_(status="on")),
    "card status": ("DocumentReference", with_(status="active")),
    "audit action": ("AuditEvent", with_(action="X")),
    "audit outcome": ("AuditEvent", with_(outcome="1")),
    "network type": ("AuditEvent", at("agent", 0, "network", "type", to="9")),
    "entity role of the audit": ("AuditEvent", at("entity", 0, "role", "code", to="99")),
    "entity type of the audit": ("AuditEvent", at("entity", 0, "type", "code", to="9")),
    "source type": ("AuditEvent", at("source", "type", 0, "code", to="99")),
    "subtype of the audit": ("AuditEvent", at("subtype", 0, "code", to="reads")),
    "display of the audit": ("AuditEvent", at("type", "display", to="Restful Operation")),
    "entity role of the provenance": ("Provenance", at("entity", 0, "role", to="input")),
    "participant": ("Provenance", at("agent", 0, "type", "coding", 0, "code", to="writer")),
    "device name type": ("Device", at("deviceName", 0, "type", to="name")),
    "narrative status": ("DiagnosticReport", at("text", "status", to="ok")),
    "interpretation": ("Observation", at("interpretation", 0, "coding", 0, "code", to="BAD")),
    "category of the report": ("DiagnosticReport", at("category", 0, "coding", 0, "code", to="XX")),
    "LOINC code": ("DiagnosticReport", at("code", "coding", 0, "code", to="1-8")),
    "LOINC display": ("DiagnosticReport", at("code", "coding", 0, "display", to="XR Hand")),
    "type of the accession number": (
        "DiagnosticReport",
        at("basedOn", 0, "identifier", "type", "coding", 0, "code", to="ACCESSION"),
    ),
    "content type": ("Media", at("content", "contentType", to="jpeg")),
    "content type of the binary": ("Binary", with_(contentType="image")),
    "severity": ("OperationOutcome", at("issue", 0, "severity", to="bad")),
    "issue": ("OperationOutcome", at("issue", 0, "code", to="bad")),
    "bundle type": ("Bundle", with_(type="transactions")),
    "method": ("Bundle", at("entry", 0, "request", "method", to="put")),
    "FHIR version": ("CapabilityStatement", with_(fhirVersion="4.3.0")),
    "interaction": (
        "CapabilityStatement",
        at("rest", 0, "resource", 0, "interaction", 0, "code", to="look"),
    ),
    # references
    "performer Device": (
        "DiagnosticReport",
        at("performer", 0, to={"reference": "Device/1", "type": "Device"}),
    ),
    "interpreter Patient": (
        "DiagnosticReport",
        with_(resultsInterpreter=[{"reference": "Patient/1"}]),
    ),
    "subject Practitioner": ("Observation", with_(subject={"reference": "Practitioner/1"})),
    "subject Practitioner by type": ("DiagnosticReport", at("subject", "type", to="Practitioner")),
    "result ImagingStudy": ("DiagnosticReport", at("result", 0, "reference", to="ImagingStudy/1")),
    "study Observation": (
        "DiagnosticReport",
        at("imagingStudy", 0, "reference", to="Observation/1"),
    ),
    "media link": ("DiagnosticReport", at("media", 0, "link", "reference", to="Binary/1")),
    "device Patient": ("Observation", with_(device={"reference": "Patient/1"})),
    "subject Observation": ("ImagingStudy", with_(subject={"reference": "Observation/1"})),
    "agent Observation": ("Provenance", at("agent", 0, "who", "reference", to="Observation/1")),
    "no such resource type": ("Provenance", at("target", 0, "reference", to="Report/1")),
    "type and reference differ": (
        "Provenance",
        at("target", 0, to={"reference": "Observation/1", "type": "Media"}),
    ),
    "contained that is not there": ("Observation", at("device", "reference", to="#ai")),
    "reference that is none": ("Observation", at("device", "reference", to="the device")),
    "reference to nothing": ("Observation", with_(device={"type": "Device"})),
    # invariants
    "obs-3": ("Observation", with_(referenceRange=[{"appliesTo": [{"text": "adults"}]}])),
    "obs-6": ("Observation", with_(dataAbsentReason={"text": "unknown"})),
    "obs-7": ("Observation", at("component", 0, "code", to=_CODE)),
    "sev-1": ("AuditEvent", at("entity", 1, to={"name": "a study", "query": "eA=="})),
    "ext-1": (
        "Observation",
        at("extension", 0, "extension", to=[{"url": "http://a.example/b", "valueString": "x"}]),
    ),
    "ext-1 nothing": ("Observation", at("extension", 0, to={"url": "http://a.example/b"})),
    "txt-1 script": ("DiagnosticReport", _div("<p>x</p><script>alert(1)</script>")),
    "txt-1 handler": ("DiagnosticReport", _div('<p onclick="alert(1)">x</p>')),
    "txt-1 unescaped": ("DiagnosticReport", _div("<p>1 < 2</p>")),
    "txt-1 not closed": ("DiagnosticReport", _div("<p>x")),
    "txt-1 no XHTML": ("DiagnosticReport", at("text", "div", to="<div>x</div>")),
    "txt-2": ("DiagnosticReport", _div("<p> </p>")),
    "qty-3": ("Observation", without("component", 0, "valueQuantity", "system")),
    "per-1": (
        "AuditEvent",
        with_(period={"start": "2026-11-20T09:00:00Z", "end": "2026-11-20T08:00:00Z"}),
    ),
    "rng-2": (
        "Observation",
        at(
            "component",
            0,
            to={"code": {"text": "x"}, "valueRange": {"low": {"value": 2}, "high": {"value": 1}}},
        ),
    ),
    "rat-1": (
        "Observation",
        at("component", 0, to={"code": {"text": "x"}, "valueRatio": {"numerator": _QUANTITY}}),
    ),
    "att-1": ("DiagnosticReport", without("presentedForm", 0, "contentType")),
    "wrong size": ("DiagnosticReport", at("presentedForm", 0, "size", to=1)),
    "wrong hash": ("DocumentReference", at("content", 0, "attachment", "hash", to="AAAA")),
    "cpt-2": ("Device", with_(contact=[{"value": "1"}])),
    "dom-2": ("DiagnosticReport", with_(contained=[{"resourceType": "Device", "id": "1"}])),
    "bdl-1": ("Bundle", with_(total=3)),
    "bdl-2": ("Bundle", at("entry", 0, "search", to={"mode": "match"})),
    "bdl-3": ("Bundle", without("entry", 0, "request")),
    "bdl-4": ("Bundle", at("entry", 0, "response", to={"status": "200"})),
    "bdl-5": (
        "Bundle",
        at("entry", 0, to={"fullUrl": "urn:uuid:8021f3a6-6a2a-56c5-8e53-a77daf5954a7"}),
    ),
    "bdl-7": ("Bundle", lambda b: changed(b, ("entry", 1, "fullUrl"), b["entry"][0]["fullUrl"])),
    "bdl-8": ("Bundle", at("entry", 0, "fullUrl", to="https://a.example/Device/1/_history/2")),
    "cpb-1": ("CapabilityStatement", without("rest")),
    "cpb-9": ("CapabilityStatement", at("rest", 0, "resource", 0, "type", to="Device")),
    "cpb-12": (
        "CapabilityStatement",
        at("rest", 0, "resource", 0, "searchParam", 0, "name", to="status"),
    ),
    "cpb-14": ("CapabilityStatement", without("implementation")),
    # what is ours
    "final without a radiologist": ("DiagnosticReport", with_(status="final")),
    "amended without a radiologist": ("DiagnosticReport", with_(status="amended")),
    "corrected without a radiologist": ("DiagnosticReport", with_(status="corrected")),
    "a final finding of nobody": ("Observation", with_(status="final")),
    "an amended finding without a word": ("Observation", with_(status="amended")),
    "study UID without urn:oid": ("ImagingStudy", at("identifier", 0, "value", to=STUDY_UID)),
    "SOP class without urn:oid": (
        "ImagingStudy",
        at("series", 0, "instance", 0, "sopClass", "code", to="1.2.840.10008.5.1.4.1.1.1.1"),
    ),
    "wrong number of series": ("ImagingStudy", with_(numberOfSeries=2)),
    "wrong number of instances": ("ImagingStudy", with_(numberOfInstances=2)),
    "wrong number in the series": ("ImagingStudy", at("series", 0, "numberOfInstances", to=2)),
    "put to another address": ("Bundle", at("entry", 0, "request", "url", to="Device/1")),
    # shapes
    "missing code": ("Observation", without("code")),
    "missing status": ("ImagingStudy", without("status")),
    "missing recorded": ("Provenance", without("recorded")),
    "missing agent": ("AuditEvent", without("agent")),
    "missing content": ("DocumentReference", without("content")),
    "missing value of a detail": (
        "AuditEvent",
        without("entity", 1, "detail", 0, "valueString"),
    ),
    "unknown element": ("Device", with_(flavour="sweet")),
    "element of R5": ("DiagnosticReport", with_(study=[{"reference": "ImagingStudy/1"}])),
    "two values": ("Observation", with_(valueString="also this")),
    "two occurrences": ("Provenance", with_(occurredPeriod={"start": "2026"})),
    "list where one belongs": ("DiagnosticReport", with_(status=["preliminary"])),
    "one where a list belongs": ("DiagnosticReport", with_(category={"text": "Radiology"})),
    "number as text": ("Observation", at("component", 0, "valueQuantity", "value", to="0.87")),
    "probability as text": ("Observation", at("extension", 0, "valueDecimal", to="0.87")),
    "count as text": ("ImagingStudy", with_(numberOfSeries="1")),
    "count below zero": ("ImagingStudy", with_(numberOfSeries=-1)),
    "count with a fraction": ("ImagingStudy", with_(numberOfSeries=1.5)),
    "boolean as text": ("AuditEvent", at("agent", 0, "requestor", to="false")),
    "boolean as number": ("AuditEvent", at("agent", 0, "requestor", to=0)),
    "text as number": ("DiagnosticReport", with_(conclusion=7)),
    "day for an instant": ("DiagnosticReport", with_(issued="2026-11-20")),
    "instant without an offset": ("DiagnosticReport", with_(issued="2026-11-20T09:30:04")),
    "month 13": ("DiagnosticReport", with_(effectiveDateTime="2026-13-01")),
    "time without seconds": ("DiagnosticReport", with_(effectiveDateTime="2026-11-20T09:30Z")),
    "id with a space": ("Device", with_(id="a b")),
    "UID with urn:oid": ("ImagingStudy", at("series", 0, "uid", to=f"urn:oid:{STUDY_UID}.1")),
    "no base64": ("Binary", with_(data="a picture")),
    "uri with a space": ("Device", at("identifier", 0, "system", to="https://a b")),
    "code with a space": ("Device", at("type", "coding", 0, "code", to=" AI")),
    "null": ("DiagnosticReport", at("performer", 0, "display", to=None)),
    "empty text": ("DiagnosticReport", with_(conclusion="")),
    "blank text": ("DiagnosticReport", with_(conclusion="  ")),
    "empty list": ("DiagnosticReport", with_(result=[])),
    "empty object": ("DiagnosticReport", with_(encounter={})),
    "null in a list": ("DiagnosticReport", at("result", 0, to=None)),
    "another resource type": ("Device", with_(resourceType="Patient")),
    "no resource type": ("Device", without("resourceType")),
}
"""Name of a fault, the resource that it is in, and the change."""
