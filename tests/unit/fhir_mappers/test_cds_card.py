"""Every card obeys CDS Hooks, and no text of the archive or the engine gets markup into it."""

import re
import uuid
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import MODEL, OUTCOMES, chest_study, context, outcome, site

from ai_engine.result import Finding, NotAnalysed, Outcome, Priority, Reason, TriageResult
from fhir_mappers.cds_card import card_response, pending_card


def faults(value: object, where: str = "") -> list[str]:
    """Name every null, empty text, empty list and empty object."""
    if value in (None, "", [], {}) and where != ".cards":
        return [f"{where} is empty"]
    items = value.items() if isinstance(value, dict) else []
    numbered = enumerate(value) if isinstance(value, list) else []
    return [
        fault for key, inner in [*items, *numbered] for fault in faults(inner, f"{where}.{key}")
    ]


def card_faults(card: dict) -> list[str]:
    """Judge one card by CDS Hooks 2.0 "Card Attributes"."""
    rules = {
        "summary is under 140 characters": 0 < len(card.get("summary", "")) < 140,
        "summary is one line": "\n" not in card.get("summary", ""),
        "indicator is known": card.get("indicator") in {"info", "warning", "critical"},
        "source has a label": bool(card.get("source", {}).get("label")),
        "topic is a Coding": {"system", "code"} <= set(card.get("source", {}).get("topic", {})),
        "uuid is one": str(uuid.UUID(card["uuid"])) == card["uuid"],
        "links are complete": all(
            {"label", "url", "type"} == set(link) - {"appContext"}
            and ("appContext" in link) <= (link["type"] == "smart")
            and link["type"] in {"absolute", "smart"}
            and bool(urlsplit(link["url"]).scheme)
            for link in card.get("links", [])
        ),
        "no attribute is unknown": set(card)
        <= {"uuid", "summary", "detail", "indicator", "source", "links", "suggestions"}
        | {"overrideReasons", "extension"},
        "override reasons are complete": all(
            {"code", "system", "display"} == set(reason)
            for reason in card.get("overrideReasons", [])
        ),
        "detail has no HTML": not re.search(r"[<>]|&\w+;", card.get("detail") or ""),
    }
    return [rule for rule, kept in rules.items() if not kept] + faults(card)


def response_faults(response: dict) -> list[str]:
    """Judge a response by CDS Hooks 2.0 "CDS Service Response"."""
    unknown = [f"{name} is unknown" for name in response if name not in {"cards", "systemActions"}]
    return unknown + [fault for card in response["cards"] for fault in card_faults(card)]


probability = st.floats(0, 1)
labels = st.sampled_from(["abnormal", "effusion", "mass"]) | st.text(min_size=1, max_size=60)
findings = st.lists(
    st.builds(Finding, labels, probability, probability), min_size=1, max_size=8
).map(tuple)
analysed = st.builds(
    TriageResult,
    priority=st.sampled_from(Priority),
    findings=findings,
    saliency=st.just(()),
    model=st.just(MODEL),
)
sentences = st.text(min_size=1, max_size=400).filter(str.strip)
declined = st.builds(NotAnalysed, st.sampled_from(Reason), sentences)


@settings(deadline=None)
@given(analysed | declined)
def test_every_card_obeys_cds_hooks(said: Outcome) -> None:
    assert response_faults(card_response(chest_study(), said, context=context())) == []


@settings(deadline=None)
@given(declined)
def test_what_was_not_analysed_never_reads_like_nothing_found(said: NotAnalysed) -> None:
    card = card_response(chest_study(), said, context=context())["cards"][0]
    assert card["indicator"] == ("warning" if said.reason.is_failure else "info")
    assert re.search("NOT ANALYSED BY AI|AI PROCESSING FAILED", card["summary"])
    assert "| finding |" not in card["detail"]


@settings(deadline=None)
@given(st.floats(0.3, 0.7), st.floats(-1e-3, 1e-3))
def test_the_figures_shown_never_contradict_the_decision(threshold: float, gap: float) -> None:
    finding = Finding("effusion", threshold + gap, threshold)
    said = TriageResult(Priority.NORMAL, (finding,), (), MODEL)
    card = card_response(chest_study(), said, context=context())["cards"][0]
    row = next(line for line in card["detail"].split("\n") if line.startswith("| Pleural"))
    shown, limit = (float(cell) for cell in row.split("|")[2:4])
    assert (shown >= limit) is finding.positive


def test_a_waiting_study_has_words_of_its_own() -> None:
    card = pending_card(context().result_id, site())
    assert response_faults({"cards": [card]}) == []
    assert card["indicator"] == "info"
    assert "no result yet" in card["summary"]
    said = {
        card_response(chest_study(), o, context=context())["cards"][0]["uuid"]
        for o in OUTCOMES.values()
    }
    assert card["uuid"] not in said


def test_a_card_names_no_patient() -> None:
    for said in OUTCOMES.values():
        text = str(card_response(chest_study(), said, context=context()))
        assert not re.search(r"TEST|PATIENT|MRN|123456|ACC1001", text)


@pytest.mark.parametrize(
    "change",
    [
        {"summary": "x" * 140},
        {"summary": "two\nlines"},
        {"indicator": "hard-stop"},
        {"source": {"label": ""}},
        {"links": [{"label": "Open", "url": "studies/1", "type": "absolute"}]},
        {"links": []},
        {"detail": "<script>alert(1)</script>"},
        {"detail": None},
        {"autoLaunchable": True},
    ],
)
def test_the_judge_sees_a_broken_card(change: dict) -> None:
    response = card_response(chest_study(), outcome(Priority.FLAGGED), context=context())
    broken = {**response["cards"][0], **change}
    assert response_faults({"cards": [broken]}) != []
