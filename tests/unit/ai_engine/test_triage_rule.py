"""The triage rule, as a clinician would state it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_engine.result import Priority
from ai_engine.triage_rule import OperatingPoint, findings, priority

POINTS = {
    "abnormal": OperatingPoint(0.5, 0.9),
    "effusion": OperatingPoint(0.6),
    "pneumothorax": OperatingPoint(0.3, 0.4),
}
probability = st.floats(0, 1)
probabilities = st.fixed_dictionaries(dict.fromkeys(POINTS, probability))


def test_nothing_above_threshold_is_normal() -> None:
    assert priority({"abnormal": 0.1, "effusion": 0.1, "pneumothorax": 0.1}, POINTS) == "normal"


def test_a_finding_at_its_threshold_flags() -> None:
    assert priority({"abnormal": 0.5, "effusion": 0, "pneumothorax": 0}, POINTS) == "flagged"


def test_a_finding_at_its_urgent_point_is_urgent() -> None:
    assert priority({"abnormal": 0, "effusion": 0, "pneumothorax": 0.4}, POINTS) == "urgent"


def test_a_finding_without_urgent_point_never_makes_urgent() -> None:
    assert priority({"abnormal": 0, "effusion": 1.0, "pneumothorax": 0}, POINTS) == "flagged"


def test_a_missing_probability_is_an_error_and_never_normal() -> None:
    with pytest.raises(KeyError):
        priority({"abnormal": 0.1}, POINTS)


@given(probabilities, st.sampled_from(sorted(POINTS)), probability)
def test_a_higher_probability_never_lowers_the_priority(
    before: dict[str, float], label: str, raised: float
) -> None:
    after = {**before, label: max(before[label], raised)}
    assert priority(after, POINTS).rank <= priority(before, POINTS).rank


@given(probabilities, st.permutations(sorted(POINTS)))
def test_the_order_of_findings_does_not_matter(values: dict[str, float], order: list[str]) -> None:
    assert priority(values, {label: POINTS[label] for label in order}) == priority(values, POINTS)


@given(probabilities)
def test_priority_and_findings_agree(values: dict[str, float]) -> None:
    positive = any(finding.positive for finding in findings(values, POINTS))
    assert positive == (priority(values, POINTS) is not Priority.NORMAL)


@pytest.mark.parametrize(("flag", "urgent"), [(-0.1, None), (1.1, None), (0.5, 0.4), (0.5, 1.1)])
def test_an_impossible_operating_point_is_refused(flag: float, urgent: float | None) -> None:
    with pytest.raises(ValueError, match="operating point"):
        OperatingPoint(flag, urgent)
