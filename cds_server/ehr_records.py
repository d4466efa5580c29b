"""Reading records of an EHR: from its own FHIR endpoint, with a token, and nowhere else."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

import orjson

from cds_server.errors import PeerUnavailable
from cds_server.network import Ehr, origin
from cds_server.outbound import Outbound

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_MOST_PAGES = 10
_MOST_RESOURCES = 500
_FHIR_JSON = "application/fhir+json"

Resource = Mapping[str, Any]


def is_fhir_id(value: str) -> bool:
    """Say whether a value may stand as the id in an address: FHIR R4 datatypes ``id``."""
    return _ID.fullmatch(value) is not None


class EhrRecords:
    """The FHIR endpoint of one EHR.

    Parameters
    ----------
    ehr
        Whose endpoint.
    http
        How it is asked.
    """

    def __init__(self, ehr: Ehr, http: Outbound) -> None:
        self._ehr = ehr
        self._http = http

    def get(self, path: str, token: str) -> Resource:
        """Read ``Type/id``, or search ``Type?query``; gives the resource or the first page.

        Raises
        ------
        PeerUnavailable
            If the EHR does not answer with a FHIR resource.
        """
        return self._fetched(f"{self._ehr.fhir_base_url}/{path}", token)

    def all_entries(self, bundle: Resource, token: str) -> Sequence[Resource]:
        """Give every resource of a searchset, further pages fetched from the same endpoint.

        Raises
        ------
        PeerUnavailable
            If a page cannot be had: part of a list is never passed off as the whole.
        """
        found: list[Resource] = []
        for _ in range(_MOST_PAGES):
            found += page_entries(bundle)
            following = _next_link(bundle)
            if not following:
                return found
            if len(found) >= _MOST_RESOURCES:
                break
            bundle = self._fetched(self._own(following), token)
        msg = f"the list has more than {_MOST_PAGES} pages or {_MOST_RESOURCES} entries"
        raise PeerUnavailable(msg)

    def _own(self, link: str) -> str:
        """Give the address of a page, if it is of this endpoint.

        Raises
        ------
        PeerUnavailable
            If it leads elsewhere: the token stays here.
        """
        base = f"{self._ehr.fhir_base_url}/"
        address = urljoin(base, link)
        try:
            same = origin(address) == origin(base)
        except ValueError:
            same = False
        within = address.startswith((base, f"{self._ehr.fhir_base_url}?"))
        if not same or not within or "/../" in address or "%2e" in address.lower():
            msg = "a further page lies outside the EHR's own FHIR endpoint"
            raise PeerUnavailable(msg)
        return address

    def _fetched(self, url: str, token: str) -> Resource:
        headers = {"Accept": _FHIR_JSON, "Authorization": f"Bearer {token}"}
        answer = self._http.get(url, headers=headers)
        if answer.status != HTTPStatus.OK:
            msg = f"the EHR's FHIR endpoint answered {answer.status}"
            raise PeerUnavailable(msg)
        try:
            resource = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            msg = "the EHR's FHIR endpoint answered with something that is not JSON"
            raise PeerUnavailable(msg) from error
        if not isinstance(resource, dict) or resource.get("resourceType") in {
            None,
            "OperationOutcome",
        }:
            msg = "the EHR's FHIR endpoint answered without a resource"
            raise PeerUnavailable(msg)
        return resource


def page_entries(bundle: Resource) -> list[Resource]:
    """Give the resources of one page of a searchset."""
    entries = bundle.get("entry")
    return [
        entry["resource"]
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("resource"), dict)
    ]


def has_next_page(bundle: Resource) -> bool:
    """Say whether a searchset goes on."""
    return bool(_next_link(bundle))


def _next_link(bundle: Resource) -> str:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("relation") == "next":
            return str(link.get("url", ""))
    return ""
