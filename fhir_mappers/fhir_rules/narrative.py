"""The text of a resource: XHTML that no reader can be harmed by.

References
----------
FHIR R4 narrative.html: txt-1 and txt-2, and narrower: no attribute, no link, no picture.
"""

import re

_ELEMENTS = frozenset(
    {
        *("b", "br", "div", "em", "h1", "h2", "h3", "i", "li", "ol", "p", "pre", "span", "strong"),
        *("table", "tbody", "td", "th", "thead", "tr", "ul"),
    }
)
_ROOT = '<div xmlns="http://www.w3.org/1999/xhtml">'
_PIECE = re.compile(
    r"<(?P<end>/)?(?P<name>[a-z][a-z0-9]*)(?P<empty>/)?>"
    r"|(?P<text>(?:[^<>&]|&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});)+)"
)


def wrong_with_narrative(div: object) -> str:
    """Say which rule a ``Narrative.div`` breaks, and how; empty where none."""
    if not isinstance(div, str) or not div.startswith(_ROOT) or not div.endswith("</div>"):
        return f"txt-1: must be one {_ROOT} … </div>"
    opened, has_text, position = ["div"], False, len(_ROOT)
    while opened and position < len(div):
        piece = _PIECE.match(div, position)
        if piece is None:
            return "txt-1: holds markup other than plain elements, or an unescaped character"
        position = piece.end()
        has_text = has_text or bool((piece["text"] or "").strip())
        if piece["name"] and not _nests(piece, opened):
            return f"txt-1: allowed, and closed in order, are {', '.join(sorted(_ELEMENTS))}"
    if opened or position < len(div):
        return "txt-1: elements are not closed in order"
    return "" if has_text else "txt-2: must say something"


def _nests(piece: re.Match[str], opened: list[str]) -> bool:
    """Say whether an element may stand here, and keep what is open."""
    name = piece["name"]
    if piece["end"]:
        return not piece["empty"] and opened.pop() == name
    if not piece["empty"]:
        opened.append(name)
    return name in _ELEMENTS
