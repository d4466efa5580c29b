"""What a signed-in person may see. Every look is audited first: no audit, no data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from ai_engine.result import NotAnalysed
from cds_server.amendments import Amendment, SignOffAsked
from cds_server.errors import ResultNotFound
from cds_server.feedback import Agreement, Verdict
from cds_server.gate import EMERGENCY, Gate
from cds_server.permissions import Permission, may
from cds_server.ports import StudyEntry
from cds_server.viewer import Viewer
from cds_server.worklist import WorklistPage, WorklistQuery
from fhir_mappers.audit_event import AuditKind, audit_event
from fhir_mappers.report_context import DisplayMode, SignOff, Site

_WITHOUT_LOCATION = frozenset({"card.json", "original.png"})
_EMERGENCY_LASTS = timedelta(hours=1)

EMERGENCY_REASONS = {
    "life-threatening": "Immediate danger to life",
    "covering": "Covering for a colleague or another centre",
    "wrong-context": "The right patient, opened from another context",
    "other": "Another reason, told in the comment",
}


class Access:
    """The results, to people, through the gate.

    Each method writes the audit trail first: if that fails, ``AuditUnavailable`` passes through
    and nothing is shown.

    Parameters
    ----------
    gate
        Admits, refuses and records.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def gate(self) -> Gate:
        """What stands before it."""
        return self._gate

    @property
    def site(self) -> Site:
        """Whose server this is."""
        return self._gate.site

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
        self._gate.record([self._gate.query_leaf(viewer, bound)])
        return page

    def peek(self, query: WorklistQuery, viewer: Viewer) -> WorklistPage:
        """Look whether a worklist changed, without showing it to anybody; not audited.

        Raises
        ------
        Forbidden
            If the viewer has no worklist.
        """
        if viewer.patient is None:
            self._gate.permit(viewer, Permission.READ_WORKLIST, "the worklist")
            if viewer.centres and not query.centres <= viewer.centres:
                self._gate.refuse(viewer, "the worklist", "This centre is not one of yours.")
            page = self._gate.stores.worklist.worklist(
                replace(query, centres=query.centres or viewer.centres)
            )
            return replace(page, entries=[self._gate.as_shown(e, viewer) for e in page.entries])
        self._gate.permit(viewer, Permission.READ_STUDY, "studies of the patient", bound=True)
        own = [entry for entry in self._gate.of_patient(viewer) if not entry.superseded]
        entries = [self._gate.as_shown(entry, viewer) for entry in own]
        return WorklistPage(entries, 0, Counter(entry.rank for entry in entries))

    def result(self, result_id: str, viewer: Viewer) -> StudyEntry:
        """Give one study with its result.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If it is not for this viewer.
        """
        entry = self._gate.stores.results.entry(result_id)
        emergency = self._gate.admit(entry, viewer, Permission.READ_STUDY)
        self._gate.record([self._gate.view_leaf(entry, viewer, "study", emergency=emergency)])
        return self._gate.as_shown(entry, viewer)

    def is_open_to(self, result_id: str, viewer: Viewer) -> bool:
        """Say whether a study would be shown to a viewer without breaking the glass."""
        try:
            entry = self._gate.stores.results.entry(result_id)
        except ResultNotFound:
            return False
        return may(viewer.role, Permission.READ_STUDY) and self._gate.in_scope(entry, viewer)

    def artefact(self, result_id: str, name: str, viewer: Viewer) -> bytes:
        """Give the stored bytes of one artefact; a ``triage_only`` site withholds any location.

        Raises
        ------
        ResultNotFound
            If there is no such artefact, or the site may not show it.
        Forbidden
            If the study is not for this viewer.
        """
        entry = self._gate.stores.results.entry(result_id)
        emergency = self._gate.admit(entry, viewer, Permission.READ_STUDY)
        if self._gate.site.display_mode is DisplayMode.TRIAGE_ONLY:
            self._check_without_location(result_id, name)
        if self._gate.as_shown(entry, viewer).withheld:
            msg = (
                "the result was taken back"
                if entry.recalled
                else "the model runs in shadow: what it said is recorded and not shown"
            )
            raise ResultNotFound(msg)
        content = self._gate.stores.results.artefact(result_id, name)
        self._gate.record([self._gate.view_leaf(entry, viewer, name, emergency=emergency)])
        return content

    def _check_without_location(self, result_id: str, name: str) -> None:
        """Keep back what was made while the site still showed overlays.

        Raises
        ------
        ResultNotFound
            If the artefact may show a location.
        """
        made = self._gate.stores.results.artefacts(result_id)
        if made.overlay_png and name not in _WITHOUT_LOCATION:
            msg = f"{name} is not shown here: this site is set to triage only"
            raise ResultNotFound(msg)

    def prior(self, entry: StudyEntry, viewer: Viewer) -> StudyEntry | None:
        """Give the study before this one of the same patient, if the viewer may see it.

        Nothing of it is shown by this; opening it is recorded as any look is.
        """
        if entry.result is None or not entry.result.study.patient.patient_id:
            return None
        own = self._gate.identifier(entry)
        earlier = [
            each
            for each in self._gate.stores.results.entries_of_patient(own[1])
            if self._gate.identifier(each) == own
            and each.study_instance_uid != entry.study_instance_uid
            and not each.superseded
            and self._gate.in_scope(each, viewer)
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
        entry = self._gate.stores.results.entry(result_id)
        emergency = self._gate.admit(entry, viewer, Permission.READ_AUDIT)
        self._gate.record([self._gate.view_leaf(entry, viewer, "audit trail", emergency=emergency)])
        return self._gate.trail.events(entry.study_instance_uid)

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
        entry = self._gate.stores.results.entry(result_id)
        emergency = self._gate.admit(entry, viewer, Permission.READ_IMAGE)
        leaf = self._gate.view_leaf(entry, viewer, "images", emergency=emergency)
        end = self._gate.now() + until
        self._gate.stores.sessions.grant(viewer.session, result_id, "images", end, [leaf])
        return self._gate.as_shown(entry, viewer)

    def image_opened(self, result_id: str, viewer: Viewer) -> str:
        """Give the UID of a study whose images this session opened, with the leaf in the trail.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If the images were not opened, or no longer are; the refusal is recorded.
        """
        study_instance_uid = self._gate.stores.results.study_of(result_id)
        now = self._gate.now()
        if not self._gate.stores.sessions.granted(viewer.session, result_id, "images", now):
            msg = "The images of this study were not opened in this session. Open the study again."
            entry = self._gate.stores.results.entry(result_id)
            self._gate.refuse(viewer, "images that were not opened", msg, entry)
        return study_instance_uid

    def break_glass(self, result_id: str, viewer: Viewer, reason: str, comment: str) -> None:
        """Open one study for one hour to one session, whatever its centre or patient.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If the role may not even in an emergency.
        """
        entry = self._gate.stores.results.entry(result_id)
        self._gate.permit(viewer, Permission.BREAK_GLASS, "emergency access", bound=True)
        said = {"reason": reason} | ({"comment": "given"} if comment else {})
        fact = self._gate.fact(AuditKind.BREAK_GLASS, entry, viewer, said, emergency=True)
        until = self._gate.now() + _EMERGENCY_LASTS
        leaves = [audit_event(fact, self._gate.site)]
        self._gate.stores.sessions.grant(viewer.session, result_id, EMERGENCY, until, leaves)

    # ── Feedback ─────────────────────────────────────────────────────────────────────────────────

    def give_verdict(self, verdict: Verdict, viewer: Viewer, signed: SignOff | None = None) -> None:
        """Keep what a reader says of a result, with its leaf; signed, it will be published.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        Forbidden
            If the viewer may not, or the study is not for them.
        """
        entry = self._gate.stores.results.entry(verdict.result_id)
        emergency = self._gate.admit(entry, viewer, Permission.WRITE_VERDICT)
        if signed is not None:
            self._gate.check_role(viewer, Permission.SIGN, "sign")
            _check_signable(entry)
        detail = {"agreement": verdict.agreement.value, "radpeer": verdict.radpeer}
        if verdict.agreement is Agreement.DISAGREE:
            detail["reason"] = verdict.reason
        fact = self._gate.fact(AuditKind.FEEDBACK, entry, viewer, detail, emergency=emergency)
        asked = SignOffAsked("", entry.result_id, signed, "viewer") if signed else None
        leaf = audit_event(fact, self._gate.site)
        self._gate.stores.feedback.add_verdict(verdict, [leaf], asked)

    def amendments(self, result_id: str) -> Sequence[Amendment]:
        """Say how a result was amended; for a page whose look is recorded already."""
        return self._gate.stores.amendments.amendments(result_id)

    def verdicts(self, result_id: str) -> Sequence[Verdict]:
        """Give what readers said of a result; for a page whose look is recorded already."""
        return self._gate.stores.feedback.verdicts(result_id)


def _check_signable(entry: StudyEntry) -> None:
    """See that there is something to sign.

    Raises
    ------
    ResultNotFound
        If there is nothing, or it does not stand any more.
    """
    if entry.result is None or isinstance(entry.result.outcome, NotAnalysed):
        msg = "the AI gave no result of this study that could be signed"
    elif entry.superseded:
        msg = "a later result of this study is there: sign that one"
    elif entry.recalled or entry.shadow:
        msg = "the result was withdrawn, or never published: there is nothing to sign"
    else:
        return
    raise ResultNotFound(msg)


def _taken(entry: StudyEntry) -> float:
    """Give the time of a study for comparing: when it was taken, else when it was noticed."""
    started = entry.result.study.started if entry.result else None
    return (started or entry.noticed_at).timestamp()
