"""What another server holds under our ids, and whether somebody else changed it.

The ids are UUIDv5 of the result: nobody else makes such a resource. So what is there was made by
us, and its first version is ours whatever a server made of its text. A later version is ours only
where it says what we sent.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.transaction_entries import Entry, etag, is_settled

_FIRST = "1"
_VERSION = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_STATUS = re.compile(r"([1-5][0-9][0-9])\b.*", re.DOTALL)
_LITERAL = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/.*)?")
_OF_THE_SERVER = frozenset({"meta", "text"})
_OK, _NOT_FOUND, _GONE = 200, 404, 410


@dataclass(frozen=True, slots=True)
class Held:
    """What a server answered when it was asked for one resource.

    Parameters
    ----------
    resource
        ``None`` where there is none.
    version
        Its version, or empty where the server gives none.
    deleted
        Whether somebody deleted it.
    """

    resource: Mapping[str, Any] | None = field(default=None, repr=False)
    version: str = ""
    deleted: bool = False


def entry_statuses(answer: Mapping[str, Any], kind: str, count: int) -> Sequence[int]:
    """Give the status of each entry of an answer to a batch or transaction.

    Parameters
    ----------
    answer
        As JSON.
    kind
        ``batch`` or ``transaction``.
    count
        How many entries were sent.

    Raises
    ------
    InvalidMessage
        If it is no such Bundle, or does not answer each entry.
    """
    entries = answer.get("entry", [])
    if (
        (answer.get("resourceType"), answer.get("type")) != ("Bundle", f"{kind}-response")
        or not isinstance(entries, list)
        or len(entries) != count
    ):
        msg = f"it is no {kind}-response with {count} entries"
        raise InvalidMessage(msg)
    return [_status(each) for each in entries]


def _status(entry: Any) -> int:  # noqa: ANN401 - any JSON value
    """Read ``Bundle.entry.response.status``.

    Raises
    ------
    InvalidMessage
        If there is none.
    """
    try:
        read = _STATUS.fullmatch(entry["response"]["status"])
    except (TypeError, KeyError):
        read = None
    if read is None:
        msg = "an entry of it has no status"
        raise InvalidMessage(msg)
    return int(read[1])


def held_resources(answer: Mapping[str, Any], addresses: Sequence[str]) -> Mapping[str, Held]:
    """Read the answer to ``batch_of_reads``.

    Raises
    ------
    InvalidMessage
        If it is no such Bundle, or does not say of each resource whether it is there.
    """
    statuses = entry_statuses(answer, "batch", len(addresses))
    return {
        address: _held(address, status, entry)
        for address, status, entry in zip(addresses, statuses, answer.get("entry", []), strict=True)
    }


def _held(address: str, status: int, entry: Mapping[str, Any]) -> Held:
    """Read one entry.

    Raises
    ------
    InvalidMessage
        If it does not say whether the resource is there.
    """
    if status == _NOT_FOUND:
        return Held()
    if status == _GONE:
        return Held(deleted=True)
    resource = entry.get("resource")
    if (
        status != _OK
        or not isinstance(resource, dict)
        or f"{resource.get('resourceType')}/{resource.get('id')}" != address
    ):
        msg = f"it does not say whether {address} is there (status {status})"
        raise InvalidMessage(msg)
    return Held(resource, _version(entry, resource))


def _version(entry: Mapping[str, Any], resource: Mapping[str, Any]) -> str:
    meta = resource.get("meta")
    told = meta.get("versionId") if isinstance(meta, dict) else None
    told = told or str(entry["response"].get("etag", "")).removeprefix("W/").strip('"')
    return told if isinstance(told, str) and _VERSION.fullmatch(told) else ""


def conflict(entry: Entry, held: Held, earlier: Mapping[str, Any] | None = None) -> str:
    """Say why a resource must not be replaced; empty where it may.

    Parameters
    ----------
    entry
        What would be sent.
    held
        What is there.
    earlier
        The same resource as this server sent it before, where that is known.
    """
    if held.deleted or (held.resource is None and entry.if_match):
        return f"{entry.address} was deleted there"
    if held.resource is None or same_content(entry.resource, held.resource):
        return ""
    if is_settled(held.resource) and not is_settled(entry.resource):
        return f"{entry.address} is past being preliminary there"
    if earlier is not None and same_content(earlier, held.resource):
        return ""
    ours = held.version == _FIRST
    if entry.if_match:
        ours = entry.if_match == etag(held.version)
    version = f" (version {held.version})" if held.version else ""
    return "" if ours else f"{entry.address} was changed there by somebody else{version}"


def same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two copies of a resource say the same.

    ``meta`` and ``text`` belong to the server that holds it; the same number, time or reference may
    be written otherwise.
    """
    return _same(_said(one), _said(other))


def _said(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: each for name, each in resource.items() if name not in _OF_THE_SERVER}


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON values
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(
            _same_reference(one[name], other[name])
            if name == "reference"
            else _same(one[name], other[name])
            for name in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return one == other or _same_time(one, other)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _same_reference(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON values
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    literal = [_LITERAL.fullmatch(each) for each in (one, other)]
    relative = [
        found[1] if found else each for found, each in zip(literal, (one, other), strict=True)
    ]
    return relative[0] == relative[1]


def _same_time(one: str, other: str) -> bool:
    try:
        moments = [datetime.fromisoformat(each) for each in (one, other)]
    except ValueError:
        return False
    return all(each.tzinfo for each in moments) and moments[0] == moments[1]
