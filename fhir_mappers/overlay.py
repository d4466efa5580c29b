"""Pictures for people: the analysed image, and the same with the saliency drawn over it.

The saliency explains the model; it does not locate a lesion. Every picture says so, in a strip
below the anatomy, never over it.
"""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ai_engine.image import Image
from ai_engine.result import Saliency

LONGEST_SIDE = 1024
DISCLAIMER = "AI saliency: explains the model, not a lesion location. Not for diagnosis."

# Viridis at equal steps: readable without colour vision, ordered by lightness.
_COLOURS = np.array(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float32
)
_STRONGEST_ALPHA = 0.55
_INK, _PAPER = (235, 235, 235), (24, 24, 24)
_JPEG_QUALITIES = (90, 80, 70, 60, 50)
_UP, _GREY, _RGB = 2, 0, 2
_JPEG_SCALES = (1.0, 0.75, 0.5, 0.35, 0.25)

Pixels = NDArray[np.uint8]


def original_png(grey: Pixels) -> bytes:
    """Give what ``shrunk`` gave as a PNG."""
    return _png(grey)


def overlay_png(picture: Pixels) -> bytes:
    """Give what ``overlay_rgb`` drew as a PNG."""
    return _png(picture)


def overlay_jpeg(picture: Pixels, *, max_bytes: int) -> bytes:
    """Give what ``overlay_rgb`` drew as a JPEG of at most ``max_bytes``.

    Quality falls first, then size.

    Raises
    ------
    ValueError
        If even the smallest picture is larger.
    """
    full = Pillow.fromarray(picture)
    for scale in _JPEG_SCALES:
        size = (max(1, round(full.width * scale)), max(1, round(full.height * scale)))
        scaled = full if scale == 1.0 else full.resize(size, Pillow.Resampling.LANCZOS)
        for quality in _JPEG_QUALITIES:
            written = io.BytesIO()
            scaled.save(written, "JPEG", quality=quality)
            if written.tell() <= max_bytes:
                return written.getvalue()
    msg = f"the overlay does not fit into {max_bytes} bytes"
    raise ValueError(msg)


def overlay_rgb(grey: Pixels, saliency: Saliency, *, caption: Sequence[str]) -> Pixels:
    """Draw the saliency over the image, with a legend and its meaning in a strip below.

    Parameters
    ----------
    grey
        The analysed image, as ``shrunk`` gave it.
    saliency
        Of one finding. It is drawn smooth, but means nothing finer than one cell of its grid.
    caption
        Lines that say which finding and which model.

    Returns
    -------
    Pixels
        **shape** ``(rows, columns, 3)``, **dtype** ``uint8``.
    """
    rows, columns = grey.shape
    strength = Pillow.fromarray(saliency.grid).resize((columns, rows), Pillow.Resampling.BICUBIC)
    shown = np.clip(np.asarray(strength, dtype=np.float32), 0.0, 1.0)
    step = Pillow.fromarray(np.rint(shown * (_STEPS - 1)).astype(np.uint8))
    tint = Pillow.merge("RGB", [step.point(channel) for channel in _TINTS])
    below = Pillow.merge("RGB", [Pillow.fromarray(grey)] * 3)
    drawn = Pillow.composite(tint, below, step.point(_ALPHA))
    return np.vstack([np.asarray(drawn), _strip(columns, saliency, caption)])


def shrunk(image: Image) -> Pixels:
    """Give the analysed image as 8-bit grey, shrunk by area to at most ``LONGEST_SIDE``."""
    rows, columns = image.pixels.shape
    scale = min(1.0, LONGEST_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = Pillow.fromarray(image.pixels).resize(size, Pillow.Resampling.BOX)
    scaled = np.clip(np.asarray(small, dtype=np.float32), 0.0, 1.0) * np.float32(255.0)
    return np.asarray(np.rint(scaled), dtype=np.uint8)


def _coloured(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    positions = np.linspace(0.0, 1.0, len(_COLOURS))
    channels = [np.interp(strength, positions, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


# Of a strength of 0 to 1, in steps: how much it covers, and with which red, green and blue.
_STEPS = 256
_STRENGTHS = np.linspace(0.0, 1.0, _STEPS, dtype=np.float32)
_ALPHA = np.rint(_STRENGTHS * _STRONGEST_ALPHA * 255).astype(int).tolist()
_TINTS = np.rint(_coloured(_STRENGTHS)).astype(int).T.tolist()


def _strip(columns: int, saliency: Saliency, caption: Sequence[str]) -> Pixels:
    """Draw the strip below the picture: legend, caption, what it is and is not."""
    size = max(9, columns // 52)
    font = ImageFont.load_default(size)
    grid_rows, grid_columns = saliency.grid.shape
    lines = [*caption, f"The map has {grid_rows} by {grid_columns} cells.", DISCLAIMER]
    line_height, margin = round(size * 1.45), size
    strip = Pillow.new("RGB", (columns, 2 * margin + (len(lines) + 1) * line_height), _PAPER)
    draw = ImageDraw.Draw(strip)
    bar_columns, bar_rows = columns // 3, round(size * 0.8)
    ramp = np.tile(np.linspace(0.0, 1.0, bar_columns, dtype=np.float32), (bar_rows, 1))
    strip.paste(Pillow.fromarray(np.rint(_coloured(ramp)).astype(np.uint8)), (margin, margin))
    beside = (margin * 2 + bar_columns, margin - size // 5)
    draw.text(beside, "weak to strong evidence for the finding", _INK, font)
    for index, line in enumerate(lines, start=1):
        draw.text((margin, margin + index * line_height), line, _INK, font)
    return np.asarray(strip)


def _png(picture: Pixels) -> bytes:
    """Write 8-bit grey or RGB as PNG, each row as its difference from the row above.

    Written here because Pillow tries five filters for each row and holds the interpreter meanwhile:
    this takes a third of the time, on the other core.

    References
    ----------
    W3C Portable Network Graphics 9.2 Filter types, 10.1 Compression, 11.2 Critical chunks.
    """
    rows, columns = picture.shape[:2]
    flat = picture.reshape(rows, -1)
    filtered = np.empty((rows, 1 + flat.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])
    colour = _GREY if picture.ndim == 2 else _RGB  # noqa: PLR2004 - rows and columns
    header = struct.pack(">2I5B", columns, rows, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
