"""A published result taken back: its model version was recalled."""

from collections.abc import Mapping
from typing import Any

import orjson

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_json import emitted
from fhir_mappers.identifiers import resource_id
from fhir_mappers.provenance import operation, participant
from fhir_mappers.references import instant, organisation
from fhir_mappers.report_context import Recall, Site
from fhir_mappers.report_text import report_text
from fhir_mappers.transaction import entry

_TAKEN_BACK = frozenset({"DiagnosticReport", "Observation", "Media"})
_SIGNED = frozenset({"final", "amended"})
_WITHDRAWN, _CORRECTED = "entered-in-error", "corrected"


def recalled_bundle(published: bytes, *, site: Site, recall: Recall) -> bytes:
    """Give the transaction that takes a published result back.

    It is made of the very bytes that were published, whatever the mappers would write today. Each
    report, Observation and Media keeps its id and is ``entered-in-error``; the report says so first
    in words. What had been said stays readable.

    A model can be recalled, a radiologist's word cannot: a report that was signed is ``corrected``,
    and says first that the AI's part of it is withdrawn.

    Parameters
    ----------
    published
        The transaction Bundle that was sent last for the result.
    site
        Who takes it back.
    recall
        When, and why.

    Raises
    ------
    InvalidMessage
        If it is no such Bundle, is taken back already, or no reason is given.

    References
    ----------
    FHIR R4 valueset-diagnostic-report-status; HL7 AI Transparency on FHIR, use case of a recall.
    """
    if not recall.reason.strip():
        msg = "Provenance.reason: a recall must say why"
        raise InvalidMessage(msg)
    resources = [each["resource"] for each in orjson.loads(published).get("entry", ())]
    report = _report(resources)
    taken_back = [
        _withdrawn_report(each, recall) if each is report else {**each, "status": _WITHDRAWN}
        for each in resources
        if each["resourceType"] in _TAKEN_BACK
    ]
    entries = [entry(each) for each in (*taken_back, _why(taken_back, report, site, recall))]
    return emitted({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def _report(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Find the report.

    Raises
    ------
    InvalidMessage
        If there is none, or it is taken back already.
    """
    found = [each for each in resources if each["resourceType"] == "DiagnosticReport"]
    if len(found) != 1 or found[0]["status"] in {_WITHDRAWN, _CORRECTED}:
        msg = "Bundle.entry: one DiagnosticReport that is not taken back yet is required"
        raise InvalidMessage(msg)
    return found[0]


def _withdrawn_report(report: Mapping[str, Any], recall: Recall) -> dict[str, Any]:
    signed = report["status"] in _SIGNED
    lines = [
        "AI RESULT WITHDRAWN - DO NOT USE.",
        f"{recall.at.isoformat(timespec='minutes')}: {recall.reason}",
        "What the radiologist said stands." if signed else "",
        "Before that, this report said:",
        str(report["conclusion"]),
    ]
    status = _CORRECTED if signed else _WITHDRAWN
    return {**report, "status": status, "issued": instant(recall.at), **report_text(lines)}


def _why(
    taken_back: list[dict[str, Any]], report: Mapping[str, Any], site: Site, recall: Recall
) -> dict[str, object]:
    """Give the Provenance of the recall: its reason, and the model whose result it was."""
    result_id = str(report["identifier"][0]["value"]).removeprefix("urn:uuid:")
    targets = [{"reference": f"{each['resourceType']}/{each['id']}"} for each in taken_back]
    device = {"reference": f"Device/{resource_id(result_id, 'Device')}"}
    return {
        "resourceType": "Provenance",
        "id": resource_id(result_id, "Provenance", "recall"),
        "target": targets,
        "occurredDateTime": instant(recall.at),
        "recorded": instant(recall.at),
        "reason": [{"text": recall.reason}],
        "activity": operation("NULLIFY", "nullify"),
        "agent": [{"type": participant("custodian", "Custodian"), "who": organisation(site)}],
        "entity": [{"role": "source", "what": device}],
    }
