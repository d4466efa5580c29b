"""Every code system and finding code, once, each with its source. A reviewed table."""

from dataclasses import dataclass

from ai_engine.result import NotAnalysed, Outcome, Priority, TriageResult
from fhir_mappers.study import Study

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RADLEX = "http://radlex.org"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"
HL7_BASE = "http://terminology.hl7.org/CodeSystem"
OBSERVATION_VALUE = f"{HL7_BASE}/v3-ObservationValue"
AI_DEVICE_TYPE = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS"
AI_CONFIDENCE = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/AIconfidence"
AI_KIND = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/aitransparency.AIKind"
UK_DEVICE_REFERENCE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeviceReference"

PROCEDURE_FINDINGS = ("59776-5", "Procedure Findings")
IMPRESSION = ("19005-8", "Impression")
CHEST_ONE_VIEW = ("36554-4", "XR Chest Single View")
CHEST_TWO_VIEWS = ("36643-5", "XR Chest 2 Views")
PORTABLE_CHEST = ("36589-0", "Portable XR Chest AP single view")
IMAGING_STUDY_REPORT = ("18748-4", "Diagnostic imaging study")
VISUAL_EXPLANATION = ("130401", "Visual Explanation")


@dataclass(frozen=True, slots=True)
class FindingCode:
    """How one finding is named and coded.

    Parameters
    ----------
    label
        The engine's name.
    display
        The name for people.
    snomed, snomed_display
        SNOMED CT code and its display, or ``None`` where no code was verified: then the finding is
        published as text only, which is better than a wrong code.
    source
        Where the code was read.
    """

    label: str
    display: str
    snomed: str | None
    snomed_display: str | None
    source: str


_CID = "DICOM PS3.16 chest radiograph finding codes"
_IG = "HL7 implementation guide examples"
_TEXT_ONLY = "no code verified; text only"
_TABLE = (
    FindingCode("abnormal", "Any abnormality", None, None, _TEXT_ONLY),
    FindingCode("atelectasis", "Atelectasis", "46621007", "Atelectasis", _IG),
    FindingCode("cardiomegaly", "Cardiomegaly", "8186001", "Cardiomegaly", _IG),
    FindingCode("effusion", "Pleural effusion", "60046008", "Pleural effusion", _CID),
    FindingCode("infiltration", "Infiltration", None, None, _TEXT_ONLY),
    FindingCode("mass", "Mass", "4147007", "Mass", _CID),
    FindingCode("nodule", "Nodule", "27925004", "Nodule", _CID),
    FindingCode("pneumonia", "Pneumonia", "233604007", "Pneumonia", _IG),
    FindingCode("pneumothorax", "Pneumothorax", "36118008", "Pneumothorax", _CID),
    FindingCode("consolidation", "Consolidation", "95436008", "Lung consolidation", _IG),
    FindingCode("edema", "Pulmonary oedema", "19242006", "Pulmonary edema", _CID),
    FindingCode("emphysema", "Emphysema", "87433001", "Pulmonary emphysema", _IG),
    FindingCode("fibrosis", "Fibrosis", "51615001", "Fibrosis of lung", _IG),
    FindingCode("pleural_thickening", "Pleural thickening", None, None, _TEXT_ONLY),
    FindingCode("hernia", "Hiatus hernia", "84089009", "Hiatal hernia", _IG),
)
FINDINGS = {row.label: row for row in _TABLE}


NON_ADHERENCE = f"{HL7_BASE}/non-adherence-reason-codes"
OVERRIDE_REASONS = {
    "cds-not-applicable": "PC CDS does not apply to patient",
    "cds-suboptimal-context": "PC CDS delivered in suboptimal context",
    "recipient-disagrees-evidence": (
        "Recipient disagrees with recommendation because of issues with the evidence"
    ),
    "recipient-concerns-outcomes": "Recipient has concerns regarding potential health outcomes",
    "does-not-align-preferences": (
        "Recommendation does not align with patient preferences or values"
    ),
    "action-completed": "Recommended action was already completed",
}
"""Of the clinical selection of CDS Hooks 3.0.0-ballot; displays as in that code system."""


def finding(label: str) -> FindingCode:
    """Give the code of a finding; one that is not in the table is text only."""
    unknown = FindingCode(label, label.replace("_", " ").capitalize(), None, None, _TEXT_ONLY)
    return FINDINGS.get(label, unknown)


def procedure(study: Study, outcome: Outcome) -> tuple[str, str]:
    """Give the LOINC code of what was done: a chest radiograph only where the engine saw one.

    What was not analysed may be a hand or a head; it is a diagnostic imaging study.
    """
    views = {1: CHEST_ONE_VIEW, 2: CHEST_TWO_VIEWS}
    if isinstance(outcome, TriageResult):
        return views.get(study.number_of_instances, IMAGING_STUDY_REPORT)
    return IMAGING_STUDY_REPORT


@dataclass(frozen=True, slots=True)
class TriageCode:
    """How an outcome is coded in every channel.

    Parameters
    ----------
    code, display
        In the local code system ``CodeSystem/triage``.
    hl7_flag
        HL7 table 0078 abnormal flag for OBX-8; empty where nothing was analysed.
    hl7_priority
        HL7 table 0485 priority for TQ1-9; empty where nothing was analysed.
    acr
        RadLex code of the ACR actionable category and its display, or ``None``.
    indicator
        CDS Hooks 2.0 ``card.indicator``.
    """

    code: str
    display: str
    hl7_flag: str
    hl7_priority: str
    acr: tuple[str, str] | None
    indicator: str


_URGENT = TriageCode(
    "URGENT", "Urgent: read first", "AA", "S", ("RID49481", "Category 2 Actionable Finding"),
    "critical",
)  # fmt: skip
_FLAGGED = TriageCode(
    "FLAGGED", "Flagged: read soon", "A", "A", ("RID49482", "Category 3 Actionable Finding"),
    "warning",
)  # fmt: skip
_NORMAL = TriageCode(
    "NO-FINDING", "No listed finding above threshold", "N", "R",
    ("RID50261", "Non-actionable Finding"), "info",
)  # fmt: skip
_DECLINED = TriageCode("NOT-ANALYSED", "Not analysed by AI", "", "", None, "info")
_FAILED = TriageCode("FAILED", "AI processing failed", "", "", None, "warning")


def triage(outcome: Outcome) -> TriageCode:
    """Code an outcome. What was not analysed has no flag, no priority and no category."""
    if isinstance(outcome, NotAnalysed):
        return _FAILED if outcome.reason.is_failure else _DECLINED
    return {
        Priority.URGENT: _URGENT,
        Priority.FLAGGED: _FLAGGED,
        Priority.NORMAL: _NORMAL,
    }[outcome.priority]
