"""DICOM instance in, the engine's ``Image`` out. Identity stops here.

The order is DICOM's: padding is masked, then Modality LUT, VOI LUT, presentation (MONOCHROME1).
"""

import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEGLSTransferSyntaxes, RLELossless

from ai_engine.image import Image
from ai_engine.result import Reason
from fhir_mappers.acquisition import age_band, pixel_spacing_mm, subject, text, view
from fhir_mappers.codestream import FrameSize, frame_size
from fhir_mappers.errors import ImageDeclined

_MOST_FRAME_BYTES = 128 * 1024 * 1024
_PIXEL_BITS = frozenset({1, 8, 16, 32})
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and its decoders raise over damaged data. Too little memory is another matter."""
DAMAGED = "The pixel data are damaged and cannot be decoded."
_Floats = NDArray[np.float32]


def image(dataset: Dataset) -> Image:
    """Turn one instance into the image that the engine sees.

    Parameters
    ----------
    dataset
        With pixel data and file meta information.

    Returns
    -------
    Image
        Pixels ``float32`` 0 to 1, bright is dense, padding is 0.

    Raises
    ------
    ImageDeclined
        With the coded reason: no pixels, several frames, colour, for processing, a size beyond the
        budget, a transfer syntax that nothing here decodes, damaged data, or a blank picture.

    References
    ----------
    DICOM PS3.3 C.7.6.3 Image Pixel, C.11.1 Modality LUT, C.11.2 VOI LUT, C.11.6 Presentation LUT.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_header(dataset)
        return Image(
            pixels=_shown(dataset),
            subject=subject(dataset),
            view=view(dataset),
            age_band=age_band(dataset),
            pixel_spacing_mm=pixel_spacing_mm(dataset),
        )


def _shown(dataset: Dataset) -> _Floats:
    """Give the pixels as displayed, 0 to 1.

    Raises
    ------
    ImageDeclined
        If the data are damaged, or blank.
    """
    try:
        stored = stored_values(dataset, 0)
        padding = _padding(dataset, stored)
        shown = _windowed(dataset, _rescaled(dataset, stored), padding)
    except DECODER_ERRORS as error:
        raise ImageDeclined(Reason.UNREADABLE, DAMAGED) from error
    if is_inverted(dataset):
        np.subtract(np.float32(1.0), shown, out=shown)
    if padding is not None:
        shown[padding] = 0.0
    if not float(shown.min()) < float(shown.max()):
        raise ImageDeclined(Reason.POOR_QUALITY, "The image is blank: every pixel has one value.")
    return shown


def _check_header(dataset: Dataset) -> None:
    """Refuse what must not reach a decoder, and what the model does not read.

    Raises
    ------
    ImageDeclined
        With the coded reason.
    """
    check_decodable(dataset)
    frames = _number(dataset, "NumberOfFrames", 1)
    if frames > 1:
        msg = f"The image has {frames} frames; the model reads single ones."
        raise ImageDeclined(Reason.MULTI_FRAME, msg)
    if text(dataset, "PresentationIntentType") == "FOR PROCESSING":
        msg = "A raw image (FOR PROCESSING); the model reads images for presentation."
        raise ImageDeclined(Reason.POOR_QUALITY, msg)


def check_decodable(dataset: Dataset) -> None:
    """Refuse what must not reach a decoder.

    Raises
    ------
    ImageDeclined
        With the coded reason: no pixels, no size or one beyond the budget, impossible bits, colour,
        or a transfer syntax that nothing here decodes.
    """
    if "PixelData" not in dataset:
        raise ImageDeclined(Reason.NO_IMAGE, "The instance has no pixel data.")
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if rows * columns == 0:
        raise ImageDeclined(Reason.UNREADABLE, "The header gives the image no size.")
    samples, bits = _number(dataset, "SamplesPerPixel", 1), _bits_allocated(dataset)
    if rows * columns * max(samples, 1) * bits // 8 > _MOST_FRAME_BYTES:
        msg = f"The header claims {rows} by {columns} pixels, more than radcds decodes."
        raise ImageDeclined(Reason.UNREADABLE, msg)
    photometric = text(dataset, "PhotometricInterpretation")
    if samples != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise ImageDeclined(Reason.POOR_QUALITY, "A colour image; the model reads greyscale ones.")
    _check_transfer_syntax(dataset)


def _bits_allocated(dataset: Dataset) -> int:
    """Give Bits Allocated (0028,0100).

    Raises
    ------
    ImageDeclined
        If no image has so many, or the bits that are stored do not fit into them.

    References
    ----------
    DICOM PS3.5 8.1.1.
    """
    allocated = _number(dataset, "BitsAllocated")
    stored = _number(dataset, "BitsStored", allocated)
    highest = _number(dataset, "HighBit", stored - 1)
    if allocated not in _PIXEL_BITS or not 0 < stored <= highest + 1 <= allocated:
        msg = "The header's bits per pixel contradict each other, or are those of no image."
        raise ImageDeclined(Reason.UNREADABLE, msg)
    return allocated


def _check_transfer_syntax(dataset: Dataset) -> None:
    """Refuse what nothing here decodes.

    Raises
    ------
    ImageDeclined
        Naming the transfer syntax.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is None:
        raise ImageDeclined(Reason.UNREADABLE, "The instance names no transfer syntax.")
    known = syntax.is_transfer_syntax and not syntax.is_private
    if not known or (syntax.is_encapsulated and not _has_decoder(syntax)):
        name = syntax.name if known else "private"
        msg = f"The transfer syntax ({name}) cannot be decoded here."
        raise ImageDeclined(Reason.UNSUPPORTED_TRANSFER_SYNTAX, msg)


def stored_values(dataset: Dataset, frame: int) -> NDArray[np.int_]:
    """Decode one frame, and no other.

    Parameters
    ----------
    dataset
        That ``check_decodable`` let through.
    frame
        Which; frames count from 0.

    Returns
    -------
    NDArray[np.int_]
        **shape** ``(rows, columns)``, as stored.

    Raises
    ------
    ImageDeclined
        If there is no such frame, or the compressed one is not of the size that the header gives.
    """
    count = max(_number(dataset, "NumberOfFrames", 1), 1)
    if not 0 <= frame < count:
        raise ImageDeclined(Reason.NO_IMAGE, "The instance has no such frame.")
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return np.asarray(pixel_array(dataset, index=frame))
    tables = [dataset.get(f"ExtendedOffsetTable{name}") for name in ("", "Lengths")]
    encoded = get_frame(
        dataset.PixelData,
        frame,
        number_of_frames=count,
        extended_offsets=(tables[0], tables[1]) if all(tables) else None,
    )
    return _decoded(dataset, encoded)


def _decoded(dataset: Dataset, encoded: bytes) -> NDArray[np.int_]:
    """Decode one compressed frame, exactly the bytes that were checked.

    Raises
    ------
    ImageDeclined
        If it says another size of itself than the header does, or none. RLE has none to say.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    expected = FrameSize(_number(dataset, "Rows"), _number(dataset, "Columns"), 1)
    said = expected if syntax == RLELossless else frame_size(encoded)
    if said is None:
        raise ImageDeclined(Reason.UNREADABLE, DAMAGED)
    if said != expected:
        msg = "The compressed image is not of the size that the header gives."
        raise ImageDeclined(Reason.UNREADABLE, msg)
    single = Dataset()
    single.update(dataset.group_dataset(0x0028))
    single.NumberOfFrames = 1
    single.PixelData = encapsulate([encoded])
    single["PixelData"].VR = "OB"
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = syntax
    plugin = "pyjpegls" if syntax in JPEGLSTransferSyntaxes else ""
    return np.asarray(pixel_array(single, index=0, decoding_plugin=plugin))


def _has_decoder(syntax: object) -> bool:
    try:
        return bool(get_decoder(str(syntax)).is_available)
    except NotImplementedError:
        return False


def _number(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """Give a whole number of the header.

    Raises
    ------
    ImageDeclined
        If it is none.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return default
    try:
        return max(int(value), 0)
    except (TypeError, ValueError) as error:
        msg = f"The header's {keyword} is no number."
        raise ImageDeclined(Reason.UNREADABLE, msg) from error


def _padding(dataset: Dataset, stored: NDArray[np.int_]) -> NDArray[np.bool_] | None:
    """Mark padded pixels: they hold no image, and would stretch every scale.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2 Pixel Padding Value (0028,0120) and Range Limit (0028,0121).
    """
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    mask = np.asarray((stored >= low) & (stored <= high), dtype=np.bool_)
    return mask if mask.any() and not mask.all() else None


def _rescaled(dataset: Dataset, stored: NDArray[np.int_]) -> _Floats:
    """Apply the Modality LUT, or slope and intercept.

    Raises
    ------
    ImageDeclined
        If the slope is zero: every pixel would have one value.
    """
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    values = stored.astype(np.float32)  # a copy of our own, worked on in place from here
    slope = float(dataset.get("RescaleSlope", 1) or 0)
    if slope == 0:
        raise ImageDeclined(Reason.POOR_QUALITY, "The header's Rescale Slope is zero.")
    intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    if (slope, intercept) != (1.0, 0.0):
        values *= np.float32(slope)
        values += np.float32(intercept)
    return values


def _windowed(dataset: Dataset, values: _Floats, padding: NDArray[np.bool_] | None) -> _Floats:
    """Apply the VOI LUT or window, to 0 to 1; without either, the range of the image itself."""
    if dataset.get("VOILUTSequence"):
        table = np.asarray(apply_voi_lut(values.astype(np.int64), dataset), dtype=np.float32)
        return _stretched(table, padding)
    center, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if center is None or width is None or width < 1 or not np.isfinite(center):
        return _stretched(values, padding)
    if function == "SIGMOID":
        slope = np.clip(-4.0 * (values - center) / width, -60.0, 60.0)
        return np.asarray(1.0 / (1.0 + np.exp(slope)), dtype=np.float32)
    if function == "LINEAR_EXACT":
        values -= np.float32(center)
        values /= np.float32(width)
    else:
        values -= np.float32(center - 0.5)
        values /= np.float32(max(width - 1.0, 1e-6))
    values += np.float32(0.5)
    return np.clip(values, 0.0, 1.0, out=values)


def _stretched(values: _Floats, padding: NDArray[np.bool_] | None) -> _Floats:
    real = values if padding is None else values[~padding]
    low, high = float(real.min()), float(real.max())
    values -= np.float32(low)
    values /= np.float32((high - low) or 1.0)
    return np.clip(values, 0.0, 1.0, out=values)


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    try:
        return float(text(dataset, keyword))
    except ValueError:
        return None


def is_inverted(dataset: Dataset) -> bool:
    """Whether low values are to be shown bright.

    MONOCHROME1 says so, an INVERSE shape says so, and where a DX image carries both they say the
    same thing once.

    References
    ----------
    DICOM PS3.3 C.8.11.3.1.2 Presentation LUT Shape (2050,0020).
    """
    monochrome1 = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    return monochrome1 or text(dataset, "PresentationLUTShape") == "INVERSE"
