"""Delivery of DICOM results into a PACS."""

from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.errors import InvalidDicomError

from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.json_door import QuestionRefused
from cds_server.adapters.same_object import same_bytes, same_content
from cds_server.adapters.stow_response import Fate, verdict
from cds_server.errors import (
    ArchiveUnreachable,
    DeliveryFailed,
    DeliveryRefused,
    InstanceUnreadable,
    StudyNotFound,
)
from cds_server.ports import StoredResult
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.report_context import ReportSet

_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class _Object:
    """One DICOM file with its name and identifiers."""

    name: str
    content: bytes
    uids: tuple[str, str, str]


class DicomWebDestination:
    """Stores the DICOM objects of a result by STOW-RS, in their order, one request for each.

    One by one, because one object that a PACS does not like can take the others of a request with
    it, and because each attempt then sends only what is missing.

    "Stored" is believed when the PACS says it of the SOP Instance UID and has the object: by
    search, or by retrieval where it does not search. What is there before it is sent is not sent
    again, but it must be ours: some PACS keep an old object and report success.

    Parameters
    ----------
    service
        The PACS.
    """

    name = "pacs"

    def __init__(self, service: DicomWebService) -> None:
        self._service = service

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        """Store every object; a result that has none is delivered.

        One that is refused does not keep the others from being stored.

        Raises
        ------
        DeliveryRefused
            If the PACS will never accept one of them, or has another under its identifier.
        DeliveryFailed
            If one may be accepted later. Says which, by name, and why.
        """
        later: list[str] = []
        never: list[str] = []
        for name, content in artefacts.dicom.items():
            try:
                self._place(_identified(name, content, result.study.study_instance_uid))
            except ArchiveUnreachable as error:
                msg = f"{name}: {error}"
                raise DeliveryFailed(msg) from error
            except DeliveryRefused as error:
                never.append(f"{name}: {error}")
            except DeliveryFailed as error:
                later.append(f"{name}: {error}")
        if later:
            raise DeliveryFailed("; ".join(later + never))
        if never:
            raise DeliveryRefused("; ".join(never))

    def _place(self, item: _Object) -> None:
        """See that the PACS has one object.

        Raises
        ------
        DeliveryRefused
            If it never will.
        DeliveryFailed
            If it does not, yet.
        """
        if self._is_there(item):
            self._check_ours(item)
            return
        answer = self._service.store(item.uids[0], item.content)
        judged = verdict(answer.status, answer.content, item.uids[2])
        if judged.fate is Fate.NEVER:
            msg = f"the archive refuses it: {judged.says}"
            raise DeliveryRefused(msg)
        if judged.fate is Fate.LATER:
            msg = f"the archive did not store it: {judged.says}"
            raise DeliveryFailed(msg)
        if judged.fate is Fate.THERE_ALREADY:
            self._check_ours(item)
        elif not self._is_there(item):
            msg = "the archive says that it stored it, but does not have it"
            raise DeliveryFailed(msg)

    def _is_there(self, item: _Object) -> bool:
        """Say whether the PACS has it: by search; where it does not search, by retrieval."""
        try:
            return self._service.lists_instance(*item.uids)
        except QuestionRefused:
            return self._kept(item) is not None

    def _check_ours(self, item: _Object) -> None:
        """Compare what the PACS has with what we have.

        Raises
        ------
        DeliveryRefused
            If it is another object.
        DeliveryFailed
            If it does not have it after all.
        """
        kept = self._kept(item)
        if kept is None:
            msg = "the archive says that it has it, but does not give it"
            raise DeliveryFailed(msg)
        if not same_bytes(item.content, kept) and not self._says_the_same(item, kept):
            msg = "the archive keeps another object under the same identifier; ours is not there"
            raise DeliveryRefused(msg)

    def _says_the_same(self, item: _Object, kept: bytes) -> bool:
        try:
            described = self._service.instance_metadata(*item.uids)
        except QuestionRefused:
            return False
        return same_content(item.content, kept, described)

    def _kept(self, item: _Object) -> bytes | None:
        """Retrieve it; ``None`` where the PACS does not have it.

        Raises
        ------
        DeliveryFailed
            If it cannot be read.
        """
        try:
            return self._service.instance(*item.uids)
        except StudyNotFound:
            return None
        except InstanceUnreadable as error:
            msg = f"what the archive has cannot be compared with it: {error}"
            raise DeliveryFailed(msg) from error


def _identified(name: str, content: bytes, study_instance_uid: str) -> _Object:
    """Read the identifiers of an object that this server made.

    Raises
    ------
    DeliveryRefused
        If it is no DICOM file, has an identifier that is none, or is of another study.
    """
    try:
        header = pydicom.dcmread(
            BytesIO(content), stop_before_pixels=True, specific_tags=list(_IDENTIFIERS)
        )
        study, series, instance = (
            check_uid(str(header.get(keyword, "")), keyword) for keyword in _IDENTIFIERS
        )
    except (InvalidDicomError, InvalidStudy, EOFError) as error:
        msg = "it is no DICOM file with the identifiers that it needs"
        raise DeliveryRefused(msg) from error
    if study != study_instance_uid:
        msg = "it belongs to another study than the result"
        raise DeliveryRefused(msg)
    return _Object(name, content, (study, series, instance))
