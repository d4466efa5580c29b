"""The overlay at the size that a destination takes."""

import io

import numpy as np
from PIL import Image as Pillow

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.overlay import overlay_jpeg


def fitted_overlay(jpeg: bytes, *, max_bytes: int) -> bytes | None:
    """Give the overlay as it is where it fits, else smaller: quality falls first, then size.

    Parameters
    ----------
    jpeg
        The overlay.
    max_bytes
        What the destination takes.

    Returns
    -------
    bytes or None
        ``None`` where no readable picture is so small.

    Raises
    ------
    InvalidMessage
        If it has to be made smaller and is no JPEG.
    """
    if len(jpeg) <= max_bytes:
        return jpeg
    try:
        with Pillow.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, Pillow.DecompressionBombError) as error:
        msg = "the overlay has to be made smaller, and is no JPEG that can be read"
        raise InvalidMessage(msg) from error
    try:
        return overlay_jpeg(pixels, max_bytes=max_bytes)
    except ValueError:
        return None
