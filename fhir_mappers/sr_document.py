"""The frame of a structured report: its modules, its root, its content items.

Content items come from highdicom, which knows which fit where. The file around them is ours:
highdicom stamps its own files with the time of writing, and a repeat must be the same bytes.
"""

from collections.abc import Sequence

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    CompositeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes as known
from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
)

from fhir_mappers import codes
from fhir_mappers.codes import Coded
from fhir_mappers.dicom_header import MANUFACTURER
from fhir_mappers.dicom_items import Reference, label, plain, study_items
from fhir_mappers.identifiers import device_uid
from fhir_mappers.report_context import ReportContext

CONTAINS = RelationshipTypeValues.CONTAINS
SEPARATE = False
"""Continuity of Content (0040,A050): readers show each item with its name, not as running text."""
_NO_IMAGES = {
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
}


def concept(code: Coded) -> CodedConcept:
    """Give a code as highdicom wants it."""
    value, scheme, meaning = code
    return CodedConcept(value, scheme, label(meaning))


def coded(name: Coded, value: Coded) -> CodeContentItem:
    """Give a CODE item."""
    return CodeContentItem(concept(name), concept(value), CONTAINS)


def worded(name: Coded, words: str) -> TextContentItem:
    """Give a TEXT item."""
    return TextContentItem(concept(name), plain(words), CONTAINS)


def referring(name: Coded, reference: Reference) -> ContentItem:
    """Give an IMAGE item of an image, and a COMPOSITE item of a report or presentation state."""
    kind = CompositeContentItem if reference.sop_class_uid in _NO_IMAGES else ImageContentItem
    return kind(
        concept(name),
        reference.sop_class_uid,
        reference.sop_instance_uid,
        relationship_type=CONTAINS,
    )


def container(name: Coded, items: Sequence[ContentItem]) -> ContainerContentItem:
    """Give a CONTAINER item with what it contains."""
    item = ContainerContentItem(concept(name), SEPARATE, relationship_type=CONTAINS)
    item.ContentSequence = ContentSequence(items)
    return item


def root(title: Coded, template: str, items: Sequence[ContentItem]) -> ContainerContentItem:
    """Give the root of a content tree.

    Parameters
    ----------
    title, template
        Document title, and Template Identifier (0040,DB00) of DCMR.
    items
        What it contains.
    """
    item = ContainerContentItem(concept(title), SEPARATE, template_id=template)
    item.ContentSequence = ContentSequence(items)
    return item


def device_observer(context: ReportContext) -> ObserverContext:
    """Say that an algorithm observed, no person.

    References
    ----------
    DICOM PS3.16 TID 1002 Observer Context, TID 1004 Device Observer.
    """
    model = context.model
    return ObserverContext(
        known.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=device_uid(model.sha256),
            name=plain(context.site.name) or MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=plain(model.name),
            serial_number=model.sha256,
        ),
    )


def complete_document(
    dataset: Dataset,
    tree: ContainerContentItem,
    *,
    evidence: Sequence[Reference],
) -> None:
    """Put a content tree into an object, with what it refers to and the schemes of its codes.

    References
    ----------
    DICOM PS3.3 C.17.2 SR Document General, C.17.3 SR Document Content, C.12.1 SOP Common.
    """
    dataset.ReferencedPerformedProcedureStepSequence = Items([])
    if evidence:
        dataset.CurrentRequestedProcedureEvidenceSequence = study_items(evidence)
    used = {str(each.CodingSchemeDesignator) for each in _codes_of(tree)}
    for element in tree:
        dataset.add(element)
    schemes = [_scheme_item(codes.SCHEMES[each]) for each in sorted(used & set(codes.SCHEMES))]
    if schemes:
        dataset.CodingSchemeIdentificationSequence = Items(schemes)


def _codes_of(tree: ContainerContentItem) -> Sequence[Dataset]:
    found: list[Dataset] = []
    waiting: list[Dataset] = [tree]
    while waiting:
        item = waiting.pop()
        if "CodeMeaning" in item:
            found.append(item)
        for element in item:
            if element.VR == "SQ":
                waiting += list(element.value)
    return found


def _scheme_item(scheme: codes.Scheme) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = scheme.designator
    if scheme.oid:
        item.CodingSchemeRegistry = "HL7"
        item.CodingSchemeUID = scheme.oid
    item.CodingSchemeName = scheme.name
    item.CodingSchemeResponsibleOrganization = scheme.organisation
    return item
