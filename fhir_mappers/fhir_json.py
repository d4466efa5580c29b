"""FHIR R4 resources as checked, exact bytes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_rules.r4 import check
from fhir_mappers.report_context import Site

_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_URI = re.compile(r"(urn:|https?://)\S+")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


def emitted(resource: Mapping[str, Any]) -> bytes:
    """Check a resource and give the bytes that are stored, sent and hashed.

    Text loses the characters that FHIR strings may not hold. The model's own serialisation is
    never used: it would change digits and fractions.

    Raises
    ------
    InvalidMessage
        If it is not a valid FHIR R4 resource, or not one that radcds emits: names the first
        element that is wrong and what is allowed, and never a value.

    References
    ----------
    FHIR R4 datatypes ``string``; http://hl7.org/fhir/R4/terminologies.html required bindings.
    """
    cleaned = _cleaned(resource)
    check(cleaned)
    kind = str(cleaned["resourceType"])
    try:
        get_fhir_model_class(kind).model_validate(cleaned)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join((kind, *(str(part) for part in first["loc"])))
        msg = f"{where}: is not valid for FHIR R4 ({first['type']})"
        raise InvalidMessage(msg) from None
    return _written(cleaned)


def legal(text: str) -> str:
    """Give text without the characters that FHIR strings may not hold, and without space around."""
    return _ILLEGAL.sub("", text).strip()


def unchecked(resource: Mapping[str, Any]) -> bytes:
    """Give the bytes of a resource that is still to be completed, to derive its id from them."""
    return _written(_cleaned(resource))


def _written(cleaned: Mapping[str, Any]) -> bytes:
    return orjson.dumps(cleaned, option=orjson.OPT_INDENT_2)


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Drop illegal characters, and what is empty: FHIR has no empty string, list or object."""
    if isinstance(value, str):
        return legal(value)
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
