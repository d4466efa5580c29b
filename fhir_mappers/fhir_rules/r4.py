"""FHIR R4 itself, for every resource that is emitted: elements, codes, references, invariants.

The models of fhir.resources check shapes and formats. What they let pass (codes of required
bindings, what a reference may name, invariants, a number written as text, ``null``, emptiness) is
checked here, in one walk over the JSON value.

References
----------
FHIR R4 conformance-rules.html, json.html, references.html, terminologies.html.
"""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_rules.elements import (
    ELEMENTS,
    EMITTED_TYPES,
    REQUIRED,
    RESOURCE_TYPES,
    Element,
)
from fhir_mappers.fhir_rules.invariants import broken_by
from fhir_mappers.fhir_rules.primitives import wrong_with

Path = tuple[str, ...]
_LITERAL = re.compile(
    r"(?:https?://[^\s#?]+/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
_ELSEWHERE = re.compile(r"urn:(uuid|oid):\S+")


def check(resource: Mapping[str, Any]) -> None:
    """Check a resource, and every resource in it.

    Raises
    ------
    InvalidMessage
        At the first fault: which element of which resource, what is wrong and what is allowed.
        Never a value: it may be a patient's.
    """
    _check_resource(resource, ())


def _check_resource(value: object, path: Path) -> None:
    kind = value.get("resourceType") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(kind, str) or kind not in EMITTED_TYPES:
        _refuse(path or ("resource",), f"radcds emits {', '.join(sorted(EMITTED_TYPES))}")
    content = {name: each for name, each in value.items() if name != "resourceType"}
    _check_object(content, kind, (*path, kind))


def _check_object(value: object, kind: str, path: Path) -> None:
    """Check an object of a complex type: its elements, then the rules over them.

    Raises
    ------
    InvalidMessage
        See ``check``.
    """
    if not isinstance(value, Mapping) or not value:
        _refuse(path, f"must be a JSON object of {kind}, and not empty")
    present: set[str] = set()
    for name, each in value.items():
        element = ELEMENTS[kind].get(name)
        if element is None:
            _check_companion(value, name, kind, path)
            continue
        label = element.choice or name
        if label in present:
            _refuse((*path, f"{label}[x]"), "has two values; one is allowed")
        present.add(label)
        _check_element(each, element, name, path)
    for name in REQUIRED[kind]:
        if name not in present:
            _refuse((*path, name), "is required, and missing")
    if broken := broken_by(kind, value):
        _refuse(path, broken)


def _check_element(value: object, element: Element, name: str, path: Path) -> None:
    if not element.is_list:
        _check_value(value, element, (*path, name))
    elif isinstance(value, list) and value:
        for number, each in enumerate(value):
            _check_value(each, element, (*path, f"{name}[{number}]"))
    else:
        _refuse((*path, name), "must be a list, and not empty")


def _check_value(value: object, element: Element, path: Path) -> None:
    """Check one value of an element.

    Raises
    ------
    InvalidMessage
        See ``check``.
    """
    if element.kind in ELEMENTS:
        _check_object(value, element.kind, path)
        if element.kind == "Reference":
            _check_reference(value, element.targets, path)  # type: ignore[arg-type]
    elif element.kind == "Resource":
        _check_resource(value, path)
    elif element.kind != "xhtml" and (wrong := wrong_with(element.kind, value)):
        _refuse(path, wrong)
    if element.codes is not None and value not in element.codes:
        allowed = ", ".join(sorted(element.codes)) or "none"
        _refuse(path, f"is not one of the codes allowed here: {allowed}")


def _check_companion(value: Mapping[str, Any], name: str, kind: str, path: Path) -> None:
    """Check ``_name``: the extensions of a primitive value that stands beside it.

    Raises
    ------
    InvalidMessage
        See ``check``. Any other name is unknown.
    """
    element = ELEMENTS[kind].get(name.removeprefix("_"))
    beside = name.startswith("_") and name[1:] in value
    if element is None or element.kind in ELEMENTS or element.is_list or not beside:
        known = name if re.fullmatch(r"_?[A-Za-z]{1,40}", name) else "an element"
        _refuse((*path, known), f"is no element of {kind} that radcds emits")
    _check_object(value[name], "Element", (*path, name))


def _check_reference(value: Mapping[str, Any], targets: frozenset[str], path: Path) -> None:
    """Check what a reference names.

    Raises
    ------
    InvalidMessage
        See ``check``. ``ref-1``: radcds emits no contained resource, so none can be referred to.
    """
    if not {"reference", "identifier", "display", "extension"} & set(value):
        _refuse(path, "must have a reference, an identifier or a display")
    literal = str(value.get("reference", ""))
    named = _LITERAL.fullmatch(literal)
    if literal and not named and not _ELSEWHERE.fullmatch(literal):
        _refuse((*path, "reference"), "ref-1: must be Type/id, its full address, or urn:uuid:…")
    kinds = {str(value["type"])} if "type" in value else set()
    kinds |= {named[1]} if named else set()
    if len(kinds) > 1:
        _refuse((*path, "type"), "must be the type that the reference names")
    allowed = targets or RESOURCE_TYPES
    if not kinds <= allowed:
        said = ", ".join(sorted(targets)) or "the resource types of FHIR R4"
        _refuse(path, f"must refer to one of: {said}")


def _refuse(path: Path, what: str) -> NoReturn:
    where = ".".join(path)
    msg = f"{where}: {what}"
    raise InvalidMessage(msg)
