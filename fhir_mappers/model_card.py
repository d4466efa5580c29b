"""The card of the model as a FHIR DocumentReference."""

from collections.abc import Iterator, Mapping

from fhir_mappers import codes
from fhir_mappers.fhir_json import legal
from fhir_mappers.references import References
from fhir_mappers.report_context import ReportContext
from fhir_mappers.report_text import attachment


def model_card(context: ReportContext, references: References) -> dict[str, object]:
    """Give the model card, whole, as Markdown in a DocumentReference.

    References
    ----------
    HL7 AI Transparency on FHIR, AI-ModelCard.
    """
    model, site = context.model, context.site
    coding = {"system": codes.AI_INPUTS, "code": "AIModelCard", "display": "AI Model-Card"}
    written = {
        "system": codes.AI_INPUTS,
        "code": "AIModelCardMarkdownFormat",
        "display": "Markdown Format",
    }
    text = model_card_markdown(f"{model.name} {model.version}", context.model_card)
    return {
        "resourceType": "DocumentReference",
        "id": references.id_of("DocumentReference"),
        "identifier": [{"system": f"{site.base_url}/model-cards", "value": model.sha256}],
        "status": "current",
        "type": {"coding": [coding]},
        "category": [{"coding": [written]}],
        "custodian": references.organisation,
        "description": str(context.model_card.get("status", "")),
        "content": [{"attachment": attachment("text/markdown", text.encode())}],
    }


def model_card_markdown(title: str, card: Mapping[str, object]) -> str:
    """Write a model card for people: each entry a heading, lists and tables of it as bullets.

    Parameters
    ----------
    title
        Name and version of the model.
    card
        Any JSON object; ``name`` and ``version`` are in the title.
    """
    lines = [f"# Model card: {legal(title)}"]
    for name, value in card.items():
        if name not in {"name", "version"}:
            lines += ["", f"## {_words(name)}", "", *_said(value)]
    return "\n".join(lines) + "\n"


def _said(value: object) -> Iterator[str]:
    if isinstance(value, Mapping | list):
        yield from _bullets(value, "")
    else:
        yield _plain(value)


def _bullets(value: object, indent: str) -> Iterator[str]:
    named = value.items() if isinstance(value, Mapping) else enumerate(_items(value))
    for name, each in named:
        lead = f"{indent}- " + (f"{_words(str(name))}: " if isinstance(value, Mapping) else "")
        if isinstance(each, Mapping | list) and not _is_short(each):
            yield lead.rstrip()
            yield from _bullets(each, f"{indent}  ")
        else:
            yield lead + _plain(each)


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _is_short(value: object) -> bool:
    """Say whether a list fits a line: numbers only, as an interval."""
    return isinstance(value, list) and all(isinstance(each, int | float) for each in value)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return legal(str(value)).replace("\n", " ")


def _words(name: str) -> str:
    words = legal(name).replace("_", " ")
    return words[:1].upper() + words[1:]
