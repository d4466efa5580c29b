"""One rule of a profile, as the tables of rules write it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProfileRule:
    """A FHIRPath expression that must be true of each resource of a type.

    Parameters
    ----------
    key
        Names the rule; no other has the same.
    of
        Resource type that it is about.
    expression
        FHIRPath over the resource.
    says
        What must be, for a person.
    """

    key: str
    of: str
    expression: str
    says: str


def coded(path: str, system: str, code: str) -> str:
    """Give the FHIRPath of the Codings at a path that are one code."""
    return f"{path}.where(system='{system}' and code='{code}')"


def refers_to(*kinds: str) -> str:
    """Give the FHIRPath, over a Reference, of what it names."""
    literal = "|".join(kinds)
    typed = " or ".join(f"type='{kind}'" for kind in kinds)
    return f"(reference.matches('(^|/)({literal})/[^/]+') or {typed})"
