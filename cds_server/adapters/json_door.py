"""What a DICOMweb library takes for the network: good JSON comes through, or an error is raised."""

from collections.abc import Mapping
from http import HTTPStatus

import requests
import structlog
from requests.adapters import BaseAdapter

from cds_server.adapters.pacs_link import AnswerTooLarge, PacsLink, Question
from cds_server.errors import ArchiveUnreachable
from cds_server.outbound import Answer

LARGEST_JSON = 32 * 1024 * 1024
_MOST_CONTAINERS = 1_000_000
_MOST_VALUES = 4_000_000
"""Opened, a byte of JSON can take fifty: more than these are not opened, whatever their size."""

_JSON = {"application/dicom+json", "application/json"}


class QuestionRefused(Exception):
    """The PACS refuses one question, with a status that says nothing of its health.

    Parameters
    ----------
    status
        HTTP status, 4xx.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class JsonDoor(BaseAdapter):
    """Stands in a session of requests for HTTP and HTTPS.

    The library sees no header of an answer: no redirect, no cookie, and no ``Warning`` that it
    would log.

    Parameters
    ----------
    link
        The way to the PACS.
    """

    def __init__(self, link: PacsLink) -> None:
        super().__init__()
        self._link = link

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002, ARG002
        timeout: object = None,  # noqa: ARG002
        verify: object = True,  # noqa: ARG002, FBT002
        cert: object = None,  # noqa: ARG002
        proxies: object = None,  # noqa: ARG002
    ) -> requests.Response:
        """Ask.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        AnswerTooLarge
            If it is larger, or holds more, than is opened.
        QuestionRefused
            At a status 4xx.
        """
        accept = str(request.headers["Accept"])
        question = Question(str(request.method), str(request.url), {"Accept": accept})
        answer = self._link.exchange(question, largest_bytes=LARGEST_JSON)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise QuestionRefused(answer.status)
        _check_json(answer)
        if "warning" in answer.headers:
            structlog.get_logger("radcds.pacs").info("the archive adds a warning to its answer")
        response = requests.Response()
        response.status_code = answer.status
        response.url = question.url
        response.request = request
        response._content = answer.content  # noqa: SLF001 - requests has no door for a body in hand
        return response

    def close(self) -> None:
        """Do nothing: the link closes itself."""


def session(link: PacsLink) -> requests.Session:
    """Give a session that reaches nothing but the PACS of a link."""
    made = requests.Session()
    made.trust_env = False
    made.adapters.clear()
    for scheme in ("http://", "https://"):
        made.mount(scheme, JsonDoor(link))
    return made


def media_type(headers: Mapping[str, str]) -> str:
    """Give the media type of a body, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_json(answer: Answer) -> None:
    """Check that a body is what it has to be: neither a sign-in page nor nothing is an answer.

    Raises
    ------
    ArchiveUnreachable
        If it is not.
    AnswerTooLarge
        If it holds more than is opened.
    """
    if not answer.content:
        if answer.status == HTTPStatus.NO_CONTENT:  # PS3.18 10.6.3: nothing matches
            return
        msg = f"the archive answers with nothing at all (status {answer.status})"
        raise ArchiveUnreachable(msg)
    if media_type(answer.headers) not in _JSON:
        msg = (
            "the archive answers with something that is not DICOM JSON; "
            "is a proxy or a sign-in page in the way?"
        )
        raise ArchiveUnreachable(msg)
    if (
        answer.content.count(b"{") + answer.content.count(b"[") > _MOST_CONTAINERS
        or answer.content.count(b",") > _MOST_VALUES
    ):
        raise AnswerTooLarge
    try:
        answer.content.decode("utf-8")
    except UnicodeDecodeError:
        msg = "the archive sends JSON that is not in UTF-8"
        raise ArchiveUnreachable(msg) from None
