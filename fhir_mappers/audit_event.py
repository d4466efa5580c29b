"""Who did what to which study, as FHIR AuditEvents in the shapes of IHE BALP.

=============  ======  ===========  =======================  ============================
kind           action  subtype      client agent             server agent
=============  ======  ===========  =======================  ============================
READ_STUDY     R       read         radcds, 110152           the archive, 110153
VIEW_RESULT    R       read         the viewer, 110152       radcds, 110153
QUERY          E       search       the viewer, 110153       radcds, 110152
ANALYSE        C       create       the engine, 110153       radcds, 110152
DELIVER        R       disclose     radcds, 110153 (source)  the destination, 110152
FEEDBACK       C       create       the viewer, 110153       radcds, 110152
SIGN_IN        E       110122       the viewer, 110153       radcds, 110152
SIGN_OUT       E       110123       the viewer, 110153       radcds, 110152
BREAK_GLASS    E       110127       the viewer, 110153       radcds, 110152
OPERATION      E       component    the part of the server   radcds, 110152
                                    or a person
RECEIVE        C       receive      the sender, 110153       radcds, 110152
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
from fhir_mappers.fhir_json import emitted, identifier_system, unchecked
from fhir_mappers.report_context import Site

OutcomeCode = Literal["0", "4", "8", "12"]
_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_SOURCE, _DESTINATION = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:radcds:audit")
_RESTFUL = "http://hl7.org/fhir/restful-interaction"
_BREAK_THE_GLASS = {
    "system": f"{codes.HL7_BASE}/v3-ActReason",
    "code": "BTG",
    "display": "break the glass",
}


@dataclass(frozen=True, slots=True)
class _SecurityEvent:
    """An event about a person's access: DICOM PS3.16 CID 400 and CID 401."""

    code: str
    display: str
    subtype: str
    subtype_display: str


class AuditKind(StrEnum):
    """What happened."""

    READ_STUDY = "read study"
    ANALYSE = "analyse"
    DELIVER = "deliver"
    VIEW_RESULT = "view result"
    QUERY = "query"
    FEEDBACK = "feedback"
    SIGN_IN = "sign in"
    SIGN_OUT = "sign out"
    BREAK_GLASS = "break glass"
    OPERATION = "operation"
    RECEIVE = "receive"


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
    client
        The system that asked for the user; empty where the user asked by hand.
    emergency
        Whether access is by breaking the glass: purpose of use BTG in place of treatment.
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
    client: str = ""
    emergency: bool = False


_SECURITY = {
    AuditKind.SIGN_IN: _SecurityEvent("110114", "User Authentication", "110122", "Login"),
    AuditKind.SIGN_OUT: _SecurityEvent("110114", "User Authentication", "110123", "Logout"),
    AuditKind.BREAK_GLASS: _SecurityEvent(
        "110113", "Security Alert", "110127", "Emergency Override Started"
    ),
}
_ACTIONS = dict.fromkeys(
    (AuditKind.ANALYSE, AuditKind.FEEDBACK, AuditKind.RECEIVE), "C"
) | dict.fromkeys((AuditKind.QUERY, AuditKind.OPERATION, *_SECURITY), "E")
_ACTIVITY = {"system": codes.DCM, "code": "110100", "display": "Application Activity"}
_RECIPIENT, _AUTHOR = ("IRCP", "information recipient"), ("AUT", "author (originator)")
_NO_PROFILE = frozenset({*_SECURITY, AuditKind.OPERATION, AuditKind.RECEIVE})


def audit_event(fact: AuditFact, site: Site) -> bytes:
    """Give the AuditEvent, as the exact bytes to keep.

    Its id derives from its content. A failure claims no BALP profile: those are for success.

    Raises
    ------
    InvalidMessage
        If the event would not be a valid AuditEvent.
    """
    event = _event(fact, site)
    event_id = str(uuid.uuid5(_NAMESPACE, unchecked(event).decode()))
    return emitted({"resourceType": "AuditEvent", "id": event_id, **event})


def _event(fact: AuditFact, site: Site) -> dict[str, object]:
    event: dict[str, object] = {"resourceType": "AuditEvent"}
    disclosed_of_nobody = fact.kind is AuditKind.DELIVER and not fact.patient_id
    if fact.outcome_code == "0" and fact.kind not in _NO_PROFILE and not disclosed_of_nobody:
        event["meta"] = {"profile": [_profile(fact)]}
    event["type"] = _type(fact.kind)
    event["subtype"] = [_subtype(fact.kind)]
    event["action"] = _ACTIONS.get(fact.kind, "R")
    event["recorded"] = fact.recorded.astimezone(UTC).isoformat(timespec="milliseconds")
    event["outcome"] = fact.outcome_code
    if fact.outcome_text:
        event["outcomeDesc"] = fact.outcome_text
    if fact.kind is AuditKind.BREAK_GLASS:
        event["purposeOfEvent"] = [{"coding": [_BREAK_THE_GLASS]}]
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
    created = {AuditKind.ANALYSE: "Create", AuditKind.FEEDBACK: "Create"}
    verb = (created | {AuditKind.QUERY: "Query"}).get(fact.kind, "Read")
    return f"{_BALP}.{patient}{verb}"


def _type(kind: AuditKind) -> dict[str, str]:
    if kind is AuditKind.DELIVER:
        return {"system": codes.DCM, "code": "110106", "display": "Export"}
    if kind is AuditKind.RECEIVE:
        return {"system": codes.DCM, "code": "110107", "display": "Import"}
    if security := _SECURITY.get(kind):
        return {"system": codes.DCM, "code": security.code, "display": security.display}
    if kind is AuditKind.OPERATION:
        return _ACTIVITY
    return {
        "system": f"{codes.HL7_BASE}/audit-event-type",
        "code": "rest",
        "display": "RESTful Operation",
    }


def _subtype(kind: AuditKind) -> dict[str, str]:
    if kind is AuditKind.DELIVER:
        return {"system": f"{codes.HL7_BASE}/iso-21089-lifecycle", "code": "disclose"}
    if kind is AuditKind.RECEIVE:
        return {"system": f"{codes.HL7_BASE}/iso-21089-lifecycle", "code": "receive"}
    if security := _SECURITY.get(kind):
        display = security.subtype_display
        return {"system": codes.DCM, "code": security.subtype, "display": display}
    if kind is AuditKind.OPERATION:
        return {"system": "urn:radcds:audit", "code": "component"}
    created = {AuditKind.ANALYSE: "create", AuditKind.FEEDBACK: "create"}
    verb = (created | {AuditKind.QUERY: "search"}).get(kind, "read")
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
        case AuditKind.OPERATION if "component" not in fact.detail:
            return [_in_role(partner, _SOURCE), _in_role(radcds, _DESTINATION), _user(fact)]
        case AuditKind.ANALYSE | AuditKind.OPERATION | AuditKind.RECEIVE:
            return [_in_role(partner, _SOURCE), _in_role(radcds, _DESTINATION)]
        case AuditKind.VIEW_RESULT:
            return [_in_role(partner, _DESTINATION), _in_role(radcds, _SOURCE), _user(fact)]
        case _:
            return [_in_role(partner, _SOURCE), _in_role(radcds, _DESTINATION), _user(fact)]


def _other_party(fact: AuditFact) -> str:
    return {
        AuditKind.READ_STUDY: "image archive",
        AuditKind.DELIVER: fact.detail.get("destination", "destination"),
        AuditKind.ANALYSE: fact.detail.get("model", "AI engine"),
        AuditKind.OPERATION: fact.detail.get("component", fact.user),
    }.get(fact.kind, fact.client or fact.user)


def _radcds(site: Site) -> dict[str, object]:
    return {"identifier": {"system": "urn:ietf:rfc:3986", "value": site.base_url}}


def _agent(who: dict[str, object], address: str) -> dict[str, object]:
    kind = "5" if "://" in address else "2"
    return {"who": who, "requestor": False, "network": {"address": address, "type": kind}}


def _in_role(agent: dict[str, object], role: tuple[str, str]) -> dict[str, object]:
    coding = {"system": codes.DCM, "code": role[0], "display": role[1]}
    return {"type": {"coding": [coding]}, **agent}


def _user(fact: AuditFact) -> dict[str, object]:
    code, display = _AUTHOR if fact.kind is AuditKind.FEEDBACK else _RECIPIENT
    participation = {
        "system": f"{codes.HL7_BASE}/v3-ParticipationType",
        "code": code,
        "display": display,
    }
    treatment = {"system": f"{codes.HL7_BASE}/v3-ActReason", "code": "TREAT"}
    in_emergency = fact.emergency or fact.kind is AuditKind.BREAK_GLASS
    purpose = _BREAK_THE_GLASS if in_emergency else treatment
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
        number = {"system": issuer, "value": fact.patient_id}
        who = {"type": "Patient", "identifier": number}
        entities.append({"what": who, **_entity_kind("1", "1")})
    if fact.kind is AuditKind.QUERY:
        query = base64.b64encode(fact.query.encode()).decode("ascii")
        entities.append({**_entity_kind("2", "24"), "query": query})
    elif fact.kind is AuditKind.OPERATION:
        part = {"display": fact.detail.get("component", "server")}
        entities.append({"what": part, **_entity_kind("4", "20"), **_detail(fact)})
    elif fact.kind in {AuditKind.SIGN_IN, AuditKind.SIGN_OUT}:
        session = {"display": "session of a person"}
        entities.append({"what": session, **_entity_kind("4", "20"), **_detail(fact)})
    else:
        entities.append({"what": _what(fact), **_entity_kind("2", "4"), **_detail(fact)})
    return entities


def _what(fact: AuditFact) -> dict[str, object]:
    if fact.study_instance_uid:
        uid = f"urn:oid:{fact.study_instance_uid}"
        return {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": uid}}
    if fact.kind is AuditKind.RECEIVE:
        return {"display": fact.detail.get("message", "message")}
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
