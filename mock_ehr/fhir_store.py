"""The records behind the FHIR API: what a token may see of them, in pages."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from mock_ehr.fhir_query import (
    RECORD_TYPES,
    matches,
    parameters,
    patient_of,
    sort_key,
    sortable,
)
from mock_ehr.ledger import Grant, Ledger
from mock_ehr.records import Record, Resource
from mock_ehr.scopes import DataScope, opening

FOREIGN_BASE = "https://another-server.invalid/fhir"
_LARGEST_PAGE = 20
_MOST = 1_000
_CONTROLS = ("_count", "_sort")

Parameters = Sequence[tuple[str, str]]


class FhirProblem(Exception):
    """A request that is refused.

    Parameters
    ----------
    status
        HTTP status.
    code
        IssueType of the OperationOutcome.
    says
        In words.
    broken
        Whether the client broke a rule, rather than asked in vain.
    """

    def __init__(self, *, status: int, code: str, says: str, broken: bool = True) -> None:
        super().__init__(says)
        self.status = status
        self.code = code
        self.says = says
        self.broken = broken


@dataclass(frozen=True, slots=True)
class _Page:
    """The rest of a search, kept until its link is followed."""

    resource_type: str
    found: tuple[str, ...]
    start: int
    size: int


@dataclass
class FhirStore:
    """Reads and searches for a token.

    Parameters
    ----------
    record
        Everything that the EHR holds.
    base_url
        The FHIR endpoint.
    ledger
        For its faults.
    largest_page
        The most entries in a page, whatever ``_count`` says.
    """

    record: Record
    base_url: str
    ledger: Ledger
    largest_page: int = _LARGEST_PAGE
    _pages: dict[str, _Page] = field(default_factory=dict)

    def read(self, resource_type: str, resource_id: str, grant: Grant) -> Resource:
        """Give one resource.

        Raises
        ------
        FhirProblem
            If there is none, or the token does not open it.
        """
        _known(resource_type)
        resource = self.record.find(resource_type, resource_id)
        if resource is not None and _own_user(resource, grant):
            return resource
        scopes = _opened(grant, resource_type, "r")
        if resource is None:
            says = f"There is no {resource_type}/{resource_id}."
            raise FhirProblem(status=404, code="not-found", says=says, broken=False)
        if not _visible(resource, scopes, grant):
            says = (
                f"SMART App Launch 2.2, scopes: the token does not open "
                f"{resource_type}/{resource_id}, which is outside its patient's compartment."
            )
            raise FhirProblem(status=403, code="forbidden", says=says)
        return resource

    def search(self, resource_type: str, given: Parameters, grant: Grant) -> Resource:
        """Give the first page of a search.

        Raises
        ------
        FhirProblem
            If the search uses what the CapabilityStatement does not list, or has no scope.
        """
        _known(resource_type)
        scopes = _opened(grant, resource_type, "s")
        _check_parameters(resource_type, given)
        found = [
            each
            for each in self.record.of_type(resource_type)
            if _visible(each, scopes, grant)
            and all(matches(each, name, value) for name, value in given if name not in _CONTROLS)
        ]
        for name in reversed(dict(given).get("_sort", "_id").split(",")):
            found.sort(key=lambda each: sort_key(each, name.lstrip("-")), reverse=name[0] == "-")
        page = _Page(resource_type, tuple(each["id"] for each in found), 0, self._size(given))
        query = f"{resource_type}?{urlencode(given)}" if given else resource_type
        return self._bundle(page, grant, f"{self.base_url}/{query}")

    def next_page(self, resource_type: str, token: str, grant: Grant) -> Resource:
        """Give a further page.

        Raises
        ------
        FhirProblem
            If the page token is unknown.
        """
        page = self._pages.get(token)
        if page is None or page.resource_type != resource_type:
            says = "FHIR R4, paging: a link of a Bundle is followed as it is; this one is unknown."
            raise FhirProblem(status=404, code="not-found", says=says)
        return self._bundle(page, grant, f"{self.base_url}/{resource_type}?_page={token}")

    def resolve(self, query: str, grant: Grant) -> Resource:
        """Answer a relative query such as a filled prefetch template."""
        path, mark, parts = query.partition("?")
        resource_type, _, resource_id = path.partition("/")
        if mark:
            return self.search(resource_type, parse_qsl(parts, keep_blank_values=True), grant)
        return self.read(resource_type, resource_id, grant)

    def _size(self, given: Parameters) -> int:
        return min(int(dict(given).get("_count", self.largest_page)), self.largest_page)

    def _bundle(self, page: _Page, grant: Grant, own_url: str) -> Resource:
        scopes = _opened(grant, page.resource_type, "s")
        end = page.start + page.size
        held = (self.record.find(page.resource_type, each) for each in page.found[page.start : end])
        links = [{"relation": "self", "url": own_url}]
        if page.size and end < len(page.found):
            links.append({"relation": "next", "url": self._next_link(page, end)})
        entries: list[Any] = [
            {
                "fullUrl": f"{self.base_url}/{page.resource_type}/{each['id']}",
                "resource": each,
                "search": {"mode": "match"},
            }
            for each in held
            if each is not None and _visible(each, scopes, grant)
        ]
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(page.found),
            "link": links,
            **({"entry": entries} if entries else {}),
        }

    def _next_link(self, page: _Page, start: int) -> str:
        if len(self._pages) >= _MOST:
            self._pages.clear()
        token = secrets.token_urlsafe(12)
        self._pages[token] = _Page(page.resource_type, page.found, start, page.size)
        foreign = self.ledger.faulty("foreign-next-link")
        base = FOREIGN_BASE if foreign else self.base_url
        return f"{base}/{page.resource_type}?_page={token}"


def _known(resource_type: str) -> None:
    if resource_type not in RECORD_TYPES:
        says = f"FHIR R4: this server does not hold {resource_type}."
        raise FhirProblem(status=404, code="not-supported", says=says)


def _opened(grant: Grant, resource_type: str, letter: str) -> list[DataScope]:
    scopes = opening(grant.scopes, resource_type, letter)
    if not scopes:
        says = f"SMART App Launch 2.2, scopes: none opens {resource_type} for '{letter}'."
        raise FhirProblem(status=403, code="forbidden", says=says)
    return scopes


def _visible(resource: Resource, scopes: Sequence[DataScope], grant: Grant) -> bool:
    return any(_opens(scope, resource, grant) for scope in scopes)


def _opens(scope: DataScope, resource: Resource, grant: Grant) -> bool:
    own = patient_of(resource) is not None and patient_of(resource) == grant.context.patient
    if scope.level == "patient" and not own:
        return False
    narrowed = parse_qsl(scope.query)
    known = parameters(resource["resourceType"])
    return all(name in known and matches(resource, name, value) for name, value in narrowed)


def _own_user(resource: Resource, grant: Grant) -> bool:
    """Tell whether a resource is the person whom ``fhirUser`` names, who may be read with it."""
    own = f"{resource['resourceType']}/{resource['id']}" == grant.context.user
    return own and "fhirUser" in grant.scopes


def _check_parameters(resource_type: str, given: Parameters) -> None:
    known = {*parameters(resource_type), *_CONTROLS}
    for name, value in given:
        wrong = name not in known or not value
        wrong |= name == "_count" and not value.isdecimal()
        if name == "_sort":
            wrong |= not {each.lstrip("-") for each in value.split(",")} <= sortable(resource_type)
        if wrong:
            says = f"FHIR R4, search: {resource_type}?{name}={value} is not supported here."
            raise FhirProblem(status=400, code="not-supported", says=says)
