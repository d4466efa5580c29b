"""An archive behind DICOMweb."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from cds_server.errors import ArchiveUnreachable, InstanceUnreadable, StudyNotFound
from cds_server.ports import FileProblem

_PAGE = 200
_T = TypeVar("_T")


class DicomWebArchive:
    """A PACS by QIDO-RS and WADO-RS.

    Stored transfer syntaxes are asked for as they are: a PACS that must transcode may fail the
    whole study over one instance. Pixels travel uncompressed by HTTP, which is many times faster
    on common servers. Addresses inside answers are never followed.

    Parameters
    ----------
    url
        Base address of the service.
    timeout_s
        To connect, and between two bytes.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        session = requests.Session()
        session.headers["Accept-Encoding"] = "identity"
        session.max_redirects = 0
        self._client = DICOMwebClient(url, session=session, timeout=timeout_s)
        self._client.set_http_retry_params(retry=False)

    @property
    def problems(self) -> Sequence[FileProblem]:
        """None: what cannot be read, the PACS refused."""
        return ()

    def study_uids(self) -> Sequence[str]:
        """List the studies, sorted, page by page.

        Raises
        ------
        ArchiveUnreachable
            If the PACS does not answer.
        """
        uids: set[str] = set()
        offset = 0
        while True:
            page = self._page(offset)
            uids.update(str(each["0020000D"]["Value"][0]) for each in page)
            offset += len(page)
            if len(page) < _PAGE:
                return sorted(uids)

    def _page(self, offset: int) -> Sequence[Mapping[str, Any]]:
        return self._asked(
            lambda: self._client.search_for_studies(
                limit=_PAGE, offset=offset, fields=["StudyInstanceUID"]
            )
        )

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance.

        Raises
        ------
        StudyNotFound
            If the PACS has no such study.
        ArchiveUnreachable
            If it does not answer.
        """
        found = self._asked(lambda: self._client.retrieve_study_metadata(study_instance_uid))
        if not found:
            msg = "the archive has no such study"
            raise StudyNotFound(msg)
        return list(found)

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> Dataset:
        """Retrieve one instance in the transfer syntax in which it is stored.

        Raises
        ------
        InstanceUnreadable
            If what came is not a DICOM object.
        StudyNotFound
            If the PACS has no such instance.
        ArchiveUnreachable
            If it does not answer.
        """
        try:
            retrieved: Dataset = self._asked(
                lambda: self._client.retrieve_instance(
                    study_instance_uid,
                    series_instance_uid,
                    sop_instance_uid,
                    media_types=(("application/dicom", "*"),),
                )
            )
        except (InvalidDicomError, EOFError, ValueError) as error:
            msg = "The archive sent something that is not a DICOM object."
            raise InstanceUnreadable(msg) from error
        return retrieved

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Ask, and translate what goes wrong.

        Raises
        ------
        StudyNotFound
            At 404.
        ArchiveUnreachable
            At any other refusal, and when nothing answers.
        """
        try:
            return ask()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == HTTPStatus.NOT_FOUND:
                msg = "the archive has no such study"
                raise StudyNotFound(msg) from error
            msg = f"the archive refused with status {status}"
            raise ArchiveUnreachable(msg) from error
        except requests.RequestException as error:
            msg = f"the archive does not answer ({type(error).__name__})"
            raise ArchiveUnreachable(msg) from error
