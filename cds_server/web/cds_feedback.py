"""Feedback of a CDS client, checked item by item.

References
----------
CDS Hooks 2.0, Feedback: card, outcome, acceptedSuggestions, overrideReason, outcomeTimestamp.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cds_server.feedback import CardFeedback
from cds_server.web.problems import BadRequest

_MOST_ITEMS = 100
_LONGEST_COMMENT = 4000


def feedback_items(body: Mapping[str, Any]) -> Sequence[CardFeedback]:
    """Read the items.

    Raises
    ------
    BadRequest
        If one is malformed; it names which and what. Then none is kept.
    """
    listed = body.get("feedback")
    if not isinstance(listed, list) or not listed or len(listed) > _MOST_ITEMS:
        msg = f"feedback: must be a list of 1 to {_MOST_ITEMS} objects."
        raise BadRequest(msg)
    return [_item(each, f"feedback[{number}]") for number, each in enumerate(listed)]


def _item(value: object, where: str) -> CardFeedback:
    """Read one item.

    Raises
    ------
    BadRequest
        If it is malformed.
    """
    if not isinstance(value, dict):
        msg = f"{where}: must be an object."
        raise BadRequest(msg)
    outcome = value.get("outcome")
    if outcome not in {"accepted", "overridden"}:
        msg = f"{where}.outcome: must be accepted or overridden."
        raise BadRequest(msg)
    system, code, comment = _reason(value.get("overrideReason"), f"{where}.overrideReason")
    return CardFeedback(
        card=_uuid(value.get("card"), f"{where}.card"),
        outcome=outcome,
        at=_moment(value.get("outcomeTimestamp"), f"{where}.outcomeTimestamp"),
        reason_system=system,
        reason_code=code,
        comment=comment,
        accepted=_accepted(value, where) if outcome == "accepted" else (),
    )


def _accepted(value: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Read the accepted suggestions.

    Raises
    ------
    BadRequest
        If there is none, or one has no id.
    """
    listed = value.get("acceptedSuggestions")
    if not isinstance(listed, list) or not listed:
        msg = f"{where}.acceptedSuggestions: is required where the outcome is accepted."
        raise BadRequest(msg)
    ids = [each.get("id") if isinstance(each, dict) else None for each in listed]
    return tuple(_uuid(each, f"{where}.acceptedSuggestions.id") for each in ids)


def _reason(value: object, where: str) -> tuple[str, str, str]:
    """Read why a card was overridden.

    Raises
    ------
    BadRequest
        If it says nothing, or is malformed.
    """
    if value is None:
        return "", "", ""
    if not isinstance(value, dict):
        msg = f"{where}: must be an object."
        raise BadRequest(msg)
    coding, comment = value.get("reason"), value.get("userComment")
    if coding is None and comment is None:
        msg = f"{where}: needs reason or userComment."
        raise BadRequest(msg)
    texts = [comment if comment is not None else ""]
    if coding is not None:
        named = coding if isinstance(coding, dict) else {}
        texts += [named.get("system"), named.get("code")]
    else:
        texts += ["", ""]
    if not all(isinstance(each, str) and len(each) <= _LONGEST_COMMENT for each in texts):
        msg = f"{where}: reason needs system and code; every text is at most {_LONGEST_COMMENT}."
        raise BadRequest(msg)
    return str(texts[1]), str(texts[2]), str(texts[0])


def _uuid(value: object, where: str) -> str:
    """Read a UUID.

    Raises
    ------
    BadRequest
        If it is none.
    """
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        msg = f"{where}: must be a UUID."
        raise BadRequest(msg) from error


def _moment(value: object, where: str) -> datetime:
    """Read a time with an offset.

    Raises
    ------
    BadRequest
        If it is none.
    """
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        msg = f"{where}: must be a time such as 2026-11-24T10:00:00Z."
        raise BadRequest(msg) from error
    if moment.tzinfo is None:
        msg = f"{where}: needs an offset, such as Z."
        raise BadRequest(msg)
    return moment.astimezone(UTC)
