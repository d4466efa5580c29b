"""The rules that a CDS service keeps, each broken one told in a sentence.

References
----------
CDS Hooks 2.0.1: Discovery, CDS Service Response, Card Attributes.
"""

import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from mock_ehr.cds_fields import Shape, empties

_LONGEST_SUMMARY = 139
_INDICATORS = ("info", "warning", "critical")
_TOKEN = re.compile(r"\{\{(.*?)\}\}")
_KNOWN_TOKEN = re.compile(
    r"context\.[A-Za-z][A-Za-z0-9]*|userPractitionerId|userPractitionerRoleId|userPatientId"
    r"|userRelatedPersonId"
)
_SERVICE = Shape(
    {"hook": str, "id": str, "description": str},
    {
        "title": str,
        "prefetch": dict,
        "usageRequirements": str,
        "extension": dict,
        "version": str,  # of the 3.0 ballot, as is hookVersion; harmless to a 2.0.1 client
        "hookVersion": str,
    },
)
_RESPONSE = Shape({"cards": list}, {"systemActions": list, "extension": dict})
_CARD = Shape(
    {"uuid": str, "summary": str, "indicator": str, "source": dict},
    {
        "detail": str,
        "suggestions": list,
        "selectionBehavior": str,
        "overrideReasons": list,
        "links": list,
        "extension": dict,
    },
)
_SOURCE = Shape({"label": str}, {"url": str, "icon": str, "topic": dict, "extension": dict})
_TOPIC = Shape({"code": str, "system": str}, {"display": str, "version": str})
_REASON = Shape({"code": str, "system": str, "display": str}, {"version": str})
_LINK = Shape(
    {"label": str, "url": str, "type": str},
    {"appContext": str, "autolaunchable": bool, "extension": dict},
)
_SUGGESTION = Shape(
    {"label": str, "uuid": str}, {"isRecommended": bool, "actions": list, "extension": dict}
)
_ACTION = Shape(
    {"type": str, "description": str}, {"resource": dict, "resourceId": str, "extension": dict}
)


def discovery_violations(body: object) -> list[str]:
    """Judge the answer of ``/cds-services``."""
    return [f"CDS Hooks 2.0.1, discovery: {each}." for each in _discovery(body)]


def response_violations(body: object) -> list[str]:
    """Judge the answer of a service."""
    return [f"CDS Hooks 2.0.1, response: {each}." for each in _response(body)]


def _discovery(body: object) -> Iterator[str]:
    yield from empties(body)
    yield from Shape({"services": list}).broken("the answer", body)
    seen = set()
    for number, service in enumerate(_list(body, "services")):
        where = f"services[{number}]"
        yield from _SERVICE.broken(where, service)
        if not isinstance(service, dict):
            continue
        key = (service.get("id"), service.get("hook"))
        if key in seen:
            yield f"{where}: one id serves one hook once"
        seen.add(key)
        prefetch = service.get("prefetch")
        for name, template in (prefetch if isinstance(prefetch, dict) else {}).items():
            yield from _template(f"{where}.prefetch.{name}", template)


def _template(where: str, template: object) -> Iterator[str]:
    if not isinstance(template, str):
        yield f"{where} is a string"
        return
    for token in _TOKEN.findall(template):
        if not _KNOWN_TOKEN.fullmatch(token):
            yield f"{where}: '{token}' is no prefetch token"
    if template.startswith(("/", "http")) or "_include" in template or "_revinclude" in template:
        yield f"{where} is a read or search below the FHIR endpoint, without includes"


def _response(body: object) -> Iterator[str]:
    yield from empties(body)
    yield from _RESPONSE.broken("the answer", body)
    cards = _list(body, "cards")
    for number, card in enumerate(cards):
        where = f"cards[{number}]"
        yield from _CARD.broken(where, card)
        if isinstance(card, dict):
            yield from _card(where, card)
    ids = [card.get("uuid") for card in cards if isinstance(card, dict)]
    if len(set(map(str, ids))) != len(ids):
        yield "every card has a uuid of its own"
    for number, action in enumerate(_list(body, "systemActions")):
        yield from _action(f"systemActions[{number}]", action)


def _card(where: str, card: dict[str, Any]) -> Iterator[str]:
    summary = card.get("summary")
    if isinstance(summary, str) and (len(summary) > _LONGEST_SUMMARY or "\n" in summary):
        yield f"{where}.summary is one line of less than 140 characters"
    if card.get("indicator") not in _INDICATORS:
        yield f"{where}.indicator is info, warning or critical"
    yield from _uuid(f"{where}.uuid", card.get("uuid"))
    source = card.get("source")
    yield from _SOURCE.broken(f"{where}.source", source)
    if isinstance(source, dict) and "topic" in source:
        yield from _TOPIC.broken(f"{where}.source.topic", source["topic"])
    for number, reason in enumerate(_list(card, "overrideReasons")):
        yield from _REASON.broken(f"{where}.overrideReasons[{number}]", reason)
    for number, link in enumerate(_list(card, "links")):
        yield from _link(f"{where}.links[{number}]", link)
    yield from _suggestions(where, card)


def _link(where: str, link: object) -> Iterator[str]:
    yield from _LINK.broken(where, link)
    if not isinstance(link, dict):
        return
    if link.get("type") not in ("absolute", "smart"):
        yield f"{where}.type is absolute or smart"
    if "appContext" in link and link.get("type") != "smart":
        yield f"{where}.appContext goes with type smart only"
    parts = urlsplit(str(link.get("url")))
    if parts.scheme not in ("http", "https") or not parts.netloc:
        yield f"{where}.url is an absolute address"


def _suggestions(where: str, card: dict[str, Any]) -> Iterator[str]:
    suggestions = _list(card, "suggestions")
    behaviour = card.get("selectionBehavior")
    if suggestions and behaviour not in ("at-most-one", "any"):
        yield f"{where}.selectionBehavior is at-most-one or any where there are suggestions"
    recommended = [
        each for each in suggestions if isinstance(each, dict) and each.get("isRecommended")
    ]
    if behaviour == "at-most-one" and len(recommended) > 1:
        yield f"{where}: at most one suggestion is recommended"
    for number, suggestion in enumerate(suggestions):
        place = f"{where}.suggestions[{number}]"
        yield from _SUGGESTION.broken(place, suggestion)
        if isinstance(suggestion, dict):
            yield from _uuid(f"{place}.uuid", suggestion.get("uuid"))
        for index, action in enumerate(_list(suggestion, "actions")):
            yield from _action(f"{place}.actions[{index}]", action)


def _action(where: str, action: object) -> Iterator[str]:
    yield from _ACTION.broken(where, action)
    if not isinstance(action, dict):
        return
    kind, resource = action.get("type"), action.get("resource")
    if kind not in ("create", "update", "delete"):
        yield f"{where}.type is create, update or delete"
    if kind == "delete":
        if not re.fullmatch(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}", str(action.get("resourceId"))):
            yield f"{where}.resourceId of a deletion is Type/id"
        return
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        yield f"{where}.resource is a whole FHIR resource"
    elif kind == "update" and not isinstance(resource.get("id"), str):
        yield f"{where}.resource of an update has its id"


def _uuid(where: str, value: object) -> Iterator[str]:
    try:
        uuid.UUID(str(value))
    except ValueError:
        yield f"{where} is a UUID"


def _list(value: object, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
