"""Delivery of HL7 messages into a folder that an interface engine picks up."""

from pathlib import Path

from cds_server.adapters.files import write_durably
from cds_server.ports import StoredResult
from fhir_mappers.oru_r01 import control_id
from fhir_mappers.report_context import ReportSet


class Hl7FolderDestination:
    """Writes ``FOLDER/<MSH-10>.hl7``: a repeat is the same file with the same bytes.

    Parameters
    ----------
    folder
        The folder.
    """

    name = "hl7"
    at_once = 4

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        """Write the message, whole or not at all."""
        write_durably(self._folder / f"{control_id(result.result_id)}.hl7", artefacts.oru)
