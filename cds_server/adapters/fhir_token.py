"""Values of FHIR token parameters: alternatives after commas, each with or without a namespace."""

import re
from dataclasses import dataclass

from cds_server.errors import UnknownSearchParameter

_PIECE = re.compile(r"\\(?P<escaped>[\\,|$])|(?P<mark>[,|])|(?P<text>[^\\,|])")


@dataclass(frozen=True, slots=True)
class Token:
    """One alternative.

    Parameters
    ----------
    system
        The namespace; empty means one without, ``None`` means any.
    value
        The identifier or code; empty, after a namespace, means any.
    """

    system: str | None
    value: str


def tokens(name: str, value: str) -> list[Token]:
    r"""Read the value of a parameter.

    Parameters
    ----------
    name
        Of the parameter, for the error.
    value
        Such as ``urn:oid:1.2|A1,A2``.

    Raises
    ------
    UnknownSearchParameter
        If an alternative is empty, has two namespaces, or an escape is none of ``\,  \|  \$  \\``.

    References
    ----------
    FHIR R4 search, 3.1.1.4.10 ``token`` and 3.1.1.5.7 escaping.
    """
    alternatives: list[list[str]] = [[""]]
    end = 0
    for piece in _PIECE.finditer(value):
        if piece.start() != end:
            break
        end = piece.end()
        if piece["mark"] == ",":
            alternatives.append([""])
        elif piece["mark"]:
            alternatives[-1].append("")
        else:
            alternatives[-1][-1] += piece["escaped"] or piece["text"]
    if end != len(value) or not all(_whole(each) for each in alternatives):
        msg = f"the value of search parameter {name!r} is not value, system|value, or such by comma"
        raise UnknownSearchParameter(msg)
    return [Token(each[0] if len(each) > 1 else None, each[-1]) for each in alternatives]


def _whole(parts: list[str]) -> bool:
    """Say whether an alternative is a value, or a namespace and a value, not both empty."""
    return len(parts) in {1, 2} and any(parts)
