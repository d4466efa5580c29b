"""The overlay as FHIR Media with its Binary."""

import base64
import hashlib

from fhir_mappers import codes
from fhir_mappers.overlay import DISCLAIMER
from fhir_mappers.references import AI_ASSERTED, References
from fhir_mappers.report_context import ReportContext


def binary(overlay_jpeg: bytes, references: References) -> dict[str, object]:
    """Give the picture itself."""
    return {
        "resourceType": "Binary",
        "id": references.id_of("Binary"),
        "contentType": "image/jpeg",
        "data": base64.b64encode(overlay_jpeg).decode("ascii"),
    }


def media(overlay_jpeg: bytes, context: ReportContext, references: References) -> dict[str, object]:
    """Give the Media that says what the picture is: a visual explanation, not a finding.

    References
    ----------
    FHIR R4 Media; DICOM PS3.16 130401 Visual Explanation.
    """
    code, display = codes.VISUAL_EXPLANATION
    digest = hashlib.sha1(overlay_jpeg, usedforsecurity=False).digest()
    return {
        "resourceType": "Media",
        "id": references.id_of("Media"),
        "meta": AI_ASSERTED,
        "basedOn": references.order,
        "partOf": [references.to("ImagingStudy")],
        "status": "completed",
        "modality": {"coding": [{"system": codes.DCM, "code": code, "display": display}]},
        "subject": references.subject,
        "createdDateTime": references.issued,
        "issued": references.issued,
        "device": references.to("Device"),
        "note": [{"text": DISCLAIMER}],
        "content": {
            "contentType": "image/jpeg",
            "url": references.to("Binary")["reference"],
            "size": len(overlay_jpeg),
            "hash": base64.b64encode(digest).decode("ascii"),
            "title": f"Saliency of {context.model.name} {context.model.version}",
        },
    }
