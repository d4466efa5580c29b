"""The audit leaf of a result: what the model returned, and what it was not shown."""

from collections import Counter
from collections.abc import Sequence

from ai_engine.result import ModelIdentity, NotAnalysed, Outcome, TriageResult
from cds_server.ports import StoredResult
from fhir_mappers.audit_event import AuditFact, AuditKind, OutcomeCode, audit_event
from fhir_mappers.report_context import Site
from fhir_mappers.selection import Exclusion


def analysis_leaf(result: StoredResult, model: ModelIdentity, site: Site) -> bytes:
    """Give the AuditEvent of an analysis.

    Parameters
    ----------
    result
        As it is stored.
    model
        That read, or would have read.
    site
        Whose server this is.
    """
    detail = _returned(result.outcome, model)
    if result.exclusions:
        detail["not-read"] = _excluded(result.exclusions)
    if result.notes:
        detail["notes"] = " ".join(result.notes)
    patient = result.study.patient
    fact = AuditFact(
        kind=AuditKind.ANALYSE,
        recorded=result.stored_at,
        user="radcds",
        address=site.base_url,
        study_instance_uid=result.study.study_instance_uid,
        result_id=result.result_id,
        patient_id=patient.patient_id or None,
        patient_issuer=patient.issuer,
        outcome_code=_audit_outcome(result.outcome),
        outcome_text=_in_words(result.outcome),
        detail=detail,
    )
    return audit_event(fact, site)


def _excluded(exclusions: Sequence[Exclusion]) -> str:
    """Say how many instances were not read for which reason."""
    counted = Counter(each.reason.value for each in exclusions)
    return " ".join(f"{reason}={number}" for reason, number in sorted(counted.items()))


def _audit_outcome(outcome: Outcome) -> OutcomeCode:
    """Give the AuditEvent outcome: success, minor failure (declined), serious failure (broken)."""
    if isinstance(outcome, TriageResult):
        return "0"
    return "8" if outcome.reason.is_failure else "4"


def _in_words(outcome: Outcome) -> str:
    return "" if isinstance(outcome, TriageResult) else f"{outcome.reason}: {outcome.detail}"


def _returned(outcome: Outcome, model: ModelIdentity) -> dict[str, str]:
    """Say what the model returned."""
    detail = {"model": f"{model.name}@{model.version}", "model-sha256": model.sha256}
    if isinstance(outcome, NotAnalysed):
        return {**detail, "result": f"not analysed: {outcome.reason}"}
    findings = " ".join(
        f"{finding.label}={finding.probability:.3f}/{finding.threshold:.3f}"
        for finding in outcome.findings
    )
    return {**detail, "result": outcome.priority.value, "findings": findings}
