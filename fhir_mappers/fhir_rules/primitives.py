"""Primitive values of FHIR R4: the JSON type and the format of each.

References
----------
FHIR R4 datatypes.html; json.html.
"""

import math
import re
from collections.abc import Mapping

_MOST_CHARACTERS = 1024 * 1024
_DATE = r"[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?"
_OFFSET = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_UUID = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_FORMATS: Mapping[str, tuple[re.Pattern[str], str]] = {
    kind: (re.compile(pattern), says)
    for kind, pattern, says in (
        (
            "base64Binary",
            r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?",
            "base64",
        ),
        ("canonical", r"\S+", "an address without spaces"),
        ("code", r"\S+( \S+)*", "a code: no space before, after or twice"),
        ("date", _DATE, "a date: YYYY, YYYY-MM or YYYY-MM-DD"),
        (
            "dateTime",
            f"{_DATE}|{_DAY}T{_CLOCK}{_OFFSET}",
            "a date, or a time with seconds and offset",
        ),
        ("id", r"[A-Za-z0-9\-.]{1,64}", "an id: at most 64 letters, digits, '-' and '.'"),
        ("instant", f"{_DAY}T{_CLOCK}{_OFFSET}", "a time with seconds and an offset"),
        ("markdown", r"(?s).*\S.*", "text"),
        ("oid", r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+", "urn:oid: and an OID"),
        ("string", r"(?s).*\S.*", "text"),
        ("time", _CLOCK, "a time of day with seconds"),
        ("uri", r"\S+", "an address without spaces"),
        ("url", r"\S+", "an address without spaces"),
        ("uuid", _UUID, "urn:uuid: and a UUID in small letters"),
    )
}
_LEAST: Mapping[str, int] = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
_MOST_INTEGER = 2**31 - 1


def wrong_with(kind: str, value: object) -> str:
    """Say what is wrong with a primitive value, without the value; empty where nothing is.

    Parameters
    ----------
    kind
        Its datatype, such as ``dateTime``.
    value
        As it would be written to JSON.
    """
    if kind == "boolean":
        return "" if isinstance(value, bool) else "must be true or false, not text or a number"
    if kind == "decimal":
        return "" if _is_number(value) else "must be a number, not text"
    if kind in _LEAST:
        least = _LEAST[kind]
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = whole and isinstance(value, int) and least <= value <= _MOST_INTEGER
        return "" if fits else f"must be a whole number from {least} to {_MOST_INTEGER}"
    pattern, says = _FORMATS[kind]
    if isinstance(value, str) and value and pattern.fullmatch(value):
        return "" if len(value) <= _MOST_CHARACTERS or kind == "base64Binary" else "is over 1 MiB"
    return f"must be {says}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
