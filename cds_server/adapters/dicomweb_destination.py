"""Delivery of DICOM results into a PACS."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    DestinationUnavailable,
    InstanceUnreadable,
    StudyNotFound,
)
from cds_server.ports import StoredResult
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.report_context import ReportSet

_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_WORTH_A_LIST = 2


@dataclass(frozen=True, slots=True)
class _Object:
    """One DICOM file with its name and identifiers."""

    name: str
    content: bytes
    uids: tuple[str, str, str]

    @property
    def sop_instance_uid(self) -> str:
        return self.uids[2]


@dataclass(frozen=True, slots=True)
class _Troubles:
    """What went wrong with which object, while the others go on."""

    later: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Note what goes wrong with one object.

        Raises
        ------
        DestinationUnavailable
            If the PACS does not answer: then the others are not tried.
        """
        try:
            yield
        except ArchiveUnreachable as error:
            msg = f"{name}: {error}"
            raise DestinationUnavailable(msg) from error
        except DeliveryRefused as error:
            self.never.append(f"{name}: {error}")
        except DeliveryFailed as error:
            self.later.append(f"{name}: {error}")

    def end(self) -> None:
        """Say what went wrong, if anything did.

        Raises
        ------
        DeliveryRefused
            If the PACS will never have one of them.
        DeliveryFailed
            If it may have one later.
        """
        if self.later:
            raise DeliveryFailed("; ".join(self.later + self.never))
        if self.never:
            raise DeliveryRefused("; ".join(self.never))


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
    at_once = 8

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
        troubles = _Troubles()
        items = []
        for name, content in artefacts.dicom.items():
            with troubles.of(name):
                items.append(_identified(name, content, result.study.study_instance_uid))
        sent = []
        known = self._known(items, result)
        for item in items:
            with troubles.of(item.name):
                if self._place(item, known):
                    sent.append(item)
        known = self._known(sent, result)
        for item in sent:
            with troubles.of(item.name):
                if not known.get(item.sop_instance_uid) and not self._is_there(item):
                    msg = "the archive says that it stored it, but does not have it"
                    raise DeliveryFailed(msg)
        troubles.end()

    def _known(self, items: Sequence[_Object], result: StoredResult) -> Mapping[str, bool]:
        """Say of each object whether the PACS has it, as far as one search for all of them tells.

        That it lacks one is believed where the same search finds an image of the study: then it
        knows searches by list.
        """
        study = result.study
        image = next((each for series in study.series for each in series.instances), None)
        uids = [item.sop_instance_uid for item in items]
        if len(uids) < _WORTH_A_LIST or image is None:
            return {}
        asked = [*uids, image.sop_instance_uid]
        try:
            found = self._service.listed_instances(study.study_instance_uid, asked)
        except (ArchiveUnreachable, QuestionRefused):
            return {}
        lacks = image.sop_instance_uid in found
        return {uid: uid in found for uid in uids if lacks or uid in found}

    def _place(self, item: _Object, known: Mapping[str, bool]) -> bool:
        """Send one object unless the PACS has it; say whether it is still to be looked for.

        Raises
        ------
        DeliveryRefused
            If the PACS will never have it.
        DeliveryFailed
            If it does not, yet.
        """
        there = known.get(item.sop_instance_uid)
        if self._is_there(item) if there is None else there:
            self._check_ours(item)
            return False
        answer = self._service.store(item.uids[0], item.content)
        judged = verdict(answer.status, answer.content, item.sop_instance_uid)
        if judged.fate is Fate.NEVER:
            msg = f"the archive refuses it: {judged.says}"
            raise DeliveryRefused(msg)
        if judged.fate is Fate.LATER:
            msg = f"the archive did not store it: {judged.says}"
            raise DeliveryFailed(msg)
        if judged.fate is Fate.THERE_ALREADY:
            self._check_ours(item)
            return False
        return True

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
