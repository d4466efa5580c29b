"""What a FHIR search asks for, and the links of its pages. Nothing is kept between two pages."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from cds_server.ports import FhirPage, FhirQuery
from cds_server.web.problems import BadRequest
from cds_server.web.requests import whole_body

MOST_IN_A_PAGE = 200
_USUAL = 50
_LONGEST_QUERY = 3000  # so that the link to the next page fits a request line
_LONGEST_FORM = 64 * 1024
_LONGEST_NAME = 64
_FORM = "application/x-www-form-urlencoded"
_CONTROLS = ("_count", "_page", "_summary")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_COUNT = re.compile(r"[0-9]{1,9}")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Search:
    """A search as it was asked.

    Parameters
    ----------
    query
        For the store.
    pairs
        Every parameter as given, but for the page.
    page
        As given; empty for the first one.
    """

    query: FhirQuery
    pairs: Pairs
    page: str

    def links(self, found: FhirPage, address: str) -> list[dict[str, str]]:
        """Give the links of the Bundle: to this page, and to the next where there is one.

        Parameters
        ----------
        found
            What the page holds.
        address
            Of the searched type.
        """
        own = [*self.pairs, *([("_page", self.page)] if self.page else [])]
        links = [{"relation": "self", "url": _url(address, own)}]
        if found.last:
            following = [*self.pairs, ("_page", cursor(found.last))]
            links.append({"relation": "next", "url": _url(address, following)})
        return links


def asked(request: Request, resource_type: str) -> Search:
    """Read a search from the address, or from the address and a form.

    Raises
    ------
    BadRequest
        If it cannot be understood, or is too long.
    LengthRequired
        If a form comes in another transfer coding than chunks.
    UnsupportedMediaType
        If a body is no form.
    RequestEntityTooLarge
        If the form is too large.
    """
    pairs = _pairs(request.query_string)
    if request.method == "POST":
        pairs += _pairs(_form(request))
    for name, value in pairs:
        _check(name, value)
    controls = _controls(pairs)
    kept = tuple(pair for pair in pairs if pair[0] != "_page")
    if len(urlencode(kept)) > _LONGEST_QUERY:
        msg = f"The search is longer than {_LONGEST_QUERY} characters; ask for less at a time."
        raise BadRequest(msg)
    page = controls.get("_page", "")
    query = FhirQuery(
        resource_type,
        tuple(pair for pair in pairs if pair[0] not in _CONTROLS),
        count=_count(controls),
        after=_after(page) if page else "",
    )
    return Search(query, kept, page)


def cursor(resource_id: str) -> str:
    """Give the cursor of the page that begins after a resource."""
    return base64.urlsafe_b64encode(resource_id.encode()).decode().rstrip("=")


def _after(page: str) -> str:
    """Read a cursor.

    Raises
    ------
    BadRequest
        If ``cursor`` did not make it.
    """
    try:
        padded = page + "=" * (-len(page) % 4)
        resource_id = base64.urlsafe_b64decode(padded.encode("ascii")).decode("ascii")
    except (UnicodeError, binascii.Error):
        resource_id = ""
    if not _ID.fullmatch(resource_id) or cursor(resource_id) != page:
        msg = "_page is not one that this server gave; follow the next link of a Bundle as it is."
        raise BadRequest(msg)
    return resource_id


def _pairs(encoded: bytes) -> Pairs:
    """Decode names and values, strictly.

    Raises
    ------
    BadRequest
        If it is not UTF-8.
    """
    try:
        text = encoded.decode("utf-8")
        return tuple(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeError as error:
        msg = "The parameters are not UTF-8."
        raise BadRequest(msg) from error


def _form(request: Request) -> bytes:
    """Give the body of a search by POST; empty where there is none.

    Raises
    ------
    UnsupportedMediaType
        If it is no form: it would be ignored, and everything found.
    RequestEntityTooLarge
        If it is too large.
    LengthRequired
        If it comes in another transfer coding than chunks.
    BadRequest
        If it is shorter than it says.
    """
    if request.content_length is None and "Transfer-Encoding" not in request.headers:
        return b""
    body = whole_body(request)
    if body and request.mimetype != _FORM:
        description = f"A search is posted as {_FORM}."
        raise UnsupportedMediaType(description)
    if len(body) > _LONGEST_FORM:
        description = f"The form is above {_LONGEST_FORM} bytes."
        raise RequestEntityTooLarge(description)
    return body


def _check(name: str, value: str) -> None:
    """Refuse what no stored value can be.

    Raises
    ------
    BadRequest
        Without the value, which may be of a patient.
    """
    if len(name) > _LONGEST_NAME or _CONTROL_CHARACTER.search(name + value):
        msg = "A parameter holds a control character, or its name is too long."
        raise BadRequest(msg)
    if not value:
        msg = f"{name or 'A parameter'} has no value. An empty one is never ignored."
        raise BadRequest(msg)


def _controls(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give the parameters that are about the answer.

    Raises
    ------
    BadRequest
        If one is given twice.
    """
    given = [pair for pair in pairs if pair[0] in _CONTROLS]
    if len(dict(given)) < len(given):
        msg = f"{', '.join(_CONTROLS)}: each may be given once."
        raise BadRequest(msg)
    return dict(given)


def _count(controls: dict[str, str]) -> int:
    """Give the size of a page; 0 where only the number is asked for.

    Raises
    ------
    BadRequest
        If ``_count`` is no number, or ``_summary`` is not supported.

    References
    ----------
    FHIR R4 search ``_count``: 0 is ``_summary=count``; a server may give fewer than were asked for.
    """
    given = controls.get("_count", str(_USUAL))
    if not _COUNT.fullmatch(given):
        msg = f"_count is a number; a page holds {MOST_IN_A_PAGE} resources at most."
        raise BadRequest(msg)
    summary = controls.get("_summary", "false")
    if summary not in {"count", "false"}:
        msg = "_summary is count or false; no other is supported."
        raise BadRequest(msg)
    return 0 if summary == "count" else min(int(given), MOST_IN_A_PAGE)


def _url(address: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{address}?{urlencode(pairs)}" if pairs else address
