"""What the pages show, in words: states are never told by colour alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson

from ai_engine.result import Finding, NotAnalysed, TriageResult
from cds_server.ports import StoredResult, StudyEntry, StudyState
from fhir_mappers import codes
from fhir_mappers.report_context import DisplayMode, Site
from fhir_mappers.wording import explained_finding, headline


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
}


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One line of the worklist."""

    result_id: str
    badge: Badge
    says: str
    patient: str
    study: str
    noticed: str
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


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One audit event: when, who, what, how it ended."""

    when: str
    who: str
    what: str
    outcome: str


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Everything on the page of one study."""

    line: StudyLine
    birth_date: str
    patient_id: str
    accession_number: str
    uid: str
    modality: str
    description: str
    findings: Sequence[FindingBar]
    explained: str
    shows_overlay: bool
    analysed: bool
    model: str
    model_sha256: str
    seconds: str
    artefacts: Sequence[str]
    deliveries: Sequence[tuple[str, str]]
    events: Sequence[AuditLine]


def study_line(entry: StudyEntry, zone: str) -> StudyLine:
    """Put one study into words for the worklist."""
    stored = entry.result
    badge, says = _badge(stored)
    return StudyLine(
        result_id=entry.result_id,
        badge=badge,
        says=says,
        patient=stored.study.patient.name.text or "no name" if stored else "not read yet",
        study=_study_words(stored) if stored else "study that has just arrived",
        noticed=_local(entry.noticed_at, zone),
        delivery=_delivery_words(entry),
    )


def study_page(entry: StudyEntry, events: Sequence[bytes], site: Site) -> StudyPage:
    """Put one study into words for its page."""
    stored = entry.result
    outcome = stored.outcome if stored else None
    result = outcome if isinstance(outcome, TriageResult) else None
    study = stored.study if stored else None
    shows_overlay = result is not None and site.display_mode is DisplayMode.OVERLAY
    model = outcome.model if outcome else None
    return StudyPage(
        line=study_line(entry, site.timezone),
        birth_date=(study.patient.birth_date if study else None) or "unknown",
        patient_id=(study.patient.patient_id if study else "") or "none",
        accession_number=(study.accession_number if study else "") or "none",
        uid=entry.study_instance_uid,
        modality=", ".join(study.modalities) if study else "",
        description=study.description if study else "",
        findings=[_bar(each) for each in _by_probability(result)],
        explained=codes.finding(explained_finding(result).label).display if result else "",
        shows_overlay=shows_overlay,
        analysed=result is not None,
        model=f"{model.name} {model.version}" if model else "none was asked",
        model_sha256=model.sha256 if model else "",
        seconds=f"{sum(stored.seconds.values()):.2f} s" if stored else "",
        artefacts=_artefacts(stored, shows_overlay=shows_overlay),
        deliveries=[
            (name, "delivered" if done else "under way") for name, done in entry.delivered.items()
        ],
        events=[_audit_line(event, site.timezone) for event in events],
    )


def _badge(stored: StoredResult | None) -> tuple[Badge, str]:
    if stored is None:
        return _BADGES["queued"], "There is no result yet. That does not mean no finding."
    outcome = stored.outcome
    if isinstance(outcome, NotAnalysed):
        kind = "failed" if outcome.reason.is_failure else "declined"
        return _BADGES[kind], outcome.detail
    return _BADGES[outcome.priority.value], headline(outcome)


def _study_words(stored: StoredResult) -> str:
    study = stored.study
    parts = (
        *study.modalities,
        *dict.fromkeys(s.body_part for s in study.series),
        study.description,
    )
    return " ".join(part for part in dict.fromkeys(parts) if part) or "no description"


def _delivery_words(entry: StudyEntry) -> str:
    if entry.state is StudyState.PUBLISHED:
        return "delivered"
    return "under way" if entry.result else ""


def _artefacts(stored: StoredResult | None, *, shows_overlay: bool) -> list[str]:
    if stored is None:
        return []
    pictures = ["overlay.png", "secondary-capture.dcm"] if shows_overlay else []
    return ["bundle.json", "oru.hl7", "card.json", *pictures]


def _by_probability(result: TriageResult | None) -> list[Finding]:
    return sorted(result.findings, key=lambda each: -each.probability) if result else []


def _bar(finding: Finding) -> FindingBar:
    return FindingBar(
        name=codes.finding(finding.label).display,
        probability=f"{finding.probability:.2f}",
        threshold=f"{finding.threshold:.2f}",
        percent=round(finding.probability * 100),
        threshold_percent=round(finding.threshold * 100),
        positive=finding.positive,
    )


def _audit_line(event: bytes, zone: str) -> AuditLine:
    value = orjson.loads(event)
    agent = next((a for a in value["agent"] if a["requestor"]), value["agent"][0])
    subtype = value["subtype"][0]["code"]
    viewed = [
        f"{each['type']} {each['valueString']}"
        for entity in value.get("entity", ())
        for each in entity.get("detail", ())
        if each["type"] in {"viewed", "destination", "result"}
    ]
    outcome = "success" if value["outcome"] == "0" else value.get("outcomeDesc", "failure")
    return AuditLine(
        when=_local(datetime.fromisoformat(value["recorded"]), zone),
        who=str(agent["who"].get("identifier", {}).get("value", "")),
        what=", ".join([subtype, *viewed]),
        outcome=outcome,
    )


def _local(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%d %b %Y %H:%M:%S %Z}"
