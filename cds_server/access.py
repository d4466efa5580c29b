"""Who looks at a stored result. Every look is audited before anything is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cds_server.ports import AuditTrail, Clock, FhirRepository, ResultStore, StudyEntry
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_set import DisplayMode, Site

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

    Parameters
    ----------
    store, repository
        Where results and FHIR resources are kept.
    trail
        Written first: if it fails, ``AuditUnavailable`` passes through and nothing is shown.
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
