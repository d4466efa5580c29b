"""Cards as the chart shows them: words first, links that lead to registered places only."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup

from mock_ehr.markdown import rendered

_WORDS = {"critical": "Critical", "warning": "Warning", "info": "Information"}
_ORDER = tuple(_WORDS)

OpenLaunch = Callable[[str | None], str]


@dataclass(frozen=True, slots=True)
class LinkView:
    """A link of a card; ``url`` is empty where it leads nowhere that is allowed."""

    label: str
    url: str
    new_tab: bool


@dataclass(frozen=True, slots=True)
class CardView:
    """A card, ready for the page."""

    service_id: str
    uuid: str
    summary: str
    indicator: str
    words: str
    detail: Markup
    source: str
    links: list[LinkView] = field(default_factory=list)
    reasons: list[Mapping[str, Any]] = field(default_factory=list)
    suggestions: list[Mapping[str, Any]] = field(default_factory=list)


def card_views(
    service_id: str, cards: Iterable[object], launch_url: str, open_launch: OpenLaunch
) -> list[CardView]:
    """Make the views of what a service answered, the most pressing first.

    Parameters
    ----------
    service_id
        Which service answered.
    cards
        Its cards; what is no object is passed over, and was judged before.
    launch_url
        Where the registered app is launched.
    open_launch
        Makes a launch that carries a card's ``appContext``; gives the address of its frame.
    """
    views = [
        _view(service_id, card, launch_url, open_launch) for card in cards if isinstance(card, dict)
    ]
    return sorted(views, key=lambda view: _ORDER.index(view.indicator))


def _view(
    service_id: str, card: Mapping[str, Any], launch_url: str, open_launch: OpenLaunch
) -> CardView:
    indicator = card.get("indicator")
    indicator = indicator if indicator in _WORDS else "warning"
    source = card.get("source")
    return CardView(
        service_id=service_id,
        uuid=str(card.get("uuid", "")),
        summary=str(card.get("summary", "A card without a summary")),
        indicator=indicator,
        words=_WORDS[indicator],
        detail=rendered(str(card.get("detail", ""))),
        source=str(source.get("label", "")) if isinstance(source, dict) else "",
        links=[_link(each, launch_url, open_launch) for each in _objects(card, "links")],
        reasons=_objects(card, "overrideReasons", "code", "system", "display"),
        suggestions=_objects(card, "suggestions", "uuid", "label"),
    )


def _link(link: Mapping[str, Any], launch_url: str, open_launch: OpenLaunch) -> LinkView:
    label, url = str(link.get("label", "Link")), str(link.get("url", ""))
    if link.get("type") == "smart":
        known = url == launch_url
        return LinkView(label, open_launch(link.get("appContext")) if known else "", new_tab=False)
    safe = urlsplit(url).scheme in {"http", "https"}
    return LinkView(label, url if safe else "", new_tab=True)


def _objects(card: Mapping[str, Any], name: str, *needed: str) -> list[Mapping[str, Any]]:
    """Give the objects of an array that have the fields without which they cannot be shown."""
    found = card.get(name)
    listed = found if isinstance(found, list) else []
    return [each for each in listed if isinstance(each, dict) and set(needed) <= set(each)]
