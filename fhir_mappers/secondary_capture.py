"""The overlay as a DICOM object that every viewer shows."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom.sequence import Sequence as Items
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from ai_engine.result import TriageResult
from fhir_mappers.dicom_header import (
    Basis,
    Part,
    Written,
    describe_body_part,
    encapsulated,
    new_object,
    written,
)
from fhir_mappers.dicom_items import plain

SECONDARY_CAPTURE = Part(
    "secondary-capture.dcm",
    SecondaryCaptureImageStorage,
    "OT",
    9001,
    "AI saliency overlay (not for diagnosis)",
    JPEGBaseline8Bit,
)
_QUALITY = 92
_SHARED_COLOUR = "4:2:2"


def secondary_capture(rgb: NDArray[np.uint8], result: TriageResult, basis: Basis) -> Written:
    """Wrap the overlay picture as Secondary Capture, in the study of the analysed image.

    As JPEG Baseline, which every viewer shows: a thirtieth of the size, of a picture that explains.

    Parameters
    ----------
    rgb
        The picture, **shape** ``(rows, columns, 3)``, **dtype** ``uint8``.
    result
        What the model said.
    basis
        The analysed image, identifiers and times.

    Raises
    ------
    InvalidMessage
        If the image has no UID.

    References
    ----------
    DICOM PS3.3 A.8.1 Secondary Capture Image IOD, C.7.6.1.1.5 Lossy Image Compression.
    """
    jpeg = _jpeg(rgb)
    dataset = new_object(basis, SECONDARY_CAPTURE)
    describe_body_part(basis, dataset, sided=True)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = None
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "YES"
    model = plain(f"{result.model.name} {result.model.version}")
    dataset.DerivationDescription = f"Grad-CAM of {model}; AI output, not a diagnosis"
    dataset.SourceImageSequence = Items([basis.image.item])
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = rgb.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = f"{rgb.size / len(jpeg):.2f}"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    encapsulated(dataset, jpeg)
    return written(dataset, SECONDARY_CAPTURE, basis.context)


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    picture = Pillow.fromarray(np.ascontiguousarray(rgb))
    picture.save(file, "JPEG", quality=_QUALITY, subsampling=_SHARED_COLOUR)
    return file.getvalue()
