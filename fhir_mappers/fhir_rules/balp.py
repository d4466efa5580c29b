"""IHE Basic Audit Log Patterns: what an AuditEvent keeps that claims one of them.

==========================  ======  ========  ============  ============  =====================
pattern                     action  subtype   client agent  server agent  user
==========================  ======  ========  ============  ============  =====================
Read, PatientRead           R       read      110152        110153        IRCP
Query, PatientQuery         E       search    110153        110152        IRCP
Create, PatientCreate       C       create    110153        110152        AUT, INF or CST
PrivacyDisclosure.Source    R       disclose  110153        110152
==========================  ======  ========  ============  ============  =====================

110153 is the source of the data moved, 110152 their destination.

References
----------
IHE/ITI.BasicAudit 1.1.5: IHE.BasicAudit.Read, .Query, .Create, their Patient profiles, and
.PrivacyDisclosure.Source.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fhir_mappers import codes
from fhir_mappers.fhir_rules.rule import ProfileRule, coded, refers_to

_BASE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
_KINDS = f"{codes.HL7_BASE}/audit-entity-type"
_ROLES = f"{codes.HL7_BASE}/object-role"
_PARTICIPATION = f"{codes.HL7_BASE}/v3-ParticipationType"
_TRANSACTIONS = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
_REST = coded("type", f"{codes.HL7_BASE}/audit-event-type", "rest")
_SOURCE, _DESTINATION = "110153", "110152"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What sets one pattern of RESTful events apart."""

    action: str
    subtypes: tuple[str, ...]
    client: str
    server: str
    users: tuple[str, ...]


_READ = _Pattern("R", ("read", "vread"), _DESTINATION, _SOURCE, ("IRCP",))
_QUERY = _Pattern("E", ("search", "search-type", "search-system"), _SOURCE, _DESTINATION, ("IRCP",))
_CREATE = _Pattern("C", ("create",), _SOURCE, _DESTINATION, ("AUT", "INF", "CST"))


def _rule(key: str, expression: str, says: str) -> ProfileRule:
    return ProfileRule(f"balp-{key}", "AuditEvent", expression, says)


def _among(name: str, values: tuple[str, ...]) -> str:
    return "(" + " or ".join(f"{name}='{each}'" for each in values) + ")"


def _agents(role: str, code: str) -> tuple[ProfileRule, ...]:
    """Give the rules of the agent that has a role in the moving of data."""
    agents = f"agent.where({coded('type.coding', codes.DCM, code)}.exists())"
    return (
        _rule(role, f"{agents}.count() = 1", f"has one {role} agent, {code}"),
        _rule(f"{role}-who", f"{agents}.all(who.exists())", f"says who the {role} is"),
        _rule(f"{role}-network", f"{agents}.all(network.exists())", f"says where the {role} is"),
        _rule(f"{role}-media", f"{agents}.all(media.empty())", f"the {role} is no medium"),
    )


def _restful(pattern: _Pattern) -> tuple[ProfileRule, ...]:
    """Give the rules that every RESTful pattern has."""
    system = "http://hl7.org/fhir/restful-interaction"
    user = f"agent.where(type.coding.where(system='{_PARTICIPATION}').exists())"
    transaction = f"entity.where(type.system='{_TRANSACTIONS}')"
    return (
        _rule("type", f"{_REST}.exists()", "is of the type rest"),
        _rule("action", f"action='{pattern.action}'", f"the action is {pattern.action}"),
        _rule(
            "subtype",
            f"subtype.where(system='{system}' and {_among('code', pattern.subtypes)}).exists()",
            f"the subtype is {' or '.join(pattern.subtypes)}",
        ),
        _rule("recorded", "recorded.exists()", "says when"),
        _rule("outcome", "outcome='0'", "is a success"),
        *_agents("client", pattern.client),
        *_agents("server", pattern.server),
        _rule("user", f"{user}.count() <= 1", "has one user at most"),
        _rule(
            "user-type",
            f"{user}.all(type.coding.where({_among('code', pattern.users)}).exists())",
            f"the user is {' or '.join(pattern.users)}",
        ),
        _rule("user-who", f"{user}.all(who.exists())", "says who the user is"),
        _rule("user-requestor", f"{user}.all(requestor=true)", "the user is the requestor"),
        _rule("user-network", f"{user}.all(network.empty())", "the user is on no network"),
        _rule("user-media", f"{user}.all(media.empty())", "the user is no medium"),
        _rule("source", "source.observer.exists()", "says who recorded it"),
        _rule(
            "transaction",
            f"{transaction}.count() <= 1 and {transaction}.all(what.identifier.value.exists())",
            "the transaction has its identifier",
        ),
    )


def _data() -> tuple[ProfileRule, ...]:
    data = f"entity.where({coded('type', _KINDS, '2')}.exists())"
    return (
        _rule("data", f"{data}.count() = 1", "has one data entity, of the type 2"),
        _rule("data-what", f"{data}.all(what.exists())", "says which data"),
        _rule(
            "data-role",
            f"{data}.all(role.where(system='{_ROLES}' and "
            f"{_among('code', ('3', '4', '20'))}).exists())",
            "the role of the data is 3, 4 or 20",
        ),
    )


def _search() -> tuple[ProfileRule, ...]:
    query = f"entity.where({coded('role', _ROLES, '24')}.exists())"
    return (
        _rule("query", f"{query}.count() = 1", "has one query entity, in the role 24"),
        _rule(
            "query-type",
            f"{query}.all({coded('type', _KINDS, '2')}.exists())",
            "the query is of the type 2",
        ),
        _rule("query-query", f"{query}.all(query.exists())", "holds the query"),
        _rule("query-what", f"{query}.all(what.empty())", "a query is no resource"),
        _rule("query-detail", f"{query}.all(detail.empty())", "a query has no detail"),
    )


def _patient() -> tuple[ProfileRule, ...]:
    patient = f"entity.where({coded('type', _KINDS, '1')}.exists())"
    return (
        _rule("patient", f"{patient}.count() = 1", "has one patient entity, of the type 1"),
        _rule(
            "patient-role",
            f"{patient}.all({coded('role', _ROLES, '1')}.exists())",
            "the role of the patient is 1",
        ),
        _rule(
            "patient-what",
            f"{patient}.all(what.where({refers_to('Patient')}).exists())",
            "refers to a Patient",
        ),
    )


def _disclosure() -> tuple[ProfileRule, ...]:
    source = f"agent.where({coded('type.coding', codes.DCM, _SOURCE)}.exists())"
    lifecycle = f"{codes.HL7_BASE}/iso-21089-lifecycle"
    return (
        _rule("type", f"{coded('type', codes.DCM, '110106')}.exists()", "is an Export"),
        _rule("action", "action='R'", "the action is R"),
        _rule(
            "subtype",
            f"{coded('subtype', lifecycle, 'disclose')}.exists()",
            "the subtype is disclose",
        ),
        _rule("recorded", "recorded.exists()", "says when"),
        _rule("outcome", "outcome.exists()", "has an outcome"),
        *_agents("source", _SOURCE),
        *_agents("recipient", _DESTINATION),
        _rule(
            "val-audit-source",
            f"{source}.all(who = %context.source.observer)",
            "the source is who recorded it",
        ),
        _rule("modifier", "modifierExtension.empty()", "has no modifier"),
        _rule("data", "entity.count() >= 2", "names what was disclosed, beside the patient"),
        *_patient(),
    )


BALP: Mapping[str, tuple[ProfileRule, ...]] = {
    f"{_BASE}.Read": (*_restful(_READ), *_data()),
    f"{_BASE}.PatientRead": (*_restful(_READ), *_data(), *_patient()),
    f"{_BASE}.Query": (*_restful(_QUERY), *_search()),
    f"{_BASE}.PatientQuery": (*_restful(_QUERY), *_search(), *_patient()),
    f"{_BASE}.Create": (*_restful(_CREATE), *_data()),
    f"{_BASE}.PatientCreate": (*_restful(_CREATE), *_data(), *_patient()),
    f"{_BASE}.PrivacyDisclosure.Source": _disclosure(),
}
"""Rules by the profile that an AuditEvent claims in ``meta.profile``."""

_UNKNOWN = (_rule("known", "false", "claims no pattern that is not in this table"),)


def claimed_rules(profile: str) -> tuple[ProfileRule, ...]:
    """Give the rules of a profile that is claimed; one that is not of BALP has none here."""
    return BALP.get(profile, _UNKNOWN if profile.startswith(_BASE) else ())
