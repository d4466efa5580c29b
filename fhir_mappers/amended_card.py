"""The card of a result that a radiologist signed, or that was withdrawn."""

import uuid

import orjson

from fhir_mappers.cds_card import markdown, within_summary
from fhir_mappers.report_context import Recall, SignOff, Verdict


def signed_card(response: bytes, signed: SignOff) -> bytes:
    """Give the response with the radiologist's word before the AI's.

    Parameters
    ----------
    response
        CDS Hooks response, as it was published.
    signed
        What the radiologist says.

    References
    ----------
    CDS Hooks 2.0, Card attributes: ``summary`` below 140 characters.
    """
    confirmed = signed.verdict is Verdict.CONFIRMED
    word = "Confirmed" if confirmed else "Corrected"
    when = f"{signed.at:%d %b %Y}"
    said = [f"**{word} by a radiologist, {when}.**", markdown(signed.statement)]
    return _amended(response, f"{word} by a radiologist", said, f"signed|{signed.number}")


def withdrawn_card(response: bytes, recall: Recall) -> bytes:
    """Give the response of a result that was taken back: nothing in it looks like a result."""
    value = orjson.loads(response)
    for card in value["cards"]:
        card["uuid"] = _uuid(card["uuid"], "withdrawn")
        card["summary"] = "AI result withdrawn: do not use it"
        card["indicator"] = "warning"
        card["detail"] = f"**The AI result of this study was withdrawn.** {markdown(recall.reason)}"
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _amended(response: bytes, word: str, said: list[str], part: str) -> bytes:
    value = orjson.loads(response)
    for card in value["cards"]:
        card["uuid"] = _uuid(card["uuid"], part)
        card["summary"] = within_summary(f"{word}. {card['summary']}")
        lines = [line for line in said if line]
        card["detail"] = "\n\n".join([*lines, str(card.get("detail", ""))])
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _uuid(of: str, part: str) -> str:
    return str(uuid.uuid5(uuid.UUID(of), part))
