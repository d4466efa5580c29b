"""Delivery into a folder: one subfolder per study, for people and for file-based integration."""

from pathlib import Path

from cds_server.adapters.files import write_durably
from cds_server.errors import DeliveryFailed, DeliveryRefused
from cds_server.ports import AuditTrail, StoredResult
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.report_context import DICOM_FILES, ReportSet

_OPTIONAL = ("overlay.png", *DICOM_FILES)


class FolderDestination:
    """Writes ``ROOT/<StudyInstanceUID>/`` with every artefact and the study's audit events.

    Parameters
    ----------
    root
        The folder.
    trail
        Where the events come from.
    """

    name = "folder"
    at_once = 4

    def __init__(self, root: Path, trail: AuditTrail) -> None:
        self._root = root
        self._trail = trail

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        """Write the files, each whole or not at all; what an earlier result left is removed.

        Raises
        ------
        DeliveryRefused
            If the study's UID is no UID: it never becomes a path.
        DeliveryFailed
            If the folder cannot be written.
        """
        try:
            uid = check_uid(result.study.study_instance_uid, "Study Instance UID")
        except InvalidStudy as error:
            msg = f"{error}; nothing is written"
            raise DeliveryRefused(msg) from error
        folder = self._root / uid
        files = artefacts.files()
        for name, content in files.items():
            write_durably(folder / name, content)
        events = b"".join(_one_line(event) for event in self._trail.events(uid))
        write_durably(folder / "audit.ndjson", events)
        try:
            for name in set(_OPTIONAL) - set(files):
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            msg = f"an outdated file cannot be removed from {folder} ({error.strerror})"
            raise DeliveryFailed(msg) from error


def _one_line(event: bytes) -> bytes:
    """Put an event on one line: JSON strings hold no raw line end, so only layout is lost."""
    return b" ".join(line.strip() for line in event.splitlines()) + b"\n"
