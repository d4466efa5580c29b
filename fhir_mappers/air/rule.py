"""The shape of a rule and of what is found against it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from fhir_mappers.air.kinds import MAPS, PICTURES, PRIMITIVES, RESULTS, Kind
from fhir_mappers.air.objects import AirObject, ResultSet

Check = Callable[[AirObject, ResultSet], Iterator[str]]
"""Says of one object what breaks the rule, without patient data."""
Breach = tuple[str, str]
"""Name of the object, empty for the set as a whole; and what breaks the rule."""

_GROUPS = {
    RESULTS: "every result",
    PRIMITIVES: "SR, SEG, parametric map",
    MAPS: "SEG, parametric map",
    PICTURES: "secondary capture, presentation state, key object selection",
}


class Severity(StrEnum):
    """What a rule rests on: an error on the text of a standard, a warning on what we believe."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Parameters
    ----------
    id
        Short and stable.
    severity
        Error or warning.
    applies_to
        Which objects.
    says
        The sentence that is true of a good object.
    source
        Where it is stated; "believed" where it is not.
    breaches
        Finds what breaks it in a set.
    """

    id: str
    severity: Severity
    applies_to: str
    says: str
    source: str
    breaches: Callable[[ResultSet], Iterator[Breach]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of a rule.

    Parameters
    ----------
    rule
        Which rule.
    object
        Name of the object, or empty for the set as a whole.
    what
        What breaks the rule; without patient data.
    """

    rule: Rule
    object: str
    what: str


def error(rule_id: str, kinds: frozenset[Kind], says: str, source: str, check: Check) -> Rule:
    """Build a rule about each result of some kinds that a text states."""
    return Rule(
        rule_id, Severity.ERROR, _named(kinds), says, source, partial(_of_each, kinds, check)
    )


def warning(rule_id: str, kinds: frozenset[Kind], says: str, source: str, check: Check) -> Rule:
    """Build a rule about each result of some kinds that we hold to be meant."""
    return Rule(
        rule_id, Severity.WARNING, _named(kinds), says, source, partial(_of_each, kinds, check)
    )


def _named(kinds: frozenset[Kind]) -> str:
    return _GROUPS.get(kinds) or ", ".join(sorted(kinds))


def _of_each(kinds: frozenset[Kind], check: Check, checked: ResultSet) -> Iterator[Breach]:
    for each in checked.results:
        if each.kind in kinds:
            yield from ((each.name, what) for what in check(each, checked))
