"""The FHIR transaction of one study: every resource PUT under an id of its own, safe to repeat.

The patient is referred to by identifier, never by name: who that is, the receiving server knows.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from ai_engine.result import Outcome, TriageResult
from fhir_mappers.device import device
from fhir_mappers.diagnostic_report import diagnostic_report
from fhir_mappers.fhir_json import emitted
from fhir_mappers.imaging_study import imaging_study
from fhir_mappers.media import binary, media
from fhir_mappers.model_card import model_card
from fhir_mappers.observation import observation
from fhir_mappers.provenance import provenance, sign_off_provenance
from fhir_mappers.references import References
from fhir_mappers.report_context import ReportContext
from fhir_mappers.study import Study


def transaction_bundle(
    study: Study, outcome: Outcome, *, context: ReportContext, overlay_jpeg: bytes | None
) -> bytes:
    """Give the transaction Bundle of one study, checked.

    Parameters
    ----------
    study
        As the archive described it.
    outcome
        What the engine said; not analysed gives a report in words, and no Observation.
    context
        Identifiers and times; the same context gives the same bytes. With a sign-off every id
        stays, so that the PUT replaces what was preliminary.
    overlay_jpeg
        The overlay, or ``None`` where there is none or the site shows none.

    Raises
    ------
    InvalidMessage
        If a resource is not valid FHIR R4, or a sign-off corrects without saying what is true.

    References
    ----------
    FHIR R4 http.html#transaction; HL7 AI Transparency on FHIR 1.0.0-ballot (AIAST, AI Device).
    """
    references = References(study, context)
    resources: list[Mapping[str, Any]] = [
        device(context, references),
        imaging_study(study, references),
    ]
    if context.model_card:
        resources.insert(0, model_card(context, references))
    if isinstance(outcome, TriageResult):
        resources += [observation(each, outcome, references) for each in outcome.findings]
    if overlay_jpeg is not None:
        resources += [
            binary(overlay_jpeg, references),
            media(overlay_jpeg, context, references),
        ]
    resources += [
        diagnostic_report(study, outcome, context, references, shows_overlay=bool(overlay_jpeg)),
        provenance(outcome, context, references),
    ]
    if context.signed:
        resources.append(sign_off_provenance(outcome, context.signed, references))
    entries = [entry(resource) for resource in resources]
    return emitted({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def sign_off_bundle(
    study: Study,
    outcome: Outcome,
    *,
    context: ReportContext,
    shows_overlay: bool,
    published: bytes,
) -> bytes:
    """Give the transaction of a sign-off: what it changes, and who said what.

    Parameters
    ----------
    study, outcome
        Of the result.
    context
        With the sign-off.
    shows_overlay
        Whether the result was published with its overlay.
    published
        The transaction of the result, whose Provenance goes along as it is.

    Raises
    ------
    InvalidMessage
        If a resource is not valid FHIR R4, or a sign-off corrects without saying what is true.
    """
    references = References(study, context)
    resources: list[Mapping[str, Any]] = []
    if isinstance(outcome, TriageResult):
        resources += [observation(each, outcome, references) for each in outcome.findings]
    resources.append(
        diagnostic_report(study, outcome, context, references, shows_overlay=shows_overlay)
    )
    if context.signed:
        resources.append(sign_off_provenance(outcome, context.signed, references))
    own = {each["id"] for each in resources}
    said_before = (each["resource"] for each in orjson.loads(published)["entry"])
    resources += [
        each
        for each in said_before
        if each["resourceType"] == "Provenance" and each["id"] not in own
    ]
    entries = [entry(each) for each in resources]
    return emitted({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def replaced(published: bytes, later: bytes) -> bytes:
    """Give a published transaction with the entries of a later one in place of its own."""
    value, newer = orjson.loads(published), orjson.loads(later)
    entries = {each["request"]["url"]: each for each in (*value["entry"], *newer["entry"])}
    return orjson.dumps({**value, "entry": list(entries.values())})


def entry(resource: Mapping[str, Any]) -> dict[str, object]:
    """Give the entry of a transaction that PUTs a resource under its own id."""
    address = f"{resource['resourceType']}/{resource['id']}"
    return {
        "fullUrl": f"urn:uuid:{resource['id']}",
        "resource": resource,
        "request": {"method": "PUT", "url": address},
    }
