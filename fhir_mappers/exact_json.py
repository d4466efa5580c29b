"""JSON that is read, changed and written again with the digits of every number as they were."""

import json
from typing import Any, NoReturn

import orjson

from fhir_mappers.errors import InvalidMessage


def exact(content: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Read JSON whose numbers are kept as text: ``0.870`` stays ``0.870``.

    Raises
    ------
    InvalidMessage
        If it is no JSON.

    References
    ----------
    FHIR R4 datatypes ``decimal``: the precision has a meaning.
    """
    try:
        return json.loads(
            content,
            parse_float=orjson.Fragment,
            parse_int=orjson.Fragment,
            parse_constant=_refused,
        )
    except (ValueError, RecursionError):
        msg = "it is not JSON"
        raise InvalidMessage(msg) from None


def written(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Give the bytes of what ``exact`` read: in the same order, and as ``fhir_json`` writes."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _refused(constant: str) -> NoReturn:
    """Refuse ``NaN`` and ``Infinity``, which Python reads and JSON has not.

    Raises
    ------
    ValueError
        Always.
    """
    raise ValueError(constant)
