"""The elements of FHIR R4 that radcds may emit: ``r4_elements.json``, read once.

``scripts/fhir_elements.py`` writes that table from the definitions of the specification. Only here
is it narrowed to the codes that radcds has a use for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type.

    Parameters
    ----------
    kind
        Its datatype, such as ``code``, ``Reference`` or ``Observation.component``.
    is_list
        Whether it may repeat, and so is a list in JSON.
    choice
        Name that it shares with the others of a choice, such as ``value``; empty for most.
    codes
        What a code with a required binding may be; ``None`` where there is none.
    targets
        Resource types that a reference may name; empty for any.
    """

    kind: str
    is_list: bool
    choice: str
    codes: frozenset[str] | None
    targets: frozenset[str]


EMITTED: Mapping[tuple[str, str], frozenset[str]] = {
    ("Attachment", "contentType"): frozenset({"image/jpeg", "text/html", "text/markdown"}),
    ("Binary", "contentType"): frozenset({"image/jpeg"}),
    ("Bundle", "type"): frozenset({"transaction", "searchset"}),
    ("Bundle.entry.request", "method"): frozenset({"PUT"}),
    ("CapabilityStatement", "fhirVersion"): frozenset({"4.0.1"}),
    ("CapabilityStatement", "format"): frozenset({"application/fhir+json"}),
    ("CapabilityStatement", "kind"): frozenset({"instance"}),
    ("CapabilityStatement", "patchFormat"): frozenset(),
    ("Device", "status"): frozenset({"active"}),
    ("DiagnosticReport", "status"): frozenset(
        {"registered", "preliminary", "final", "amended", "corrected", "entered-in-error"}
    ),
    ("DocumentReference", "status"): frozenset({"current"}),
    ("ImagingStudy", "status"): frozenset({"available"}),
    ("Media", "status"): frozenset({"completed", "entered-in-error"}),
    ("Narrative", "status"): frozenset({"generated"}),
    ("Observation", "status"): frozenset({"preliminary", "final", "amended", "entered-in-error"}),
}
"""Narrower than the specification: the codes that radcds emits."""

_TABLE: Mapping[str, Any] = orjson.loads(
    files("fhir_mappers.fhir_rules").joinpath("r4_elements.json").read_bytes()
)
_ANY = frozenset({"Resource"})


def _element(parent: str, name: str, row: Mapping[str, Any]) -> Element:
    codes = EMITTED.get((parent, name))
    if codes is None and "codes" in row:
        codes = frozenset(_TABLE["codes"][row["codes"]])
    return Element(
        kind=row["type"],
        is_list=row.get("list", False),
        choice=row.get("choice", ""),
        codes=codes,
        targets=frozenset(row.get("targets", ())) - _ANY,
    )


ELEMENTS: Mapping[str, Mapping[str, Element]] = {
    parent: {name: _element(parent, name, row) for name, row in rows.items()}
    for parent, rows in _TABLE["types"].items()
}
"""Elements by type, such as ``DiagnosticReport`` or ``DiagnosticReport.media``, and by name."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    parent: tuple(
        dict.fromkeys(row.get("choice", name) for name, row in rows.items() if "min" in row)
    )
    for parent, rows in _TABLE["types"].items()
}
"""What each type must have: the name of an element, or of a choice."""

EMITTED_TYPES = frozenset(name for name, rows in ELEMENTS.items() if "implicitRules" in rows)
"""Resource types that radcds emits."""

RESOURCE_TYPES = frozenset(_TABLE["resources"])
"""All that FHIR R4 has: what a reference may name."""

HL7_SYSTEMS: Mapping[str, Mapping[str, str]] = _TABLE["systems"]
"""Code systems that the specification holds as a whole: display by code."""
