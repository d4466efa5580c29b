"""The entries of a transaction of our own: each PUTs one resource under an id that is ours alone.

References
----------
FHIR R4 http.html#transaction, #concurrency; bundle.html.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.exact_json import exact, written

_ADDRESS = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}")
_EARLY = frozenset({"registered", "partial", "preliminary"})
_WITH_A_STATUS = frozenset({"DiagnosticReport", "Observation"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of a transaction.

    Parameters
    ----------
    address
        Such as ``Observation/…``.
    resource
        As it is sent.
    if_match
        ETag that it replaces, or empty.
    """

    address: str
    resource: Mapping[str, Any] = field(repr=False)
    if_match: str = ""


def transaction_entries(transaction: bytes) -> tuple[Entry, ...]:
    """Read a transaction.

    Raises
    ------
    InvalidMessage
        If it is none, has no entry, or an entry is no PUT of its resource under its own id.
    """
    try:
        bundle = orjson.loads(transaction)
    except ValueError:
        bundle = None
    if (
        not isinstance(bundle, dict)
        or (bundle.get("resourceType"), bundle.get("type")) != ("Bundle", "transaction")
        or not isinstance(bundle.get("entry"), list)
        or not bundle["entry"]
    ):
        msg = "the message is no FHIR transaction Bundle with entries"
        raise InvalidMessage(msg)
    read = tuple(_entry(each, number) for number, each in enumerate(bundle["entry"]))
    if len({each.address for each in read}) != len(read):
        msg = "two entries of the transaction have the same id"
        raise InvalidMessage(msg)
    return read


def _entry(value: Any, number: int) -> Entry:  # noqa: ANN401 - any JSON value
    """Read an entry.

    Raises
    ------
    InvalidMessage
        If it is no PUT of a resource under its own id; says which.
    """
    try:
        resource, request = value["resource"], value["request"]
        address = f"{resource['resourceType']}/{resource['id']}"
        asked = (request["method"], request["url"])
        if_match = request.get("ifMatch", "")
    except (TypeError, KeyError, AttributeError):
        address, asked = "", ("", "")
    if asked != ("PUT", address) or not _ADDRESS.fullmatch(address):
        msg = f"entry {number} of the transaction is no PUT of a resource under its own id"
        raise InvalidMessage(msg)
    return Entry(address, resource, if_match)


def with_versions(transaction: bytes, versions: Mapping[str, str]) -> bytes:
    """Let entries replace these versions and no others; neither order nor digits change.

    Parameters
    ----------
    transaction
        As ``transaction_entries`` reads it.
    versions
        The version of each resource that is there, by its address.

    Raises
    ------
    InvalidMessage
        If it is no JSON.
    """
    bundle = exact(transaction)
    for entry in bundle["entry"]:
        version = versions.get(entry["request"]["url"])
        if version:
            entry["request"]["ifMatch"] = etag(version)
    return written(bundle)


def etag(version: str) -> str:
    """Give the ETag of a version (FHIR R4 http.html#versioning)."""
    return f'W/"{version}"'


def batch_of_reads(addresses: Sequence[str]) -> bytes:
    """Give the Bundle that asks for these resources in one request."""
    entries = [{"request": {"method": "GET", "url": each}} for each in addresses]
    return orjson.dumps({"resourceType": "Bundle", "type": "batch", "entry": entries})


def is_settled(resource: Mapping[str, Any]) -> bool:
    """Say whether a report or finding is past being preliminary: signed, withdrawn or recalled."""
    of_kind = resource.get("resourceType") in _WITH_A_STATUS
    return of_kind and resource.get("status") not in _EARLY
