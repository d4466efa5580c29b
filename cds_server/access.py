"""Who may see a stored result. Every look is audited first: no audit, no data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson

from cds_server.errors import Forbidden, ResultNotFound
from cds_server.feedback import Agreement, CardFeedback, FeedbackStore, IssuedCard, Verdict
from cds_server.network import Role
from cds_server.permissions import Permission, may
from cds_server.ports import (
    AuditTrail,
    Clock,
    FhirPage,
    FhirQuery,
    FhirReach,
    FhirRepository,
    ResultStore,
    StudyEntry,
)
from cds_server.session import SessionStore
from cds_server.viewer import Viewer
from cds_server.worklist import Worklist, WorklistPage, WorklistQuery
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.cds_card import pending_card
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.report_context import DisplayMode, Site

_LOCATING = frozenset({"overlay.png", "secondary-capture.dcm"})
_EMERGENCY = "emergency"
_EMERGENCY_LASTS = timedelta(hours=1)

EMERGENCY_REASONS = {
    "life-threatening": "Immediate danger to life",
    "covering": "Covering for a colleague or another centre",
    "wrong-context": "The right patient, opened from another context",
    "other": "Another reason, told in the comment",
}


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept that the gate guards."""

    results: ResultStore
    worklist: Worklist
    repository: FhirRepository
    feedback: FeedbackStore
    sessions: SessionStore


class Access:
    """The one gate to stored results.

    Each method asks three things: may this role do it, is the study one of the person's centres,
    and is it of the patient that the launch is about. Then it writes the audit trail; if that
    fails, ``AuditUnavailable`` passes through and nothing is shown. A refusal is recorded as well.

    Parameters
    ----------
    stores
        What is guarded.
    trail
        The audit trail.
    site
        Whose server this is; decides what may be shown.
    clock
        Gives the time of each event.
    """

    def __init__(self, stores: Stores, *, trail: AuditTrail, site: Site, clock: Clock) -> None:
        self._stores = stores
        self._trail = trail
        self._site = site
        self._clock = clock

    @property
    def site(self) -> Site:
        """Whose server this is."""
        return self._site

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────

    def worklist(self, query: WorklistQuery, viewer: Viewer) -> WorklistPage:
        """Give the studies that wait for a person, of the viewer's centres alone.

        In a launch about one patient: that patient's studies, latest first.

        Raises
        ------
        Forbidden
            If the viewer has no worklist.
        """
        page = self.peek(query, viewer)
        bound = f"studies?patient={viewer.patient.reference}" if viewer.patient else "worklist"
        self._trail.record([self._query(viewer, bound)])
        return page

    def peek(self, query: WorklistQuery, viewer: Viewer) -> WorklistPage:
        """Look whether a worklist changed, without showing it to anybody; not audited.

        Raises
        ------
        Forbidden
            If the viewer has no worklist.
        """
        if viewer.patient is None:
            self._permit(viewer, Permission.READ_WORKLIST, "the worklist")
            if viewer.centres and not query.centres <= viewer.centres:
                self._refuse(viewer, "the worklist", "This centre is not one of yours.")
            return self._stores.worklist.worklist(
                replace(query, centres=query.centres or viewer.centres)
            )
        self._permit(viewer, Permission.READ_STUDY, "studies of the patient", bound=True)
        entries = [entry for entry in self.of_patient(viewer) if not entry.superseded]
        return WorklistPage(entries, 0, Counter(entry.rank for entry in entries))

    def of_patient(self, viewer: Viewer) -> Sequence[StudyEntry]:
        """Give the studies of the patient that the viewer is bound to, latest first; not audited.

        For the server's own decisions. Whoever shows anything of it records that first.
        """
        if viewer.patient is None:
            return ()
        values = sorted({value for _, value in viewer.patient.identifiers})
        found: dict[str, StudyEntry] = {}
        for value in values:
            for entry in self._stores.results.entries_of_patient(value):
                if self._in_scope(entry, viewer):
                    found[entry.result_id] = entry
        return sorted(found.values(), key=lambda entry: entry.noticed_at, reverse=True)

    def result(self, result_id: str, viewer: Viewer, what: str = "study") -> StudyEntry:
        """Give one study with its result.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If it is not for this viewer.
        """
        entry = self._stores.results.entry(result_id)
        emergency = self._admit(entry, viewer, Permission.READ_STUDY)
        self._trail.record([self._view(entry, viewer, what, emergency=emergency)])
        return entry

    def is_open_to(self, result_id: str, viewer: Viewer) -> bool:
        """Say whether a study would be shown to a viewer without breaking the glass."""
        try:
            entry = self._stores.results.entry(result_id)
        except ResultNotFound:
            return False
        return may(viewer.role, Permission.READ_STUDY) and self._in_scope(entry, viewer)

    def artefact(self, result_id: str, name: str, viewer: Viewer) -> bytes:
        """Give the stored bytes of one artefact; a ``triage_only`` site withholds any location.

        Raises
        ------
        ResultNotFound
            If there is no such artefact, or the site may not show it.
        Forbidden
            If the study is not for this viewer.
        """
        entry = self._stores.results.entry(result_id)
        emergency = self._admit(entry, viewer, Permission.READ_STUDY)
        if name in _LOCATING and self._site.display_mode is DisplayMode.TRIAGE_ONLY:
            msg = f"{name} is not shown here: this site is set to triage only"
            raise ResultNotFound(msg)
        content = self._stores.results.artefact(result_id, name)
        self._trail.record([self._view(entry, viewer, name, emergency=emergency)])
        return content

    def prior(self, entry: StudyEntry, viewer: Viewer) -> StudyEntry | None:
        """Give the study before this one of the same patient, if the viewer may see it.

        Nothing of it is shown by this; opening it is recorded as any look is.
        """
        if entry.result is None or not entry.result.study.patient.patient_id:
            return None
        own = self._identifier(entry)
        earlier = [
            each
            for each in self._stores.results.entries_of_patient(own[1])
            if self._identifier(each) == own
            and each.study_instance_uid != entry.study_instance_uid
            and not each.superseded
            and self._in_scope(each, viewer)
            and _taken(each) <= _taken(entry)
        ]
        return max(earlier, key=_taken, default=None)

    def audit_events(self, result_id: str, viewer: Viewer) -> Sequence[bytes]:
        """Give the audit events of one study, oldest first; looking is itself recorded.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If it is not for this viewer.
        """
        entry = self._stores.results.entry(result_id)
        emergency = self._admit(entry, viewer, Permission.READ_AUDIT)
        self._trail.record([self._view(entry, viewer, "audit trail", emergency=emergency)])
        return self._trail.events(entry.study_instance_uid)

    # ── CDS Hooks ────────────────────────────────────────────────────────────────────────────────

    def numbered(self, number: str) -> frozenset[tuple[str, str]]:
        """Give every identifier in the archive with this value: for a caller on this machine only.

        Whoever comes from elsewhere has to say whose number it is.
        """
        entries = self._stores.results.entries_of_patient(number)
        return frozenset(self._identifier(entry) for entry in entries)

    def of_study(self, study_instance_uid: str, viewer: Viewer) -> Sequence[StudyEntry]:
        """Give the results of a study that an EHR says is the viewer's patient's; not audited.

        One that is not read yet, or whose patient the archive does not name, is taken at the EHR's
        word; one that the archive says is another patient's never is.
        """
        return [
            entry
            for entry in self._stores.results.entries_of_study(study_instance_uid)
            if self._in_scope(entry, viewer)
            or entry.result is None
            or not entry.result.study.patient.patient_id
        ]

    def cards(
        self, entries: Sequence[StudyEntry], viewer: Viewer, *, service_id: str, query: str
    ) -> Mapping[str, dict[str, Any]]:
        """Give the card of each study, by result; what is shown is recorded before, in one go.

        Parameters
        ----------
        entries
            Of ``of_patient`` and ``of_study``.
        viewer
            Of the call.
        service_id
            Which service shows them.
        query
            What was asked, for the trail.

        Raises
        ------
        Forbidden
            If the caller may not call CDS services.
        """
        self._permit(viewer, Permission.CALL_CDS, "a CDS service", bound=True)
        cards: dict[str, dict[str, Any]] = {}
        for entry in entries:
            if entry.result is None:
                cards[entry.result_id] = pending_card(entry.result_id, self._site)
                continue
            stored = orjson.loads(self._stores.results.artefact(entry.result_id, "card.json"))
            if stored["cards"]:
                cards[entry.result_id] = stored["cards"][0]
        leaves = [self._query(viewer, query)]
        leaves += [
            self._view(entry, viewer, "card", emergency=False)
            for entry in entries
            if entry.result_id in cards
        ]
        issued = [
            IssuedCard(card["uuid"], result_id, service_id, viewer.client)
            for result_id, card in cards.items()
        ]
        self._stores.feedback.issue(issued, leaves)
        return cards

    def receive_feedback(self, items: Sequence[CardFeedback], viewer: Viewer) -> int:
        """Keep what an EHR tells of cards, each with its leaf; give how many were new.

        Raises
        ------
        ResultNotFound
            If a card was never shown to this client; then nothing is kept.
        Forbidden
            If the caller may not call CDS services.
        """
        self._permit(viewer, Permission.CALL_CDS, "feedback on cards", bound=True)
        entries: dict[str, StudyEntry] = {}
        for number, item in enumerate(items):
            issued = self._stores.feedback.card(item.card)
            if issued is None or issued.client != viewer.client:
                msg = f"feedback[{number}].card: no such card was given to this client."
                raise ResultNotFound(msg)
            entries[item.card] = self._stores.results.entry(issued.result_id)

        def leaf(item: CardFeedback) -> bytes:
            reason = {"reason": item.reason_code} if item.reason_code else {}
            detail = {"card": item.card, "outcome": item.outcome} | reason
            return audit_event(
                self._fact(AuditKind.FEEDBACK, entries[item.card], viewer, detail), self._site
            )

        return self._stores.feedback.add_feedback(items, leaf)

    # ── What a session was granted ───────────────────────────────────────────────────────────────

    def open_images(self, result_id: str, viewer: Viewer, until: timedelta) -> StudyEntry:
        """Record that a person opens the images of a study; then each image may be served.

        One leaf stands for the whole stack: without it, ``image_opened`` refuses every image.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If it is not for this viewer.
        """
        entry = self._stores.results.entry(result_id)
        emergency = self._admit(entry, viewer, Permission.READ_IMAGE)
        leaf = self._view(entry, viewer, "images", emergency=emergency)
        end = self._clock.now() + until
        self._stores.sessions.grant(viewer.session, result_id, "images", end, [leaf])
        return entry

    def image_opened(self, result_id: str, viewer: Viewer) -> StudyEntry:
        """Give a study whose images this session opened, with the leaf in the trail.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If the images were not opened, or no longer are.
        """
        entry = self._stores.results.entry(result_id)
        now = self._clock.now()
        if not self._stores.sessions.granted(viewer.session, result_id, "images", now):
            msg = "The images of this study were not opened in this session. Open the study again."
            raise Forbidden(msg)
        return entry

    def break_glass(self, result_id: str, viewer: Viewer, reason: str, comment: str) -> None:
        """Open one study for one hour to one session, whatever its centre or patient.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If the role may not even in an emergency.
        """
        entry = self._stores.results.entry(result_id)
        self._permit(viewer, Permission.BREAK_GLASS, "emergency access", bound=True)
        said = {"reason": reason} | ({"comment": "given"} if comment else {})
        fact = self._fact(AuditKind.BREAK_GLASS, entry, viewer, said, emergency=True)
        until = self._clock.now() + _EMERGENCY_LASTS
        leaves = [audit_event(fact, self._site)]
        self._stores.sessions.grant(viewer.session, result_id, _EMERGENCY, until, leaves)

    # ── Feedback ─────────────────────────────────────────────────────────────────────────────────

    def give_verdict(self, verdict: Verdict, viewer: Viewer) -> None:
        """Keep what a reader says of a result, with its leaf.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If the viewer may not, or the study is not for them.
        """
        entry = self._stores.results.entry(verdict.result_id)
        emergency = self._admit(entry, viewer, Permission.WRITE_VERDICT)
        detail = {"agreement": verdict.agreement.value, "radpeer": verdict.radpeer}
        if verdict.agreement is Agreement.DISAGREE:
            detail["reason"] = verdict.reason
        fact = self._fact(AuditKind.FEEDBACK, entry, viewer, detail, emergency=emergency)
        self._stores.feedback.add_verdict(verdict, [audit_event(fact, self._site)])

    def verdicts(self, result_id: str) -> Sequence[Verdict]:
        """Give what readers said of a result; for a page whose look is recorded already."""
        return self._stores.feedback.verdicts(result_id)

    # ── FHIR ─────────────────────────────────────────────────────────────────────────────────────

    def fhir_read(self, resource_type: str, resource_id: str, viewer: Viewer) -> bytes:
        """Give the stored bytes of one FHIR resource.

        Raises
        ------
        ResultNotFound
            If there is no such resource.
        Forbidden
            If it is not for this viewer.
        """
        content = self._stores.repository.read(resource_type, resource_id)
        if not self._fhir_in_scope(resource_type, content, viewer):
            self._refuse(viewer, f"{resource_type}/{resource_id}", _ANOTHER)
        self._trail.record([self._query(viewer, f"{resource_type}/{resource_id}")])
        return content

    def fhir_search(self, query: FhirQuery, viewer: Viewer) -> FhirPage:
        """Give a page of the FHIR resources that match and are for this viewer.

        Raises
        ------
        UnknownSearchParameter
            If a parameter or its value is not supported.
        """
        page = [("_count", str(query.count))] + ([("_after", query.after)] if query.after else [])
        asked = "&".join(f"{name}={value}" for name, value in [*sorted(query.parameters), *page])
        self._trail.record([self._query(viewer, f"{query.resource_type}?{asked}")])
        return self._stores.repository.search(query, self._reach(viewer))

    def _reach(self, viewer: Viewer) -> FhirReach:
        """Say what ``_fhir_in_scope`` says, for all resources at once."""
        if viewer.patient is not None:
            own = frozenset(entry.result_id for entry in self.of_patient(viewer))
            return FhirReach(results=own)
        if viewer.centres and viewer.role is Role.CLINICIAN:
            return FhirReach(results=frozenset())
        return FhirReach(viewer.centres)

    def _fhir_in_scope(self, resource_type: str, content: bytes, viewer: Viewer) -> bool:
        if viewer.patient is None and not viewer.centres:
            return True
        resource_id = str(orjson.loads(content)["id"])
        origin = self._stores.repository.result_of(resource_type, resource_id)
        try:
            return origin is not None and self._in_scope(self._stores.results.entry(origin), viewer)
        except ResultNotFound:
            return False

    # ── The three questions ──────────────────────────────────────────────────────────────────────

    def _admit(self, entry: StudyEntry, viewer: Viewer, permission: Permission) -> bool:
        """Let a viewer through to a study, and say whether only the broken glass did.

        Raises
        ------
        Forbidden
            If the role, the centre or the patient does not fit; the refusal is recorded.
        """
        if not may(viewer.role, permission):
            self._refuse(viewer, permission.value, _ROLE.format(viewer.role), entry)
        if self._in_scope(entry, viewer):
            return False
        now = self._clock.now()
        if viewer.session and self._stores.sessions.granted(
            viewer.session, entry.result_id, _EMERGENCY, now
        ):
            return True
        breakable = viewer.session and may(viewer.role, Permission.BREAK_GLASS)
        self._refuse(viewer, permission.value, _ANOTHER, entry, breakable=bool(breakable))
        return False

    def _permit(
        self, viewer: Viewer, permission: Permission, what: str, *, bound: bool = False
    ) -> None:
        """Check the role for something that is not of one study.

        Raises
        ------
        Forbidden
            If it does not fit; the refusal is recorded.
        """
        if not may(viewer.role, permission):
            self._refuse(viewer, what, _ROLE.format(viewer.role))
        if viewer.patient is not None and not bound:
            self._refuse(viewer, what, "This window is about one patient. Open radcds by itself.")

    def _in_scope(self, entry: StudyEntry, viewer: Viewer) -> bool:
        """Say whether a study is of the viewer's centres and patient."""
        if viewer.role is Role.CLINICIAN and viewer.patient is None:
            return False
        if viewer.patient is not None:
            known = entry.result is not None and bool(entry.result.study.patient.patient_id)
            if not known or self._identifier(entry) not in viewer.patient.identifiers:
                return False
        return not viewer.centres or entry.result is None or entry.centre in viewer.centres

    def _identifier(self, entry: StudyEntry) -> tuple[str, str]:
        """Give namespace and value of the identifier of the patient of a study."""
        if entry.result is None:
            return "", ""
        patient = entry.result.study.patient
        return identifier_system(patient.issuer, self._site), patient.patient_id

    def _refuse(
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
            recorded=self._clock.now(),
            user=viewer.user,
            address=viewer.address,
            client=viewer.client,
            study_instance_uid=entry.study_instance_uid if entry else None,
            result_id=entry.result_id if entry else None,
            outcome_code="8",
            outcome_text=f"refused: {what}",
        )
        self._trail.record([audit_event(fact, self._site)])
        raise Forbidden(says, entry.result_id if entry and breakable else "")

    # ── Leaves ───────────────────────────────────────────────────────────────────────────────────

    def _view(self, entry: StudyEntry, viewer: Viewer, what: str, *, emergency: bool) -> bytes:
        seen = {"viewed": what}
        fact = self._fact(AuditKind.VIEW_RESULT, entry, viewer, seen, emergency=emergency)
        return audit_event(fact, self._site)

    def _fact(
        self,
        kind: AuditKind,
        entry: StudyEntry,
        viewer: Viewer,
        detail: Mapping[str, str],
        *,
        emergency: bool = False,
    ) -> AuditFact:
        patient = entry.result.study.patient if entry.result else None
        return AuditFact(
            kind=kind,
            recorded=self._clock.now(),
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

    def _query(self, viewer: Viewer, query: str) -> bytes:
        fact = AuditFact(
            kind=AuditKind.QUERY,
            recorded=self._clock.now(),
            user=viewer.user,
            address=viewer.address,
            client=viewer.client,
            query=query,
        )
        return audit_event(fact, self._site)


_ANOTHER = "This study is not of a centre or patient that you have access to here."
_ROLE = "The role {} may not do this."


def _taken(entry: StudyEntry) -> float:
    """Give the time of a study for comparing: when it was taken, else when it was noticed."""
    started = entry.result.study.started if entry.result else None
    return (started or entry.noticed_at).timestamp()
