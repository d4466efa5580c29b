"""The one way to a FHIR server: nothing but its own address is asked, whatever an answer names."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.fhir_credentials import Credentials
from cds_server.errors import (
    DeliveryFailed,
    DeliveryRefused,
    DestinationUnavailable,
    InvalidSettings,
    PeerUnavailable,
)
from cds_server.network import is_protected
from cds_server.oauth.bounded_json import json_object
from cds_server.outbound import Answer
from cds_server.ports import Clock
from fhir_mappers.outcome_codes import outcome_codes

FHIR_JSON = "application/fhir+json"
_LONGEST_WAIT_S = 3600.0
_PLAIN = re.compile(r"[!-~]{1,2048}")
_SECONDS = re.compile(r"[0-9]{1,9}")
_AWAY = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.FAILED_DEPENDENCY,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
_CONFLICT = {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}


class FhirLink:
    """Asks one FHIR server; threads may share it.

    Parameters
    ----------
    base_url
        Its base address.
    http
        Sends the requests: bounded, without redirects.
    credentials
        Who this server is for it; ``None`` where it does not ask.
    clock
        Tells how long it is until the time that a server names.

    Raises
    ------
    InvalidSettings
        If the address is no plain address, or credentials would travel in the clear.
    """

    def __init__(
        self, base_url: str, *, http: BoundedHttp, credentials: Credentials | None, clock: Clock
    ) -> None:
        self.base_url = _base(base_url, secret=credentials is not None)
        self._http = http
        self._credentials = credentials
        self._clock = clock

    def ask(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask; ``path`` is below the base, empty for the base itself.

        Raises
        ------
        DestinationUnavailable
            If there is no good answer, or its status is about the server, not about what was asked.
        """
        url = f"{self.base_url}/{path}" if path else self.base_url
        told = {"Accept": FHIR_JSON, **(headers or {})}
        try:
            answer = self._authorised(method, url, content, told)
        except PeerUnavailable as error:
            raise DestinationUnavailable(str(error)) from None
        if _is_about_the_server(answer.status):
            raise self.failure(answer, "the request")
        return answer

    def _authorised(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str]
    ) -> Answer:
        """Ask, once more with other credentials where these are refused."""
        credentials = self._credentials
        if credentials is None:
            return self._http.send(method, url, content, headers=headers)
        used = credentials.authorization()
        answer = self._http.send(method, url, content, headers={**headers, "Authorization": used})
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return answer
        if credentials.authorization() == used:  # else another thread has renewed it
            credentials.refresh()
        fresh = credentials.authorization()
        if fresh == used:
            return answer
        return self._http.send(method, url, content, headers={**headers, "Authorization": fresh})

    def failure(
        self, answer: Answer, what: str, *, status: int = 0, outcome: object = None
    ) -> DeliveryFailed:
        """Say what a status means for what was asked; of the answer's own text, codes alone.

        Parameters
        ----------
        answer
            What the server answered.
        what
            What it was asked for, such as ``the search for the Patient``.
        status, outcome
            Those of one entry, where they are not the answer's own.
        """
        status = status or answer.status
        codes = outcome_codes(outcome or _json(answer))
        said = f"status {status}{f': {codes}' if codes else ''}"
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            said += "; it redirects elsewhere, which is not followed: set its own address"
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return DestinationUnavailable(
                f"the FHIR server refuses the credentials of this server ({said})"
            )
        if _is_about_the_server(status):
            says = f"the FHIR server cannot take {what} now ({said})"
            return DestinationUnavailable(says, self._retry_after_s(answer))
        if status in _CONFLICT or status < HTTPStatus.BAD_REQUEST:
            return DeliveryFailed(f"the FHIR server did not accept {what} ({said})")
        return DeliveryRefused(f"the FHIR server refuses {what} ({said})")

    def _retry_after_s(self, answer: Answer) -> float | None:
        """Read ``Retry-After``: seconds or a date (RFC 9110 10.2.3), an hour at most."""
        told = answer.headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(told):
            return min(float(told), _LONGEST_WAIT_S)
        try:
            until = parsedate_to_datetime(told)
        except ValueError:
            return None
        left = until.replace(tzinfo=until.tzinfo or UTC) - self._clock.now()
        return min(max(left.total_seconds(), 0.0), _LONGEST_WAIT_S)


def read_json(answer: Answer, what: str) -> dict[str, Any]:
    """Read an answer.

    Raises
    ------
    DeliveryFailed
        If it is no JSON object.
    """
    try:
        return json_object(answer.content)
    except ValueError as error:
        msg = f"the FHIR server answers {what} with something unreadable ({error})"
        raise DeliveryFailed(msg) from None


def _json(answer: Answer) -> dict[str, Any]:
    try:
        return json_object(answer.content)
    except ValueError:
        return {}


def _is_about_the_server(status: int) -> bool:
    return (
        status in _AWAY
        or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
        or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED)
    )


def _base(base_url: str, *, secret: bool) -> str:
    """Read the address of a FHIR server.

    Raises
    ------
    InvalidSettings
        If it is no plain address, or a secret would travel in the clear.
    """
    base = base_url.rstrip("/")
    try:
        parts, protected = urlsplit(base), is_protected(base)
        plain = _PLAIN.fullmatch(base) and not parts.query and not parts.fragment
    except ValueError:
        plain, protected = None, False
    if not plain:
        msg = (
            "the address of a FHIR server is like https://fhir.example.org/r4: without user, "
            "password, query or fragment"
        )
        raise InvalidSettings(msg)
    if secret and not protected:
        msg = "the credentials for a FHIR server are sent over https, or on this machine"
        raise InvalidSettings(msg)
    return base
