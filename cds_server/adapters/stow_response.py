"""What a PACS answers when it is given an object to store.

References
----------
DICOM PS3.18 10.5.3 and I.2.2 (response, status codes, failure reasons); PS3.4 Table B.2-1 and
PS3.7 Annex C (the same reasons in DIMSE); Azure Health Data Services, DICOM Conformance Statement
v2, "Store failure reason codes".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

import orjson

from fhir_mappers.dicom_json import Attributes, integer, text, values


class Fate(Enum):
    """What becomes of an object."""

    STORED = auto()
    THERE_ALREADY = auto()
    LATER = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a PACS says of one object.

    Parameters
    ----------
    fate
        What becomes of it.
    says
        Why, in our words; empty where it is stored.
    """

    fate: Fate
    says: str = ""


_REASONS: Mapping[int, Verdict] = {
    0x0110: Verdict(Fate.LATER, "it failed to process the object"),
    0x0111: Verdict(Fate.THERE_ALREADY, "it has the object already"),
    0x0117: Verdict(Fate.NEVER, "it holds the object's identifier for invalid"),
    0x0122: Verdict(Fate.NEVER, "it does not support objects of this SOP Class"),
    0x0124: Verdict(Fate.LATER, "this server may not store objects of this kind"),
    0x0213: Verdict(Fate.LATER, "it has no room for it now"),
    0xA900: Verdict(Fate.NEVER, "the object does not pass its validation"),
    0xA901: Verdict(Fate.NEVER, "the object belongs to another study"),
    0xB00E: Verdict(Fate.THERE_ALREADY, "it has the object already"),  # 45070, Azure
    0xB00F: Verdict(Fate.LATER, "another process is storing the object"),  # 45071, Azure
    0xC122: Verdict(Fate.NEVER, "it does not support the object's transfer syntax"),
}
_RANGES: Mapping[int, Verdict] = {
    0xA700: Verdict(Fate.LATER, "it is out of resources"),
    0xA900: Verdict(Fate.NEVER, "the object does not match its SOP Class"),
}
_NOT_UNDERSTOOD = Verdict(Fate.NEVER, "it does not understand the object")
_REFUSALS = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.LENGTH_REQUIRED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


def verdict(status: int, content: bytes, sop_instance_uid: str) -> Verdict:
    """Read the answer to a request that held one object.

    The body counts, whatever the status: a PACS may answer 400 and have stored the object.

    Parameters
    ----------
    status
        HTTP status.
    content
        Body of the answer.
    sop_instance_uid
        Of the object.
    """
    answer = _attributes(content)
    stored = _items(answer, "00081199")
    if any(text(item, "00081155") == sop_instance_uid for item in stored):
        return Verdict(Fate.STORED)
    failed = [
        item
        for item in _items(answer, "00081198")
        if text(item, "00081155") in {"", sop_instance_uid}
    ]
    reason = integer(failed[0], "00081197") if failed else None
    if reason is not None:
        return _decoded(reason)
    fate = Fate.NEVER if status in _REFUSALS else Fate.LATER
    if status < HTTPStatus.BAD_REQUEST:
        return Verdict(fate, f"it does not say that it stored the object (status {status})")
    return Verdict(fate, f"it gives no reason but status {status}")


def _decoded(reason: int) -> Verdict:
    """Put a Failure Reason (0008,1197) into words."""
    known = _REASONS.get(reason) or _RANGES.get(reason & 0xFF00)
    if known is None and reason & 0xF000 == 0xC000:  # noqa: PLR2004 - Cxxx, PS3.4 Table B.2-1
        known = _NOT_UNDERSTOOD
    if known is None:
        return Verdict(Fate.LATER, f"it gives the reason {reason}, which is not a known one")
    return Verdict(known.fate, f"{known.says} (reason {reason})")


def _attributes(content: bytes) -> Attributes:
    """Read the body as one DICOM JSON object; empty where it is none."""
    try:
        found = orjson.loads(content)
    except ValueError:
        return {}
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _items(attributes: Attributes, tag: str) -> Sequence[Attributes]:
    return [item for item in values(attributes, tag) if isinstance(item, dict)]
