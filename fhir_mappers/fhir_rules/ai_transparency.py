"""HL7 AI Transparency on FHIR: labels, AI Device, model card, AI Provenance, confidence.

References
----------
HL7/aitransparency-ig 1.0.0: AI-Device, AI-ModelCard, AI-Provenance, aitransparency.AIKind,
aitransparency.modelCardDescription, AIconfidence.
"""

from fhir_mappers import codes
from fhir_mappers.fhir_rules.rule import ProfileRule, coded, refers_to

_AIAST = coded("meta.security", codes.OBSERVATION_VALUE, "AIAST")
_ARTIFICIAL = "Artificial-Intelligence"
_KIND = f"extension.where(url='{codes.AI_KIND}')"
_CARD = f"extension.where(url='{codes.AI_MODEL_CARD}')"
_REASON = coded("coding", codes.OBSERVATION_VALUE, "AIAST")
_BY_AI = f"reason.{_REASON}.exists()"
_AI_ROLE = coded("role.coding", codes.AI_DEVICE_TYPE, _ARTIFICIAL)
_AI_AGENT = f"agent.where({_AI_ROLE}.exists())"
_PERSON = refers_to("Practitioner", "PractitionerRole", "RelatedPerson", "Patient")
_PEOPLE = f"agent.where(who.where({_PERSON}).exists())"
_CONFIDENCE = f"descendants().where(url='{codes.AI_CONFIDENCE}')"
_INLINE = f"descendants().where(url='{codes.INLINE_LABEL}')"
_MARKDOWN = coded("category.coding", codes.AI_INPUTS, "AIModelCardMarkdownFormat")


def _on_what_ai_asserts(
    key: str, expression: str, says: str
) -> tuple[ProfileRule, ProfileRule, ProfileRule]:
    first, second, third = (
        ProfileRule(f"{key}-{kind.lower()}", kind, expression, says)
        for kind in ("DiagnosticReport", "Media", "Observation")
    )
    return first, second, third


AI_TRANSPARENCY = (
    *_on_what_ai_asserts("ai-label", f"{_AIAST}.exists()", "is labelled AIAST"),
    *_on_what_ai_asserts(
        "ai-inline",
        f"{_INLINE}.empty() or "
        f"{coded('meta.security', codes.ACT_CODE, 'PROCESSINLINELABEL')}.exists()",
        "with labels inside, meta.security says PROCESSINLINELABEL",
    ),
    *_on_what_ai_asserts(
        "ai-confidence",
        f"{_CONFIDENCE}.all(value.exists() and (value.ofType(decimal).empty() or "
        "(value.ofType(decimal) >= 0 and value.ofType(decimal) <= 1)))",
        "AIconfidence has a value; a probability is from 0 to 1",
    ),
    ProfileRule(
        "ai-observation-confidence",
        "Observation",
        f"extension.where(url='{codes.AI_CONFIDENCE}').exists()",
        "says how sure the AI is",
    ),
    ProfileRule(
        "ai-observation-device",
        "Observation",
        "device.exists()",
        "names the AI Device as its device",
    ),
    ProfileRule(
        "ai-device-type",
        "Device",
        f"{coded('type.coding', codes.AI_DEVICE_TYPE, _ARTIFICIAL)}.exists() "
        "and type.coding.count() = 1",
        f"is of the type {_ARTIFICIAL}",
    ),
    ProfileRule("ai-device-kind", "Device", f"{_KIND}.exists()", "says what kind of AI it is"),
    ProfileRule(
        "ai-device-kind-value",
        "Device",
        f"{_KIND}.all(value.ofType(CodeableConcept).coding"
        f".where(system='{codes.AI_DEVICE_TYPE}' and code.startsWith('AI-By-').not()).exists())",
        "AIKind is a selectable code of AIdeviceTypeCS",
    ),
    ProfileRule("ai-device-version", "Device", "version.exists()", "has a version"),
    ProfileRule("ai-device-name", "Device", "deviceName.exists()", "has a name"),
    ProfileRule("ai-device-identifier", "Device", "identifier.value.exists()", "has an identifier"),
    ProfileRule("ai-device-maker", "Device", "manufacturer.exists()", "names its manufacturer"),
    ProfileRule(
        "ai-device-card-value",
        "Device",
        f"{_CARD}.all(value.ofType(Reference).where({refers_to('DocumentReference')}).exists())",
        "modelCardDescription refers to a DocumentReference",
    ),
    ProfileRule(
        "ai-card-type",
        "DocumentReference",
        "type.coding.exists() and type.coding.all("
        f"system='{codes.AI_INPUTS}' and code='AIModelCard')",
        "is of the type AIModelCard, and no other",
    ),
    ProfileRule(
        "ai-card-category", "DocumentReference", "category.exists()", "names the format of the card"
    ),
    ProfileRule(
        "ai-card-format",
        "DocumentReference",
        f"{_MARKDOWN}.empty() or content.attachment.where(contentType='text/markdown').count() = 1",
        "the format is that of the content: text/markdown, once",
    ),
    ProfileRule(
        "ai-card-content",
        "DocumentReference",
        "content.attachment.all(data.exists() or url.exists())",
        "holds the card, or says where it is",
    ),
    ProfileRule(
        "ai-provenance-reason",
        "Provenance",
        f"{_AI_AGENT}.empty() or reason.where({_REASON}.exists()).count() = 1",
        "of an AI has the reason AIAST once",
    ),
    ProfileRule(
        "ai-provenance-agent",
        "Provenance",
        f"({_BY_AI}).not() or {_AI_AGENT}.exists()",
        f"of an AI has an agent in the role {_ARTIFICIAL}",
    ),
    ProfileRule(
        "ai-provenance-agent-type",
        "Provenance",
        f"{_AI_AGENT}.all(type.exists())",
        "says in which way the AI took part",
    ),
    ProfileRule(
        "ai-provenance-agent-who",
        "Provenance",
        f"{_AI_AGENT}.all(who.where({refers_to('Device')}).exists())",
        "the AI is a Device",
    ),
    ProfileRule(
        "ai-provenance-people",
        "Provenance",
        f"{_PEOPLE}.all(type.exists())",
        "says in which way a person took part",
    ),
    ProfileRule(
        "ai-provenance-card",
        "Provenance",
        f"entity.where(what.where({refers_to('DocumentReference')}).exists())"
        ".all(role='derivation')",
        "the model card is an entity with the role derivation",
    ),
)
"""Of each resource alone."""

_EVERY = "entry.resource"
_ASSERTED = (
    f"({_EVERY}.ofType(DiagnosticReport) | {_EVERY}.ofType(Observation))"
    ".where(status != 'entered-in-error' and status != 'corrected')"
)
_ADDRESS = "iif($this is DiagnosticReport, 'DiagnosticReport/', 'Observation/') & id"

AI_TRANSPARENCY_OF_BUNDLES = (
    ProfileRule(
        "ai-bundle-provenance",
        "Bundle",
        f"{_ASSERTED}.select({_ADDRESS}).subsetOf("
        f"%context.{_EVERY}.ofType(Provenance).where({_BY_AI}).target.reference)",
        "a Provenance of the AI names each report and Observation that is not taken back",
    ),
    ProfileRule(
        "ai-bundle-card",
        "Bundle",
        f"{_EVERY}.ofType(Device).{_CARD}.value.ofType(Reference).reference.subsetOf("
        f"%context.{_EVERY}.ofType(Provenance).entity.where(role='derivation').what.reference)",
        "the model card of the Device is an entity of a Provenance",
    ),
)
"""Of a whole transaction."""
