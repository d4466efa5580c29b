"""The model card goes with every result, whole."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from fhir_mutants import bundle, of_type
from hypothesis import given
from hypothesis import strategies as st
from studies import MODEL, context

from ai_engine.bundle import default_bundle_path
from fhir_mappers import codes
from fhir_mappers.identifiers import device_uid
from fhir_mappers.model_card import model_card_markdown

CARD: dict[str, Any] = json.loads((default_bundle_path() / "model_card.json").read_text("utf-8"))
SHIPPED = replace(context(), model_card=CARD)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=12,
)


def test_the_card_is_readable_markdown_with_every_word_of_it() -> None:
    text = model_card_markdown("cxr-lite0 1.0.0", CARD)
    assert text.startswith("# Model card: cxr-lite0 1.0.0\n\n## Status\n\nResearch demonstration,")
    assert "\n## Intended use\n\nTo show how radcds works" in text
    assert "\n  - Abnormal:\n" in text
    assert "- Interval 95: 0.506, 0.715" in text
    for limit in CARD["limits"]:
        assert f"- {limit}\n" in text


def test_the_card_is_attached_and_device_and_provenance_refer_to_it() -> None:
    made = bundle(base=SHIPPED)
    [card], [device], [provenance] = (
        of_type(made, kind) for kind in ("DocumentReference", "Device", "Provenance")
    )
    attached = card["content"][0]["attachment"]
    text = base64.b64decode(attached["data"]).decode()
    assert text == model_card_markdown("cxr-test 2.1.0", CARD)
    assert attached["size"] == len(text.encode())
    reference = {"reference": f"DocumentReference/{card['id']}"}
    assert {"url": codes.AI_MODEL_CARD, "valueReference": reference} in device["extension"]
    assert {"role": "derivation", "what": reference} in provenance["entity"]


def test_a_model_without_a_card_refers_to_none() -> None:
    made = bundle(base=replace(context(), model_card={}))
    assert not of_type(made, "DocumentReference")
    assert b"DocumentReference" not in made


def test_every_device_of_a_model_version_is_found_by_one_identifier() -> None:
    [device] = of_type(bundle(), "Device")
    assert device["identifier"][1] == {
        "system": "urn:ietf:rfc:3986",
        "value": f"urn:oid:{device_uid(MODEL.sha256)}",
    }


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_any_card_can_be_written(card: dict[str, object]) -> None:
    assert model_card_markdown("m 1", card).startswith("# Model card: m 1\n")
    bundle(base=replace(context(), model_card=card), overlay=None)


@pytest.mark.parametrize("row", codes.FHIR_CODES)
def test_every_code_has_a_display_and_a_source(row: codes.CodeRow) -> None:
    assert row.display
    assert len(row.source) > len("LOINC")


def test_no_code_stands_twice_with_two_displays() -> None:
    rows = {(row.system, row.code): row.display for row in codes.FHIR_CODES}
    assert all(rows[row.system, row.code] == row.display for row in codes.FHIR_CODES)
    assert all(row.source for row in codes.FINDINGS.values())
