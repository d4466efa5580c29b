"""The result as a FHIR DiagnosticReport."""

from ai_engine.result import NotAnalysed, Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.identifiers import resource_id
from fhir_mappers.references import AI_ASSERTED, AI_LABEL, References
from fhir_mappers.report_context import ReportContext, SignOff, Verdict
from fhir_mappers.report_text import report_text
from fhir_mappers.study import Study
from fhir_mappers.wording import impression

_PROCESS_INLINE = {
    "system": codes.ACT_CODE,
    "code": "PROCESSINLINELABEL",
    "display": "process inline security label",
}
_STATUS = {Verdict.CONFIRMED: "final", Verdict.CORRECTED: "amended"}


def diagnostic_report(
    study: Study,
    outcome: Outcome,
    context: ReportContext,
    references: References,
    *,
    shows_overlay: bool,
) -> dict[str, object]:
    """Give the report: ``preliminary`` with a result, ``registered`` with the reason for none.

    AI alone is never final: ``final`` and ``amended`` are of a radiologist who signed. Where
    nothing was analysed there is no Observation, and the conclusion says so in words and by a code;
    then only a radiologist's own statement can be final.

    Raises
    ------
    InvalidMessage
        If a sign-off corrects without saying what is true.

    References
    ----------
    FHIR R4 DiagnosticReport; UK Core DeviceReference on performer; IHE RAD IMR 1.1.
    """
    findings = outcome.findings if isinstance(outcome, TriageResult) else ()
    return {
        "resourceType": "DiagnosticReport",
        "id": references.id_of("DiagnosticReport"),
        "meta": _meta(context.signed),
        "extension": _replaces(context),
        **report_text(_lines(outcome, context)),
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{context.result_id}"}],
        "basedOn": references.order,
        "status": _status(outcome, context.signed),
        "category": [_concept(f"{codes.HL7_BASE}/v2-0074", "RAD", "Radiology")],
        "code": {
            "coding": [
                _coding(codes.LOINC, *codes.procedure(study, outcome)),
                _coding(codes.SNOMED, *codes.RADIOLOGY_REPORT),
            ]
        },
        "subject": references.subject,
        "effectiveDateTime": references.started,
        "issued": references.released,
        "performer": [references.organisation, _performer(context, references)],
        "resultsInterpreter": references.radiologist,
        "result": [references.to("Observation", each.label) for each in findings],
        "imagingStudy": [references.to("ImagingStudy")],
        "media": [{"comment": "Saliency overlay", "link": references.to("Media")}]
        if shows_overlay
        else [],
        "conclusionCode": _conclusion(outcome, context),
    }


def _status(outcome: Outcome, signed: SignOff | None) -> str:
    if isinstance(outcome, NotAnalysed) and not (signed and signed.statement.strip()):
        return "registered"
    return _STATUS[signed.verdict] if signed else "preliminary"


def _meta(signed: SignOff | None) -> dict[str, object]:
    """Label the whole as the AI's; where a radiologist's words lead it, its codes each as well."""
    if signed and signed.verdict is Verdict.CORRECTED:
        return {"security": [AI_LABEL, _PROCESS_INLINE]}
    return dict(AI_ASSERTED)


def _lines(outcome: Outcome, context: ReportContext) -> list[str]:
    """Give the words: the radiologist's first, and the AI's as they were.

    Raises
    ------
    InvalidMessage
        If a correction does not say what is true instead.
    """
    said = impression(outcome, context)
    signed = context.signed
    if signed is None:
        return said
    by = f"{signed.radiologist}, {signed.at.isoformat(timespec='minutes')}"
    if signed.verdict is Verdict.CONFIRMED:
        return [signed.statement, f"CONFIRMED by {by}.", "The AI had said:", *said]
    if not signed.statement.strip():
        msg = "DiagnosticReport.conclusion: a correction must say what is true instead"
        raise InvalidMessage(msg)
    return [signed.statement, f"CORRECTED by {by}.", "The AI had said otherwise:", *said]


def _conclusion(outcome: Outcome, context: ReportContext) -> list[dict[str, object]]:
    triage = codes.triage(outcome)
    base_url = context.site.base_url
    concepts = [_concept(f"{base_url}/CodeSystem/triage", triage.code, triage.display)]
    if isinstance(outcome, NotAnalysed):
        system = f"{base_url}/CodeSystem/not-analysed-reason"
        concepts.append(_concept(system, outcome.reason.value, outcome.detail))
    if triage.acr:
        concepts.append(_concept(codes.RADLEX, *triage.acr))
    if context.signed and context.signed.verdict is Verdict.CORRECTED:
        label = {"url": codes.INLINE_LABEL, "valueCoding": AI_LABEL}
        return [{"extension": [label], **each} for each in concepts]
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


def _concept(system: str, code: str, display: str) -> dict[str, object]:
    return {"coding": [_coding(system, code, display)]}


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}
