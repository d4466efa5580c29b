"""Search parameters of the FHIR API, and which patient a resource belongs to.

References
----------
FHIR R4, Search; compartmentdefinition-patient.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from mock_ehr.records import Resource

PATIENT_REFERENCES = {
    "DiagnosticReport": "subject",
    "Encounter": "subject",
    "ImagingStudy": "subject",
    "ServiceRequest": "subject",
    "Task": "for",
}
_DATES = {
    "DiagnosticReport": {"date": "effectiveDateTime"},
    "Encounter": {"date": "period.start"},
    "ImagingStudy": {"started": "started"},
    "Patient": {"birthdate": "birthDate"},
    "Practitioner": {},
    "ServiceRequest": {"authored": "authoredOn"},
    "Task": {"authored-on": "authoredOn"},
}
RECORD_TYPES = tuple(_DATES)
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}


def parameters(resource_type: str) -> dict[str, str]:
    """Give the search parameters of a type, each with its kind."""
    found = {"_id": "token", "identifier": "token"}
    if resource_type in PATIENT_REFERENCES:
        found |= {"patient": "reference", "subject": "reference", "status": "token"}
    if resource_type == "DiagnosticReport":
        found["category"] = "token"
    return found | dict.fromkeys(_DATES[resource_type], "date")


def patient_of(resource: Resource) -> str | None:
    """Give the id of the patient in whose compartment a resource is."""
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    field = PATIENT_REFERENCES.get(resource["resourceType"], "")
    reference = str(resource.get(field, {}).get("reference", ""))
    return reference.removeprefix("Patient/") if reference.startswith("Patient/") else None


def matches(resource: Resource, name: str, value: str) -> bool:
    """Tell whether a resource matches one search parameter; commas mean or."""
    kind = parameters(resource["resourceType"])[name]
    choices = value.split(",")
    if kind == "reference":
        return patient_of(resource) in {choice.rsplit("Patient/", 1)[-1] for choice in choices}
    if kind == "date":
        moment = _at(resource, _DATES[resource["resourceType"]][name])
        return any(_on_time(moment, choice) for choice in choices)
    return any(_token(resource, name, choice) for choice in choices)


def sort_key(resource: Resource, name: str) -> str:
    """Give what to sort a resource by."""
    return _at(resource, _DATES[resource["resourceType"]].get(name, "id"))


def sortable(resource_type: str) -> set[str]:
    """Give the names that ``_sort`` accepts, without the minus."""
    return {"_id", *_DATES[resource_type]}


def _at(resource: Resource, path: str) -> str:
    value: Any = resource
    for step in path.split("."):
        value = value.get(step, {})
    return value if isinstance(value, str) else ""


def _on_time(moment: str, choice: str) -> bool:
    """Compare as precisely as the question is put; both are taken as in the same time zone."""
    prefix, day = (choice[:2], choice[2:]) if choice[:2] in _COMPARE else ("eq", choice)
    return bool(moment) and _COMPARE[prefix](moment[: len(day)], day)


def _token(resource: Resource, name: str, choice: str) -> bool:
    if name == "_id":
        return bool(resource["id"] == choice)
    if name == "status":
        return bool(resource.get("status") == choice.rsplit("|", 1)[-1])
    if name == "identifier":
        return _coded(resource.get("identifier", []), "value", choice)
    codings = (coding for each in resource.get("category", []) for coding in each["coding"])
    return _coded(codings, "code", choice)


def _coded(held: Iterable[Resource], part: str, choice: str) -> bool:
    """Compare ``system|value``, ``|value`` or ``value`` with what a resource holds."""
    system, bar, value = choice.rpartition("|")
    return any(
        each.get(part) == value and (not bar or each.get("system", "") == system) for each in held
    )
