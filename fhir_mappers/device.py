"""The model as a FHIR Device."""

from fhir_mappers import codes
from fhir_mappers.references import References
from fhir_mappers.report_context import ReportContext


def device(context: ReportContext, references: References) -> dict[str, object]:
    """Give the AI Device: name, version and the digest that tells two trainings apart.

    References
    ----------
    FHIR R4 Device; HL7 AI Transparency on FHIR, AI-Device.
    """
    model = context.model
    artificial = {"system": codes.AI_DEVICE_TYPE, "code": "Artificial-Intelligence"}
    kind = {"system": codes.AI_DEVICE_TYPE, "code": "Medical-Image-Analysis"}
    return {
        "resourceType": "Device",
        "id": references.id_of("Device"),
        "extension": [{"url": codes.AI_KIND, "valueCodeableConcept": {"coding": [kind]}}],
        "identifier": [{"system": f"{context.site.base_url}/models", "value": model.name}],
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
