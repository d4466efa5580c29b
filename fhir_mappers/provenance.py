"""Where the result came from, as FHIR Provenance."""

from ai_engine.result import Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.references import References
from fhir_mappers.report_context import ReportContext


def provenance(
    outcome: Outcome, context: ReportContext, references: References
) -> dict[str, object]:
    """Give the Provenance: everything here was asserted by the AI Device, from this study.

    References
    ----------
    FHIR R4 Provenance; HL7 AI Transparency on FHIR, AI-Provenance.
    """
    findings = outcome.findings if isinstance(outcome, TriageResult) else ()
    author = {
        "system": f"{codes.HL7_BASE}/provenance-participant-type",
        "code": "author",
        "display": "Author",
    }
    artificial = {"system": codes.AI_DEVICE_TYPE, "code": "Artificial-Intelligence"}
    asserted = {"system": codes.OBSERVATION_VALUE, "code": "AIAST"}
    return {
        "resourceType": "Provenance",
        "id": references.id_of("Provenance"),
        "target": [
            references.to("DiagnosticReport"),
            *(references.to("Observation", each.label) for each in findings),
        ],
        "occurredDateTime": references.issued,
        "recorded": references.issued,
        "policy": [f"{context.site.base_url}/policy/ai-triage"],
        "reason": [{"coding": [asserted]}],
        "agent": [
            {
                "type": {"coding": [author]},
                "role": [{"coding": [artificial]}],
                "who": references.to("Device"),
            }
        ],
        "entity": [{"role": "source", "what": references.to("ImagingStudy")}],
    }
