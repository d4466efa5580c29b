"""What a compressed frame says of itself, read before anything decodes it.

A codec allocates what the frame claims, not what the DICOM header does: a few bytes can ask for
gigabytes. So both must say the same.
"""

import struct
from dataclasses import dataclass

_START_OF_IMAGE = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  "
_BOX_START = 8
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_END_OF_HEADERS = frozenset({0xD9, 0xDA})


@dataclass(frozen=True, slots=True)
class FrameSize:
    """How large a compressed frame says that it is."""

    rows: int
    columns: int
    samples: int


def frame_size(encoded: bytes) -> FrameSize | None:
    """Read the size of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame from its own header.

    Parameters
    ----------
    encoded
        One frame, its fragments joined.

    Returns
    -------
    FrameSize | None
        ``None`` where it says none: RLE has no such header, and a damaged one tells nothing.

    References
    ----------
    ISO/IEC 10918-1 B.2.2 (SOF), ISO/IEC 14495-1 C.2.2 (SOF55), ISO/IEC 15444-1 A.5.1 (SIZ) and
    I.4 (boxes).
    """
    if encoded.startswith(_START_OF_IMAGE):
        return _jpeg(encoded)
    if encoded.startswith(_JP2_START):
        encoded = _unboxed(encoded)
    if encoded.startswith(_J2K_START):
        return _jpeg_2000(encoded)
    return None


def _jpeg(encoded: bytes) -> FrameSize | None:
    """Walk through the marker segments to the frame header."""
    at = len(_START_OF_IMAGE)
    while at + 4 <= len(encoded) and encoded[at] == 0xFF:  # noqa: PLR2004 - a marker
        marker = encoded[at + 1]
        if marker in _FRAME_HEADERS:
            return _start_of_frame(encoded[at + 4 : at + 10])
        if marker in _END_OF_HEADERS:
            return None
        if marker == 0xFF:  # noqa: PLR2004 - filling
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(encoded[at + 2 : at + 4])
    return None


def _start_of_frame(segment: bytes) -> FrameSize | None:
    try:
        _, rows, columns, samples = struct.unpack(">BHHB", segment)
    except struct.error:
        return None
    return FrameSize(rows, columns, samples)


def _unboxed(encoded: bytes) -> bytes:
    """Give the codestream of a JP2 file, which DICOM does not allow and some devices write."""
    at = 0
    while at + _BOX_START <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, at)
        if kind == b"jp2c":
            return encoded[at + _BOX_START :]
        if length < _BOX_START:
            break
        at += length
    return b""


def _jpeg_2000(encoded: bytes) -> FrameSize | None:
    try:
        _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", encoded, len(_J2K_START))
        (samples,) = struct.unpack_from(">H", encoded, len(_J2K_START) + 36)
    except struct.error:
        return None
    return FrameSize(max(bottom - top, 0), max(right - left, 0), samples)
