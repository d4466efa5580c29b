"""Who did what to which study, as FHIR AuditEvents in the shapes of IHE BALP.

=============  ======  ===========  =======================  ============================
kind           action  subtype      client agent             server agent
=============  ======  ===========  =======================  ============================
READ_STUDY     R       read         radcds, 110152           the archive, 110153
VIEW_RESULT    R       read         the viewer, 110152       radcds, 110153
QUERY          E       search       the viewer, 110153       radcds, 110152
ANALYSE        C       create       the engine, 110153       radcds, 110152
DELIVER        R       disclose     radcds, 110153 (source)  the destination, 110152
=============  ======  ===========  =======================  ============================

110153 is the source of the data moved, 110152 their destination.

References
----------
IHE ITI Basic Audit Log Patterns (BALP) 1.1; FHIR R4 AuditEvent; DICOM PS3.16 CID 402.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from fhir_mappers import codes
from fhir_mappers.fhir_json import emitted, identifier_system
from fhir_mappers.report_context import Site

OutcomeCode = Literal["0", "4", "8", "12"]
_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_SOURCE, _DESTINATION = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:radcds:audit")
_RESTFUL = "http://hl7.org/fhir/restful-interaction"


class AuditKind(StrEnum):
    """What happened."""

    READ_STUDY = "read study"
    ANALYSE = "analyse"
    DELIVER = "deliver"
    VIEW_RESULT = "view result"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class AuditFact:
    """One fact to record.

    Parameters
    ----------
    kind
        What happened.
    recorded
        When, with an offset.
    user, address
        Who did it, and the network address or URL it came from.
    study_instance_uid, result_id, patient_id, patient_issuer
        What it was done to. A patient's name is never recorded.
    outcome_code
        0 success, 4 minor failure, 8 serious failure, 12 major failure.
    outcome_text
        What failed, without patient data.
    detail
        What more there is to know, such as model, result and destination.
    query
        Of a search.
    """

    kind: AuditKind
    recorded: datetime
    user: str
    address: str
    study_instance_uid: str | None = None
    result_id: str | None = None
    patient_id: str | None = None
    patient_issuer: str = ""
    outcome_code: OutcomeCode = "0"
    outcome_text: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    query: str = ""


def audit_event(fact: AuditFact, site: Site) -> bytes:
    """Give the AuditEvent, as the exact bytes to keep.

    Its id derives from its content. A failure claims no BALP profile: those are for success.

    Raises
    ------
    InvalidMessage
        If the event would not be a valid AuditEvent.
    """
    event = _event(fact, site)
    event_id = str(uuid.uuid5(_NAMESPACE, emitted(event).decode()))
    return emitted({"resourceType": "AuditEvent", "id": event_id, **event})


def _event(fact: AuditFact, site: Site) -> dict[str, object]:
    disclosed = fact.kind is AuditKind.DELIVER
    event: dict[str, object] = {"resourceType": "AuditEvent"}
    if fact.outcome_code == "0":
        event["meta"] = {"profile": [_profile(fact)]}
    event["type"] = (
        {"system": codes.DCM, "code": "110106", "display": "Export"}
        if disclosed
        else {
            "system": f"{codes.HL7_BASE}/audit-event-type",
            "code": "rest",
            "display": "RESTful Operation",
        }
    )
    event["subtype"] = [_subtype(fact.kind)]
    event["action"] = {AuditKind.ANALYSE: "C", AuditKind.QUERY: "E"}.get(fact.kind, "R")
    event["recorded"] = fact.recorded.astimezone(UTC).isoformat(timespec="milliseconds")
    event["outcome"] = fact.outcome_code
    if fact.outcome_text:
        event["outcomeDesc"] = fact.outcome_text
    event["agent"] = _agents(fact, site)
    event["source"] = {
        "site": site.name,
        "observer": _radcds(site),
        "type": [{"system": f"{codes.HL7_BASE}/security-source-type", "code": "4"}],
    }
    event["entity"] = _entities(fact, site)
    return event


def _profile(fact: AuditFact) -> str:
    patient = "Patient" if fact.patient_id else ""
    if fact.kind is AuditKind.DELIVER:
        return f"{_BALP}.PrivacyDisclosure.Source"
    verb = {AuditKind.ANALYSE: "Create", AuditKind.QUERY: "Query"}.get(fact.kind, "Read")
    return f"{_BALP}.{patient}{verb}"


def _subtype(kind: AuditKind) -> dict[str, str]:
    if kind is AuditKind.DELIVER:
        return {"system": f"{codes.HL7_BASE}/iso-21089-lifecycle", "code": "disclose"}
    verb = {AuditKind.ANALYSE: "create", AuditKind.QUERY: "search"}.get(kind, "read")
    return {"system": _RESTFUL, "code": verb}


def _agents(fact: AuditFact, site: Site) -> list[dict[str, object]]:
    """Give client, server and, for a person's look, the user."""
    radcds = _agent(_radcds(site), site.base_url)
    other: dict[str, object] = {"identifier": {"value": _other_party(fact)}}
    partner = _agent(other, fact.address)
    match fact.kind:
        case AuditKind.READ_STUDY:
            return [_in_role(radcds, _DESTINATION), _in_role(partner, _SOURCE)]
        case AuditKind.DELIVER:
            return [_in_role(radcds, _SOURCE), _in_role(partner, _DESTINATION)]
        case AuditKind.ANALYSE:
            return [_in_role(partner, _SOURCE), _in_role(radcds, _DESTINATION)]
        case AuditKind.VIEW_RESULT:
            return [_in_role(partner, _DESTINATION), _in_role(radcds, _SOURCE), _user(fact)]
        case AuditKind.QUERY:
            return [_in_role(partner, _SOURCE), _in_role(radcds, _DESTINATION), _user(fact)]


def _other_party(fact: AuditFact) -> str:
    return {
        AuditKind.READ_STUDY: "image archive",
        AuditKind.DELIVER: fact.detail.get("destination", "destination"),
        AuditKind.ANALYSE: fact.detail.get("model", "AI engine"),
    }.get(fact.kind, fact.user)


def _radcds(site: Site) -> dict[str, object]:
    return {"identifier": {"system": "urn:ietf:rfc:3986", "value": site.base_url}}


def _agent(who: dict[str, object], address: str) -> dict[str, object]:
    kind = "5" if "://" in address else "2"
    return {"who": who, "requestor": False, "network": {"address": address, "type": kind}}


def _in_role(agent: dict[str, object], role: tuple[str, str]) -> dict[str, object]:
    coding = {"system": codes.DCM, "code": role[0], "display": role[1]}
    return {"type": {"coding": [coding]}, **agent}


def _user(fact: AuditFact) -> dict[str, object]:
    participation = {
        "system": f"{codes.HL7_BASE}/v3-ParticipationType",
        "code": "IRCP",
        "display": "information recipient",
    }
    purpose = {"system": f"{codes.HL7_BASE}/v3-ActReason", "code": "TREAT"}
    return {
        "type": {"coding": [participation]},
        "who": {"identifier": {"value": fact.user}},
        "requestor": True,
        "purposeOfUse": [{"coding": [purpose]}],
    }


def _entities(fact: AuditFact, site: Site) -> list[dict[str, object]]:
    entities = []
    if fact.patient_id:
        issuer = identifier_system(fact.patient_issuer, site)
        who = {"identifier": {"system": issuer, "value": fact.patient_id}}
        entities.append({"what": who, **_entity_kind("1", "1")})
    if fact.kind is AuditKind.QUERY:
        query = base64.b64encode(fact.query.encode()).decode("ascii")
        entities.append({**_entity_kind("2", "24"), "query": query})
    else:
        entities.append({"what": _what(fact), **_entity_kind("2", "4"), **_detail(fact)})
    return entities


def _what(fact: AuditFact) -> dict[str, object]:
    if fact.study_instance_uid:
        uid = f"urn:oid:{fact.study_instance_uid}"
        return {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": uid}}
    return {"display": "an input that could not be identified as a study"}


def _detail(fact: AuditFact) -> dict[str, object]:
    named = {"result-id": fact.result_id} if fact.result_id else {}
    values = {**named, **fact.detail}
    if not values:
        return {}
    return {"detail": [{"type": name, "valueString": text} for name, text in values.items()]}


def _entity_kind(kind: str, role: str) -> dict[str, object]:
    return {
        "type": {"system": f"{codes.HL7_BASE}/audit-entity-type", "code": kind},
        "role": {"system": f"{codes.HL7_BASE}/object-role", "code": role},
    }
