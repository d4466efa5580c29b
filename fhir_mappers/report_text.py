"""What a report says, in the three places where FHIR has words: the same lines in each."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from fhir_mappers.fhir_json import legal

_XHTML = "http://www.w3.org/1999/xhtml"


def report_text(lines: Iterable[str]) -> dict[str, object]:
    """Give ``text``, ``conclusion`` and ``presentedForm`` of a report.

    Parameters
    ----------
    lines
        Plain text, each a paragraph; empty ones are left out.

    References
    ----------
    FHIR R4 DiagnosticReport; IHE RAD IMR 1.1, DiagnosticReport.presentedForm.
    """
    said = [line for line in map(legal, lines) if line]
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in said)
    return {
        "text": {"status": "generated", "div": f'<div xmlns="{_XHTML}">{paragraphs}</div>'},
        "conclusion": " ".join(said),
        "presentedForm": [_page(paragraphs)],
    }


def _page(paragraphs: str) -> dict[str, object]:
    head = '<head><meta charset="utf-8"><title>Report</title></head>'
    page = f'<!DOCTYPE html>\n<html lang="en">{head}<body>{paragraphs}</body></html>\n'
    return attachment("text/html", page.encode())


def attachment(content_type: str, content: bytes) -> dict[str, object]:
    """Give an Attachment that holds its content.

    References
    ----------
    FHIR R4 datatypes Attachment: ``hash`` is the SHA-1 of the data, in base64.
    """
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return {
        "contentType": content_type,
        "data": base64.b64encode(content).decode("ascii"),
        "size": len(content),
        "hash": base64.b64encode(digest).decode("ascii"),
    }
