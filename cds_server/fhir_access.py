"""The FHIR resources that radcds authors, to programs."""

import orjson

from cds_server.errors import ResultNotFound
from cds_server.gate import ANOTHER, Gate
from cds_server.network import Role
from cds_server.ports import (
    FhirPage,
    FhirQuery,
    FhirReach,
)
from cds_server.viewer import Viewer
from fhir_mappers.report_context import DisplayMode, Site

_PICTURES = frozenset({"Media", "Binary"})


class FhirAccess:
    """FHIR resources through the gate. Every read and search is recorded before.

    Parameters
    ----------
    gate
        Admits, refuses and records.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def site(self) -> Site:
        """Whose server this is."""
        return self._gate.site

    def read(self, resource_type: str, resource_id: str, viewer: Viewer) -> bytes:
        """Give the stored bytes of one FHIR resource.

        Raises
        ------
        ResultNotFound
            If there is no such resource.
        Forbidden
            If it is not for this viewer.
        """
        self._check_without_location(resource_type)
        content = self._gate.stores.repository.read(resource_type, resource_id)
        if not self._fhir_in_scope(resource_type, content, viewer):
            self._gate.refuse(viewer, f"{resource_type}/{resource_id}", ANOTHER)
        self._gate.record([self._gate.query_leaf(viewer, f"{resource_type}/{resource_id}")])
        return content

    def search(self, query: FhirQuery, viewer: Viewer) -> FhirPage:
        """Give a page of the FHIR resources that match and are for this viewer.

        Raises
        ------
        UnknownSearchParameter
            If a parameter or its value is not supported.
        """
        page = [("_count", str(query.count))] + ([("_after", query.after)] if query.after else [])
        asked = "&".join(f"{name}={value}" for name, value in [*sorted(query.parameters), *page])
        self._gate.record([self._gate.query_leaf(viewer, f"{query.resource_type}?{asked}")])
        nothing = FhirReach(results=frozenset())
        reach = nothing if self._shows_location(query.resource_type) else self._reach(viewer)
        return self._gate.stores.repository.search(query, reach)

    def _shows_location(self, resource_type: str) -> bool:
        triage_only = self._gate.site.display_mode is DisplayMode.TRIAGE_ONLY
        return triage_only and resource_type in _PICTURES

    def _check_without_location(self, resource_type: str) -> None:
        """Keep back pictures that were made while the site still showed overlays.

        Raises
        ------
        ResultNotFound
            If the resource may be one.
        """
        if self._shows_location(resource_type):
            msg = f"{resource_type} is not given here: this site is set to triage only"
            raise ResultNotFound(msg)

    def _reach(self, viewer: Viewer) -> FhirReach:
        """Say what ``_fhir_in_scope`` says, for all resources at once."""
        if viewer.patient is not None:
            own = frozenset(entry.result_id for entry in self._gate.of_patient(viewer))
            return FhirReach(results=own)
        if viewer.centres and viewer.role is Role.CLINICIAN:
            return FhirReach(results=frozenset())
        return FhirReach(viewer.centres)

    def _fhir_in_scope(self, resource_type: str, content: bytes, viewer: Viewer) -> bool:
        if viewer.patient is None and not viewer.centres:
            return True
        resource_id = str(orjson.loads(content)["id"])
        origin = self._gate.stores.repository.result_of(resource_type, resource_id)
        try:
            return origin is not None and self._gate.in_scope(
                self._gate.stores.results.entry(origin), viewer
            )
        except ResultNotFound:
            return False
