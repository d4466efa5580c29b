"""Who looks, and whose studies they may see."""

from dataclasses import dataclass

from cds_server.network import Role


@dataclass(frozen=True, slots=True)
class PatientScope:
    """The one patient that a launch, a hook or a token is about.

    Parameters
    ----------
    reference
        The patient in the EHR, such as ``Patient/123``.
    identifiers
        Pairs of namespace (a URI) and value, as ``fhir_mappers.fhir_json.identifier_system`` names
        the archive's. A value alone never identifies: two hospitals give the same number.
    """

    reference: str
    identifiers: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks.

    Parameters
    ----------
    user
        Identifier of the person or program.
    address
        Network address that the request came from.
    role
        Decides what may be done.
    client
        The trusted system that asks for the person, such as the EHR; or empty.
    centres
        Ids of the centres whose studies may be seen; empty means all.
    patient
        The only patient that may be seen; ``None`` means any.
    session
        Handle of the session, or empty: emergency access is granted to a session.
    """

    user: str
    address: str
    role: Role
    client: str = ""
    centres: frozenset[str] = frozenset()
    patient: PatientScope | None = None
    session: str = ""
