"""Rules over several elements of a type: the invariants of R4, and those of radcds.

Each is told by its key. Those of the specification have its own keys; ``radcds-…`` are ours.

References
----------
FHIR R4 conformance-rules.html#constraints, and the constraints of each type.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_mappers.fhir_rules.codings import wrong_with_coding
from fhir_mappers.fhir_rules.narrative import wrong_with_narrative

Json = Mapping[str, Any]
_STUDY_UID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_SIGNED = frozenset({"final", "amended", "corrected"})
_WITH_REQUEST = frozenset({"batch", "transaction", "history"})
_WITH_RESPONSE = frozenset({"batch-response", "transaction-response", "history"})


@dataclass(frozen=True, slots=True)
class Invariant:
    """One rule over the elements of a type.

    Parameters
    ----------
    key
        As in the specification, such as ``obs-6``.
    holds
        Says of an object of the type whether it is kept.
    says
        What must be, for a person.
    """

    key: str
    holds: Callable[[Json], bool]
    says: str


def _has(value: Json, choice: str) -> bool:
    """Say whether any ``value[x]`` is there."""
    return any(name.startswith(choice) and name != choice for name in value)


def _differ(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)


def _starts_before_end(period: Json) -> bool:
    """Compare where both are as exact: a day and a second of that day have no order."""
    start, end = str(period.get("start", "")), str(period.get("end", ""))
    if not start or not end:
        return True
    if "T" in start and "T" in end:
        return datetime.fromisoformat(start) <= datetime.fromisoformat(end)
    shorter = min(len(start), len(end))
    return start[:shorter] <= end[:shorter]


def _no_component_repeats_the_code(observation: Json) -> bool:
    if not _has(observation, "value"):
        return True
    own = [_identity(each) for each in observation.get("code", {}).get("coding", ())]
    components = observation.get("component", ())
    return not any(
        _identity(coding) in own
        for component in components
        for coding in component.get("code", {}).get("coding", ())
    )


def _identity(coding: Json) -> tuple[object, object]:
    return coding.get("system"), coding.get("code")


def _has_its_size_and_hash(attachment: Json) -> bool:
    if "data" not in attachment:
        return True
    data = base64.b64decode(attachment["data"])
    digest = base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii")
    own = {"size": len(data), "hash": digest}
    return all(attachment.get(name, found) == found for name, found in own.items())


def _counts_its_series(study: Json) -> bool:
    series = study.get("series", ())
    instances = sum(len(each.get("instance", ())) for each in series)
    own = {"numberOfSeries": len(series), "numberOfInstances": instances}
    return all(study.get(name, found) == found for name, found in own.items())


def _counts_its_instances(series: Json) -> bool:
    found = len(series.get("instance", ()))
    return bool(series.get("numberOfInstances", found) == found)


def _names_each_version_once(bundle: Json) -> bool:
    named = [each["fullUrl"] for each in bundle.get("entry", ()) if "fullUrl" in each]
    return _differ(named)


def _puts_to_its_own_id(entry: Json) -> bool:
    resource = entry.get("resource", {})
    own = f"{resource.get('resourceType')}/{resource.get('id')}"
    return "request" not in entry or entry["request"].get("url") == own


_INVARIANTS: Mapping[str, tuple[Invariant, ...]] = {
    "Attachment": (
        Invariant(
            "att-1", lambda v: "data" not in v or "contentType" in v, "data needs a contentType"
        ),
        Invariant("radcds-hash", _has_its_size_and_hash, "size and hash must be those of the data"),
    ),
    "AuditEvent.entity": (
        Invariant(
            "sev-1", lambda v: "name" not in v or "query" not in v, "either a name or a query"
        ),
    ),
    "Bundle": (
        Invariant(
            "bdl-1",
            lambda v: "total" not in v or v.get("type") == "searchset",
            "total is of a search",
        ),
        Invariant(
            "bdl-2",
            lambda v: (
                v.get("type") == "searchset"
                or not any("search" in each for each in v.get("entry", ()))
            ),
            "entry.search is of a search",
        ),
        Invariant(
            "bdl-3",
            lambda v: all(
                ("request" in each) == (v.get("type") in _WITH_REQUEST)
                for each in v.get("entry", ())
            ),
            "each entry of a transaction has a request, and no other has",
        ),
        Invariant(
            "bdl-4",
            lambda v: all(
                ("response" in each) == (v.get("type") in _WITH_RESPONSE)
                for each in v.get("entry", ())
            ),
            "each entry of a response has a response, and no other has",
        ),
        Invariant("bdl-7", _names_each_version_once, "no fullUrl stands twice"),
    ),
    "Bundle.entry": (
        Invariant(
            "bdl-5",
            lambda v: bool({"resource", "request", "response"} & set(v)),
            "must hold a resource, a request or a response",
        ),
        Invariant(
            "bdl-8", lambda v: "/_history/" not in v.get("fullUrl", ""), "fullUrl names no version"
        ),
        Invariant("radcds-put", _puts_to_its_own_id, "request.url must be the resource's Type/id"),
    ),
    "CapabilityStatement": (
        Invariant("cpb-1", lambda v: "rest" in v, "must describe rest"),
        Invariant(
            "cpb-2",
            lambda v: bool({"description", "software", "implementation"} & set(v)),
            "must have a description, software or implementation",
        ),
        Invariant("cpb-14", lambda v: "implementation" in v, "an instance has an implementation"),
    ),
    "CapabilityStatement.rest": (
        Invariant(
            "cpb-9",
            lambda v: _differ([each.get("type") for each in v.get("resource", ())]),
            "each resource type once",
        ),
    ),
    "CapabilityStatement.rest.resource": (
        Invariant(
            "cpb-12",
            lambda v: _differ([each.get("name") for each in v.get("searchParam", ())]),
            "each search parameter once",
        ),
    ),
    "ContactPoint": (
        Invariant("cpt-2", lambda v: "value" not in v or "system" in v, "a value needs a system"),
    ),
    "DiagnosticReport": (
        Invariant(
            "radcds-final",
            lambda v: v.get("status") not in _SIGNED or "resultsInterpreter" in v,
            "AI alone is never final: a final, amended or corrected report names its "
            "resultsInterpreter",
        ),
    ),
    "Extension": (
        Invariant(
            "ext-1",
            lambda v: ("extension" in v) != _has(v, "value"),
            "either a value or further extensions",
        ),
    ),
    "Identifier": (
        Invariant(
            "radcds-uid",
            lambda v: (
                v.get("system") != "urn:dicom:uid"
                or bool(_STUDY_UID.fullmatch(str(v.get("value"))))
            ),
            "a value of urn:dicom:uid is urn:oid: and the UID",
        ),
    ),
    "ImagingStudy": (
        Invariant("radcds-count", _counts_its_series, "the numbers must be those of its series"),
    ),
    "ImagingStudy.series": (
        Invariant(
            "radcds-count", _counts_its_instances, "the number must be that of its instances"
        ),
    ),
    "Observation": (
        Invariant(
            "obs-6",
            lambda v: "dataAbsentReason" not in v or not _has(v, "value"),
            "either a value or a dataAbsentReason",
        ),
        Invariant(
            "obs-7",
            _no_component_repeats_the_code,
            "with a value, no component has the code of the Observation",
        ),
        Invariant(
            "radcds-final",
            lambda v: v.get("status") != "final" or "performer" in v,
            "AI alone is never final: a final Observation names its performer",
        ),
        Invariant(
            "radcds-amended",
            lambda v: v.get("status") != "amended" or "note" in v,
            "an amended Observation says in a note what was amended",
        ),
    ),
    "Observation.referenceRange": (
        Invariant("obs-3", lambda v: bool({"low", "high", "text"} & set(v)), "low, high or text"),
    ),
    "Period": (Invariant("per-1", _starts_before_end, "start is not after end"),),
    "Quantity": (
        Invariant("qty-3", lambda v: "code" not in v or "system" in v, "a code needs a system"),
    ),
    "Range": (
        Invariant(
            "rng-2",
            lambda v: (
                v.get("low", {}).get("value", 0) <= v.get("high", {}).get("value", 0)
                or "low" not in v
                or "high" not in v
            ),
            "low is not over high",
        ),
    ),
    "Ratio": (
        Invariant(
            "rat-1",
            lambda v: (
                ("numerator" in v) == ("denominator" in v)
                and ("numerator" in v or "extension" in v)
            ),
            "numerator and denominator, or an extension",
        ),
    ),
}

KEYS = frozenset(rule.key for rules in _INVARIANTS.values() for rule in rules) | {
    *("txt-1", "txt-2", "ref-1")
}
"""Keys of all that is looked at; ``ref-1`` with the references."""


def broken_by(kind: str, value: Json) -> str:
    """Name the rule that an object of a type breaks, and what must be; empty where it keeps all.

    Its elements must have been checked before.
    """
    for rule in _INVARIANTS.get(kind, ()):
        if not rule.holds(value):
            return f"{rule.key}: {rule.says}"
    if kind == "Coding":
        return wrong_with_coding(value)
    return wrong_with_narrative(value.get("div")) if kind == "Narrative" else ""
