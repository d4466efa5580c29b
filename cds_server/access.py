"""Who looks at a stored result. Every look is audited before anything is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cds_server.errors import ResultNotFound
from cds_server.ports import AuditTrail, Clock, FhirRepository, ResultStore, StudyEntry
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_context import DisplayMode, Site

_LOCATING = frozenset({"overlay.png", "secondary-capture.dcm"})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks.

    Parameters
    ----------
    user
        Identifier of the person or client.
    address
        Network address that the request came from.
    """

    user: str
    address: str


class Access:
    """The one gate to stored results.

    Each method writes the audit trail first: if that fails, ``AuditUnavailable`` passes through
    and nothing is shown.

    Parameters
    ----------
    store, repository
        Where results and FHIR resources are kept.
    trail
        The audit trail.
    site
        Whose server this is; decides what may be shown.
    clock
        Gives the time of each event.
    """

    def __init__(
        self,
        *,
        store: ResultStore,
        repository: FhirRepository,
        trail: AuditTrail,
        site: Site,
        clock: Clock,
    ) -> None:
        self._store = store
        self._repository = repository
        self._trail = trail
        self._site = site
        self._clock = clock

    @property
    def site(self) -> Site:
        """Whose server this is."""
        return self._site

    def worklist(self, viewer: Viewer) -> Sequence[StudyEntry]:
        """Give every study, the most urgent first."""
        self._record_query(viewer, "worklist")
        return self._store.entries()

    def of_patient(self, patient_id: str, viewer: Viewer, *, hook: str) -> Sequence[StudyEntry]:
        """Give the studies of one patient for a CDS hook, latest first."""
        self._record_query(viewer, f"{hook}?patient={patient_id}", patient_id=patient_id)
        return self._store.entries_of_patient(patient_id)

    def result(self, result_id: str, viewer: Viewer) -> StudyEntry:
        """Give one study with its result.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        """
        entry = self._store.entry(result_id)
        self._record_view(entry, viewer, "study")
        return entry

    def artefact(self, result_id: str, name: str, viewer: Viewer) -> bytes:
        """Give the stored bytes of one artefact; a ``triage_only`` site withholds any location.

        Raises
        ------
        ResultNotFound
            If there is no such artefact, or the site may not show it.
        """
        entry = self._store.entry(result_id)
        if name in _LOCATING and self._site.display_mode is DisplayMode.TRIAGE_ONLY:
            msg = f"{name} is not shown here: this site is set to triage only"
            raise ResultNotFound(msg)
        content = self._store.artefact(result_id, name)
        self._record_view(entry, viewer, name)
        return content

    def fhir_read(self, resource_type: str, resource_id: str, viewer: Viewer) -> bytes:
        """Give the stored bytes of one FHIR resource.

        Raises
        ------
        ResultNotFound
            If there is no such resource.
        """
        content = self._repository.read(resource_type, resource_id)
        self._record_query(viewer, f"{resource_type}/{resource_id}")
        return content

    def fhir_search(
        self, resource_type: str, parameters: Mapping[str, str], viewer: Viewer
    ) -> Sequence[bytes]:
        """Give the FHIR resources that match every parameter.

        Raises
        ------
        UnknownSearchParameter
            If a parameter is not supported.
        """
        query = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))
        self._record_query(viewer, f"{resource_type}?{query}")
        return self._repository.search(resource_type, parameters)

    def audit_events(self, result_id: str, viewer: Viewer) -> Sequence[bytes]:
        """Give the audit events of one study, oldest first; looking is itself recorded.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        """
        entry = self._store.entry(result_id)
        self._record_view(entry, viewer, "audit trail")
        return self._trail.events(entry.study_instance_uid)

    def _record_view(self, entry: StudyEntry, viewer: Viewer, what: str) -> None:
        patient = entry.result.study.patient if entry.result else None
        fact = AuditFact(
            kind=AuditKind.VIEW_RESULT,
            recorded=self._clock.now(),
            user=viewer.user,
            address=viewer.address,
            study_instance_uid=entry.study_instance_uid,
            result_id=entry.result_id,
            patient_id=(patient.patient_id or None) if patient else None,
            patient_issuer=patient.issuer if patient else "",
            detail={"viewed": what},
        )
        self._trail.record([audit_event(fact, self._site)])

    def _record_query(self, viewer: Viewer, query: str, patient_id: str | None = None) -> None:
        fact = AuditFact(
            kind=AuditKind.QUERY,
            recorded=self._clock.now(),
            user=viewer.user,
            address=viewer.address,
            patient_id=patient_id,
            query=query,
        )
        self._trail.record([audit_event(fact, self._site)])
