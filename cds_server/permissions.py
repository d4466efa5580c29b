"""What each role may do. One table, reviewed like a rule.

Named ``resource:action``. Whose studies a person may see is not said here: that is the person's
centres and, after a launch with a patient, that patient (``access``).
"""

from collections.abc import Mapping
from enum import StrEnum

from cds_server.network import Role


class Permission(StrEnum):
    """One thing that can be allowed."""

    NONE = ""
    READ_WORKLIST = "worklist:read"
    READ_STUDY = "study:read"
    READ_IMAGE = "image:read"
    WRITE_VERDICT = "verdict:write"
    SIGN = "result:sign"
    BREAK_GLASS = "study:break-glass"
    READ_AUDIT = "audit:read"
    READ_FHIR = "fhir:read"
    CALL_CDS = "cds:call"
    READ_OPERATIONS = "operations:read"
    OPERATE = "operations:act"
    READ_MESSAGE = "message:read"
    END_SESSION = "session:end"


_LOOK = frozenset({Permission.READ_STUDY, Permission.READ_IMAGE, Permission.END_SESSION})
_READER = frozenset({Permission.READ_WORKLIST, Permission.WRITE_VERDICT, Permission.BREAK_GLASS})

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.RADIOLOGIST: _LOOK | _READER | {Permission.SIGN},
    Role.CLINICIAN: _LOOK | {Permission.BREAK_GLASS},
    Role.AUDITOR: frozenset({Permission.READ_WORKLIST, Permission.READ_AUDIT})
    | {Permission.READ_STUDY, Permission.READ_OPERATIONS, Permission.END_SESSION},
    Role.SYSTEM: frozenset({Permission.READ_FHIR, Permission.CALL_CDS}),
    Role.OPERATOR: frozenset(Permission) - {Permission.NONE, Permission.SIGN},
}


def may(role: Role, permission: Permission) -> bool:
    """Say whether a role has a permission; ``NONE`` is what nobody needs."""
    return permission is Permission.NONE or permission in PERMISSIONS[role]
