"""The saliency map as numbers: a fractional segmentation in the geometry of the image.

Every pixel has the value of its cell: nothing is smoothed, so nothing looks finer than the grid.
"""

import re
import struct

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import RLELossless, SegmentationStorage
from pydicom.valuerep import DSfloat
from rle.rle import encode_row

from ai_engine.result import Saliency, TriageResult
from fhir_mappers import codes
from fhir_mappers.acquisition import text
from fhir_mappers.decimal_strings import decimals
from fhir_mappers.dicom_header import (
    MANUFACTURER,
    Basis,
    Part,
    Written,
    describe_body_part,
    encapsulated,
    new_object,
    written,
)
from fhir_mappers.dicom_items import code_item, label, series_items
from fhir_mappers.identifiers import instance_uid
from fhir_mappers.wording import explained_finding

SALIENCY = Part(
    "saliency.dcm",
    SegmentationStorage,
    "SEG",
    9003,
    "AI saliency map (not for diagnosis)",
    RLELossless,
)
_FULL = 255
_RLE_HEADER_BYTES = 64
_DIRECTION = re.compile(r"[LRAPHF]{1,3}")
_AXES, _DIRECTIONS, _SPACINGS = 3, 6, 2


def saliency_segmentation(result: TriageResult, basis: Basis) -> Written:
    """Give the map of the explained finding as a fractional segmentation, 0 to 255.

    Run-length encoded without loss: of megabytes that repeat a few values, little is left.

    Raises
    ------
    InvalidMessage
        If the image has no UID.

    References
    ----------
    DICOM PS3.3 A.51 Segmentation IOD, C.8.20 Segmentation.
    """
    header = basis.header
    saliency = result.saliency_of(explained_finding(result).label)
    dataset = new_object(basis, SALIENCY)
    describe_body_part(basis, dataset, sided=False)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PatientOrientation = _orientation(header)
    dataset.ContentLabel = "AI_SALIENCY"
    dataset.ContentDescription = "Saliency of the AI; explains the model, locates no lesion"
    dataset.ContentCreatorName = MANUFACTURER + "^"
    dataset.SegmentationType = "FRACTIONAL"
    dataset.SegmentationFractionalType = "PROBABILITY"
    dataset.MaximumFractionalValue = _FULL
    dataset.SegmentSequence = Items([_segment(saliency, result, basis)])
    dataset.ReferencedSeriesSequence = _referenced_series(basis)
    _describe_frame(basis, dataset)
    _describe_pixels(dataset, header.Rows, header.Columns)
    encapsulated(dataset, run_lengths(saliency.grid, header.Rows, header.Columns))
    return written(dataset, SALIENCY, basis.context)


def run_lengths(grid: NDArray[np.float32], rows: int, columns: int) -> bytes:
    """Give each pixel the strength of the cell that its centre lies in, run-length encoded.

    Rows of one row of cells are the same, so each is encoded once.

    Parameters
    ----------
    grid
        Strengths, 0 to 1.
    rows, columns
        Of the image.

    Returns
    -------
    bytes
        One frame of 8-bit greys, 255 for the strength 1.

    References
    ----------
    DICOM PS3.5 Annex G Encapsulated RLE Compressed Images.
    """
    row = (np.arange(rows) * 2 + 1) * grid.shape[0] // (2 * rows)
    column = (np.arange(columns) * 2 + 1) * grid.shape[1] // (2 * columns)
    strengths = np.rint(np.clip(grid, 0.0, 1.0) * _FULL).astype(np.uint8)[:, column]
    encoded = [encode_row(each.tobytes()) for each in strengths]
    header = struct.pack("<16L", 1, _RLE_HEADER_BYTES, *[0] * 14)
    return header + b"".join(encoded[each] for each in row)


def _segment(saliency: Saliency, result: TriageResult, basis: Basis) -> Dataset:
    item = Dataset()
    finding = codes.finding(saliency.label)
    item.SegmentNumber = 1
    item.SegmentLabel = label(f"AI saliency: {finding.display}")
    grid_rows, grid_columns = saliency.grid.shape
    item.SegmentDescription = (
        f"Grad-CAM, {grid_rows} by {grid_columns} cells, relative strength, not a diagnosis"
    )
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = label(result.model.name)
    item.SegmentationAlgorithmIdentificationSequence = Items([_algorithm(result)])
    item.SegmentedPropertyCategoryCodeSequence = Items([code_item(codes.SPATIAL_CONCEPT)])
    item.SegmentedPropertyTypeCodeSequence = Items([code_item(codes.GRAD_CAM)])
    item.TrackingID = label(f"{result.model.name} {saliency.label}")
    item.TrackingUID = instance_uid(basis.context.result_id, f"tracking|{saliency.label}")
    return item


def _algorithm(result: TriageResult) -> Dataset:
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = Items([code_item(codes.ARTIFICIAL_INTELLIGENCE)])
    item.AlgorithmName = label(result.model.name)
    item.AlgorithmVersion = label(result.model.version)
    item.AlgorithmParameters = f"sha256={result.model.sha256}"
    item.AlgorithmSource = MANUFACTURER
    return item


def _orientation(header: Dataset) -> list[str] | None:
    """Give the directions of rows and columns, where the source says them in words of DICOM.

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.1 Patient Orientation (0020,0020), type 2C.
    """
    value = header.get("PatientOrientation")
    directions = [str(each) for each in value] if isinstance(value, MultiValue) else []
    said = [bool(_DIRECTION.fullmatch(each)) for each in directions]
    return directions if said == [True, True] else None


def _referenced_series(basis: Basis) -> Items:
    items = series_items([basis.image])
    for item in items:
        item.ReferencedInstanceSequence = item.ReferencedSOPSequence
        del item.ReferencedSOPSequence
    return items


def _describe_frame(basis: Basis, dataset: Dataset) -> None:
    """Say what the one frame is: of which segment, derived from which image, where in space.

    References
    ----------
    DICOM PS3.3 C.7.6.16 Multi-frame Functional Groups, C.7.6.17 Multi-frame Dimension.
    """
    organization = instance_uid(basis.context.result_id, "dimension")
    dimension = Dataset()
    dimension.DimensionOrganizationUID = organization
    dimension.DimensionIndexPointer = Tag("ReferencedSegmentNumber")
    dimension.FunctionalGroupPointer = Tag("SegmentIdentificationSequence")
    dimension.DimensionDescriptionLabel = "Segment Number"
    holder = Dataset()
    holder.DimensionOrganizationUID = organization
    dataset.DimensionOrganizationSequence = Items([holder])
    dataset.DimensionIndexSequence = Items([dimension])
    source = basis.image.item
    source.PurposeOfReferenceCodeSequence = Items([code_item(codes.SOURCE_OF_DERIVATION)])
    derivation = Dataset()
    derivation.DerivationCodeSequence = Items([code_item(codes.SEGMENTATION)])
    derivation.SourceImageSequence = Items([source])
    content = Dataset()
    content.DimensionIndexValues = 1
    segment = Dataset()
    segment.ReferencedSegmentNumber = 1
    frame = Dataset()
    frame.DerivationImageSequence = Items([derivation])
    frame.FrameContentSequence = Items([content])
    frame.SegmentIdentificationSequence = Items([segment])
    shared = Dataset()
    _place_in_space(basis.header, dataset, shared, frame)
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items([frame])
    dataset.NumberOfFrames = 1


def _place_in_space(header: Dataset, dataset: Dataset, shared: Dataset, frame: Dataset) -> None:
    """Repeat the plane of a slice; a projection radiograph has none.

    References
    ----------
    DICOM PS3.3 C.7.4.1 Frame of Reference, C.7.6.16.2.1 Pixel Measures, C.7.6.16.2.3 Plane
    Position, C.7.6.16.2.4 Plane Orientation.
    """
    reference = text(header, "FrameOfReferenceUID")
    position = _several(header, "ImagePositionPatient", _AXES)
    orientation = _several(header, "ImageOrientationPatient", _DIRECTIONS)
    spacing = _several(header, "PixelSpacing", _SPACINGS)
    if not (reference and position and orientation and spacing and min(spacing) > 0):
        return
    dataset.FrameOfReferenceUID = reference
    dataset.PositionReferenceIndicator = text(header, "PositionReferenceIndicator") or None
    measures, plane, turned = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = spacing
    thickness = _several(header, "SliceThickness", 1)
    if thickness and thickness[0] > 0:
        measures.SliceThickness = thickness[0]
    plane.ImagePositionPatient = position
    turned.ImageOrientationPatient = orientation
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([turned])
    frame.PlanePositionSequence = Items([plane])


def _several(header: Dataset, keyword: str, count: int) -> list[DSfloat]:
    """Give that many numbers, or none."""
    found = decimals(header, keyword)
    return found if len(found) == count else []


def _describe_pixels(dataset: Dataset, rows: int, columns: int) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
