"""Files that no honest device makes, each with what must become of it. All of nobody."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from studies import chest_instance

READ, UNREADABLE = "read", "cannot be opened"
_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_PRIVATE = 0x00091010


@dataclass(frozen=True, slots=True)
class Hostile:
    """One file.

    Parameters
    ----------
    make
        Gives its bytes.
    decode, pixels
        What must become of it for the model and for the viewer: ``READ``, ``UNREADABLE``, or the
        coded reason with which it is declined.
    """

    make: Callable[[], bytes]
    decode: str
    pixels: str


# ── Parts of files ───────────────────────────────────────────────────────────────────────────────


def element(tag: int, vr: str, value: bytes, claimed: int | None = None) -> bytes:
    """Encode an attribute in Explicit VR Little Endian; its length may be a lie."""
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    length = len(value) if claimed is None else claimed
    return start + struct.pack("<xxI" if vr in _LONG else "<H", length) + value


def part10(content: bytes, syntax: UID = ExplicitVRLittleEndian, preamble: bytes = b"") -> bytes:
    """Put file meta information before encoded attributes."""
    uid = syntax.encode() + b"\x00" * (len(syntax) % 2)
    meta = element(0x00020010, "UI", uid)
    length = element(0x00020000, "UL", struct.pack("<I", len(meta)))
    return preamble.ljust(128, b"\x00") + b"DICM" + length + meta + content


def body(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    plain = Dataset()
    plain.update(dataset)
    plain.save_as(file, implicit_vr=False, little_endian=True)
    return file.getvalue()


def honest(**changes: object) -> bytes:
    return part10(body(chest_instance(**changes)))


def without(*keywords: str, **changes: object) -> bytes:
    """Encode an honest image without some attributes."""
    return body(chest_instance(**dict.fromkeys(keywords), **changes))


def compressed(syntax: UID, codestream: bytes, **changes: object) -> bytes:
    dataset = chest_instance(**changes)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return part10(body(dataset), syntax)


def wrong(tag: int, keyword: str, vr: str, value: bytes) -> bytes:
    """Give an attribute a value representation that it never has."""
    return part10(element(tag, vr, value) + without(keyword))


def nested(depth: int, *, defined: bool) -> bytes:
    """Put a sequence into a sequence into a sequence."""
    content = b""
    for _ in range(depth):
        if defined:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
            content = element(_PRIVATE, "SQ", item)
        else:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED) + content
            item += struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
            content = element(_PRIVATE, "SQ", item, _UNDEFINED)
    return part10(content + body(chest_instance()))


# ── Bombs ────────────────────────────────────────────────────────────────────────────────────────


def deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = deflater.compress(content) + deflater.flush()
    return part10(stream, DeflatedExplicitVRLittleEndian)


def deflate_bomb() -> bytes:
    """2 GiB of pixels in 2 MB: one block of the stream, repeated."""
    size, block = 1 << 31, 1 << 20
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = deflater.compress(without("PixelData") + element(_PIXEL_DATA, "OW", b"", size))
    stream += deflater.flush(zlib.Z_FULL_FLUSH)
    zeros = deflater.compress(b"\x00" * block) + deflater.flush(zlib.Z_FULL_FLUSH)
    stream += zeros * (size // block) + deflater.flush()
    return part10(stream, DeflatedExplicitVRLittleEndian)


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chest.dcm", b"\x00" * (16 << 20))
    return file.getvalue()


def rle(segment: bytes, count: int = 1, first: int = 64) -> bytes:
    return struct.pack("<16I", count, first, *[0] * 14) + segment


def j2k_codestream() -> bytes:
    """Give an honest codestream of 64 by 64 pixels."""
    pixels = np.arange(4096, dtype=np.uint16).tobytes()
    dataset = chest_instance(Rows=64, Columns=64, PixelData=pixels)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def j2k_lie(rows: int, columns: int, samples: int = 1) -> bytes:
    """Let that codestream say another size of itself."""
    lie = bytearray(j2k_codestream())
    lie[8:16] = struct.pack(">II", columns, rows)
    lie[24:32] = struct.pack(">II", columns, rows)
    lie[40:42] = struct.pack(">H", samples)
    return bytes(lie)


def jp2_decoy() -> bytes:
    """Hide a codestream of 60000 by 60000 behind a box that holds an honest one."""
    signature = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
    kind = struct.pack(">I4s4sI4s", 20, b"ftyp", b"jp2 ", 0, b"jp2 ")
    honest_one, lie = j2k_codestream(), j2k_lie(60000, 60000)
    decoy = struct.pack(">I4s", 8 + len(honest_one), b"free") + honest_one
    size = struct.pack(">I4sIIHBBBB", 22, b"ihdr", 60000, 60000, 1, 15, 7, 0, 0)
    colour = struct.pack(">I4sBBBI", 15, b"colr", 1, 0, 0, 17)
    header = struct.pack(">I4s", 8 + len(size + colour), b"jp2h") + size + colour
    return signature + kind + decoy + header + struct.pack(">I4s", 8 + len(lie), b"jp2c") + lie


def jpeg_lie(marker: int) -> bytes:
    """Claim 65535 by 65535 pixels in a JPEG frame header."""
    frame = struct.pack(">BBHBHHBBBB", 0xFF, marker, 11, 12, 65535, 65535, 1, 1, 0x11, 0)
    scan = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + scan + b"\x00" * 64 + b"\xff\xd9"


def fragments(count: int) -> bytes:
    """Split nothing into very many fragments."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    value = item * (count + 1) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    pixels = element(_PIXEL_DATA, "OB", value, _UNDEFINED)
    return part10(without("PixelData") + pixels, RLELossless)


def offset_lie() -> bytes:
    """Point an Extended Offset Table beyond every file."""
    pixels = element(_PIXEL_DATA, "OB", encapsulate([j2k_codestream()]), _UNDEFINED)
    pixels += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    tables = b"".join(
        struct.pack("<HH2sxxIQ", 0x7FE0, number, b"OV", 8, value)
        for number, value in ((1, 2**63), (2, 2**62))
    )
    small = without("PixelData", Rows=64, Columns=64)
    return part10(small + tables + pixels, JPEG2000Lossless)


def flood(count: int, seed: int = 4) -> bytes:
    """Fill a header with attributes of random tags and value representations."""
    chance = random.Random(seed)
    kinds = ("LO", "DS", "IS", "FD", "US", "AT", "PN", "UI", "DA", "ZZ", "QQ")
    tags = sorted(chance.sample(range(0x00100030, 0x0017FFFF), count))
    drawn = [element(tag, chance.choice(kinds), chance.randbytes(6)) for tag in tags]
    return part10(b"".join(drawn) + body(chest_instance()))


def sixteen_bits(value: int, rows: int = 256, columns: int = 224) -> bytes:
    return np.full((rows, columns), value, np.uint16).tobytes()


# ── The corpus ───────────────────────────────────────────────────────────────────────────────────


def cut(share: float) -> bytes:
    whole = honest()
    return whole[: int(len(whole) * share)]


def png() -> bytes:
    file = io.BytesIO()
    Pillow.new("L", (64, 64), 128).save(file, "png")
    return file.getvalue()


DAMAGED, BLANK = "UNREADABLE", "POOR_QUALITY"
_PIXELS = sixteen_bits(7)
_RANDOM = random.Random(7).randbytes(4096)

HOSTILE = {
    # What is no DICOM file
    "empty": Hostile(lambda: b"", UNREADABLE, UNREADABLE),
    "text": Hostile(lambda: b"chest\n" * 99, UNREADABLE, UNREADABLE),
    "png": Hostile(png, UNREADABLE, UNREADABLE),
    "zip bomb": Hostile(zip_bomb, UNREADABLE, UNREADABLE),
    "magic only": Hostile(lambda: b"\x00" * 128 + b"DICM", UNREADABLE, UNREADABLE),
    "noise": Hostile(lambda: part10(_RANDOM), UNREADABLE, UNREADABLE),
    # What is cut off
    **{
        f"cut off at {share}": Hostile(lambda share=share: cut(share), UNREADABLE, UNREADABLE)
        for share in (0.001, 0.0012, 0.003, 0.006, 0.3, 0.999)
    },
    "pixel data longer than the file": Hostile(
        lambda: part10(without("PixelData") + element(_PIXEL_DATA, "OW", _PIXELS, 0x7FFFFFFE)),
        UNREADABLE,
        UNREADABLE,
    ),
    "pixel data shorter than the image": Hostile(
        lambda: honest(PixelData=_PIXELS[:1000]), DAMAGED, DAMAGED
    ),
    "element of 4 GiB": Hostile(
        lambda: part10(element(_PRIVATE, "OB", b"", 0xFFFFFFFE) + body(chest_instance())),
        UNREADABLE,
        UNREADABLE,
    ),
    "sequence never closed": Hostile(
        lambda: part10(element(_PRIVATE, "SQ", b"", _UNDEFINED) + body(chest_instance())),
        UNREADABLE,
        UNREADABLE,
    ),
    "pixel data never closed": Hostile(
        lambda: part10(without("PixelData") + element(_PIXEL_DATA, "OB", _PIXELS, _UNDEFINED)),
        UNREADABLE,
        UNREADABLE,
    ),
    # Bombs
    "2 GiB deflated": Hostile(deflate_bomb, UNREADABLE, UNREADABLE),
    "deflated and cut off": Hostile(
        lambda: deflated(body(chest_instance()))[:-40], UNREADABLE, UNREADABLE
    ),
    "deflated noise": Hostile(
        lambda: part10(_RANDOM, DeflatedExplicitVRLittleEndian), UNREADABLE, UNREADABLE
    ),
    "RLE header 65535": Hostile(
        lambda: compressed(RLELossless, rle(b"\x81\x00" * 64), Rows=65535, Columns=65535),
        DAMAGED,
        DAMAGED,
    ),
    "RLE 30000": Hostile(
        lambda: compressed(
            RLELossless,
            rle(b"\x81\x00" * 7_031_250),
            Rows=30000,
            Columns=30000,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
        ),
        DAMAGED,
        DAMAGED,
    ),
    "RLE 8000, within the budget": Hostile(
        lambda: compressed(
            RLELossless,
            rle(b"\x81\x00" * 500_000),
            Rows=8000,
            Columns=8000,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
        ),
        BLANK,
        READ,
    ),
    "RLE segments beyond the frame": Hostile(
        lambda: compressed(RLELossless, rle(b"\x81\x00", 15, 0xFFFFFFF0)), DAMAGED, DAMAGED
    ),
    "JPEG 2000 header 65535": Hostile(
        lambda: compressed(JPEG2000Lossless, j2k_codestream(), Rows=65535, Columns=65535),
        DAMAGED,
        DAMAGED,
    ),
    "JPEG 2000 frame 65535": Hostile(
        lambda: compressed(JPEG2000Lossless, j2k_lie(65535, 65535), Rows=64, Columns=64),
        DAMAGED,
        DAMAGED,
    ),
    "JPEG 2000 of 16384 components": Hostile(
        lambda: compressed(JPEG2000Lossless, j2k_lie(64, 64, 16384), Rows=64, Columns=64),
        DAMAGED,
        DAMAGED,
    ),
    "JPEG 2000 behind a decoy": Hostile(
        lambda: compressed(JPEG2000Lossless, jp2_decoy(), Rows=64, Columns=64), DAMAGED, DAMAGED
    ),
    "JPEG frame 65535": Hostile(
        lambda: compressed(JPEGLosslessSV1, jpeg_lie(0xC3)), DAMAGED, DAMAGED
    ),
    "JPEG-LS frame 65535": Hostile(
        lambda: compressed(JPEGLSLossless, jpeg_lie(0xF7)), DAMAGED, DAMAGED
    ),
    "half a million fragments": Hostile(lambda: fragments(500_000), DAMAGED, DAMAGED),
    "offset table beyond the file": Hostile(offset_lie, DAMAGED, DAMAGED),
    "2147483647 frames": Hostile(lambda: honest(NumberOfFrames=2**31 - 1), "MULTI_FRAME", DAMAGED),
    "2147483647 compressed frames": Hostile(
        lambda: compressed(
            JPEG2000Lossless, j2k_codestream(), Rows=64, Columns=64, NumberOfFrames=2**31 - 1
        ),
        "MULTI_FRAME",
        READ,
    ),
    # Headers
    "3000 sequences deep": Hostile(lambda: nested(3000, defined=False), UNREADABLE, UNREADABLE),
    "400 sequences deep": Hostile(lambda: nested(400, defined=False), UNREADABLE, UNREADABLE),
    "400 sequences deep, of a length": Hostile(lambda: nested(400, defined=True), UNREADABLE, READ),
    "20000 random attributes": Hostile(lambda: flood(20_000), UNREADABLE, READ),
    "300 random attributes": Hostile(lambda: flood(300), READ, READ),
    "24 MB of private data": Hostile(
        lambda: part10(element(_PRIVATE, "OB", b"\x5a" * (24 << 20)) + body(chest_instance())),
        READ,
        READ,
    ),
    "a path for a UID": Hostile(
        lambda: honest(SOPInstanceUID="../../../tmp/evil"), UNREADABLE, UNREADABLE
    ),
    "no UID": Hostile(lambda: honest(SOPInstanceUID=None), UNREADABLE, UNREADABLE),
    "a program in the preamble": Hostile(
        lambda: part10(body(chest_instance()), preamble=b"MZ\x90\x00 this program"), READ, READ
    ),
    "private transfer syntax": Hostile(
        lambda: part10(body(chest_instance()), UID("1.2.840.113619.5.2")),
        "UNSUPPORTED_TRANSFER_SYNTAX",
        "UNSUPPORTED_TRANSFER_SYNTAX",
    ),
    "no transfer syntax": Hostile(
        lambda: part10(body(chest_instance()), UID("1.2.3")),
        "UNSUPPORTED_TRANSFER_SYNTAX",
        "UNSUPPORTED_TRANSFER_SYNTAX",
    ),
    "window width 0": Hostile(lambda: honest(WindowWidth=0), READ, READ),
    "window of no number": Hostile(
        lambda: wrong(0x00281050, "WindowCenter", "DS", b"nan "), READ, READ
    ),
    "rescale slope 0": Hostile(lambda: honest(RescaleSlope=0), BLANK, READ),
    "rescale slope of no number": Hostile(
        lambda: part10(
            without("PixelData")
            + element(0x00281053, "DS", b"inf ")
            + element(_PIXEL_DATA, "OW", _PIXELS)
        ),
        BLANK,
        DAMAGED,
    ),
    "1 bit stored, high bit 40": Hostile(
        lambda: honest(BitsStored=1, HighBit=40), DAMAGED, DAMAGED
    ),
    "64 bits": Hostile(
        lambda: honest(BitsAllocated=64, BitsStored=64, HighBit=63, PixelData=_PIXELS * 4),
        DAMAGED,
        DAMAGED,
    ),
    "more bits stored than there are": Hostile(
        lambda: honest(BitsStored=17, HighBit=16), DAMAGED, DAMAGED
    ),
    "pixel representation 65535": Hostile(
        lambda: honest(PixelRepresentation=65535), DAMAGED, DAMAGED
    ),
    "signed pixels under an unsigned padding": Hostile(
        lambda: honest(PixelRepresentation=1, PixelPaddingValue=-1), READ, READ
    ),
    "3 samples of grey": Hostile(
        lambda: honest(SamplesPerPixel=3, PlanarConfiguration=7), BLANK, BLANK
    ),
    "planar configuration of one sample": Hostile(
        lambda: honest(PlanarConfiguration=7), READ, READ
    ),
    "every pixel the same": Hostile(lambda: honest(PixelData=_PIXELS), BLANK, READ),
    "rows of no number": Hostile(
        lambda: wrong(0x00280010, "Rows", "LO", b"many"), DAMAGED, DAMAGED
    ),
    "rows of a sequence": Hostile(lambda: wrong(0x00280010, "Rows", "SQ", b""), DAMAGED, DAMAGED),
    "rows of an unknown kind": Hostile(
        lambda: wrong(0x00280010, "Rows", "ZZ", b"\x00\x01"), UNREADABLE, UNREADABLE
    ),
    "a modality of numbers": Hostile(
        lambda: wrong(0x00080060, "Modality", "UL", b"\x01\x02\x03"), UNREADABLE, READ
    ),
    "a name of numbers": Hostile(
        lambda: wrong(0x00100010, "PatientName", "FD", b"\x01\x02\x03"), READ, READ
    ),
    "a character set of nobody": Hostile(
        lambda: honest(SpecificCharacterSet="ISO 2022 IR 6666"), READ, READ
    ),
}
