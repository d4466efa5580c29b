"""Every code system and finding code, once, each with its source. A reviewed table."""

from dataclasses import dataclass

from ai_engine.result import NotAnalysed, Outcome, Priority, Reason, TriageResult
from fhir_mappers.radiographs import MODALITIES
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
AI_INPUTS = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIinputsCS"
AI_MODEL_CARD = (
    "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/aitransparency.modelCardDescription"
)
ACT_CODE = f"{HL7_BASE}/v3-ActCode"
INLINE_LABEL = (
    "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
)
REPORT_REPLACES = "http://hl7.org/fhir/StructureDefinition/diagnosticReport-replaces"
UK_DEVICE_REFERENCE = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeviceReference"

PROCEDURE_FINDINGS = ("59776-5", "Procedure Findings")
IMPRESSION = ("19005-8", "Impression")
CHEST_ONE_VIEW = ("36554-4", "XR Chest Single View")
CHEST_TWO_VIEWS = ("36643-5", "XR Chest 2 Views")
PORTABLE_CHEST = ("36589-0", "Portable XR Chest AP single view")
IMAGING_STUDY_REPORT = ("18748-4", "Diagnostic imaging study")
VISUAL_EXPLANATION = ("130401", "Visual Explanation")
STUDY_INSTANCE_UID = ("110180", "Study Instance UID")
RADIOLOGY_REPORT = ("722124004", "Radiology studies report")

Coded = tuple[str, str, str]
"""Code value, coding scheme designator and meaning, as DICOM writes a code (PS3.3 8.8)."""

LOCAL_SCHEME = "99RADCDS"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A coding scheme of DICOM objects: its designator, name, keeper and OID in HL7's registry."""

    designator: str
    name: str
    organisation: str
    oid: str = ""


_SCHEMES = (
    Scheme(LOCAL_SCHEME, "Codes of radcds", "radcds"),
    Scheme("RADLEX", "RadLex", "RSNA", "2.16.840.1.113883.6.256"),
    Scheme("UMLS", "Unified Medical Language System", "NLM", "2.16.840.1.113883.6.86"),
)
SCHEMES = {scheme.designator: scheme for scheme in _SCHEMES}
"""Beside DCM, SCT, LN and UCUM, which every reader of DICOM knows. OIDs: PS3.16 table 8-1."""

PROCESSING_EQUIPMENT: Coded = ("109102", "DCM", "Processing Equipment")
"""PS3.16 CID 7005 Contributing Equipment Purposes of Reference."""
GRAD_CAM: Coded = ("130403", "DCM", "Gradient-weighted class activation")
"""PS3.16 CID 217."""
ARTIFICIAL_INTELLIGENCE: Coded = ("123110", "DCM", "Artificial Intelligence")
"""PS3.16 CID 7162 Surface Processing Algorithm Family."""
SPATIAL_CONCEPT: Coded = ("309825002", "SCT", "Spatial and Relational Concept")
"""PS3.16 CID 7150 Segmentation Property Category."""
SOURCE_OF_DERIVATION: Coded = ("121322", "DCM", "Source image for image processing operation")
"""PS3.16 CID 7202 Source Image Purposes of Reference."""
SEGMENTATION: Coded = ("113076", "DCM", "Segmentation")
"""PS3.16 CID 7203 Image Derivation."""

QUALITATIVE_EVALUATIONS: Coded = ("C0034375", "UMLS", "Qualitative Evaluations")
"""PS3.16 TID 1500 row 12."""
RUN_SUMMARY: Coded = ("111017", "DCM", "CAD Processing and Findings Summary")
WITHOUT_FINDINGS: Coded = ("111241", "DCM", "All algorithms succeeded; without findings")
WITH_FINDINGS: Coded = ("111242", "DCM", "All algorithms succeeded; with findings")
PARTLY_WITHOUT: Coded = ("111243", "DCM", "Not all algorithms succeeded; without findings")
PARTLY_WITH: Coded = ("111244", "DCM", "Not all algorithms succeeded; with findings")
NOTHING_SUCCEEDED: Coded = ("111245", "DCM", "No algorithms succeeded; without findings")
"""PS3.16 CID 6047."""
CERTAINTY: Coded = ("111012", "DCM", "Certainty of Finding")
PRESENCE: Coded = ("121052", "DCM", "Presence of property")
COMMENT: Coded = ("121106", "DCM", "Comment")
OF_INTEREST: Coded = ("113000", "DCM", "Of Interest")
FOR_REPORT_ATTACHMENT: Coded = ("113020", "DCM", "For Report Attachment")
"""PS3.16 CID 7010 Key Object Selection Document Title."""
REJECTED: Coded = ("113037", "DCM", "Rejected for Patient Safety Reasons")
"""PS3.16 CID 7011 Rejected for Quality or Safety Reasons; IHE RAD IOCM."""
KEY_OBJECT_DESCRIPTION: Coded = ("113012", "DCM", "Key Object Description")
"""PS3.16 TID 2010 row 7."""

ABOVE_THRESHOLD: Coded = ("ABOVE-THRESHOLD", LOCAL_SCHEME, "Above its threshold")
"""Not (121053, DCM, "Present"): 18.6 % over a threshold of 15 % does not say that it is there."""
BELOW_THRESHOLD: Coded = ("BELOW-THRESHOLD", LOCAL_SCHEME, "Not above its threshold")
"""Not (121054, DCM, "Absent"): a probability under a threshold is no statement of health."""
THRESHOLD: Coded = ("THRESHOLD", LOCAL_SCHEME, "Decision threshold")
TRIAGE: Coded = ("TRIAGE", LOCAL_SCHEME, "AI triage")
ACR_CATEGORY: Coded = ("ACR-CATEGORY", LOCAL_SCHEME, "ACR actionable finding category")
REASON: Coded = ("REASON", LOCAL_SCHEME, "Reason for no AI result")
RESULT_SET: Coded = ("RESULT-SET", LOCAL_SCHEME, "Objects of this result")
ANALYSED_IMAGE: Coded = ("ANALYSED-IMAGE", LOCAL_SCHEME, "Image that was analysed")
RESULT_PARTS: dict[str, Coded] = {
    "secondary-capture.dcm": ("OVERLAY", LOCAL_SCHEME, "Picture with the saliency overlay"),
    "presentation-state.dcm": ("OUTLINE", LOCAL_SCHEME, "Salient cells outlined on the original"),
    "saliency.dcm": ("SALIENCY-MAP", LOCAL_SCHEME, "Saliency map as numbers"),
    "report.dcm": ("FINDINGS", LOCAL_SCHEME, "AI report"),
    "key-object.dcm": ("KEY-OBJECTS", LOCAL_SCHEME, "Selection of key objects"),
}
"""What each object of a result is, by its file."""

REASONS = {
    Reason.NO_IMAGE: "The study holds no image",
    Reason.NON_CHEST: "Not a chest radiograph",
    Reason.LATERAL_VIEW: "A lateral view",
    Reason.UNKNOWN_VIEW: "The view is not known",
    Reason.UNSUPPORTED_MODALITY: "Not a modality that the model reads",
    Reason.PAEDIATRIC: "A child; the model reads adults",
    Reason.ADULT: "An adult; the model reads children",
    Reason.UNKNOWN_AGE: "The age is not known",
    Reason.FIELD_OF_VIEW: "The image shows too small or too large a field",
    Reason.POOR_QUALITY: "The image quality does not suffice",
    Reason.OUT_OF_DISTRIBUTION: "Unlike the images that the model knows",
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: "A transfer syntax that is not supported",
    Reason.UNREADABLE: "The image cannot be read",
    Reason.MULTI_FRAME: "A multi-frame image",
    Reason.MODEL_FAILED: "The model failed",
    Reason.MODEL_RECALLED: "The model version was recalled",
    Reason.PROCESSING_FAILED: "Processing failed",
}
"""Why there is no result, in at most 64 characters; the code is the reason's own."""


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


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One reviewed code of a FHIR resource.

    Parameters
    ----------
    system, code, display
        As they stand in a Coding.
    source
        Where code and display were read.
    """

    system: str
    code: str
    display: str
    source: str


_AI_IG = "HL7 AI Transparency on FHIR 1.0.0"
_LOINC_SOURCE = "LOINC, long common name as radiology reports of HL7 guides show it"
_RADLEX_SOURCE = "RadLex, ACR categories of actionable findings, as IHE RAD guides use them"
_AUDIT = "DICOM PS3.16 CID 400, 401 and 402"
FHIR_CODES = (
    CodeRow(LOINC, *PROCEDURE_FINDINGS, "IHE RAD IMR, value set of observation categories"),
    CodeRow(LOINC, *CHEST_ONE_VIEW, _LOINC_SOURCE),
    CodeRow(LOINC, *CHEST_TWO_VIEWS, _LOINC_SOURCE),
    CodeRow(LOINC, *PORTABLE_CHEST, _LOINC_SOURCE),
    CodeRow(LOINC, *IMAGING_STUDY_REPORT, _LOINC_SOURCE),
    CodeRow(SNOMED, *RADIOLOGY_REPORT, "UK Core, UKCore-DiagnosticReport-CTChestScan-Example"),
    *(
        CodeRow(SNOMED, row.snomed, row.snomed_display, row.source)
        for row in _TABLE
        if row.snomed and row.snomed_display
    ),
    CodeRow(RADLEX, "RID49481", "Category 2 Actionable Finding", _RADLEX_SOURCE),
    CodeRow(RADLEX, "RID49482", "Category 3 Actionable Finding", _RADLEX_SOURCE),
    CodeRow(DCM, *VISUAL_EXPLANATION, "DICOM PS3.16 annex D"),
    CodeRow(DCM, *STUDY_INSTANCE_UID, "DICOM PS3.16 annex D"),
    CodeRow(DCM, "110100", "Application Activity", _AUDIT),
    CodeRow(DCM, "110106", "Export", _AUDIT),
    CodeRow(DCM, "110113", "Security Alert", _AUDIT),
    CodeRow(DCM, "110114", "User Authentication", _AUDIT),
    CodeRow(DCM, "110122", "Login", _AUDIT),
    CodeRow(DCM, "110123", "Logout", _AUDIT),
    CodeRow(DCM, "110127", "Emergency Override Started", _AUDIT),
    CodeRow(DCM, "110152", "Destination Role ID", _AUDIT),
    CodeRow(DCM, "110153", "Source Role ID", _AUDIT),
    CodeRow(OBSERVATION_VALUE, "AIAST", "Artificial Intelligence asserted", _AI_IG),
    CodeRow(ACT_CODE, "PROCESSINLINELABEL", "process inline security label", _AI_IG),
    CodeRow(
        AI_DEVICE_TYPE, "Artificial-Intelligence", "All kinds of Artificial Intelligence", _AI_IG
    ),
    CodeRow(AI_DEVICE_TYPE, "Deep-Learning-Models", "Deep Learning Models", _AI_IG),
    CodeRow(AI_DEVICE_TYPE, "Medical-Image-Analysis", "Medical Image Analysis", _AI_IG),
    CodeRow(AI_INPUTS, "AIModelCard", "AI Model-Card", _AI_IG),
    CodeRow(AI_INPUTS, "AIModelCardMarkdownFormat", "Markdown Format", _AI_IG),
)
"""Every code that may stand in a Coding, but for those of HL7's own systems and of the study."""


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


_DICOM_FINDINGS: dict[str, Coded] = {
    "infiltration": ("112121", "DCM", "Infiltrate"),
}
"""Of PS3.16 CID 6102, where there is no SNOMED CT code in ``FINDINGS``."""


def dicom_finding(label: str) -> Coded:
    """Give the DICOM code of a finding: SNOMED CT, else DCM, else a local code of the same name.

    "Any abnormality" stays local: (112033, DCM, "Abnormal opacity") would say more than the model.
    """
    known = finding(label)
    if known.snomed and known.snomed_display:
        return known.snomed, "SCT", known.snomed_display
    local = (label.upper().replace("_", "-"), LOCAL_SCHEME, known.display)
    return _DICOM_FINDINGS.get(label, local)


def run_summary(outcome: Outcome, unread: int) -> Coded:
    """Give the status of the whole run.

    Parameters
    ----------
    outcome
        What the engine said.
    unread
        How many images should have been read and could not be.
    """
    if isinstance(outcome, NotAnalysed):
        return NOTHING_SUCCEEDED
    if unread:
        return PARTLY_WITH if outcome.top_findings else PARTLY_WITHOUT
    return WITH_FINDINGS if outcome.top_findings else WITHOUT_FINDINGS


def procedure(study: Study, outcome: Outcome) -> tuple[str, str]:
    """Give the LOINC code of what was done: a chest radiograph only where the engine saw one.

    Its views are the radiographs of the study; a dose report is none. What was not analysed may be
    a hand or a head; it is a diagnostic imaging study.
    """
    views = {1: CHEST_ONE_VIEW, 2: CHEST_TWO_VIEWS}
    if isinstance(outcome, TriageResult):
        return views.get(_number_of_radiographs(study), IMAGING_STUDY_REPORT)
    return IMAGING_STUDY_REPORT


def _number_of_radiographs(study: Study) -> int:
    return sum(
        instance.number_of_frames >= 1 and (instance.modality or series.modality) in MODALITIES
        for series in study.series
        for instance in series.instances
    )


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
        RadLex code of the ACR actionable category and its display, or ``None`` where there is no
        finding to categorise: (RID50261, "Non-actionable Finding") would speak of one.
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
_NORMAL = TriageCode("NO-FINDING", "No listed finding above threshold", "N", "R", None, "info")
_DECLINED = TriageCode("NOT-ANALYSED", "Not analysed by AI", "", "", None, "info")
_FAILED = TriageCode("FAILED", "AI processing failed", "", "", None, "warning")


def triage(outcome: Outcome) -> TriageCode:
    """Code an outcome. What was not analysed has no flag and no priority."""
    if isinstance(outcome, NotAnalysed):
        return _FAILED if outcome.reason.is_failure else _DECLINED
    return {
        Priority.URGENT: _URGENT,
        Priority.FLAGGED: _FLAGGED,
        Priority.NORMAL: _NORMAL,
    }[outcome.priority]
