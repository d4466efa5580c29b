"""FHIR R4 resources as checked, exact bytes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.report_context import Site

_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_URI = re.compile(r"(urn:|https?://)\S+")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")

# Required bindings of the codes that radcds emits: the models check shape, not codes.
_BINDINGS: Mapping[tuple[str, str], frozenset[str]] = {
    ("AuditEvent", "action"): frozenset("CRUDE"),
    ("AuditEvent", "outcome"): frozenset({"0", "4", "8", "12"}),
    ("Device", "status"): frozenset({"active", "inactive", "entered-in-error", "unknown"}),
    ("DiagnosticReport", "status"): frozenset({"registered", "preliminary"}),
    ("ImagingStudy", "status"): frozenset({"available"}),
    ("Media", "status"): frozenset({"preparation", "completed"}),
    ("Observation", "status"): frozenset({"preliminary"}),
    ("Bundle", "type"): frozenset({"transaction", "searchset"}),
    ("OperationOutcome", "resourceType"): frozenset({"OperationOutcome"}),
}


def emitted(resource: Mapping[str, Any]) -> bytes:
    """Check a resource and give the bytes that are stored, sent and hashed.

    Text loses the characters that FHIR strings may not hold. The model's own serialisation is
    never used: it would change digits and fractions.

    Raises
    ------
    InvalidMessage
        If it is not a valid FHIR R4 resource; names the first element that is wrong.

    References
    ----------
    FHIR R4 datatypes ``string``; http://hl7.org/fhir/R4/terminologies.html required bindings.
    """
    cleaned = _cleaned(resource)
    kind = str(cleaned["resourceType"])
    try:
        get_fhir_model_class(kind).model_validate(cleaned)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"{kind}.{where}: {first['msg']}"
        raise InvalidMessage(msg) from error
    for (of_kind, element), allowed in _BINDINGS.items():
        if of_kind == kind and cleaned.get(element) not in allowed:
            msg = f"{kind}.{element}: {cleaned.get(element)!r} is not a code that radcds emits"
            raise InvalidMessage(msg)
    return _written(cleaned)


def unchecked(resource: Mapping[str, Any]) -> bytes:
    """Give the bytes of a resource that is still to be completed, to derive its id from them."""
    return _written(_cleaned(resource))


def _written(cleaned: Mapping[str, Any]) -> bytes:
    return orjson.dumps(cleaned, option=orjson.OPT_INDENT_2)


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Drop illegal characters, and what is empty: FHIR has no empty string, list or object."""
    if isinstance(value, str):
        return _ILLEGAL.sub("", value).strip()
    if isinstance(value, Mapping):
        return dict(_kept(value))
    if isinstance(value, list | tuple):
        return [each for each in map(_cleaned, value) if each not in ("", [], {}, None)]
    return value


def _kept(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        cleaned = _cleaned(each)
        if cleaned not in ("", [], {}, None):
            yield name, cleaned


def identifier_system(issuer: str, site: Site) -> str:
    """Give the namespace of an identifier as a URI.

    A URI stays, an OID becomes ``urn:oid:``, any other name is placed below the server's address;
    without an issuer it is the site's own namespace.
    """
    name = issuer.strip() or site.accession_issuer
    if _URI.fullmatch(name):
        return name
    if _OID.fullmatch(name):
        return f"urn:oid:{name}"
    return f"{site.base_url}/identifier/{quote(name, safe='')}"
