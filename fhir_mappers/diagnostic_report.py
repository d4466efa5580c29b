"""The result as a FHIR DiagnosticReport."""

from html import escape

from ai_engine.result import NotAnalysed, Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.identifiers import resource_id
from fhir_mappers.references import AI_ASSERTED, References
from fhir_mappers.report_context import ReportContext
from fhir_mappers.study import Study
from fhir_mappers.wording import impression


def diagnostic_report(
    study: Study,
    outcome: Outcome,
    context: ReportContext,
    references: References,
    *,
    shows_overlay: bool,
) -> dict[str, object]:
    """Give the report: ``preliminary`` with a result, ``registered`` with the reason for none.

    AI alone is never final. Where nothing was analysed there is no Observation, and the conclusion
    says so in words and by a code.

    References
    ----------
    FHIR R4 DiagnosticReport; UK Core DeviceReference on performer.
    """
    analysed = isinstance(outcome, TriageResult)
    findings = outcome.findings if isinstance(outcome, TriageResult) else ()
    return {
        "resourceType": "DiagnosticReport",
        "id": references.id_of("DiagnosticReport"),
        "meta": AI_ASSERTED,
        "extension": _replaces(context),
        "text": {"status": "generated", "div": _narrative(outcome, context)},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{context.result_id}"}],
        "basedOn": references.order,
        "status": "preliminary" if analysed else "registered",
        "category": [_concept(f"{codes.HL7_BASE}/v2-0074", "RAD", "Radiology")],
        "code": _concept(codes.LOINC, *codes.procedure(study, outcome)),
        "subject": references.subject,
        "effectiveDateTime": references.started,
        "issued": references.issued,
        "performer": [_performer(context, references)],
        "result": [references.to("Observation", each.label) for each in findings],
        "imagingStudy": [references.to("ImagingStudy")],
        "media": [{"comment": "Saliency overlay", "link": references.to("Media")}]
        if shows_overlay
        else [],
        "conclusion": " ".join(impression(outcome, context)),
        "conclusionCode": _conclusion(outcome, context),
    }


def _conclusion(outcome: Outcome, context: ReportContext) -> list[dict[str, object]]:
    triage = codes.triage(outcome)
    base_url = context.site.base_url
    concepts = [_concept(f"{base_url}/CodeSystem/triage", triage.code, triage.display)]
    if isinstance(outcome, NotAnalysed):
        system = f"{base_url}/CodeSystem/not-analysed-reason"
        concepts.append(_concept(system, outcome.reason.value, outcome.detail))
    if triage.acr:
        concepts.append(_concept(codes.RADLEX, *triage.acr))
    return concepts


def _replaces(context: ReportContext) -> list[dict[str, object]]:
    """Refer to the report that this one replaces, if there is one."""
    if context.predecessor is None:
        return []
    earlier = resource_id(context.predecessor.result_id, "DiagnosticReport")
    reference = {"reference": f"DiagnosticReport/{earlier}"}
    return [{"url": codes.REPORT_REPLACES, "valueReference": reference}]


def _performer(context: ReportContext, references: References) -> dict[str, object]:
    return {
        "extension": [
            {"url": codes.UK_DEVICE_REFERENCE, "valueReference": references.to("Device")}
        ],
        "display": f"{context.model.name} {context.model.version} (AI) at {context.site.name}",
    }


def _narrative(outcome: Outcome, context: ReportContext) -> str:
    lines = "".join(f"<p>{escape(line)}</p>" for line in impression(outcome, context))
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{lines}</div>'


def _concept(system: str, code: str, display: str) -> dict[str, object]:
    return {"coding": [{"system": system, "code": code, "display": display}]}
