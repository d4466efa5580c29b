"""Delivery of DICOM results into a folder that a PACS imports."""

from pathlib import Path

from cds_server.adapters.files import write_durably
from cds_server.ports import StoredResult
from fhir_mappers.report_context import ReportSet


class DicomFolderDestination:
    """Writes ``FOLDER/<result id>-<name>`` for each DICOM object of a result.

    Parameters
    ----------
    folder
        The folder.
    """

    name = "dicom"
    at_once = 4

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        """Write the objects, each whole or not at all."""
        later = "" if result.signed is None else f"-signed-{result.signed.number}"
        later = "-withdrawn" if result.recall else later
        for name, content in artefacts.dicom.items():
            write_durably(self._folder / f"{result.result_id}{later}-{name}", content)
