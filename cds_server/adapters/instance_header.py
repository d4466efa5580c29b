"""The header of an instance, as it goes from the process that opened it to the one that uses it.

Every attribute travels as the bytes that it had: no character set is decoded on the way.
"""

import warnings
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag
from pydicom.uid import UID

from cds_server.errors import InstanceUnreadable
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.pixels import DECODER_ERRORS

MOST_HEADER_BYTES = 2 * 1024 * 1024
_MOST_ATTRIBUTE_BYTES = 64 * 1024
_MOST_ATTRIBUTES = 4096
_LONGEST_ELEMENT_START = 12
_DEEPEST = 16
_FIRST_GROUP, _PIXEL_GROUP = 0x0008, 0x7FE0
TOO_DEEP = "The instance nests sequences deeper than radcds reads."
_NO_HEADER = "The header of the instance cannot be read."
_TOO_LARGE = "The header of the instance is larger than radcds reads."


@dataclass(frozen=True, slots=True)
class Encoding:
    """How attributes are written: DICOM PS3.5 7.1, 7.3."""

    implicit_vr: bool
    little_endian: bool


@dataclass(frozen=True, slots=True)
class Header:
    """A header on its way.

    Parameters
    ----------
    content
        Its attributes, without file meta information.
    encoding
        Of ``content``.
    transfer_syntax
        Of the instance.
    """

    content: bytes
    encoding: Encoding
    transfer_syntax: str

    def dataset(self) -> Dataset:
        """Read the header. Its attributes keep the bytes that they had; each of them can be read.

        Raises
        ------
        InstanceUnreadable
            If one cannot, or it names no study, series or object.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = _parsed(self.content, self.encoding)
                _read_through(_parsed(self.content, self.encoding), 0)
                header.file_meta = FileMetaDataset()
                header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
                header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
                header.file_meta.TransferSyntaxUID = UID(self.transfer_syntax)
                check_identity(header)
        except (InvalidStudy, *DECODER_ERRORS) as error:
            raise InstanceUnreadable(_NO_HEADER) from error
        return header


def header_of(dataset: Dataset) -> Header:
    """Take the header of an instance, before anything reads it.

    An attribute that cannot be read is left out, and so is one of more than 64 kB: they hold no
    words. Pixel data and what follows them stay behind.

    Parameters
    ----------
    dataset
        As parsed, with the transfer syntax in its file meta information.

    Raises
    ------
    InstanceUnreadable
        If it is larger than radcds reads, or sequences are nested deeper than any standard has
        them.
    """
    implicit_vr, little_endian = dataset.original_encoding
    if len(dataset) > _MOST_ATTRIBUTES:
        raise InstanceUnreadable(_TOO_LARGE)
    encoding = Encoding(bool(implicit_vr), bool(little_endian))
    encoded = {
        tag: _encoded(dataset, tag, encoding)
        for tag in sorted(dataset.keys())
        if _FIRST_GROUP <= tag.group < _PIXEL_GROUP and tag.element
    }
    kept = [tag for tag, each in encoded.items() if each]
    content = b"".join(encoded.values())
    if len(content) > MOST_HEADER_BYTES:
        raise InstanceUnreadable(_TOO_LARGE)
    if not _holds(content, kept, encoding):
        kept = [tag for tag in kept if _holds(encoded[tag], [tag], encoding)]
        content = b"".join(encoded[tag] for tag in kept)
    return Header(content, encoding, str(dataset.file_meta.TransferSyntaxUID))


def check_identity(dataset: Dataset) -> None:
    """Refuse an instance that does not say which one it is.

    Raises
    ------
    InvalidStudy
        If an identifier is no UID.
    KeyError
        If one is missing.
    """
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        check_uid(str(dataset[keyword].value), keyword)


def _holds(content: bytes, tags: list[BaseTag], encoding: Encoding) -> bool:
    """Say whether these attributes, and no others, can be read from what was written."""
    try:
        parsed = _parsed(content, encoding)
        _read_through(parsed, 0)
    except DECODER_ERRORS:
        return False
    return list(parsed.keys()) == tags


def _parsed(content: bytes, encoding: Encoding) -> Dataset:
    """Parse attributes whose encoding is known: at no top level, pydicom guesses nothing."""
    implicit_vr, little_endian = encoding.implicit_vr, encoding.little_endian
    return read_dataset(BytesIO(content), implicit_vr, little_endian, at_top_level=False)


def _encoded(dataset: Dataset, tag: BaseTag, encoding: Encoding) -> bytes:
    """Write one attribute as it was read; nothing where it is too long, or cannot be written."""
    element = dataset.get_item(tag)
    if element.is_raw and len(element.value or b"") > _MOST_ATTRIBUTE_BYTES:
        return b""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = encoding.implicit_vr
    buffer.is_little_endian = encoding.little_endian
    try:
        write_data_element(buffer, element)
    except DECODER_ERRORS:
        return b""
    encoded = buffer.getvalue()
    return encoded if len(encoded) <= _MOST_ATTRIBUTE_BYTES + _LONGEST_ELEMENT_START else b""


def _read_through(dataset: Dataset, depth: int) -> None:
    """Read every attribute, also of sequences within sequences.

    Raises
    ------
    InstanceUnreadable
        If they are nested deeper than any standard has them.
    """
    if depth > _DEEPEST:
        raise InstanceUnreadable(TOO_DEEP)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _read_through(item, depth + 1)
