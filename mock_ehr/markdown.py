"""As much of GitHub-flavoured Markdown as cards use: paragraphs, bold, tables, escapes.

Nothing else has a meaning, and everything is escaped: a card cannot bring markup of its own.
"""

import re

from markupsafe import Markup, escape

_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_HIDDEN = re.compile(r"[\ue021-\ue07e]")
_BASE = 0xE000
_RULE = re.compile(r"\|?\s*:?-{3,}:?\s*(\|\s*:?-{3,}:?\s*)*\|?")


def rendered(text: str) -> Markup:
    """Give safe HTML.

    Parameters
    ----------
    text
        The ``detail`` of a card.
    """
    blocks = re.split(r"\n\s*\n", _HIDDEN.sub("", text).replace("\r\n", "\n").strip())
    return Markup("\n").join(_block(_hidden(block)) for block in blocks if block)


def _block(block: str) -> Markup:
    lines = block.split("\n")
    if len(lines) > 1 and "|" in lines[0] and _RULE.fullmatch(lines[1].strip()):
        return _table(lines)
    return Markup("<p>{}</p>").format(Markup("<br>").join(_inline(line) for line in lines))


def _table(lines: list[str]) -> Markup:
    head = Markup().join(
        Markup('<th scope="col">{}</th>').format(each) for each in _cells(lines[0])
    )
    rows = Markup().join(
        Markup("<tr>{}</tr>").format(
            Markup().join(Markup("<td>{}</td>").format(each) for each in _cells(line))
        )
        for line in lines[2:]
    )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, rows)


def _cells(line: str) -> list[Markup]:
    return [_inline(cell.strip()) for cell in line.strip().strip("|").split("|")]


def _inline(text: str) -> Markup:
    """Make every second part between double asterisks bold."""
    parts = text.split("**")
    if len(parts) % 2 == 0:
        return escape(_shown(text))
    return Markup().join(
        Markup("<strong>{}</strong>").format(_shown(part)) if number % 2 else escape(_shown(part))
        for number, part in enumerate(parts)
    )


def _hidden(text: str) -> str:
    """Put escaped characters out of the way, where they mean nothing."""
    return _ESCAPED.sub(lambda found: chr(_BASE + ord(found[1])), text)


def _shown(text: str) -> str:
    return _HIDDEN.sub(lambda found: chr(ord(found[0]) - _BASE), text)
