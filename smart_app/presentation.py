"""What the pages show, in words: states are never told by colour alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson

from ai_engine.result import Finding, NotAnalysed, TriageResult
from cds_server.amendments import Amendment
from cds_server.feedback import DISAGREEMENTS, Verdict
from cds_server.permissions import Permission, may
from cds_server.ports import StoredResult, StudyEntry, StudyState
from cds_server.session import Session
from fhir_mappers import codes
from fhir_mappers.report_context import DisplayMode, Site
from fhir_mappers.report_context import Verdict as SignedVerdict
from fhir_mappers.wording import explained_finding, figures, headline, incomplete

_MINUTE_S, _HOUR_MIN, _LONG_H, _DAY_H = 60, 60, 10, 48


@dataclass(frozen=True, slots=True)
class Badge:
    """The state of a study: a word, a mark that differs in shape, and the style class."""

    word: str
    mark: str
    style: str


_BADGES = {
    "urgent": Badge("Urgent", "▲", "urgent"),
    "flagged": Badge("Flagged", "◆", "flagged"),
    "normal": Badge("No finding above threshold", "○", "normal"),
    "declined": Badge("Not analysed", "—", "declined"),
    "failed": Badge("Processing failed", "✕", "failed"),
    "queued": Badge("Waiting for analysis", "…", "queued"),
    "fetching": Badge("Fetching images", "…", "queued"),
    "analysing": Badge("Analysing", "…", "queued"),
    "late": Badge("Late: read before the AI result came", "◷", "late"),
    "shadow": Badge("Read in shadow", "◌", "queued"),
    "withdrawn": Badge("Withdrawn: do not use", "✕", "failed"),
    "superseded": Badge("Superseded by a later result", "⇢", "superseded"),
}
RANKS = {"urgent": 0, "flagged": 1, "declined": 2, "failed": 2, "normal": 3, "queued": 4}
"""Style of a badge → ``StudyEntry.rank``."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """Who is signed in, for the head of a page."""

    user: str
    role: str
    ehr: str
    can_review: bool
    can_sign: bool
    can_see_worklist: bool
    can_see_operations: bool
    can_see_audit: bool
    patient_bound: bool


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One line of the worklist."""

    result_id: str
    url: str
    badge: Badge
    state: str
    says: str
    patient: str
    study: str
    modality: str
    centre: str
    noticed: str
    due: str
    overdue: bool
    delivery: str


@dataclass(frozen=True, slots=True)
class FindingBar:
    """One finding as a bar: values in per cent for the drawing, text for reading."""

    name: str
    probability: str
    threshold: str
    percent: int
    threshold_percent: int
    positive: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One audit event: when, who, what, how it ended."""

    when: str
    who: str
    what: str
    outcome: str


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """What one reader said."""

    when: str
    who: str
    agreement: str
    radpeer: str
    reason: str
    comment: str


@dataclass(frozen=True, slots=True)
class PriorStudy:
    """The study before, beside this one."""

    result_id: str
    label: str
    images_url: str


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Everything on the page of one study."""

    result_id: str
    badge: Badge
    says: str
    patient_name: str
    birth_date: str
    sex: str
    patient_id: str
    accession_number: str
    study_line: str
    taken: str
    findings: Sequence[FindingBar]
    explained: str
    shows_overlay: bool
    analysed: bool
    model_name: str
    model_version: str
    model_sha256: str
    analysed_at: str
    images_url: str
    prior: PriorStudy | None
    ohif_url: str
    verdicts: Sequence[VerdictLine]
    amendments: Sequence[str]
    signable: bool
    reviewed: bool
    reasons: Sequence[tuple[str, str]]
    artefacts: Sequence[tuple[str, str]]
    deliveries: Sequence[tuple[str, str]]
    events: Sequence[AuditLine]
    uid: str


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a study on its page.

    Parameters
    ----------
    base
        Address of the session, such as ``/app/4f``.
    prior
        The study before, or ``None``.
    verdicts, amendments
        What readers said, and what was published of it.
    events
        Audit events, where the person may see them.
    has_images
        Whether an archive can be asked for images.
    ohif_url
        Of a viewer elsewhere, or empty.
    """

    base: str
    prior: StudyEntry | None = None
    verdicts: Sequence[Verdict] = ()
    amendments: Sequence[Amendment] = ()
    events: Sequence[bytes] = ()
    has_images: bool = False
    ohif_url: str = ""


def session_view(session: Session, ehr: str) -> SessionView:
    """Say who is signed in."""
    bound = session.patient is not None
    return SessionView(
        user=session.display,
        role=session.role.value,
        ehr=ehr,
        can_review=may(session.role, Permission.WRITE_VERDICT),
        can_sign=may(session.role, Permission.SIGN),
        can_see_worklist=may(session.role, Permission.READ_WORKLIST) and not bound,
        can_see_operations=may(session.role, Permission.READ_OPERATIONS) and not bound,
        can_see_audit=may(session.role, Permission.READ_AUDIT),
        patient_bound=bound,
    )


def study_line(
    entry: StudyEntry, site: Site, *, base: str, now: datetime, centres: Mapping[str, str]
) -> StudyLine:
    """Put one study into words for the worklist."""
    stored = entry.result
    badge, says = _badge(entry)
    overdue = now > entry.due and entry.closed_at is None
    return StudyLine(
        result_id=entry.result_id,
        url=f"{base}/studies/{entry.result_id}",
        badge=badge,
        state=_state(entry),
        says=says,
        patient=(stored.study.patient.name.text or "no name") if stored else "not read yet",
        study=_study_words(stored) if stored else "study that has just arrived",
        modality=" ".join(stored.study.modalities) if stored else "",
        centre=centres.get(entry.centre, "no centre" if stored and centres else ""),
        noticed=_local(entry.noticed_at, site.timezone),
        due=_due_words(entry, now),
        overdue=overdue,
        delivery=_delivery_words(entry),
    )


def study_page(entry: StudyEntry, site: Site, around: Around) -> StudyPage:
    """Put one study into words for its page."""
    stored = entry.result
    outcome = stored.outcome if stored and not entry.withheld else None
    result = outcome if isinstance(outcome, TriageResult) else None
    study = stored.study if stored else None
    model = outcome.model if outcome else None
    shows_overlay = result is not None and site.display_mode is DisplayMode.OVERLAY
    badge, says = _badge(entry)
    own = f"{around.base}/studies/{entry.result_id}"
    return StudyPage(
        result_id=entry.result_id,
        badge=badge,
        says=says,
        patient_name=(study.patient.name.text if study else "") or "Name not known",
        birth_date=(study.patient.birth_date if study else None) or "not known",
        sex=(study.patient.sex if study else "") or "not known",
        patient_id=(study.patient.patient_id if study else "") or "none",
        accession_number=(study.accession_number if study else "") or "none",
        study_line=_study_words(stored) if stored else "not read yet",
        taken=_taken_words(stored, site),
        findings=[_bar(each) for each in _by_probability(result)],
        explained=codes.finding(explained_finding(result).label).display if result else "",
        shows_overlay=shows_overlay,
        analysed=result is not None,
        model_name=model.name if model else "",
        model_version=model.version if model else "",
        model_sha256=model.sha256 if model else "",
        analysed_at=_local(stored.stored_at, site.timezone) if stored and outcome else "",
        images_url=f"{own}/images" if around.has_images else "",
        prior=_prior(around, site),
        ohif_url=f"{around.ohif_url}?StudyInstanceUIDs={entry.study_instance_uid}"
        if around.ohif_url
        else "",
        verdicts=[_verdict_line(each, site.timezone) for each in around.verdicts],
        amendments=[_amendment_words(each, site.timezone) for each in around.amendments],
        signable=result is not None and not (entry.shadow or entry.recalled or entry.superseded),
        reviewed=entry.closed_at is not None,
        reasons=list(DISAGREEMENTS.items()),
        artefacts=_artefacts(None if entry.withheld else stored, own, shows_overlay=shows_overlay),
        deliveries=[
            (name, "delivered" if done else "under way") for name, done in entry.delivered.items()
        ],
        events=[_audit_line(event, site.timezone) for event in around.events],
        uid=entry.study_instance_uid,
    )


def _state(entry: StudyEntry) -> str:
    """Give the word of a study's state: a key of the badges."""
    if entry.result is None:
        return "superseded" if entry.superseded else entry.state.value
    marks = {
        "superseded": entry.superseded,
        "shadow": entry.shadow,
        "withdrawn": entry.recalled,
        "late": entry.late,
    }
    for word, holds in marks.items():
        if holds:
            return word
    outcome = entry.result.outcome
    if isinstance(outcome, NotAnalysed):
        return "failed" if outcome.reason.is_failure else "declined"
    return outcome.priority.value


def _badge(entry: StudyEntry) -> tuple[Badge, str]:
    badge = _BADGES[_state(entry)]
    if entry.result is None:
        return badge, "There is no result yet. That does not mean no finding."
    if entry.recalled:
        return badge, "The model that gave this result was recalled. Read the study without it."
    if entry.withheld:
        return badge, "A model runs in shadow here. What it said is recorded and not shown."
    outcome = entry.result.outcome
    says = outcome.detail if isinstance(outcome, NotAnalysed) else headline(outcome)
    says = " ".join([says, *incomplete(entry.result.unread)])
    return badge, f"In shadow: {says}" if entry.shadow else says


def _study_words(stored: StoredResult) -> str:
    study = stored.study
    parts = (
        *study.modalities,
        *dict.fromkeys(s.body_part for s in study.series),
        study.description,
    )
    return " ".join(part for part in dict.fromkeys(parts) if part) or "no description"


def _taken_words(stored: StoredResult | None, site: Site) -> str:
    started = stored.study.started if stored else None
    return _local(started, site.timezone) if started else "date not known"


def _due_words(entry: StudyEntry, now: datetime) -> str:
    if entry.closed_at is not None:
        return "read"
    minutes = round(abs((entry.due - now).total_seconds()) / _MINUTE_S)
    hours = minutes // _HOUR_MIN
    if hours >= _DAY_H:
        length = f"{hours // 24} d"
    elif hours:
        beside = minutes % _HOUR_MIN if hours < _LONG_H else 0
        length = f"{hours} h {beside} min" if beside else f"{hours} h"
    else:
        length = f"{minutes} min"
    return f"in {length}" if entry.due >= now else f"{length} late"


def _delivery_words(entry: StudyEntry) -> str:
    if entry.state is StudyState.PUBLISHED:
        return "delivered"
    return "under way" if entry.result else ""


def _artefacts(
    stored: StoredResult | None, own: str, *, shows_overlay: bool
) -> list[tuple[str, str]]:
    if stored is None:
        return []
    pictures = ["overlay.png", "secondary-capture.dcm"] if shows_overlay else []
    names = ["bundle.json", "oru.hl7", "card.json", *pictures]
    return [(name, f"{own}/artefacts/{name}") for name in names]


def _prior(around: Around, site: Site) -> PriorStudy | None:
    prior = around.prior
    if prior is None or prior.result is None or not around.has_images:
        return None
    label = f"{_taken_words(prior.result, site)}, {_study_words(prior.result)}"
    return PriorStudy(prior.result_id, label, f"{around.base}/studies/{prior.result_id}/images")


def _by_probability(result: TriageResult | None) -> list[Finding]:
    return sorted(result.findings, key=lambda each: -each.probability) if result else []


def _bar(finding: Finding) -> FindingBar:
    probability, threshold = figures(finding)
    return FindingBar(
        name=codes.finding(finding.label).display,
        probability=probability,
        threshold=threshold,
        percent=round(finding.probability * 100),
        threshold_percent=round(finding.threshold * 100),
        positive=finding.positive,
        meaning="At or above its threshold: the model counts it as present."
        if finding.positive
        else "Below its threshold: the model does not count it, which does not rule it out.",
    )


def _verdict_line(verdict: Verdict, zone: str) -> VerdictLine:
    return VerdictLine(
        when=_local(verdict.at, zone),
        who=verdict.user,
        agreement="Agreed" if verdict.agreement == "agree" else "Disagreed",
        radpeer=verdict.radpeer,
        reason=DISAGREEMENTS.get(verdict.reason, ""),
        comment=verdict.comment,
    )


def _amendment_words(amendment: Amendment, zone: str) -> str:
    """Say in one sentence what was published after the result."""
    if amendment.recall is not None:
        return f"Withdrawn {_local(amendment.recall.at, zone)}: {amendment.recall.reason}"
    signed = amendment.signed
    if signed is None:
        return ""
    word = "Confirmed, final" if signed.verdict is SignedVerdict.CONFIRMED else "Corrected"
    says = f": {signed.statement}" if signed.statement else ""
    return f"{word}, {signed.radiologist}, {_local(signed.at, zone)}{says}"


def _audit_line(event: bytes, zone: str) -> AuditLine:
    value = orjson.loads(event)
    agent = next((a for a in value["agent"] if a["requestor"]), value["agent"][0])
    subtype = value["subtype"][0]
    told = [
        f"{each['type']} {each['valueString']}"
        for entity in value.get("entity", ())
        for each in entity.get("detail", ())
        if each["type"] in {"viewed", "destination", "result", "agreement", "reason", "outcome"}
    ]
    outcome = "success" if value["outcome"] == "0" else value.get("outcomeDesc", "failure")
    return AuditLine(
        when=_local(datetime.fromisoformat(value["recorded"]), zone),
        who=str(agent["who"].get("identifier", {}).get("value", "")),
        what=", ".join([subtype.get("display") or subtype["code"], *told]),
        outcome=outcome,
    )


def _local(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%d %b %Y %H:%M:%S %Z}"
