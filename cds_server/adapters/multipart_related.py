"""Bodies of ``multipart/related`` with one part, as DICOMweb has them.

References
----------
DICOM PS3.18 8.6.1.2; RFC 2046 5.1.
"""

import hashlib
from email.message import Message

from cds_server.errors import InstanceUnreadable

_LONGEST_HEADERS = 16 * 1024


def packed(content: bytes) -> tuple[bytes, str]:
    """Pack a DICOM file for STOW-RS.

    The same file gives the same bytes: an attempt that is repeated is the same request.

    Returns
    -------
    tuple[bytes, str]
        The body, and its ``Content-Type``.
    """
    boundary = hashlib.sha256(content).hexdigest()
    while boundary.encode() in content:
        boundary = hashlib.sha256(boundary.encode()).hexdigest()
    body = b"".join(
        (
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return body, f'multipart/related; type="application/dicom"; boundary={boundary}'


def only_part(content: bytes, content_type: str) -> bytes:
    """Give the one part of a body.

    Raises
    ------
    InstanceUnreadable
        If it is cut off, malformed, or has none or several.
    """
    delimiter = b"--" + _boundary(content_type)
    opening = 0 if content.startswith(delimiter) else content.find(b"\r\n" + delimiter) + 2
    after = opening + len(delimiter)
    headers_end = content.find(b"\r\n\r\n", after, after + _LONGEST_HEADERS)
    if not content.startswith(delimiter, opening) or headers_end < 0:
        msg = "The archive sent an answer that holds no object."
        raise InstanceUnreadable(msg)
    start = headers_end + len(b"\r\n\r\n")
    end = content.find(b"\r\n" + delimiter, start)
    if end < 0:
        msg = "The archive sent an object that is cut off."
        raise InstanceUnreadable(msg)
    if not content.startswith(b"--", end + len(b"\r\n") + len(delimiter)):
        msg = "The archive sent several objects where one was asked for."
        raise InstanceUnreadable(msg)
    return content[start:end]


def _boundary(content_type: str) -> bytes:
    """Read the boundary.

    Raises
    ------
    InstanceUnreadable
        If there is none.
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary("")
    if not boundary or not boundary.isascii():
        msg = "The archive sent an answer whose parts cannot be told apart."
        raise InstanceUnreadable(msg)
    return boundary.encode("ascii")
