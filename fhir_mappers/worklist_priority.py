"""Raising the priority of an order or task in an EHR's worklist: never lowering it.

The whole resource is given back with that one element changed, as CDS Hooks wants it for an update.

References
----------
FHIR R4 request-priority: routine, urgent, asap, stat, in rising order. CDS Hooks 2.0 systemActions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ai_engine.result import Outcome, Priority, TriageResult

_RISING = ("routine", "urgent", "asap", "stat")
_WANTED = {Priority.URGENT: "stat", Priority.FLAGGED: "asap"}
_OPEN = frozenset({"draft", "active", "requested", "received", "accepted", "ready", "in-progress"})


def raised(resource: Mapping[str, Any], outcome: Outcome) -> dict[str, Any] | None:
    """Give the resource with the priority that the outcome asks for, or ``None`` for no change.

    Only what is open is touched, and only upwards. What was not analysed changes nothing.
    """
    if not isinstance(outcome, TriageResult) or outcome.priority not in _WANTED:
        return None
    if resource.get("status") not in _OPEN:
        return None
    now = resource.get("priority", "routine")
    wanted = _WANTED[outcome.priority]
    if now not in _RISING or _RISING.index(now) >= _RISING.index(wanted):
        return None
    return {**resource, "priority": wanted}


def answers_order(resource: Mapping[str, Any], accession_number: str, system: str) -> bool:
    """Say whether a ServiceRequest is the order of a study, or a Task is about that order.

    By accession number: of a namespace that is the site's, or typed ``ACSN``.
    """
    if not accession_number:
        return False
    own = resource.get("identifier", ())
    referred = [resource.get(name) for name in ("focus", "basedOn")]
    flat = [each for group in referred for each in (group if isinstance(group, list) else [group])]
    others = [
        each["identifier"] for each in flat if isinstance(each, dict) and "identifier" in each
    ]
    candidates = [*(own if isinstance(own, list) else ()), *others]
    return any(
        each.get("value") == accession_number
        and (each.get("system") == system or _is_accession(each))
        for each in candidates
        if isinstance(each, dict)
    )


def is_task_of(task: Mapping[str, Any], orders: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a Task refers to one of the orders, by ``focus`` or ``basedOn``."""
    listed = task.get("basedOn")
    referring = [task.get("focus"), *(listed if isinstance(listed, list) else [])]
    named = {str(each.get("reference")) for each in referring if isinstance(each, dict)}
    own = [f"{each.get('resourceType')}/{each.get('id')}" for each in orders if each.get("id")]
    return any(name == each or name.endswith(f"/{each}") for name in named for each in own)


def _is_accession(identifier: Mapping[str, Any]) -> bool:
    kind = identifier.get("type")
    codings = kind.get("coding", ()) if isinstance(kind, dict) else ()
    return any(isinstance(each, dict) and each.get("code") == "ACSN" for each in codings)
