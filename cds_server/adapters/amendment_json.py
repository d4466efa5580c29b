"""What an amendment says, as JSON text, without loss."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson

from fhir_mappers.report_context import Recall, SignOff, Verdict


def encode(said: SignOff | Recall) -> str:
    """Write it."""
    return orjson.dumps({**asdict(said), "at": said.at.isoformat()}).decode()


def decode(text: str) -> SignOff | Recall:
    """Read what ``encode`` wrote."""
    value: dict[str, Any] = orjson.loads(text)
    at = datetime.fromisoformat(value.pop("at"))
    if "reason" in value:
        return Recall(at=at, **value)
    identifier = tuple(value.pop("identifier"))
    return SignOff(at=at, identifier=identifier, verdict=Verdict(value.pop("verdict")), **value)
