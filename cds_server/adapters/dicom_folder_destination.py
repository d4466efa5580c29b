"""Delivery of DICOM results into a folder that a PACS imports."""

from pathlib import Path

from cds_server.adapters.files import write_durably
from cds_server.ports import StoredResult
from fhir_mappers.report_context import ReportSet


class DicomFolderDestination:
    """Writes ``FOLDER/<result id>.dcm`` for each result that has a DICOM object.

    Parameters
    ----------
    folder
        The folder.
    """

    name = "dicom"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        """Write the object, whole or not at all; a study that was not analysed has none."""
        if artefacts.secondary_capture is not None:
            write_durably(self._folder / f"{result.result_id}.dcm", artefacts.secondary_capture)
