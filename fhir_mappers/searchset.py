"""What another server's search found: only what carries the identifier that was asked for.

A server may ignore a parameter that it does not know, and then gives everybody.

References
----------
FHIR R4 search.html; patient.html ``Patient.link``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.literal_references import LogicalReference

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SPECIAL = re.compile(r"([\\|,$])")


def token(wanted: LogicalReference) -> str:
    """Give the value of a token parameter, with the escapes of FHIR (R4 search.html#escaping)."""
    return "|".join(_SPECIAL.sub(r"\\\1", each) for each in (wanted.system, wanted.value))


def matches(answer: Mapping[str, Any], wanted: LogicalReference) -> Sequence[Mapping[str, Any]]:
    """Give the resources of a searchset that really carry the identifier.

    Raises
    ------
    InvalidMessage
        If it is no searchset, or a resource that matches has no usable id.
    """
    entries = answer.get("entry", [])
    if (answer.get("resourceType"), answer.get("type")) != ("Bundle", "searchset") or not (
        isinstance(entries, list) and all(isinstance(each, dict) for each in entries)
    ):
        msg = "it is no searchset"
        raise InvalidMessage(msg)
    found = [each["resource"] for each in entries if _carries(each.get("resource"), wanted)]
    if not all(_ID.fullmatch(str(each.get("id", ""))) for each in found):
        msg = f"a {wanted.resource_type} in it has no usable id"
        raise InvalidMessage(msg)
    return found


def has_more(answer: Mapping[str, Any]) -> bool:
    """Say whether a searchset has another page."""
    return any(each.get("relation") == "next" for each in _objects(answer.get("link")))


def successors(patient: Mapping[str, Any]) -> Sequence[str]:
    """Give the references to whom a Patient was replaced by, as they are written."""
    return [
        reference
        for link in _objects(patient.get("link"))
        if link.get("type") == "replaced-by"
        for reference in [_text(link.get("other"), "reference")]
    ]


def subject_of(order: Mapping[str, Any]) -> str:
    """Give the literal reference to the patient of an order, or empty."""
    return _text(order.get("subject"), "reference")


def _carries(resource: Any, wanted: LogicalReference) -> bool:  # noqa: ANN401 - any JSON value
    return (
        isinstance(resource, dict)
        and resource.get("resourceType") == wanted.resource_type
        and any(
            (each.get("system"), each.get("value")) == (wanted.system, wanted.value)
            for each in _objects(resource.get("identifier"))
        )
    )


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def _text(value: Any, name: str) -> str:  # noqa: ANN401 - any JSON value
    told = value.get(name) if isinstance(value, dict) else None
    return told if isinstance(told, str) else ""
