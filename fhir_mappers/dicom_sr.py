"""The result as a DICOM structured report that machines and people read.

::

    Imaging Measurement Report (TID 1500)
    ├── who observed: an algorithm, by name, version and device UID
    ├── Procedure reported: what was imaged
    ├── Imaging Measurements
    │   └── one group per finding of the model, positive or not (TID 1410 with a region, TID 1501)
    │       tracking UID · finding · algorithm (TID 4019) · certainty · threshold · presence · image
    └── Qualitative Evaluations: triage, ACR category or reason, status of the run, in words

A study that was not analysed has no group at all, only the last part.

References
----------
DICOM PS3.3 A.35.13 Comprehensive 3D SR IOD; PS3.16 TID 1500; IHE RAD AI Results 6.5.3.
"""

import io
from decimal import Decimal
from typing import Any

import pydicom
from highdicom.sr import (
    AlgorithmIdentification,
    ContentItem,
    ContentSequence,
    GraphicTypeValues,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ScoordContentItem,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from highdicom.sr.templates import Template
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes as known
from pydicom.uid import Comprehensive3DSRStorage

from ai_engine.result import Finding, NotAnalysed, Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.acquisition import text
from fhir_mappers.dicom_header import MANUFACTURER, Basis, Part, Written, new_object, written
from fhir_mappers.dicom_items import Reference, plain, study_items
from fhir_mappers.identifiers import instance_uid
from fhir_mappers.report_context import DisplayMode, ReportContext
from fhir_mappers.salient_region import SalientRegion, salient_regions
from fhir_mappers.sr_document import (
    CONTAINS,
    coded,
    complete_document,
    concept,
    container,
    device_observer,
    root,
    worded,
)
from fhir_mappers.study import Study
from fhir_mappers.wording import figures, impression

REPORT = Part("report.dcm", Comprehensive3DSRStorage, "SR", 9004, "AI report (not for diagnosis)")
_ENGLISH = ("en", "RFC5646", "English")
_PROCEDURE_REPORTED = ("121058", "DCM", "Procedure reported")
_IMAGING_MEASUREMENTS = ("126010", "DCM", "Imaging Measurements")
_IMAGE_REGION = ("111030", "DCM", "Image Region")
TITLE = ("126000", "DCM", "Imaging Measurement Report")


def report(study: Study, outcome: Outcome, basis: Basis) -> Written:
    """Give the report of one outcome, analysed or not.

    Raises
    ------
    InvalidMessage
        If there is a result but its image has no UID.
    """
    dataset = sr_object(basis, REPORT, outcome)
    context = basis.context
    if context.predecessor and context.predecessor.report:
        dataset.PredecessorDocumentsSequence = _predecessor(context.predecessor.report)
    items = opening(study, outcome, context)
    evidence = []
    if isinstance(outcome, TriageResult):
        evidence = [basis.image]
        groups = [item for each in outcome.findings for item in _group(each, outcome, basis)]
        items.append(container(_IMAGING_MEASUREMENTS, groups))
    items.append(container(codes.QUALITATIVE_EVALUATIONS, evaluations(outcome, context)))
    complete_document(dataset, root(TITLE, "1500", items), evidence=evidence)
    return written(dataset, REPORT, context)


def sr_object(basis: Basis, part: Part, outcome: Outcome) -> Dataset:
    """Begin a preliminary report that nobody verified; partial where an image was not analysed.

    References
    ----------
    DICOM PS3.3 C.17.2 SR Document General.
    """
    dataset = new_object(basis, part)
    partial = _why_partial(outcome, basis.context)
    dataset.CompletionFlag = "PARTIAL" if partial else "COMPLETE"
    if partial:
        dataset.CompletionFlagDescription = partial
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PerformedProcedureCodeSequence = Items([])
    return dataset


def opening(study: Study, outcome: Outcome, context: ReportContext) -> list[ContentItem]:
    """Give the items with which a report begins: language, observer, procedure."""
    code, display = codes.procedure(study, outcome)
    procedure = coded(_PROCEDURE_REPORTED, (code, "LN", display))
    procedure.RelationshipType = "HAS CONCEPT MOD"
    return [
        *LanguageOfContentItemAndDescendants(concept(_ENGLISH)),
        *ObservationContext(observer_device_context=device_observer(context)),
        procedure,
    ]


def evaluations(outcome: Outcome, context: ReportContext) -> list[ContentItem]:
    """Say what holds for the whole study: triage, category or reason, status, words."""
    triage = codes.triage(outcome)
    items: list[ContentItem] = [
        coded(codes.TRIAGE, (triage.code, codes.LOCAL_SCHEME, triage.display))
    ]
    if isinstance(outcome, NotAnalysed):
        reason = (outcome.reason.value, codes.LOCAL_SCHEME, codes.REASONS[outcome.reason])
        items.append(coded(codes.REASON, reason))
    if triage.acr:
        category, meaning = triage.acr
        items.append(coded(codes.ACR_CATEGORY, (category, "RADLEX", meaning)))
    items.append(coded(codes.RUN_SUMMARY, codes.run_summary(outcome, context.unread)))
    return items + [worded(codes.COMMENT, line) for line in impression(outcome, context)]


def _why_partial(outcome: Outcome, context: ReportContext) -> str:
    if isinstance(outcome, NotAnalysed):
        return "The study was not analysed by AI"
    return f"{context.unread} image(s) could not be read" if context.unread else ""


def _predecessor(earlier: bytes) -> Items:
    """Refer to the report that this one supersedes (DICOM PS3.3 C.17.2.2)."""
    dataset = pydicom.dcmread(io.BytesIO(earlier), stop_before_pixels=True)
    names = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return study_items([Reference(*(text(dataset, name) for name in names))])


def _group(finding: Finding, result: TriageResult, basis: Basis) -> Template:
    """Give the measurement group of one finding, with its region where there is one to show."""
    context, image = basis.context, basis.image
    model = result.model
    probability, threshold = (_percent_of(each) for each in figures(finding, places=4))
    presence = codes.ABOVE_THRESHOLD if finding.positive else codes.BELOW_THRESHOLD
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=instance_uid(context.result_id, f"tracking|{finding.label}"),
            identifier=plain(f"{model.name} {finding.label}"),
        ),
        "finding_type": concept(codes.dicom_finding(finding.label)),
        "algorithm_id": AlgorithmIdentification(
            plain(model.name),
            plain(model.version),
            parameters=[f"sha256={model.sha256}"],
            family=concept(codes.ARTIFICIAL_INTELLIGENCE),
            manufacturer=MANUFACTURER,
        ),
        "measurements": [
            _percent(codes.CERTAINTY, probability),
            _percent(codes.THRESHOLD, threshold),
        ],
        "qualitative_evaluations": [
            QualitativeEvaluation(concept(codes.PRESENCE), concept(presence))
        ],
    }
    region = _region(finding, result, basis)
    group = (
        _group_without_region(common, image) if region is None else _group_of(region, common, image)
    )
    for container_item in group:
        container_item.add_new("ContinuityOfContent", "CS", "SEPARATE")
    return group


def _group_without_region(common: dict[str, Any], image: Reference) -> Template:
    source = SourceImageForMeasurementGroup(image.sop_class_uid, image.sop_instance_uid)
    return MeasurementsAndQualitativeEvaluations(**common, source_images=[source])


def _group_of(region: SalientRegion, common: dict[str, Any], image: Reference) -> Template:
    item = ScoordContentItem(
        concept(_IMAGE_REGION),
        GraphicTypeValues.POLYLINE,
        region.outline,
        relationship_type=CONTAINS,
    )
    source = SourceImageForRegion(image.sop_class_uid, image.sop_instance_uid)
    item.ContentSequence = ContentSequence([source])
    # Not by its constructor, which looks up the SOP class of the image and knows no private one.
    referenced = ImageRegion.from_dataset(item, copy=False)
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        **common, method=concept(codes.GRAD_CAM), referenced_region=referenced
    )


def _region(finding: Finding, result: TriageResult, basis: Basis) -> SalientRegion | None:
    """Give the region around the strongest cell of a positive finding, at a site that shows it."""
    if basis.context.site.display_mode is not DisplayMode.OVERLAY or not finding.positive:
        return None
    header = basis.header
    regions = salient_regions(
        result.saliency_of(finding.label).grid, rows=header.Rows, columns=header.Columns
    )
    return regions[0] if regions else None


def _percent_of(fraction: str) -> float:
    """Shift the decimal point; a product of floats could close the gap to the threshold."""
    return float(Decimal(fraction).scaleb(2))


def _percent(name: codes.Coded, value: float) -> Measurement:
    return Measurement(concept(name), value, known.UCUM.Percent)
