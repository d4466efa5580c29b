"""An archive behind DICOMweb."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.json_door import QuestionRefused
from cds_server.errors import ArchiveUnreachable, StudyNotFound
from cds_server.imaging import Arrival, FileProblem
from fhir_mappers.dicom_json import Attributes, integer, text, values
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy

_MOST_PAGES = 1000
_MODALITY = re.compile(r"[A-Z0-9_ ]{1,16}")
_NOT_FOUND = 404
_FURTHEST_BEHIND = timedelta(hours=12)
"""A Study Date is of the PACS's own zone: the last one in which a day begins is UTC-12."""


class DicomWebArchive:
    """A PACS by QIDO-RS and WADO-RS.

    Objects are asked for in the transfer syntax in which they are stored: a PACS that must
    transcode may fail the whole study over one of them. Addresses inside answers are never
    followed.

    Parameters
    ----------
    service
        The PACS.
    """

    def __init__(self, service: DicomWebService) -> None:
        self._service = service

    @property
    def problems(self) -> Sequence[FileProblem]:
        """None: what cannot be read, the PACS refused."""
        return ()

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:
        """List the studies, by Study Instance UID, page by page until nothing new comes.

        Searches by Study Date: what began earlier on the same day is listed too.

        A PACS may give fewer in a page than it is asked for, or the same page again. A study
        without a valid UID is left out, and the log says so.

        Raises
        ------
        ArchiveUnreachable
            If the PACS does not answer, or has more studies than are listed at once.
        """
        day = (since.astimezone(UTC) - _FURTHEST_BEHIND).date() if since else None
        found: dict[str, Arrival] = {}
        before: Sequence[Attributes] = ()
        offset = 0
        for _ in range(_MOST_PAGES):
            page = self._service.studies(offset=offset, since=day)
            listed = _listed(page)
            if not page or page == before or (listed and listed.keys() <= found.keys()):
                return [found[uid] for uid in sorted(found)]
            found.update(listed)
            before = page
            offset += len(page)
        msg = f"the archive lists more than {offset} studies; ask from a later date on"
        raise ArchiveUnreachable(msg)

    def holds(self, study_instance_uid: str) -> bool:
        """Say whether a search finds a study; one that a PACS will not search for, it does not.

        Raises
        ------
        ArchiveUnreachable
            If the PACS does not answer.
        """
        try:
            return self._service.lists_study(study_instance_uid)
        except QuestionRefused:
            return False

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance.

        Raises
        ------
        StudyNotFound
            If the PACS has no such study.
        InstanceUnreadable
            If it describes the study in more than is read: to ask again would not help.
        ArchiveUnreachable
            If it does not answer, or not about that study.
        """
        _check(study_instance_uid)
        try:
            found = self._service.metadata(study_instance_uid)
        except QuestionRefused as refused:
            raise self._no_metadata(study_instance_uid, refused.status) from refused
        if not found:
            raise self._no_metadata(study_instance_uid, _NOT_FOUND)
        if any(text(each, "0020000D") != study_instance_uid for each in found):
            msg = "the archive answers about another study than the one that was asked for"
            raise ArchiveUnreachable(msg)
        return found

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> bytes:
        """Retrieve the DICOM file of one instance in its stored transfer syntax, unopened.

        Raises
        ------
        InstanceUnreadable
            If what comes is no such file, is cut off, or is too large.
        StudyNotFound
            If the PACS has no such instance.
        ArchiveUnreachable
            If it does not answer.
        """
        _check(study_instance_uid, series_instance_uid, sop_instance_uid)
        return self._service.instance(study_instance_uid, series_instance_uid, sop_instance_uid)

    def _no_metadata(
        self, study_instance_uid: str, status: int
    ) -> StudyNotFound | ArchiveUnreachable:
        """Tell a study that is not there from a PACS that does not describe studies."""
        try:
            listed = self._service.lists_study(study_instance_uid)
        except QuestionRefused:
            listed = False
        if listed:
            return ArchiveUnreachable(
                "the archive lists the study but does not describe its instances "
                f"(WADO-RS metadata, status {status}); radcds cannot read studies without that"
            )
        if status == _NOT_FOUND:
            return StudyNotFound("the archive has no such study")
        return ArchiveUnreachable(f"the archive does not describe the study (status {status})")


def _check(*uids: str) -> None:
    """Ask for nothing that no archive can hold.

    Raises
    ------
    StudyNotFound
        If one is not a UID.
    """
    try:
        for uid in uids:
            check_uid(uid, "UID")
    except InvalidStudy:
        msg = "the archive has no such study: the identifier is not a DICOM UID"
        raise StudyNotFound(msg) from None


def _listed(page: Sequence[Attributes]) -> dict[str, Arrival]:
    """Read the rows of a page, by Study Instance UID."""
    listed = [arrival for each in page if (arrival := _arrival(each)) is not None]
    if len(listed) < len(page):
        structlog.get_logger("radcds.pacs").warning(
            "studies without a valid UID are left out", count=len(page) - len(listed)
        )
    return {each.study_instance_uid: each for each in listed}


def _arrival(attributes: Attributes) -> Arrival | None:
    """Read one row; ``None`` where it names no study."""
    try:
        uid = check_uid(text(attributes, "0020000D"), "Study Instance UID")
    except InvalidStudy:
        return None
    modalities = {str(value) for value in values(attributes, "00080061")}
    number = integer(attributes, "00201208")
    return Arrival(
        uid,
        tuple(sorted(each for each in modalities if _MODALITY.fullmatch(each))),
        None if number is None or number < 0 else number,
    )
