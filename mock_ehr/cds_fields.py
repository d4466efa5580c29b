"""Which fields an object of CDS Hooks has, and of which type."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_NAMES = {str: "a string", bool: "a boolean", list: "an array", dict: "an object"}

Fields = Mapping[str, type]


@dataclass(frozen=True, slots=True)
class Shape:
    """Required and optional fields; there are no others."""

    required: Fields = field(default_factory=dict)
    optional: Fields = field(default_factory=dict)

    def broken(self, where: str, value: object) -> Iterator[str]:
        """Say which fields are missing, of a wrong type or unknown."""
        if not isinstance(value, dict):
            yield f"{where} is an object"
            return
        known = {**self.required, **self.optional}
        for name in sorted(set(self.required) - set(value)):
            yield f"{where}.{name} is required"
        for name in sorted(set(value) - set(known)):
            yield f"{where}.{name} is no field of CDS Hooks 2.0.1"
        for name, kind in known.items():
            if name in value and not isinstance(value[name], kind):
                yield f"{where}.{name} is {_NAMES[kind]}"


def empties(value: object, where: str = "") -> Iterator[str]:
    """Say which values are null or empty: what is not known is left out."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _empty_or_within(each, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _empty_or_within(each, f"{where}[{number}]")


def _empty_or_within(value: object, where: str) -> Iterator[str]:
    if where in {"cards", "services"} and value == []:
        return
    if value is None or value in ("", [], {}):
        yield f"{where} is neither null nor empty"
    else:
        yield from empties(value, where)
