"""SMART scopes of version 2: their grammar, and what each of them opens.

References
----------
SMART App Launch 2.2, Scopes and Launch Context.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_DATA = re.compile(
    r"(?P<level>patient|user|system)/(?P<type>[A-Z][A-Za-z]+|\*)"
    r"\.(?P<letters>(?=[cruds])c?r?u?d?s?)(?:\?(?P<query>[^\s?]+))?"
)
_LAUNCH = re.compile(r"launch(?:/[a-z]+(?:\?role=\S+)?)?")
_PLAIN = frozenset({"openid", "fhirUser", "profile", "online_access", "offline_access"})


@dataclass(frozen=True, slots=True)
class DataScope:
    """A scope that opens data: ``level/type.letters?query``."""

    level: str
    type: str
    letters: str
    query: str = ""

    def holds(self, other: "DataScope") -> bool:
        """Tell whether everything the other opens is open here too."""
        return (
            self.level == other.level
            and self.type in {"*", other.type}
            and set(other.letters) <= set(self.letters)
            and self.query in {"", other.query}
        )


def data_scope(scope: str) -> DataScope | None:
    """Read a scope that opens data; ``None`` where it is of another kind."""
    found = _DATA.fullmatch(scope)
    if found is None:
        return None
    return DataScope(found["level"], found["type"], found["letters"], found["query"] or "")


def well_formed(scope: str) -> bool:
    """Tell whether a scope follows the grammar."""
    return bool(scope in _PLAIN or _LAUNCH.fullmatch(scope) or _DATA.fullmatch(scope))


def granted(asked: Iterable[str], registered: Iterable[str]) -> tuple[str, ...]:
    """Keep the asked scopes that the registration covers."""
    allowed = list(registered)
    wide = [each for scope in allowed if (each := data_scope(scope))]

    def covered(scope: str) -> bool:
        data = data_scope(scope)
        return scope in allowed or (data is not None and any(each.holds(data) for each in wide))

    return tuple(scope for scope in dict.fromkeys(asked) if covered(scope))


def opening(scopes: Iterable[str], resource_type: str, letter: str) -> list[DataScope]:
    """Give the scopes that open an interaction, ``r`` or ``s``, with a type."""
    wanted = (data_scope(scope) for scope in scopes)
    return [
        each
        for each in wanted
        if each and each.type in {"*", resource_type} and letter in each.letters
    ]
