"""Literal references stand beside identifiers; neither order nor digits of anything else change."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import OUTCOMES, chest_study, context

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.exact_json import exact, written
from fhir_mappers.held_resources import same_content
from fhir_mappers.literal_references import (
    LogicalReference,
    logical_references,
    with_literal_references,
)
from fhir_mappers.outcome_codes import outcome_codes
from fhir_mappers.transaction import transaction_bundle
from fhir_mappers.transaction_entries import transaction_entries, with_versions

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | TEXT | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
REFERENCES = st.builds(
    lambda kind, system, value, more: {
        "type": kind,
        "identifier": {"system": system, "value": value},
        **more,
    },
    st.sampled_from(["Patient", "ServiceRequest"]),
    TEXT.filter(bool),
    TEXT.filter(bool),
    st.dictionaries(st.sampled_from(["display", "extension"]), VALUES),
)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_without_literal_references_every_byte_stays(outcome: str) -> None:
    bundle = transaction_bundle(
        chest_study(), OUTCOMES[outcome], context=context(), overlay_jpeg=b"overlay"
    )
    assert with_literal_references(bundle, {}) == bundle
    assert with_versions(bundle, {}) == bundle


@given(NUMBERS)
def test_the_digits_of_every_number_stay(number: str) -> None:
    content = f'{{"a": [{number}, {{"b": {number}}}]}}'.encode()
    again = with_literal_references(content, {})
    assert again.replace(b"\n", b"").replace(b" ", b"") == content.replace(b" ", b"")
    assert again.count(number.encode()) >= 2


@given(VALUES)
def test_every_value_stays(value: object) -> None:
    content = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    assert written(exact(content)) == content


@given(st.lists(REFERENCES, max_size=5), VALUES)
def test_only_the_references_that_are_known_change(
    references: list[dict[str, Any]], other: object
) -> None:
    content = orjson.dumps({"subject": references, "other": other})
    wanted = logical_references({"subject": references})
    literal = {each: f"{each.resource_type}/{n}" for n, each in enumerate(wanted)}
    again = json.loads(with_literal_references(content, literal))
    for before, after in zip(references, again["subject"], strict=True):
        identifier = before["identifier"]
        key = LogicalReference(before["type"], identifier["system"], identifier["value"])
        assert list(after.items()) == [("reference", literal[key]), *before.items()]
    assert logical_references(again["subject"]) == logical_references(
        [
            {name: each for name, each in of.items() if name in {"display", "extension"}}
            for of in references
        ]
    )


def test_what_is_literal_already_is_left_alone() -> None:
    literal = {
        "reference": "Patient/1",
        "type": "Patient",
        "identifier": {"system": "s", "value": "v"},
    }
    assert logical_references(literal) == frozenset()
    found = {LogicalReference("Patient", "s", "v"): "Patient/2"}
    assert json.loads(with_literal_references(orjson.dumps(literal), found)) == literal


def test_an_identifier_shows_in_no_text() -> None:
    assert "secret" not in repr(LogicalReference("Patient", "secret", "secret"))


@pytest.mark.parametrize("content", [b"", b"{", b'{"a":NaN}', b'{"a":Infinity}', b"[" * 100_000])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidMessage):
        with_literal_references(content, {})


def test_an_entry_replaces_the_version_that_is_named() -> None:
    bundle = transaction_bundle(
        chest_study(), OUTCOMES["normal"], context=context(), overlay_jpeg=None
    )
    first, second, *_ = transaction_entries(bundle)
    read = transaction_entries(with_versions(bundle, {first.address: "7", second.address: ""}))
    assert [each.if_match for each in read[:2]] == ['W/"7"', ""]
    assert [each.resource for each in read] == [
        each.resource for each in transaction_entries(bundle)
    ]


# --- the same, written otherwise


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 0.87}, {"a": 0.870}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        ({"a": 1, "b": 1}, {"a": 1}, False),
        ({"a": None}, {}, False),
        ({"meta": {"tag": []}, "text": 1}, {"meta": 2}, True),
        ({"a": {"text": "1"}}, {"a": {"text": "2"}}, False),
        ({"issued": "2026-11-20T09:30:04.000+00:00"}, {"issued": "2026-11-20T09:30:04Z"}, True),
        ({"issued": "2026-11-20T09:30:04Z"}, {"issued": "2026-11-20T10:30:04+01:00"}, True),
        ({"issued": "2026-11-20T09:30:04Z"}, {"issued": "2026-11-20T09:30:05Z"}, False),
        ({"date": "2026-11-20"}, {"date": "2026-11-20T00:00:00"}, False),
        ({"reference": "Device/1"}, {"reference": "https://x.example/r4/Device/1"}, True),
        ({"reference": "Device/1"}, {"reference": "Device/1/_history/3"}, True),
        ({"reference": "Device/1"}, {"reference": "Device/2"}, False),
        ({"reference": "Device/1"}, {"reference": "Patient/1"}, False),
        ({"reference": "Device/1"}, {"reference": 1}, False),
    ],
)
def test_the_same_may_be_written_otherwise(
    one: dict[str, Any], other: dict[str, Any], *, same: bool
) -> None:
    assert same_content(one, other) is same
    assert same_content(other, one) is same


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_everything_says_the_same_as_itself(value: dict[str, Any]) -> None:
    assert same_content(value, json.loads(json.dumps(value)))


# --- of another server's words, only codes


def test_an_outcome_is_told_in_codes_and_places() -> None:
    issue = {
        "severity": "error",
        "code": "value",
        "details": {
            "coding": [{"code": "MSG_PARAM_INVALID"}, {"code": "HAPI-1094"}],
            "text": "secret",
        },
        "diagnostics": "secret",
        "expression": ["Bundle.entry[2].resource.ofType(Observation).value"],
        "location": ["/f:Bundle/f:entry[2]"],
    }
    assert outcome_codes({"issue": [issue, issue, {"severity": "fatal", "code": "exception"}]}) == (
        "error value MSG_PARAM_INVALID HAPI-1094 at "
        "Bundle.entry[2].resource.ofType(Observation).value, /f:Bundle/f:entry[2]; fatal exception"
    )


@pytest.mark.parametrize(
    "issue",
    [
        {"severity": "Smith", "code": "smith"},
        {"code": ["invalid"], "severity": {}},
        {"details": {"coding": [{"code": "Smith"}, {"code": "MRN-123456"}, {"code": 1}, None]}},
        {"details": {"coding": "MSG_X"}},
        {"details": "MSG_X"},
        {"expression": ["Patient.where(name='Smith')", "Patient/123456", "a b", "A" * 300, 5]},
        {"location": "Bundle.entry"},
        {"diagnostics": "Smith"},
    ],
)
def test_whatever_is_no_code_is_left_out(issue: dict[str, object]) -> None:
    assert outcome_codes({"issue": [issue]}) == ""


@given(VALUES)
def test_no_outcome_breaks_anything(value: object) -> None:
    for outcome in (value, {"issue": value}, {"issue": [value]}, {"issue": [{"details": value}]}):
        assert isinstance(outcome_codes(outcome), str)
