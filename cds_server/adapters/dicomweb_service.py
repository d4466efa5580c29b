"""A PACS behind DICOMweb, as the archive and the destination of results use it."""

import time
from collections.abc import Callable, Sequence
from datetime import date
from http import HTTPStatus

from dicomweb_client.web import DICOMwebClient

from cds_server.adapters.circuit_breaker import CircuitBreaker, CircuitState
from cds_server.adapters.json_door import QuestionRefused, media_type, session
from cds_server.adapters.multipart_related import only_part, packed
from cds_server.adapters.pacs_credentials import Credentials
from cds_server.adapters.pacs_link import (
    SLOWEST_BYTES_PER_S,
    AnswerTooLarge,
    PacsLink,
    Question,
)
from cds_server.errors import ArchiveUnreachable, InstanceUnreadable, StudyNotFound
from cds_server.outbound import Answer
from cds_server.ports import Clock
from fhir_mappers.dicom_json import Attributes, text

PAGE = 200
"""Most studies in one answer: Azure refuses to give more."""

_MB = 1024 * 1024
_AROUND_A_PART = 64 * 1024
_LARGEST_STORE_ANSWER = _MB  # it tells of one object
_AS_IT_IS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_STUDY_FIELDS = ("StudyInstanceUID", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
_NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.NO_CONTENT}
_PREAMBLE = 128
_TOO_LARGE = "the archive sends an answer that is too large"


class DicomWebService:
    """QIDO-RS, WADO-RS and STOW-RS of one PACS; threads may share it.

    Searches and descriptions go through ``dicomweb_client``, over the link of ours. Objects do not:
    the library opens what it retrieves, in this process and without limits, encodes anew what it
    stores, and repeats a large store with an empty body. Nothing is tried again here: whoever asks
    knows how long it may wait.

    UIDs are not checked here; the link refuses what could name another address.

    Parameters
    ----------
    url
        Base address, such as ``https://pacs.example.org/dicom-web``.
    clock
        Tells since when the PACS is away.
    credentials
        Who this server is for the PACS; ``None`` where it does not ask.
    timeout_s
        Of one wait for the PACS; see ``PacsLink`` for a whole answer.
    slowest_bytes_per_s
        A PACS that is slower is cut off; see ``PacsLink``.
    largest_bytes
        Size of an object that is still read.
    monotonic
        Measures the pauses of the circuit breaker, in seconds.

    Raises
    ------
    InvalidSettings
        If the address is no plain address of a service, or credentials would travel in the clear.
    """

    def __init__(  # noqa: PLR0913 - what bounds the PACS, by name
        self,
        url: str,
        *,
        clock: Clock,
        credentials: Credentials | None = None,
        timeout_s: float = 20.0,
        slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S,
        largest_bytes: int = 512 * _MB,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breaker = CircuitBreaker(clock, monotonic=monotonic)
        self._link = PacsLink(
            url,
            breaker=self._breaker,
            credentials=credentials,
            timeout_s=timeout_s,
            slowest_bytes_per_s=slowest_bytes_per_s,
        )
        self._largest_bytes = largest_bytes
        self._client = DICOMwebClient(self._link.base_url, session=session(self._link))
        self._client.set_http_retry_params(retry=False)

    @property
    def circuit(self) -> CircuitState:
        """Whether the PACS is left alone for now, since when, and why."""
        return self._breaker.state

    # ── Searches and descriptions ────────────────────────────────────────────────────────────────

    def studies(self, *, offset: int, since: date | None) -> Sequence[Attributes]:
        """Give one page of the studies.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        """
        try:
            return _asked(
                lambda: self._client.search_for_studies(
                    limit=PAGE,
                    offset=offset,
                    fields=_STUDY_FIELDS,
                    search_filters={"StudyDate": f"{since:%Y%m%d}-"} if since else None,
                )
            )
        except QuestionRefused as refused:
            msg = f"the archive does not search for studies (status {refused.status})"
            raise ArchiveUnreachable(msg) from refused

    def lists_study(self, study_instance_uid: str) -> bool:
        """Say whether a search finds a study.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        QuestionRefused
            If it does not search.
        """
        found = _asked(
            lambda: self._client.search_for_studies(
                fields=["StudyInstanceUID"], search_filters={"StudyInstanceUID": study_instance_uid}
            )
        )
        return any(text(each, "0020000D") == study_instance_uid for each in found)

    def lists_instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> bool:
        """Say whether a search finds an instance.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        QuestionRefused
            If it does not search.
        """
        found = _asked(
            lambda: self._client.search_for_instances(
                study_instance_uid,
                series_instance_uid,
                fields=["SOPInstanceUID"],
                search_filters={"SOPInstanceUID": sop_instance_uid},
            )
        )
        return any(text(each, "00080018") == sop_instance_uid for each in found)

    def listed_instances(
        self, study_instance_uid: str, sop_instance_uids: Sequence[str]
    ) -> frozenset[str]:
        """Say which of some instances one search finds; a PACS may know no search by list.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        QuestionRefused
            If it does not search.

        References
        ----------
        DICOM PS3.4 C.2.2.2.2 List of UID Matching; PS3.18 8.3.4.1.
        """
        found = _asked(
            lambda: self._client.search_for_instances(
                study_instance_uid,
                fields=["SOPInstanceUID"],
                search_filters={"SOPInstanceUID": ",".join(sop_instance_uids)},
            )
        )
        return frozenset(text(each, "00080018") for each in found) & frozenset(sop_instance_uids)

    def metadata(self, study_instance_uid: str) -> Sequence[Attributes]:
        """Give the DICOM JSON of each instance of a study.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        InstanceUnreadable
            If it is larger, or holds more, than is read: to ask again would not help.
        QuestionRefused
            If it does not give them.
        """
        try:
            return _read(lambda: self._client.retrieve_study_metadata(study_instance_uid))
        except AnswerTooLarge:
            msg = "The archive describes the study in more than radcds reads."
            raise InstanceUnreadable(msg) from None

    def instance_metadata(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> Attributes:
        """Give the DICOM JSON of one instance.

        Raises
        ------
        ArchiveUnreachable
            If there is no good answer.
        QuestionRefused
            If it does not give it.
        """
        (found,) = _asked(
            lambda: [
                self._client.retrieve_instance_metadata(
                    study_instance_uid, series_instance_uid, sop_instance_uid
                )
            ]
        )
        return found

    # ── Objects, as the bytes that they are ──────────────────────────────────────────────────────

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> bytes:
        """Retrieve the DICOM file of one instance in its stored transfer syntax, unopened.

        Raises
        ------
        StudyNotFound
            If there is no such instance.
        InstanceUnreadable
            If what comes is no such file, is cut off, or is too large.
        ArchiveUnreachable
            If there is no good answer.
        """
        path = f"studies/{study_instance_uid}/series/{series_instance_uid}"
        url = f"{self._link.base_url}/{path}/instances/{sop_instance_uid}"
        question = Question("GET", url, {"Accept": _AS_IT_IS_STORED})
        try:
            answer = self._link.exchange(
                question, largest_bytes=self._largest_bytes + _AROUND_A_PART
            )
            content = _file(answer)
        except AnswerTooLarge:
            content = None
        if content is None or len(content) > self._largest_bytes:
            msg = (
                f"The object is larger than {self._largest_bytes // _MB} MB, the most that is read."
            )
            raise InstanceUnreadable(msg)
        return content

    def store(self, study_instance_uid: str, content: bytes) -> Answer:
        """Send one DICOM file, byte for byte, and give the answer whatever it is.

        Raises
        ------
        ArchiveUnreachable
            If there is no answer, or the PACS is not well. It may have stored the file.
        """
        body, content_type = packed(content)
        url = f"{self._link.base_url}/studies/{study_instance_uid}"
        headers = {"Accept": "application/dicom+json", "Content-Type": content_type}
        try:
            return self._link.exchange(
                Question("POST", url, headers, body), largest_bytes=_LARGEST_STORE_ANSWER
            )
        except AnswerTooLarge:
            raise ArchiveUnreachable(_TOO_LARGE) from None


def _asked(ask: Callable[[], object]) -> Sequence[Attributes]:
    """Let the library ask, and check what it read.

    Raises
    ------
    ArchiveUnreachable
        If that is no list of DICOM JSON objects, or it is too large.
    """
    try:
        return _read(ask)
    except AnswerTooLarge:
        raise ArchiveUnreachable(_TOO_LARGE) from None


def _read(ask: Callable[[], object]) -> Sequence[Attributes]:
    """Let the library ask, and check what it read, whatever its size means.

    Raises
    ------
    ArchiveUnreachable
        If that is no list of DICOM JSON objects.
    """
    try:
        found = ask()
    except (LookupError, RecursionError, TypeError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        msg = "the archive sends something that is not DICOM JSON"
        raise ArchiveUnreachable(msg)
    return found


def _file(answer: Answer) -> bytes:
    """Read the answer to the question for one object.

    Raises
    ------
    StudyNotFound
        If there is none.
    InstanceUnreadable
        If it is no DICOM file.
    ArchiveUnreachable
        If it is something else altogether.
    """
    if answer.status in _NOT_THERE:
        msg = "the archive has no such instance"
        raise StudyNotFound(msg)
    if answer.status != HTTPStatus.OK:
        msg = f"The archive does not give the object (status {answer.status})."
        raise InstanceUnreadable(msg)
    kind = media_type(answer.headers)
    if kind == "multipart/related":
        content = only_part(answer.content, answer.headers["content-type"])
    elif kind == "application/dicom":  # not as PS3.18 8.7.3 has it, but some servers do
        content = answer.content
    else:
        msg = (
            "the archive answers with something that is no DICOM object; "
            "is a proxy or a sign-in page in the way?"
        )
        raise ArchiveUnreachable(msg)
    if content[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        msg = "The archive sent something that is not a DICOM object."
        raise InstanceUnreadable(msg)
    return content
