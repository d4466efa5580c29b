"""A worklist behind UPS-RS, the Worklist Service of DICOMweb.

===============  =======================================  ==================
step             request                                  IHE transaction
===============  =======================================  ==================
search           GET workitems?…                          RAD-81
retrieve         GET workitems/{uid}                      RAD-83
update           POST workitems/{uid}?{transaction uid}   RAD-84
change state     PUT workitems/{uid}/state                RAD-82, RAD-85
===============  =======================================  ==================

Origin servers differ in where they look for the Transaction UID of an update: as the bare query, as
a parameter of it, or in the payload. It is in all three.

References
----------
DICOM PS3.18 11.5 to 11.7 and 11.9; F.2 DICOM JSON model.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NoReturn, Protocol
from urllib.parse import quote, urlencode, urlsplit

import orjson

from cds_server.errors import ArchiveUnreachable, PeerUnavailable
from cds_server.outbound import Answer
from cds_server.workitems import WorkitemRefused, WorkitemUnusable
from fhir_mappers.dicom_json import Attributes
from fhir_mappers.workitem import State, Wanted
from fhir_mappers.workitem_changes import Changes, state_change

_MEDIA_TYPE = "application/dicom+json"
_PAGE, _MOST_PAGES = 25, 200
_MISSING = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_CONFLICT = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}
_CONFLICTS = (
    "The Transaction UID is missing",
    "The Transaction UID is incorrect",
    "The submitted request is inconsistent",
    "The target URI did not reference a claimed Workitem",
)
"""Of DICOM PS3.18 11.6.3.2 and 11.7.3.2: no other words of a server are repeated."""


class Sender(Protocol):
    """Sends a request, within limits of time and size; redirects are not followed."""

    def send(self, method: str, url: str, content: bytes, *, headers: Mapping[str, str]) -> Answer:
        """Send one request.

        Raises
        ------
        PeerUnavailable
            If there is no answer in time, or it is too large.
        """
        ...


class UpsRs:
    """The worklist of one origin server.

    Parameters
    ----------
    url
        Base address of its DICOMweb service. No address in an answer is ever followed.
    http
        Sends the requests.
    authorization
        Gives the ``Authorization`` header of each request, or empty for none; may raise
        ``PeerUnavailable`` or ``ArchiveUnreachable``: the PACS often has the same credentials.
    requester
        AE title that some origin servers want in the path of a state change; empty for none.
    """

    def __init__(
        self,
        url: str,
        *,
        http: Sender,
        authorization: Callable[[], str] = lambda: "",
        requester: str = "",
    ) -> None:
        self._workitems = f"{url.rstrip('/')}/workitems"
        self._host = urlsplit(url).hostname or "the worklist"
        self._http = http
        self._authorization = authorization
        self._state = "/".join(["state", *([quote(requester, safe="")] if requester else [])])

    def search(self, state: State, wanted: Wanted) -> Sequence[Attributes]:
        """List the workitems in a state, page by page.

        Raises
        ------
        PeerUnavailable
            If the worklist does not answer, or not as it must.
        """
        found: dict[str, Attributes] = {}
        keys, received = _matching_keys(state, wanted), 0
        for _ in range(_MOST_PAGES):
            query = urlencode([*keys, ("limit", _PAGE), ("offset", received)], quote_via=quote)
            answer = self._asked("GET", f"{self._workitems}?{query}")
            if not _succeeded(answer):
                self._fail(f"refuses the search with status {answer.status}")
            page = _datasets(answer.content) if answer.content else []
            if page is None:
                self._fail("answers the search with something that is not DICOM JSON")
            known, received = len(found), received + len(page)
            found.update({str(each.get("00080018")): each for each in page})
            if len(found) == known:
                break
        return list(found.values())

    def workitem(self, workitem_uid: str) -> Attributes:
        """Give one workitem.

        Raises
        ------
        WorkitemUnusable
            If there is none, or what comes is not the DICOM JSON of one.
        PeerUnavailable
            If the worklist does not answer.
        """
        answer = self._asked("GET", f"{self._workitems}/{workitem_uid}")
        self._check(answer)
        datasets = _datasets(answer.content)
        if datasets is None or len(datasets) != 1:
            msg = "the worklist answers with something that is not the DICOM JSON of one workitem"
            raise WorkitemUnusable(msg)
        return datasets[0]

    def update(self, workitem_uid: str, changes: Changes, transaction_uid: str) -> None:
        """Change a workitem that was claimed under this Transaction UID.

        Raises
        ------
        WorkitemRefused
            If it was claimed under another, or is not in progress.
        WorkitemUnusable
            If there is none.
        PeerUnavailable
            If the worklist does not answer.
        """
        query = f"{transaction_uid}&transaction-uid={transaction_uid}"
        claim = {"00081195": {"vr": "UI", "Value": [transaction_uid]}}
        url = f"{self._workitems}/{workitem_uid}?{query}"
        self._check(self._asked("POST", url, {**claim, **changes}))

    def change_state(self, workitem_uid: str, state: State, transaction_uid: str) -> None:
        """Claim, complete or cancel a workitem.

        Raises
        ------
        WorkitemRefused
            If its state, its Transaction UID or what it says does not allow that.
        WorkitemUnusable
            If there is none.
        PeerUnavailable
            If the worklist does not answer.
        """
        url = f"{self._workitems}/{workitem_uid}/{self._state}"
        self._check(self._asked("PUT", url, state_change(state, transaction_uid)))

    def _asked(self, method: str, url: str, changes: Changes | None = None) -> Answer:
        """Send one request.

        Raises
        ------
        PeerUnavailable
            If there is no answer, or there are no credentials to ask with.
        """
        headers = {"Accept": _MEDIA_TYPE}
        try:
            authorization = self._authorization()
        except ArchiveUnreachable as error:
            raise PeerUnavailable(str(error)) from error
        if authorization:
            headers["Authorization"] = authorization
        if changes is None:
            return self._http.send(method, url, b"", headers=headers)
        headers["Content-Type"] = _MEDIA_TYPE
        return self._http.send(method, url, orjson.dumps([changes]), headers=headers)

    def _check(self, answer: Answer) -> None:
        """Pass what succeeded.

        Raises
        ------
        WorkitemUnusable
            If there is no such workitem, or no more.
        WorkitemRefused
            If the server does not allow it.
        """
        if _succeeded(answer):
            return
        if answer.status in _MISSING:
            msg = "the worklist has no such workitem"
            raise WorkitemUnusable(msg)
        if answer.status in _CONFLICT:
            warning = answer.headers.get("warning", "")
            why = next((each for each in _CONFLICTS if each in warning), "no known reason")
            msg = f"the worklist refuses the change ({answer.status}): {why}"
            raise WorkitemRefused(msg)
        self._fail(f"refuses with status {answer.status}")

    def _fail(self, fault: str) -> NoReturn:
        """Give the worklist up for now.

        Raises
        ------
        PeerUnavailable
            Always.
        """
        msg = f"{self._host} {fault}"
        raise PeerUnavailable(msg)


def _succeeded(answer: Answer) -> bool:
    return HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES


def _matching_keys(state: State, wanted: Wanted) -> list[tuple[str, str]]:
    """Give the matching keys; what is not wanted is not asked for: servers refuse odd keys."""
    keys = [("ProcedureStepState", state.value)]
    if wanted.station:
        keys.append(("ScheduledStationNameCodeSequence.CodeValue", wanted.station.value))
    if wanted.code:
        keys.append(("ScheduledWorkitemCodeSequence.CodeValue", wanted.code.value))
    if wanted.label:
        keys.append(("WorklistLabel", wanted.label))
    return keys


def _datasets(content: bytes) -> list[Attributes] | None:
    """Read datasets, in an array or one alone; ``None`` if they are none."""
    try:
        read = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    datasets = read if isinstance(read, list) else [read]
    return datasets if all(isinstance(each, dict) for each in datasets) else None
