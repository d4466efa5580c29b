"""The words of a result, the same in every channel."""

from ai_engine.result import Finding, NotAnalysed, Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.report_context import ReportContext

DISCLAIMER = "AI output, not a diagnosis. Research demonstration, not for clinical use."


def headline(outcome: Outcome) -> str:
    """Say the outcome in one sentence without patient data.

    "Normal" is never said of a patient: only that no listed finding is above its threshold.
    """
    if isinstance(outcome, NotAnalysed):
        word = "AI PROCESSING FAILED" if outcome.reason.is_failure else "NOT ANALYSED BY AI"
        return f"{word}: {outcome.detail}"
    top = outcome.top_findings
    if not top:
        return "No listed finding above its threshold."
    named = ", ".join(codes.finding(finding.label).display for finding in top[:3])
    more = f" and {len(top) - 3} more" if len(top) > 3 else ""  # noqa: PLR2004 - three are named
    return f"{outcome.priority.upper()}: {named}{more} above threshold."


def incomplete(unread: int) -> list[str]:
    """Say that images which should have been read were not; nothing where all were."""
    if not unread:
        return []
    images = "image" if unread == 1 else "images"
    return [f"INCOMPLETE: {unread} further {images} of the study could not be read."]


def figures(finding: Finding, *, places: int = 2) -> tuple[str, str]:
    """Give probability and threshold in as many places as it takes to see which is larger.

    0.4996 under a threshold of 0.5 would otherwise read "0.50, threshold 0.50": as if reached.
    """
    for enough in range(places, 17):
        shown = f"{finding.probability:.{enough}f}", f"{finding.threshold:.{enough}f}"
        if (float(shown[0]) >= float(shown[1])) is finding.positive:
            return shown
    return repr(finding.probability), repr(finding.threshold)


def probability_line(finding: Finding) -> str:
    """Say probability and threshold of one finding."""
    probability, threshold = figures(finding)
    name = codes.finding(finding.label).display
    return f"{name}: probability {probability}, threshold {threshold}"


def model_line(context: ReportContext) -> str:
    """Name the model."""
    model = context.model
    return f"Model {model.name} {model.version}, sha256 {model.sha256[:16]}"


def explained_finding(result: TriageResult) -> Finding:
    """Give the finding whose saliency is shown: the strongest positive, else the most probable."""
    return (*result.top_findings, max(result.findings, key=lambda each: each.probability))[0]


def impression(outcome: Outcome, context: ReportContext) -> list[str]:
    """Give the impression, line by line."""
    analysed = isinstance(outcome, TriageResult)
    status = "AI PRELIMINARY - NOT A DIAGNOSIS" if analysed else "NO AI RESULT"
    lines = [status, headline(outcome)]
    if isinstance(outcome, TriageResult):
        lines += [probability_line(finding) for finding in outcome.top_findings]
        lines += incomplete(context.unread)
    if context.predecessor:
        lines.append("This result replaces an earlier AI result of the same study.")
    return [*lines, model_line(context), DISCLAIMER]
