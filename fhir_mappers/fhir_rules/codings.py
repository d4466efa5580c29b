"""What a Coding may say: a code that its system has, with the display of that code.

Of HL7's own systems every code is known; of others the reviewed rows of ``fhir_mappers.codes``.
"""

import re
from collections.abc import Mapping

from fhir_mappers import codes
from fhir_mappers.fhir_rules.elements import HL7_SYSTEMS

_URI_SYSTEM = "urn:ietf:rfc:3986"
_URI = re.compile(r"(urn:[a-z0-9]+:|https?://)\S+")
_OPEN = frozenset({codes.DCM})
"""Systems of which a study brings its own codes, as its modality: only known rows are compared."""


def _known() -> Mapping[str, Mapping[str, str]]:
    known = {system: dict(rows) for system, rows in HL7_SYSTEMS.items()}
    for row in codes.FHIR_CODES:
        known.setdefault(row.system, {})[row.code] = row.display
    return known


_KNOWN = _known()


def wrong_with_coding(coding: Mapping[str, object]) -> str:
    """Say what is wrong with a Coding, without its values; empty where nothing is."""
    system, code = str(coding.get("system", "")), str(coding.get("code", ""))
    if system == _URI_SYSTEM:
        return "" if _URI.fullmatch(code) else f"a code of {_URI_SYSTEM} must be a URI: urn:oid:…"
    rows = _KNOWN.get(system)
    if rows is None:
        return ""
    if code not in rows:
        named = f"is no code of {system} that is in the reviewed table (fhir_mappers.codes)"
        return "" if system in _OPEN and code else named
    wrong = "display" in coding and coding["display"] != rows[code]
    return f"the display must be that of the code: {rows[code]!r}" if wrong else ""
