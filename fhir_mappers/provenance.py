"""Where the result came from, and who stood up for it, as FHIR Provenance."""

from ai_engine.result import Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.references import References, instant
from fhir_mappers.report_context import ReportContext, SignOff, Verdict

PARTICIPANT_TYPE = f"{codes.HL7_BASE}/provenance-participant-type"
DATA_OPERATION = f"{codes.HL7_BASE}/v3-DataOperation"


def provenance(
    outcome: Outcome, context: ReportContext, references: References
) -> dict[str, object]:
    """Give the Provenance: everything here was asserted by the AI Device, from this study.

    References
    ----------
    FHIR R4 Provenance; HL7 AI Transparency on FHIR, AI-Provenance.
    """
    artificial = {"system": codes.AI_DEVICE_TYPE, "code": "Artificial-Intelligence"}
    asserted = {"system": codes.OBSERVATION_VALUE, "code": "AIAST"}
    entities = [{"role": "source", "what": references.to("ImagingStudy")}]
    if context.model_card:
        entities.append({"role": "derivation", "what": references.to("DocumentReference")})
    return {
        "resourceType": "Provenance",
        "id": references.id_of("Provenance"),
        "target": _asserted(outcome, references),
        "occurredDateTime": references.issued,
        "recorded": references.issued,
        "policy": [f"{context.site.base_url}/policy/ai-triage"],
        "reason": [{"coding": [asserted]}],
        "agent": [
            {
                "type": participant("author", "Author"),
                "role": [{"coding": [artificial]}],
                "who": references.to("Device"),
            }
        ],
        "entity": entities,
    }


def sign_off_provenance(
    outcome: Outcome, signed: SignOff, references: References
) -> dict[str, object]:
    """Give the Provenance of a sign-off: which radiologist, when; beside that of the AI.

    Each sign-off has one of its own. Who corrected a result is an author of its report as well.

    References
    ----------
    FHIR R4 Provenance; HL7 AI Transparency on FHIR, AI-Provenance (human agent).
    """
    roles = [participant("verifier", "Verifier")]
    if signed.verdict is Verdict.CORRECTED:
        roles.append(participant("author", "Author"))
    return {
        "resourceType": "Provenance",
        "id": references.id_of("Provenance", f"sign-off {signed.number}"),
        "target": _asserted(outcome, references),
        "occurredDateTime": instant(signed.at),
        "recorded": instant(signed.at),
        "activity": operation("UPDATE", "revise"),
        "agent": [{"type": role, "who": who} for role in roles for who in references.radiologist],
        "entity": [{"role": "source", "what": references.to("ImagingStudy")}],
    }


def participant(code: str, display: str) -> dict[str, object]:
    """Give the way in which an agent took part."""
    return {"coding": [{"system": PARTICIPANT_TYPE, "code": code, "display": display}]}


def operation(code: str, display: str) -> dict[str, object]:
    """Give what was done to the targets."""
    return {"coding": [{"system": DATA_OPERATION, "code": code, "display": display}]}


def _asserted(outcome: Outcome, references: References) -> list[dict[str, str]]:
    findings = outcome.findings if isinstance(outcome, TriageResult) else ()
    return [
        references.to("DiagnosticReport"),
        *(references.to("Observation", each.label) for each in findings),
    ]
