"""The result as CDS Hooks cards.

References
----------
CDS Hooks 2.0: card.summary (under 140 characters), card.indicator, card.source, card.links,
card.overrideReasons; Da Vinci CRD 2.2 ``davinci-crd.associated-resource``.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ai_engine.result import NotAnalysed, Outcome, Priority, TriageResult
from fhir_mappers import codes
from fhir_mappers.report_context import ReportContext, Site
from fhir_mappers.study import Study
from fhir_mappers.wording import DISCLAIMER, figures, headline, incomplete, model_line

_LONGEST_SUMMARY = 139
_LONGEST_ORDER_NAME = 120
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~&])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def card_response(study: Study, outcome: Outcome, *, context: ReportContext) -> dict[str, object]:
    """Give the CDS Hooks response of one study: one card, or none by the site's choice.

    Parameters
    ----------
    study
        As the archive described it; the card names its date, never the patient.
    outcome
        What the engine said. What was not analysed has words of its own and never looks normal.
    context
        Identifiers and times; the same context gives the same card.
    """
    normal = isinstance(outcome, TriageResult) and outcome.priority is Priority.NORMAL
    if normal and context.site.silent_when_normal and not context.unread:
        return {"cards": []}
    taken = f"{study.started:%d %b %Y}" if study.started else "undated study"
    summary = within_summary(f"AI triage, {taken}: {headline(outcome)}")
    indicator = codes.triage(outcome).indicator
    return {
        "cards": [
            _card(
                context.result_id,
                context.site,
                summary=summary,
                indicator=indicator,
                detail=_detail(outcome, context),
            )
        ]
    }


def pending_card(result_id: str, site: Site) -> dict[str, Any]:
    """Give the card of a study that waits for its analysis: a result that is not there yet."""
    return _card(
        result_id,
        site,
        summary="AI triage: a study is waiting for analysis. There is no result yet.",
        indicator="info",
        detail="The study has arrived and is queued. No result does not mean no finding.",
    )


def recent_imaging_card(seed: str, recent: Sequence[tuple[str, str]], site: Site) -> dict[str, Any]:
    """Give the card that says which imaging was done lately, before more is ordered.

    Parameters
    ----------
    seed
        UUID from which the card's own is derived, so that a repeat is the same card.
    recent
        Modality and date of each study, both in words; at least one.
    site
        Whose server this is.
    """
    count = len(recent)
    noun = "imaging study was" if count == 1 else "imaging studies were"
    summary = within_summary(
        f"{count} {noun} done lately: {', '.join(' '.join(each) for each in recent)}"
    )
    lines = ["Done lately for this patient:", ""]
    lines += [f"- {markdown(modality)}, {markdown(taken)}" for modality, taken in recent]
    lines += ["", "Consider whether the new order adds to it."]
    card = _card(seed, site, summary=summary, indicator="info", detail="\n".join(lines))
    del card["links"]
    return card


def about_orders(card: Mapping[str, Any], orders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give a card that names the orders it is about, in words and as references."""
    references = [f"{each['resourceType']}/{each['id']}" for each in orders if each.get("id")]
    names = [_order_name(each) for each in orders]
    named = f"{card['detail']}\n\nAbout the order: {'; '.join(names)}"
    if not references:
        return {**card, "detail": named}
    extension = {"davinci-crd.associated-resource": references}
    return {**card, "detail": named, "extension": extension}


def _order_name(order: Mapping[str, Any]) -> str:
    code = order.get("code")
    coded = code if isinstance(code, dict) else {}
    codings = coded.get("coding")
    first = codings[0] if isinstance(codings, list) and codings else {}
    display = first.get("display") if isinstance(first, dict) else ""
    name = coded.get("text") or display or order.get("id") or "without a name"
    return markdown(str(name)[:_LONGEST_ORDER_NAME])


def _card(
    result_id: str, site: Site, *, summary: str, indicator: str, detail: str
) -> dict[str, Any]:
    return {
        "uuid": str(uuid.uuid5(uuid.UUID(result_id), f"card|{indicator}|{summary}")),
        "summary": summary,
        "indicator": indicator,
        "detail": detail,
        "source": {
            "label": "radcds AI triage",
            "topic": {
                "system": codes.LOINC,
                "code": codes.IMAGING_STUDY_REPORT[0],
                "display": codes.IMAGING_STUDY_REPORT[1],
            },
        },
        "overrideReasons": [
            {"code": code, "system": codes.NON_ADHERENCE, "display": display}
            for code, display in codes.OVERRIDE_REASONS.items()
        ],
        "links": [
            {
                "label": "Open in radcds",
                "url": f"{site.base_url}/launch",
                "type": "smart",
                "appContext": result_id,
            },
            {
                "label": "Open the study in a window of its own",
                "url": f"{site.base_url}/studies/{result_id}",
                "type": "absolute",
            },
        ],
    }


def _detail(outcome: Outcome, context: ReportContext) -> str:
    """Give GitHub-flavoured Markdown, every word that comes from data escaped."""
    if isinstance(outcome, NotAnalysed):
        lines = [f"**{markdown(headline(outcome))}**", "", f"Reason: {markdown(outcome.reason)}"]
    else:
        lines = [
            f"**{markdown(headline(outcome))}**",
            "",
            "| finding | probability | threshold |",
            "|---|---|---|",
            *(
                f"| {markdown(codes.finding(each.label).display)} | {' | '.join(figures(each))} |"
                for each in sorted(outcome.findings, key=lambda each: -each.probability)
            ),
        ]
        for line in incomplete(context.unread):
            lines += ["", f"**{markdown(line)}**"]
    return "\n".join([*lines, "", markdown(model_line(context)), "", markdown(DISCLAIMER)])


def markdown(text: str) -> str:
    """Make text mean nothing but itself in Markdown and in HTML."""
    flat = _CONTROL.sub(" ", text).replace("&", "and").replace("<", "(").replace(">", ")")
    return _MARKDOWN.sub(r"\\\1", flat)


def within_summary(summary: str) -> str:
    """Give a summary of less than 140 characters (CDS Hooks 2.0, ``card.summary``)."""
    flat = _CONTROL.sub(" ", summary)
    return flat if len(flat) <= _LONGEST_SUMMARY else f"{flat[: _LONGEST_SUMMARY - 1]}…"
