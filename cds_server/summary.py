"""What a batch did, as a table for people and as JSON for programs."""

from pathlib import Path

from rich.table import Table

from ai_engine.result import NotAnalysed, Priority, TriageResult
from cds_server.batch import BatchReport
from cds_server.ports import StudyEntry

_COLOUR = {Priority.URGENT: "bold red", Priority.FLAGGED: "yellow", Priority.NORMAL: "green"}
_SHOWN_FINDINGS = 3


def batch_table(report: BatchReport, out: Path) -> Table:
    """Lay the studies out for a terminal: the most urgent first."""
    table = Table(
        caption=f"Artefacts in {out}. AI output, not a diagnosis.", caption_justify="left"
    )
    for column in ("study", "priority", "findings: probability (threshold)", "seconds"):
        table.add_column(
            column, overflow="fold", justify="right" if column == "seconds" else "left"
        )
    for entry in report.studies:
        table.add_row(entry.study_instance_uid, *_priority_and_findings(entry), _seconds(entry))
    return table


def _priority_and_findings(entry: StudyEntry) -> tuple[str, str]:
    if entry.result is None:
        return "not finished", "see the lines below"
    outcome = entry.result.outcome
    if isinstance(outcome, NotAnalysed):
        word = "failed" if outcome.reason.is_failure else "not analysed"
        return f"[magenta]{word}[/]", f"{outcome.reason}: {outcome.detail}"
    return f"[{_COLOUR[outcome.priority]}]{outcome.priority}[/]", _findings(outcome)


def _findings(outcome: TriageResult) -> str:
    shown = outcome.top_findings[:_SHOWN_FINDINGS]
    if not shown:
        return "no listed finding above its threshold"
    more = len(outcome.top_findings) - len(shown)
    lines = [f"{f.label} {f.probability:.2f} ({f.threshold:.2f})" for f in shown]
    return "\n".join([*lines, f"and {more} more"] if more else lines)


def _seconds(entry: StudyEntry) -> str:
    return f"{sum(entry.result.seconds.values()):.2f}" if entry.result else ""


def batch_as_json(report: BatchReport, out: Path) -> dict[str, object]:
    """Give the same as plain values."""
    return {
        "studies": [_study_as_json(entry, out) for entry in report.studies],
        "problems": [
            {"path": str(problem.path), "what": problem.what, "remedy": problem.remedy}
            for problem in report.problems
        ],
        "parked": [
            {
                "result_id": each.publication.result_id,
                "destination": each.destination,
                "why": each.says,
            }
            for each in report.parked
        ],
    }


def _study_as_json(entry: StudyEntry, out: Path) -> dict[str, object]:
    study: dict[str, object] = {
        "study_instance_uid": entry.study_instance_uid,
        "result_id": entry.result_id,
        "state": entry.state.value,
        "artefacts": str(out / entry.study_instance_uid),
    }
    if entry.result is None:
        return study
    outcome = entry.result.outcome
    study["seconds"] = {part: round(s, 4) for part, s in entry.result.seconds.items()}
    if isinstance(outcome, NotAnalysed):
        study["not_analysed"] = {"reason": outcome.reason.value, "detail": outcome.detail}
        return study
    study["priority"] = outcome.priority.value
    study["model"] = {
        "name": outcome.model.name,
        "version": outcome.model.version,
        "sha256": outcome.model.sha256,
    }
    study["findings"] = [
        {
            "label": finding.label,
            "probability": round(finding.probability, 4),
            "threshold": round(finding.threshold, 4),
            "positive": finding.positive,
        }
        for finding in outcome.findings
    ]
    return study
