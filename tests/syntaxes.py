"""One image in every transfer syntax that an archive may keep it in.

Encoded by other people's programs: dcmtk (``dcmconv``, ``dcmcrle``, ``dcmcjpeg``, ``dcmcjpls``),
OpenJPEG by pydicom, and OpenJPH (``ojph_compress``) for HTJ2K.
"""

import io
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from shutil import which

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, UID, HTJ2KLossless, JPEG2000Lossless

NATIVE = {
    "implicit VR little endian": ("dcmconv", "+ti"),
    "explicit VR little endian": ("dcmconv", "+te"),
    "explicit VR big endian": ("dcmconv", "+tb"),
    "deflated": ("dcmconv", "+td"),
}
COMPRESSED = {
    "RLE": ("dcmcrle",),
    "JPEG Lossless": ("dcmcjpeg", "+el"),
    "JPEG Lossless SV1": ("dcmcjpeg", "+e1"),
    "JPEG-LS": ("dcmcjpls", "+el"),
}
LOSSLESS = (*NATIVE, *COMPRESSED, "JPEG 2000", "HTJ2K")
"""Each gives back every pixel as it was."""
LOSSY = ("JPEG 2000 lossy",)


@cache
def encoded(path: Path, name: str) -> bytes:
    """Give the DICOM file of an uncompressed image in a transfer syntax of these names."""
    if name in NATIVE or name in COMPRESSED:
        return by_dcmtk(path, *(NATIVE | COMPRESSED)[name])
    dataset = pydicom.dcmread(path)
    if name == "JPEG 2000":
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    elif name == "JPEG 2000 lossy":
        dataset.compress(JPEG2000, j2k_psnr=[60], generate_instance_uid=False)
    else:
        compress(dataset, HTJ2KLossless, by_openjph(dataset))
    return file_of(dataset)


def by_dcmtk(path: Path, program: str, *options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.dcm"
        subprocess.run([found(program), *options, path, out], check=True, capture_output=True)
        return out.read_bytes()


def by_openjph(dataset: Dataset) -> bytes:
    """Give the codestream; a negative value goes in as its bits, for OpenJPH reads no sign."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder) / "in.yuv", Path(folder) / "out.j2c"
        bits = dataset.pixel_array.astype(np.int32) & ((1 << dataset.BitsStored) - 1)
        raw.write_bytes(bits.astype("<u2").tobytes())
        arguments = {
            "-i": raw,
            "-o": out,
            "-reversible": "true",
            "-dims": f"{{{dataset.Columns},{dataset.Rows}}}",
            "-num_comps": "1",
            "-signed": "false",
            "-bit_depth": dataset.BitsStored,
            "-downsamp": "{1,1}",
        }
        flat = [str(each) for pair in arguments.items() for each in pair]
        subprocess.run([found("ojph_compress"), *flat], check=True, capture_output=True)
        return out.read_bytes()


def compress(dataset: Dataset, syntax: UID, codestream: bytes) -> None:
    """Put a compressed frame in the place of the pixels."""
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax


def file_of(dataset: Dataset) -> bytes:
    """Give the DICOM Part 10 file of a dataset."""
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def found(program: str) -> str:
    path = which(program)
    assert path, f"{program} is missing: install dcmtk and openjph-tools"
    return path
