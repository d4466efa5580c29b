"""What OAuth scopes grant, in the grammar of SMART App Launch.

Version 2 is ``patient/ImagingStudy.rs``: letters of ``cruds`` in this order. Version 1 is
``patient/ImagingStudy.read``. What is not exactly one of these grants nothing.
"""

import re
from collections.abc import Collection

_SCOPE = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]*)"
    r"\.(?P<what>c?r?u?d?s?|read|write|\*)"
)
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}


def granted(scope: str) -> frozenset[str]:
    """Split a ``scope`` string, as a token response or a token holds it."""
    return frozenset(each for each in scope.split(" ") if each)


def allows(scopes: Collection[str], level: str, resource_type: str, letters: str) -> bool:
    """Say whether scopes together grant access.

    A scope with a query, ``patient/Observation.rs?category=laboratory``, grants only a part, and
    so does not grant what is asked here.

    Parameters
    ----------
    scopes
        What was granted.
    level
        ``patient``, ``user`` or ``system``.
    resource_type
        Such as ``ImagingStudy``; ``*`` asks for every type.
    letters
        What shall be done, of ``cruds``: all of it has to be granted.
    """
    allowed: set[str] = set()
    for scope in scopes:
        matched = _SCOPE.fullmatch(scope)
        if matched and matched["level"] == level and matched["type"] in {"*", resource_type}:
            allowed.update(_VERSION_1.get(matched["what"], matched["what"]))
    return bool(letters) and set(letters) <= allowed
