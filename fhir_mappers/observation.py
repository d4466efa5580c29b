"""One finding as a FHIR Observation."""

from ai_engine.result import Finding, TriageResult
from fhir_mappers import codes
from fhir_mappers.references import AI_ASSERTED, References
from fhir_mappers.report_context import Verdict

_STATUS = {None: "preliminary", Verdict.CONFIRMED: "final", Verdict.CORRECTED: "amended"}
_CORRECTED = (
    "A radiologist corrected the report of this result: see its conclusion. "
    "The value here is still the AI's."
)


def observation(
    finding: Finding,
    outcome: TriageResult,
    references: References,
) -> dict[str, object]:
    """Give the Observation of one finding, positive or not, with probability and threshold.

    Once a radiologist confirmed it, it is final and theirs too. Where they corrected the result, it
    is amended by a note; the value stays the AI's, and nobody else answers for it.

    References
    ----------
    FHIR R4 Observation; LOINC 59776-5; v3-ObservationInterpretation.
    """
    code = codes.finding(finding.label)
    coding = (
        [{"system": codes.SNOMED, "code": code.snomed, "display": code.snomed_display}]
        if code.snomed
        else []
    )
    present = "above its threshold" if finding.positive else "not above its threshold"
    signed = references.context.signed
    verdict = signed.verdict if signed else None
    flag = codes.triage(outcome).hl7_flag if finding.positive else "N"
    return {
        "resourceType": "Observation",
        "id": references.id_of("Observation", finding.label),
        "meta": AI_ASSERTED,
        "extension": [{"url": codes.AI_CONFIDENCE, "valueDecimal": round(finding.probability, 4)}],
        "basedOn": references.order,
        "partOf": [references.to("ImagingStudy")],
        "status": _STATUS[verdict],
        "category": [
            {"coding": [{"system": f"{codes.HL7_BASE}/observation-category", "code": "imaging"}]}
        ],
        "code": {
            "coding": [
                {
                    "system": codes.LOINC,
                    "code": codes.PROCEDURE_FINDINGS[0],
                    "display": codes.PROCEDURE_FINDINGS[1],
                }
            ],
            "text": code.display,
        },
        "subject": references.subject,
        "effectiveDateTime": references.started,
        "issued": references.released,
        "performer": references.radiologist if verdict is Verdict.CONFIRMED else [],
        "valueCodeableConcept": {"coding": coding, "text": f"{code.display}: {present}"},
        "interpretation": [
            {"coding": [{"system": f"{codes.HL7_BASE}/v3-ObservationInterpretation", "code": flag}]}
        ],
        "note": [{"text": _CORRECTED}] if verdict is Verdict.CORRECTED else [],
        "device": references.to("Device"),
        "derivedFrom": [references.to("ImagingStudy")],
        "component": [
            _component("Model probability", finding.probability),
            _component("Decision threshold", finding.threshold),
        ],
    }


def _component(text: str, value: float) -> dict[str, object]:
    quantity = {"value": round(value, 4), "system": codes.UCUM, "code": "1"}
    return {"code": {"text": text}, "valueQuantity": quantity}
