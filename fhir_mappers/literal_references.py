"""References by identifier, and the literal references that are put beside them.

What a server holds of a patient or an order, only that server knows. The identifier stays: it is
what the study says, and it outlives a change of server.

References
----------
FHIR R4 references.html: ``Reference.reference`` and ``Reference.identifier`` may both be there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_mappers.exact_json import exact, written


@dataclass(frozen=True, slots=True)
class LogicalReference:
    """A reference by identifier. Its text shows no identifier.

    Parameters
    ----------
    resource_type
        What it refers to, such as ``Patient``.
    system, value
        The identifier.
    """

    resource_type: str
    system: str = field(repr=False)
    value: str = field(repr=False)


def logical_references(resource: object) -> frozenset[LogicalReference]:
    """Give every reference in a JSON value that has an identifier and is not literal."""
    return frozenset(_found(resource))


def with_literal_references(content: bytes, literal: Mapping[LogicalReference, str]) -> bytes:
    """Put literal references beside the identifiers that they stand for.

    Nothing else changes: neither order nor digits; without any, the bytes that ``fhir_json`` wrote
    come back.

    Parameters
    ----------
    content
        A resource or Bundle as JSON.
    literal
        References such as ``Patient/123``; others stay by identifier alone.

    Raises
    ------
    InvalidMessage
        If it is no JSON.
    """
    return written(_linked(exact(content), literal))


def _found(value: object) -> Iterator[LogicalReference]:
    if isinstance(value, Mapping):
        reference = _logical(value)
        if reference:
            yield reference
        for each in value.values():
            yield from _found(each)
    elif isinstance(value, list):
        for each in value:
            yield from _found(each)


def _linked(value: Any, literal: Mapping[LogicalReference, str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_linked(each, literal) for each in value]
    if not isinstance(value, Mapping):
        return value
    inner = {name: _linked(each, literal) for name, each in value.items()}
    reference = _logical(value)
    if reference is not None and reference in literal:
        return {"reference": literal[reference], **inner}
    return inner


def _logical(value: Mapping[str, Any]) -> LogicalReference | None:
    identifier = value.get("identifier")
    if not isinstance(identifier, Mapping) or "reference" in value:
        return None
    parts = (value.get("type"), identifier.get("system"), identifier.get("value"))
    texts = [each for each in parts if isinstance(each, str) and each]
    return LogicalReference(*texts) if len(texts) == len(parts) else None
