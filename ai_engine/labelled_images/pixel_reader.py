"""How a set turns a file into pixels: pictures here, DICOM by a reader that the caller brings."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ai_engine.errors import UnreadableImage
from ai_engine.image import View

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".npy"})
"""Suffixes of the files that ``decode_picture`` reads."""

_MOST_COLOUR = 12.0 / 255.0
_GREY_16_BIT = frozenset({"I;16", "I;16B", "I"})


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file says of itself.

    Parameters
    ----------
    study_uid, instance_uid
        DICOM UIDs, or ``""``.
    view, sex, age_years, manufacturer, site
        As of ``LabelledImage``.
    """

    study_uid: str = ""
    instance_uid: str = ""
    view: View = View.UNKNOWN
    sex: str = ""
    age_years: float | None = None
    manufacturer: str = ""
    site: str = ""


class PixelReader(Protocol):
    """Reads image files of one kind. It is picklable, so that other processes can read too."""

    def header(self, path: Path) -> ImageHeader:
        """Read what the file says of itself, without decoding pixels.

        Raises
        ------
        UnreadableImage
            If the file cannot be read.
        """
        ...

    def pixels(self, path: Path) -> NDArray[np.float32]:
        """Read the image as displayed: **shape** ``(rows, columns)``, 0 to 1, bright is dense.

        Raises
        ------
        UnreadableImage
            If the file cannot be read or decoded.
        """
        ...


def decode_picture(name: str, content: bytes) -> NDArray[np.float32]:
    """Decode a PNG or JPEG of 8 or 16 bits, or a NumPy array.

    A picture stored as colour is taken where its channels say the same, as some greyscale JPEG do.

    Parameters
    ----------
    name
        With the suffix that says what it is.
    content
        The file.

    Returns
    -------
    NDArray[np.float32]
        **shape** ``(rows, columns)``, 0 to 1.

    Raises
    ------
    UnreadableImage
        If it cannot be decoded, is in colour, has other dimensions, is not of 0 to 1 (floats), or
        holds values that are no numbers.
    """
    try:
        stored = _array(content) if name.lower().endswith(".npy") else _picture(content)
    except (OSError, ValueError, EOFError, Pillow.DecompressionBombError) as error:
        msg = f"{name} cannot be decoded ({error})."
        raise UnreadableImage(msg) from error
    return _as_displayed(name, stored)


def _array(content: bytes) -> NDArray[np.float32]:
    values = np.load(io.BytesIO(content), allow_pickle=False)
    if np.issubdtype(values.dtype, np.integer):
        values = values / float(np.iinfo(values.dtype).max)
    return np.asarray(values, dtype=np.float32)


def _picture(content: bytes) -> NDArray[np.float32]:
    with Pillow.open(io.BytesIO(content)) as picture:
        if picture.mode in _GREY_16_BIT:
            return np.asarray(picture, dtype=np.float32) / np.float32(65535.0)
        shown = picture.convert("L" if picture.mode in {"1", "L", "LA"} else "RGB")
        return np.asarray(shown, dtype=np.float32) / np.float32(255.0)


def _as_displayed(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check values and dimensions.

    Raises
    ------
    UnreadableImage
        If they are not those of one greyscale image.
    """
    if not np.isfinite(values).all():
        msg = f"{name} holds values that are no numbers (NaN or infinite). Leave the image out."
        raise UnreadableImage(msg)
    if values.ndim == 3 and values.shape[2] == 3:  # noqa: PLR2004 - red, green, blue
        if float(np.ptp(values, axis=2).mean()) > _MOST_COLOUR:
            msg = f"{name} is in colour (3 channels); one greyscale channel is read. Convert it."
            raise UnreadableImage(msg)
        values = values.mean(axis=2)
    if values.ndim != 2 or min(values.shape) == 0:  # noqa: PLR2004 - rows and columns
        msg = f"{name} has the shape {values.shape}; rows and columns of one channel are read."
        raise UnreadableImage(msg)
    if float(values.min()) < 0.0 or float(values.max()) > 1.0:
        msg = f"{name} has values outside 0 to 1. Store integers, or scale the values."
        raise UnreadableImage(msg)
    return values
