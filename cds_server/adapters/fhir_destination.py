"""Delivery into a FHIR repository."""

from cds_server.ports import FhirRepository, StoredResult
from fhir_mappers.report_context import ReportSet


class FhirDestination:
    """Puts the transaction of each result into a repository.

    Parameters
    ----------
    repository
        Where to.
    """

    name = "fhir"
    at_once = 4

    def __init__(self, repository: FhirRepository) -> None:
        self._repository = repository

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:  # noqa: ARG002 - port
        """Put every resource under its own id: a repeat leaves one of each."""
        self._repository.transaction(artefacts.bundle)
