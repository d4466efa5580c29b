"""A whole evaluation: what is measured, what is refused, and the words it opens with."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from synthetic_predictions import predictions

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.discrimination import Discrimination
from ai_engine.evaluation.estimate import Estimate, TooFew
from ai_engine.evaluation.evaluate import evaluate
from ai_engine.evaluation.finding_evaluation import EvaluationOptions
from ai_engine.evaluation.plain_words import in_plain_words
from ai_engine.evaluation.predictions import Predictions
from ai_engine.evaluation.report import About, EvaluationReport

pytestmark = pytest.mark.torch
pytest.importorskip("sklearn", reason="needs the [torch] extra")

ABOUT = About("cxr-test", "1.0.0", "people who do not exist", "drawn by chance")
QUICK = EvaluationOptions(resamplings=100)


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    tuning = predictions(200, seed=2, first_person=1000)
    thresholds = {"abnormal": 0.5}
    return evaluate(predictions(), ABOUT, thresholds=thresholds, tuning=tuning, options=QUICK)


def words(measured: Predictions, **given: object) -> str:
    return " ".join(in_plain_words(evaluate(measured, ABOUT, options=QUICK, **given)))


def test_the_report_counts_images_and_people(report: EvaluationReport) -> None:
    assert (report.images, report.persons) == (180, 120)
    assert [each.finding for each in report.findings] == ["abnormal", "mass", "effusion"]


def test_the_shipped_threshold_comes_first_then_those_of_the_tuning_split(
    report: EvaluationReport,
) -> None:
    points = report.of("abnormal").operating_points
    assert [point.chosen for point in points] == [
        "as the model ships",
        "sensitivity 0.95 on the tuning split",
        "specificity 0.95 on the tuning split",
    ]
    assert points[0].threshold_probability == 0.5
    assert len(report.of("mass").operating_points) == 2


def test_the_same_seed_gives_the_same_bytes(report: EvaluationReport) -> None:
    tuning = predictions(200, seed=2, first_person=1000)
    again = evaluate(
        predictions(), ABOUT, thresholds={"abnormal": 0.5}, tuning=tuning, options=QUICK
    )
    assert again.json_bytes() == report.json_bytes()


def key_paths(value: object, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {found for key, each in value.items() for found in key_paths(each, f"{path}.{key}")}
    if isinstance(value, list):
        return {found for each in value for found in key_paths(each, f"{path}[]")}
    return {path.removeprefix(".")}


def test_the_keys_of_the_json_are_those_that_programs_rely_on(
    report: EvaluationReport, golden: Callable[[str, bytes], None]
) -> None:
    paths = sorted(key_paths(json.loads(report.json_bytes())))
    golden("evaluation/report-keys.txt", "\n".join(paths).encode() + b"\n")


def test_mixed_sources_are_refused_until_asked_for_and_then_said() -> None:
    both = predictions(sources=("A", "B"))
    with pytest.raises(NotMeasurable, match=r"2 sources \(A, B\).*one source at a time"):
        evaluate(both, ABOUT, options=QUICK)
    pooled = evaluate(both, ABOUT, options=replace(QUICK, pool_sources=True))
    assert pooled.sources == ("A", "B")
    assert "2 sources were pooled" in " ".join(in_plain_words(pooled))
    assert evaluate(both.of_source("B"), ABOUT, options=QUICK).sources == ("B",)


def test_a_tuning_split_that_shares_people_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="20 of the persons"):
        evaluate(predictions(), ABOUT, tuning=predictions(first_person=100), options=QUICK)


def test_a_tuning_split_of_another_model_is_refused() -> None:
    other = predictions(first_person=1000)
    other = replace(other, findings=("abnormal", "mass", "hernia"))
    with pytest.raises(NotMeasurable, match="Run the same model on both"):
        evaluate(predictions(), ABOUT, tuning=other, options=QUICK)


def test_a_threshold_that_is_no_probability_or_of_no_finding_is_refused() -> None:
    with pytest.raises(NotMeasurable, match=r"threshold of mass is 1\.3.*from 0 to 1"):
        evaluate(predictions(), ABOUT, thresholds={"mass": 1.3}, options=QUICK)
    with pytest.raises(NotMeasurable, match="no finding 'hernia'"):
        evaluate(predictions(), ABOUT, thresholds={"hernia": 0.5}, options=QUICK)


def test_labels_of_one_class_are_refused_with_the_count() -> None:
    measured = predictions()
    absent = replace(measured, labels=np.zeros_like(measured.labels))
    with pytest.raises(NotMeasurable, match=r"abnormal: 0 persons with.*more images of both"):
        evaluate(absent, ABOUT, options=QUICK)


def test_a_finding_with_too_few_people_does_not_spoil_the_others() -> None:
    measured = predictions()
    labels = measured.labels.copy()
    labels[:, 1] = 0.0
    report = evaluate(replace(measured, labels=labels), ABOUT, options=QUICK)
    assert isinstance(report.of("mass").discrimination, TooFew)
    assert isinstance(report.of("effusion").discrimination, Discrimination)
    assert "too few people to say of mass" in " ".join(in_plain_words(report))


def test_a_tuning_split_with_too_few_people_says_so() -> None:
    tuning = predictions(12, first_person=1000)
    report = evaluate(predictions(), ABOUT, tuning=tuning, options=QUICK)
    told = report.of("abnormal")
    assert told.tuning_too_few is not None
    assert told.calibrated is None
    assert told.operating_points == ()


def test_a_model_that_knows_nothing_is_called_a_coin() -> None:
    said = words(predictions(skill=0.0))
    assert "could not be shown to recognise abnormal images any better than a coin" in said
    assert "could not be shown to do better than" in said
    assert "recognises none better than a coin would: not mass and effusion" in said


def test_a_model_that_is_no_better_than_brightness_is_told_so() -> None:
    said = words(predictions(200, skill=1.0, brightness_tells=1.2))
    assert "could not be shown to do better than the mean brightness of the image alone" in said
    assert "what it has learned may be no more than that" in said


def test_the_order_of_person_keys_is_taken_whichever_way_round_it_separates() -> None:
    measured = predictions(150)
    falling = np.array([float(image.person) < 50 for image in measured.images])
    labels = measured.labels.copy()
    labels[:, 0] = falling
    report = evaluate(replace(measured, labels=labels), ABOUT, options=QUICK)
    details = report.of("abnormal").details
    assert details is not None
    (order,) = [each for each in details.baselines if each.baseline.startswith("order")]
    assert order.auroc.value == pytest.approx(1.0)
    assert not order.beaten


def test_without_a_threshold_nothing_is_said_of_missing_findings() -> None:
    assert "No threshold was given" in words(predictions())


def test_maps_that_were_not_judged_locate_nothing() -> None:
    assert "maps were not judged: do not take them for the place" in words(predictions())


def test_a_sensitivity_that_the_images_cannot_tell_is_marked(report: EvaluationReport) -> None:
    details = report.of("abnormal").details
    assert details is not None
    told = {row.sensitivity_aimed: row.told_from_all for row in details.rule_out}
    assert told == {0.999: False, 0.99: False, 0.98: True, 0.95: True, 0.9: True}


def test_rule_out_gives_up_specificity_for_sensitivity(report: EvaluationReport) -> None:
    details = report.of("abnormal").details
    assert details is not None
    best = [row.specificity_best_case.value for row in details.rule_out]
    assert best == sorted(best)
    for row in details.rule_out:
        assert row.at_tuned_threshold is not None


def test_a_group_that_is_served_worse_is_found_and_named() -> None:
    measured = predictions(400)
    rng = np.random.default_rng(1)
    scores = measured.probabilities.copy()
    women = np.array([image.sex == "F" for image in measured.images])
    scores[women] = rng.random(scores[women].shape)
    report = evaluate(replace(measured, probabilities=scores), ABOUT, options=QUICK)
    assert "sex F worse than M (AUROC lower by" in " ".join(in_plain_words(report))


def test_a_small_group_is_too_few_to_say_and_unknown_attributes_are_named() -> None:
    measured = predictions()
    images = tuple(
        replace(image, age_years=80.0 if int(image.person) < 6 else 50.0)
        for image in measured.images
    )
    report = evaluate(replace(measured, images=images), ABOUT, options=QUICK)
    details = report.of("abnormal").details
    assert details is not None
    (ages,) = [each for each in details.subgroups if each.attribute == "age in years"]
    by_name = {each.group: each for each in ages.groups}
    assert isinstance(by_name["75 and over"].auroc, TooFew)
    assert isinstance(by_name["40 to 59"].auroc, Estimate)
    assert ages.auroc_gap is None
    assert report.attributes_not_known == ("site", "manufacturer")


def test_of_several_groups_that_are_alike_rarely_any_is_called_worse() -> None:
    called = 0
    for seed in range(6):
        report = evaluate(predictions(250, seed=seed), ABOUT, options=QUICK)
        details = report.of("abnormal").details
        assert details is not None
        gaps = [table.auroc_gap for table in details.subgroups]
        called += any(gap.beyond_chance for gap in gaps if gap is not None)
    assert called <= 2
