"""Opening the bytes of an instance: checked first, then parsed, then decoded.

Runs where nothing of it can do harm: in the confined child, and in tests.
"""

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap
from typing import BinaryIO, cast

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from ai_engine.image import Image
from ai_engine.result import Reason
from cds_server.adapters.instance_header import TOO_DEEP, Header, check_identity, header_of
from cds_server.errors import InstanceUnreadable
from fhir_mappers.errors import ImageDeclined, InvalidStudy
from fhir_mappers.pixels import DECODER_ERRORS, image
from fhir_mappers.viewer_images import Pixels, pixels

_PREAMBLE, _MAGIC = 128, b"DICM"
_META_GROUP = 0x0002
_MOST_INFLATED_BYTES = 128 * 1024 * 1024
_UNDEFINED_LENGTH = 0xFFFFFFFF

NO_DICOM_FILE = "The instance is not a DICOM file."
CUT_OFF = "The instance is cut off or damaged."
TOO_MUCH_MEMORY = "The instance takes more memory than it may; it was not opened."
TOO_MUCH_TIME = "The instance takes more time than it may; it was not opened."


ReadableFile = BytesIO | mmap
"""What an instance is read from."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What the model sees of an instance, and its header."""

    image: Image
    header: Header


def for_model(file: ReadableFile) -> Opened:
    """Open an instance for the model.

    Raises
    ------
    InstanceUnreadable
        If it is damaged, or takes more memory than there is.
    ImageDeclined
        If it holds no image that the model could see.
    """
    with _damage_said():
        dataset = _opened(file)
        header = header_of(dataset)
        return Opened(image(dataset), header)


def header_alone(file: ReadableFile) -> Header:
    """Open the header of an instance, and nothing of its pixels.

    Raises
    ------
    InstanceUnreadable
        If it is damaged, or takes more memory than there is.
    """
    with _damage_said():
        try:
            return header_of(_opened(file))
        except ImageDeclined as error:
            raise InstanceUnreadable(error.outcome.detail) from error


def for_viewer(file: ReadableFile, frame: int) -> Pixels:
    """Open one frame of an instance for the viewer.

    Raises
    ------
    InstanceUnreadable
        If it is damaged, or takes more memory than there is.
    ImageDeclined
        If it holds no pixels that can be shown.
    """
    with _damage_said():
        return pixels(_opened(file), frame)


@contextmanager
def _damage_said() -> Iterator[None]:
    """Say in words what a damaged file did to the parser.

    Raises
    ------
    InstanceUnreadable
        Instead of anything that a parser or decoder raises.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError as error:
        raise InstanceUnreadable(TOO_MUCH_MEMORY) from error
    except RecursionError as error:
        raise InstanceUnreadable(TOO_DEEP) from error
    except InvalidStudy as error:
        msg = f"The instance cannot be read: {error}."
        raise InstanceUnreadable(msg) from error
    except (zlib.error, *DECODER_ERRORS) as error:
        raise InstanceUnreadable(CUT_OFF) from error


def _opened(file: ReadableFile) -> Dataset:
    """Parse a DICOM Part 10 file; never anything else.

    The preamble is not looked at.

    Raises
    ------
    InstanceUnreadable
        If it is no such file, is cut off, or inflates beyond what is read.
    ImageDeclined
        If its transfer syntax is unknown here.

    References
    ----------
    DICOM PS3.10 7.1 File Meta Information; PS3.5 A.5 Deflated Explicit VR Little Endian.
    """
    file.seek(0)
    file.read(_PREAMBLE)
    if file.read(len(_MAGIC)) != _MAGIC:
        raise InstanceUnreadable(NO_DICOM_FILE)
    meta = _read(file, implicit_vr=False, little_endian=True, meta=True)
    syntax = meta.get("TransferSyntaxUID")
    if not isinstance(syntax, UID):
        raise InstanceUnreadable(CUT_OFF)
    if not syntax.is_transfer_syntax or syntax.is_private:
        msg = "The transfer syntax (private) cannot be decoded here."
        raise ImageDeclined(Reason.UNSUPPORTED_TRANSFER_SYNTAX, msg)
    if syntax == DeflatedExplicitVRLittleEndian:
        file = _inflated(file)
    dataset = _read(
        file, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, meta=False
    )
    _check_whole(dataset, file)
    check_identity(dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _read(file: ReadableFile, *, implicit_vr: bool, little_endian: bool, meta: bool) -> Dataset:
    """Parse the file meta information, or all that follows it."""

    def after_meta(tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG001 - pydicom's
        return tag.group != _META_GROUP

    stop_when = after_meta if meta else None
    return read_dataset(cast("BinaryIO", file), implicit_vr, little_endian, stop_when=stop_when)


def _inflated(file: ReadableFile) -> BytesIO:
    """Inflate what follows, up to a size that no honest radiograph reaches.

    Raises
    ------
    InstanceUnreadable
        If there is more, or the stream is cut off.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(file.read(), _MOST_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise InstanceUnreadable(TOO_MUCH_MEMORY)
    if not inflater.eof:
        raise InstanceUnreadable(CUT_OFF)
    return BytesIO(inflated)


def _check_whole(dataset: Dataset, file: ReadableFile) -> None:
    """Refuse a file that ends within an attribute: pydicom gives what there is without a word.

    Raises
    ------
    InstanceUnreadable
        If an attribute is longer than the file, or a header ends in the start of another one.
    """
    end = 0
    for tag in dataset.keys():  # noqa: SIM118 - iterating a dataset reads every attribute
        element = cast("DataElement | RawDataElement", dataset.get_item(tag))
        if not isinstance(element, RawDataElement) or element.length == _UNDEFINED_LENGTH:
            end = 0
        elif element.length != len(element.value or b""):
            raise InstanceUnreadable(CUT_OFF)
        else:
            end = element.value_tell + element.length
    file.seek(0, os.SEEK_END)
    if end and "PixelData" not in dataset and end != file.tell():
        raise InstanceUnreadable(CUT_OFF)
