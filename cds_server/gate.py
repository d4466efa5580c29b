"""The gate: whose studies a person or program may see, and the leaf that every look leaves.

Three questions are asked of each study: may this role do it, is it of one of the person's centres,
and is it of the patient that the launch is about. A refusal is recorded as well. ``access``,
``hooks.card_access`` and ``fhir_access`` show nothing but through here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cds_server.amendments import AmendmentStore
from cds_server.errors import Forbidden
from cds_server.feedback import FeedbackStore
from cds_server.network import Role
from cds_server.permissions import Permission, may
from cds_server.ports import AuditTrail, Clock, FhirRepository, ResultStore, StudyEntry
from cds_server.session import SessionStore
from cds_server.viewer import Viewer
from cds_server.worklist import Worklist
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.report_context import Site

EMERGENCY = "emergency"
_SEES_SHADOW = frozenset({Role.OPERATOR, Role.AUDITOR})
ANOTHER = "This study is not of a centre or patient that you have access to here."
_ROLE = "The role {} may not do this."


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept that the gate guards."""

    results: ResultStore
    worklist: Worklist
    repository: FhirRepository
    feedback: FeedbackStore
    sessions: SessionStore
    amendments: AmendmentStore


class Gate:
    """Admits, refuses and records.

    Parameters
    ----------
    stores
        What is guarded.
    trail
        The audit trail. If it cannot be written, ``AuditUnavailable`` passes through.
    site
        Whose server this is.
    clock
        Gives the time of each event.
    """

    def __init__(self, stores: Stores, *, trail: AuditTrail, site: Site, clock: Clock) -> None:
        self.stores = stores
        self.trail = trail
        self.site = site
        self._clock = clock

    def now(self) -> datetime:
        """Say what time it is."""
        return self._clock.now()

    def record(self, leaves: Sequence[bytes]) -> None:
        """Write the trail; what follows may be shown.

        Raises
        ------
        AuditUnavailable
            If it cannot be written; then nothing may be shown.
        """
        self.trail.record(leaves)

    # ── Studies, for the server's own decisions ──────────────────────────────────────────────────

    def of_patient(self, viewer: Viewer) -> Sequence[StudyEntry]:
        """Give the studies of the patient that the viewer is bound to, latest first; not audited.

        For the server's own decisions. Whoever shows anything of it records that first.
        """
        if viewer.patient is None:
            return ()
        values = sorted({value for _, value in viewer.patient.identifiers})
        found: dict[str, StudyEntry] = {}
        for value in values:
            for entry in self.stores.results.entries_of_patient(value):
                if self.in_scope(entry, viewer):
                    found[entry.result_id] = entry
        return sorted(found.values(), key=lambda entry: entry.noticed_at, reverse=True)

    def of_study(self, study_instance_uid: str, viewer: Viewer) -> Sequence[StudyEntry]:
        """Give the results of a study that an EHR says is the viewer's patient's; not audited.

        One that is not read yet, or whose patient the archive does not name, is taken at the EHR's
        word; one that the archive says is another patient's never is.
        """
        return [
            entry
            for entry in self.stores.results.entries_of_study(study_instance_uid)
            if self.in_scope(entry, viewer)
            or entry.result is None
            or not entry.result.study.patient.patient_id
        ]

    # ── The three questions ──────────────────────────────────────────────────────────────────────

    def admit(self, entry: StudyEntry, viewer: Viewer, permission: Permission) -> bool:
        """Let a viewer through to a study, and say whether only the broken glass did.

        Raises
        ------
        Forbidden
            If the role, the centre or the patient does not fit; the refusal is recorded.
        """
        if not may(viewer.role, permission):
            self.refuse(viewer, permission.value, _ROLE.format(viewer.role), entry)
        if self.in_scope(entry, viewer):
            return False
        now = self.now()
        if viewer.session and self.stores.sessions.granted(
            viewer.session, entry.result_id, EMERGENCY, now
        ):
            return True
        breakable = viewer.session and may(viewer.role, Permission.BREAK_GLASS)
        self.refuse(viewer, permission.value, ANOTHER, entry, breakable=bool(breakable))
        return False

    def check_role(self, viewer: Viewer, permission: Permission, what: str) -> None:
        """Check the role alone.

        Raises
        ------
        Forbidden
            If it does not fit; the refusal is recorded.
        """
        if not may(viewer.role, permission):
            self.refuse(viewer, what, _ROLE.format(viewer.role))

    def permit(
        self, viewer: Viewer, permission: Permission, what: str, *, bound: bool = False
    ) -> None:
        """Check the role for something that is not of one study.

        Raises
        ------
        Forbidden
            If it does not fit; the refusal is recorded.
        """
        self.check_role(viewer, permission, what)
        if viewer.patient is not None and not bound:
            self.refuse(viewer, what, "This window is about one patient. Open radcds by itself.")

    def as_shown(self, entry: StudyEntry, viewer: Viewer) -> StudyEntry:
        """Give a line as its viewer may see it.

        What a model said in shadow is not for readers, nor what was taken back.
        """
        hidden = entry.shadow or entry.recalled
        return replace(entry, withheld=hidden and viewer.role not in _SEES_SHADOW)

    def in_scope(self, entry: StudyEntry, viewer: Viewer) -> bool:
        """Say whether a study is of the viewer's centres and patient."""
        if viewer.role is Role.CLINICIAN and viewer.patient is None:
            return False
        if viewer.patient is not None:
            known = entry.result is not None and bool(entry.result.study.patient.patient_id)
            if not known or self.identifier(entry) not in viewer.patient.identifiers:
                return False
        return not viewer.centres or entry.result is None or entry.centre in viewer.centres

    def identifier(self, entry: StudyEntry) -> tuple[str, str]:
        """Give namespace and value of the identifier of the patient of a study."""
        if entry.result is None:
            return "", ""
        patient = entry.result.study.patient
        return identifier_system(patient.issuer, self.site), patient.patient_id

    def refuse(
        self,
        viewer: Viewer,
        what: str,
        says: str,
        entry: StudyEntry | None = None,
        *,
        breakable: bool = False,
    ) -> None:
        """Record a refusal, then refuse.

        Raises
        ------
        Forbidden
            Always.
        """
        fact = AuditFact(
            kind=AuditKind.VIEW_RESULT,
            recorded=self.now(),
            user=viewer.user,
            address=viewer.address,
            client=viewer.client,
            study_instance_uid=entry.study_instance_uid if entry else None,
            result_id=entry.result_id if entry else None,
            outcome_code="8",
            outcome_text=f"refused: {what}",
        )
        self.record([audit_event(fact, self.site)])
        raise Forbidden(says, entry.result_id if entry and breakable else "")

    # ── Leaves ───────────────────────────────────────────────────────────────────────────────────

    def view_leaf(self, entry: StudyEntry, viewer: Viewer, what: str, *, emergency: bool) -> bytes:
        """Give the leaf of a look at one study."""
        seen = {"viewed": what}
        fact = self.fact(AuditKind.VIEW_RESULT, entry, viewer, seen, emergency=emergency)
        return audit_event(fact, self.site)

    def fact(
        self,
        kind: AuditKind,
        entry: StudyEntry,
        viewer: Viewer,
        detail: Mapping[str, str],
        *,
        emergency: bool = False,
    ) -> AuditFact:
        """Give the fact of something done to one study by a viewer."""
        patient = entry.result.study.patient if entry.result else None
        return AuditFact(
            kind=kind,
            recorded=self.now(),
            user=viewer.user,
            address=viewer.address,
            client=viewer.client,
            study_instance_uid=entry.study_instance_uid,
            result_id=entry.result_id,
            patient_id=(patient.patient_id or None) if patient else None,
            patient_issuer=patient.issuer if patient else "",
            detail=detail,
            emergency=emergency,
        )

    def query_leaf(self, viewer: Viewer, query: str) -> bytes:
        """Give the leaf of a search."""
        fact = AuditFact(
            kind=AuditKind.QUERY,
            recorded=self.now(),
            user=viewer.user,
            address=viewer.address,
            client=viewer.client,
            query=query,
        )
        return audit_event(fact, self.site)
