"""The model as a FHIR Device."""

from fhir_mappers import codes
from fhir_mappers.identifiers import device_uid
from fhir_mappers.references import References
from fhir_mappers.report_context import ReportContext


def device(context: ReportContext, references: References) -> dict[str, object]:
    """Give the AI Device: name, version and the digest that tells two trainings apart.

    Its second identifier is the Device UID of the model in our DICOM objects: by it every Device,
    and so every Provenance, of one model version is found.

    References
    ----------
    FHIR R4 Device; HL7 AI Transparency on FHIR, AI-Device.
    """
    model = context.model
    artificial = {"system": codes.AI_DEVICE_TYPE, "code": "Artificial-Intelligence"}
    extensions: list[dict[str, object]] = [
        _kind("Medical-Image-Analysis"),
        _kind("Deep-Learning-Models"),
    ]
    if context.model_card:
        card = references.to("DocumentReference")
        extensions.append({"url": codes.AI_MODEL_CARD, "valueReference": card})
    return {
        "resourceType": "Device",
        "id": references.id_of("Device"),
        "extension": extensions,
        "identifier": [
            {"system": f"{context.site.base_url}/models", "value": model.name},
            {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{device_uid(model.sha256)}"},
        ],
        "status": "active",
        "manufacturer": "radcds",
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "type": {"coding": [artificial]},
        "version": [
            {"value": model.version},
            {"type": {"text": "bundle-sha256"}, "value": model.sha256},
        ],
        "note": [{"text": str(context.model_card.get("status", ""))}],
    }


def _kind(code: str) -> dict[str, object]:
    coding = {"system": codes.AI_DEVICE_TYPE, "code": code}
    return {"url": codes.AI_KIND, "valueCodeableConcept": {"coding": [coding]}}
