"""Delivery of HL7 messages into a folder that an interface engine picks up."""

from pathlib import Path

from cds_server.adapters.files import write_durably
from cds_server.ports import StoredResult
from fhir_mappers.oru_r01 import control_id
from fhir_mappers.report_context import ReportSet

_MSH_10 = 9


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
        header = artefacts.oru.partition(b"\r")[0].decode().split("|")
        name = header[_MSH_10] if len(header) > _MSH_10 else control_id(result.result_id)
        write_durably(self._folder / f"{name}.hl7", artefacts.oru)
