"""The promise behind "not sure: read as usual"."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.abstention import (
    AbstentionRule,
    Answer,
    abstention_rule,
    measure_abstention,
)


@settings(max_examples=5, deadline=None)
@given(
    skill=st.floats(-1.0, 4.0),
    coverage=st.sampled_from([0.8, 0.9, 0.95]),
    people=st.integers(5, 60),
    seed=st.integers(0, 1000),
)
def test_each_class_keeps_its_label_as_often_as_promised_whatever_the_scores(
    skill: float, coverage: float, people: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kept = {0: 0, 1: 0}
    rounds = 400
    for _ in range(rounds):
        labels = np.repeat([0.0, 1.0], people)
        scores = 1 / (1 + np.exp(-(rng.normal(size=2 * people) + skill * labels)))
        rule = abstention_rule(scores, labels, np.arange(2 * people), coverage=coverage)
        new = 1 / (1 + np.exp(-(rng.normal(size=2) + skill * np.array([0.0, 1.0]))))
        answers = rule.answers(new)
        kept[0] += answers[0] != Answer.ABNORMAL
        kept[1] += answers[1] != Answer.NORMAL
    slack = 4 * (coverage * (1 - coverage) / rounds) ** 0.5
    assert kept[0] / rounds >= coverage - slack
    assert kept[1] / rounds >= coverage - slack


def test_the_promise_is_kept_for_people_of_whom_there_are_many_images() -> None:
    rng = np.random.default_rng(11)
    covered = []
    for _ in range(150):
        images = rng.choice([1, 20], 80)
        people = np.repeat(np.arange(80), images)
        usual = rng.normal(size=80)
        scores = 1 / (1 + np.exp(-(usual[people] + 0.1 * rng.normal(size=len(people)))))
        labels = (np.arange(80) % 2).astype(float)[people]
        rule = abstention_rule(scores, labels, people, coverage=0.9)
        new = 1 / (1 + np.exp(-rng.normal(size=50) * 1.005))
        covered.append((rule.answers(new) != Answer.NORMAL).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.025)


def test_with_too_few_people_nothing_is_ever_answered() -> None:
    labels = np.repeat([0.0, 1.0], 5)
    rule = abstention_rule(labels, labels, np.arange(10), coverage=0.95)
    assert (rule.answers(np.linspace(0, 1, 11)) == Answer.NOT_SURE).all()


def test_between_the_limits_it_is_not_sure_whichever_way_round_they_lie() -> None:
    overlapping = AbstentionRule(0.2, 0.6, 0.95, 50, 50)
    assert list(overlapping.answers(np.array([0.1, 0.2, 0.6, 0.7]))) == [
        Answer.NORMAL,
        Answer.NOT_SURE,
        Answer.NOT_SURE,
        Answer.ABNORMAL,
    ]
    apart = AbstentionRule(0.6, 0.2, 0.95, 50, 50)
    assert list(apart.answers(np.array([0.2, 0.4, 0.6]))) == [
        Answer.NORMAL,
        Answer.NOT_SURE,
        Answer.ABNORMAL,
    ]


def test_what_is_answered_adds_up() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(600) < 0.4).astype(float)
    scores = 1 / (1 + np.exp(-(rng.normal(size=600) + 2 * labels - 1)))
    people = np.arange(600)
    rule = abstention_rule(scores[:300], labels[:300], people[:300])
    result = measure_abstention(rule, scores[300:], labels[300:], people[300:])
    shares = (result.answered_normal, result.answered_abnormal, result.not_sure)
    assert sum(each.count for each in shares if each) == 300
    assert result.abnormal_among_answered_normal is not None
    assert result.answered_normal is not None
    assert result.abnormal_among_answered_normal.of == result.answered_normal.count
    assert result.coverage_abnormal is not None
    assert result.coverage_abnormal.value > 0.9


@pytest.mark.parametrize("coverage", [0.0, 1.0, 1.2])
def test_a_coverage_that_cannot_be_promised_is_refused(coverage: float) -> None:
    with pytest.raises(NotMeasurable, match="between 0 and 1"):
        abstention_rule(np.ones(3), np.ones(3), np.arange(3), coverage=coverage)


def test_a_tuning_split_of_one_class_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="no normal image"):
        abstention_rule(np.ones(3), np.ones(3), np.arange(3))
