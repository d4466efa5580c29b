"""The salient cells drawn on the original image, to be switched off by its reader.

The pixels stay those of the archive, in full depth. The lines follow whole cells of the map.
"""

import copy
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from ai_engine.result import TriageResult
from fhir_mappers.acquisition import pixel_spacing_mm, text
from fhir_mappers.decimal_strings import decimal, decimals
from fhir_mappers.dicom_header import (
    MANUFACTURER,
    Basis,
    Part,
    Written,
    describe_body_part,
    new_object,
    written,
)
from fhir_mappers.dicom_items import plain, series_items
from fhir_mappers.pixels import is_inverted
from fhir_mappers.salient_region import SalientRegion, salient_regions
from fhir_mappers.wording import explained_finding, model_line, probability_line

PRESENTATION_STATE = Part(
    "presentation-state.dcm",
    GrayscaleSoftcopyPresentationStateStorage,
    "PR",
    9002,
    "AI outline on the original (not for diagnosis)",
)
_LAYER = "AI"
_CAVEAT = "AI, not for diagnosis"
_TEXT_BOX = ([0.01, 0.86], [0.99, 0.99])
"""Top left and bottom right corner of the words, as fractions of what is displayed."""
_MODALITY_LUT = ("RescaleIntercept", "RescaleSlope", "RescaleType")


def presentation_state(result: TriageResult, basis: Basis) -> Written:
    """Draw the salient cells of the explained finding, and say what they are.

    A finding under its threshold is named but not outlined.

    Raises
    ------
    InvalidMessage
        If the image has no UID.

    References
    ----------
    DICOM PS3.3 A.33.1 Grayscale Softcopy Presentation State IOD, C.10.5 Graphic Annotation.
    """
    header = basis.header
    finding = explained_finding(result)
    regions: Sequence[SalientRegion] = ()
    if finding.positive:
        grid = result.saliency_of(finding.label).grid
        regions = salient_regions(grid, rows=header.Rows, columns=header.Columns)
    dataset = new_object(basis, PRESENTATION_STATE)
    describe_body_part(basis, dataset, sided=True)
    dataset.ContentLabel = "AI_SALIENCY"
    dataset.ContentDescription = _CAVEAT
    dataset.ContentCreatorName = MANUFACTURER + "^"
    dataset.PresentationCreationDate = dataset.ContentDate
    dataset.PresentationCreationTime = dataset.ContentTime
    for keyword in ("ContentDate", "ContentTime"):
        del dataset[keyword]
    dataset.ReferencedSeriesSequence = _referenced_series(basis)
    dataset.DisplayedAreaSelectionSequence = Items([_displayed_area(header)])
    words = [_CAVEAT, probability_line(finding), model_line(basis.context)]
    if regions:
        words.insert(1, "The outlined cells explain the model; they locate no lesion.")
    dataset.GraphicAnnotationSequence = Items([_annotation(basis, regions, words)])
    dataset.GraphicLayerSequence = Items([_layer()])
    _show_as_the_original(header, dataset)
    return written(dataset, PRESENTATION_STATE, basis.context)


def _referenced_series(basis: Basis) -> Items:
    items = series_items([basis.image])
    for item in items:
        item.ReferencedImageSequence = item.ReferencedSOPSequence
        del item.ReferencedSOPSequence
    return items


def _displayed_area(header: Dataset) -> Dataset:
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [max(header.Columns, 2), max(header.Rows, 2)]
    item.PresentationSizeMode = "SCALE TO FIT"
    spacing = pixel_spacing_mm(header)
    if spacing and spacing[0] != spacing[1]:
        item.PresentationPixelSpacing = [decimal(each) for each in spacing]
    else:
        item.PresentationPixelAspectRatio = [1, 1]
    return item


def _annotation(basis: Basis, regions: Sequence[SalientRegion], words: Sequence[str]) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = Items([basis.image.item])
    item.GraphicLayer = _LAYER
    item.TextObjectSequence = Items([_words(words)])
    if regions:
        item.GraphicObjectSequence = Items([_outline(each) for each in regions])
    return item


def _words(words: Sequence[str]) -> Dataset:
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = "\r\n".join(plain(each) for each in words)
    item.BoundingBoxTopLeftHandCorner, item.BoundingBoxBottomRightHandCorner = _TEXT_BOX
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item


def _outline(region: SalientRegion) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(region.outline)
    item.GraphicData = region.outline.ravel().tolist()
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _layer() -> Dataset:
    item = Dataset()
    item.GraphicLayer = _LAYER
    item.GraphicLayerOrder = 1
    item.GraphicLayerRecommendedDisplayGrayscaleValue = 0xFFFF
    item.GraphicLayerDescription = _CAVEAT
    return item


def _show_as_the_original(header: Dataset, dataset: Dataset) -> None:
    """Repeat how the image is to be shown: a presentation state overrides all of it.

    References
    ----------
    DICOM PS3.3 C.11.1 Modality LUT, C.11.8 Softcopy VOI LUT, C.11.6 Softcopy Presentation LUT.
    """
    slope, intercept = decimals(header, "RescaleSlope"), decimals(header, "RescaleIntercept")
    if header.get("ModalityLUTSequence"):
        dataset.ModalityLUTSequence = copy.deepcopy(header.ModalityLUTSequence)
    elif len(slope) == len(intercept) == 1:
        dataset.RescaleIntercept, dataset.RescaleSlope = intercept[0], slope[0]
        dataset.RescaleType = text(header, "RescaleType") or "US"
    voi = Dataset()
    centers, widths = decimals(header, "WindowCenter"), decimals(header, "WindowWidth")
    if header.get("VOILUTSequence"):
        voi.VOILUTSequence = copy.deepcopy(header.VOILUTSequence)
    elif centers and len(centers) == len(widths) and min(widths) >= 1:
        voi.WindowCenter, voi.WindowWidth = centers, widths
        function = text(header, "VOILUTFunction")
        if function:
            voi.VOILUTFunction = function
    if len(voi):
        dataset.SoftcopyVOILUTSequence = Items([voi])
    dataset.PresentationLUTShape = "INVERSE" if is_inverted(header) else "IDENTITY"
