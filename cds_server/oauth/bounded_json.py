"""JSON from another server, which may be anything."""

import json


def json_object(content: bytes | str) -> dict[str, object]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        If it is no JSON, no object, or nested too deeply to be read.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        # The parser recurses: a few thousand brackets would end the request with a crash.
        msg = "JSON is nested too deeply"
        raise ValueError(msg) from None
    except ValueError:
        msg = "not JSON"  # the parser quotes what it read
        raise ValueError(msg) from None
    if not isinstance(value, dict):
        msg = "not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 - one error for whatever is not a JSON object
    return value
