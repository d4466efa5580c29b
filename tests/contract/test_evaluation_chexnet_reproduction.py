"""Published figures of a CheXNet reproduction come out of its published predictions."""

import time

import numpy as np
import pytest
from chexnet_reproduction import PUBLISHED_AUROC, adjudicated, labels_folder, predictions

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.abstention import abstention_rule, measure_abstention
from ai_engine.evaluation.discrimination import auroc
from ai_engine.evaluation.estimate import Estimate, TooFew
from ai_engine.evaluation.evaluate import evaluate
from ai_engine.evaluation.finding_evaluation import EvaluationOptions
from ai_engine.evaluation.predictions import Predictions
from ai_engine.evaluation.ranking import ranking
from ai_engine.evaluation.report import About, EvaluationReport

MINED = About("CheXNet reproduction", "2022", "NIH ChestX-ray14, its test part", "mined")
SENSITIVITIES = np.array([0.90, 0.95, 0.99])


@pytest.fixture(scope="module")
def whole() -> Predictions:
    return predictions(labels_folder())


@pytest.fixture(scope="module")
def measured(whole: Predictions) -> tuple[EvaluationReport, float]:
    """Give the report, and the processor time that it took."""
    begun = time.process_time()
    report = evaluate(whole, MINED, options=EvaluationOptions())
    return report, time.process_time() - begun


@pytest.fixture(scope="module")
def report(measured: tuple[EvaluationReport, float]) -> EvaluationReport:
    return measured[0]


@pytest.mark.parametrize(("finding", "published"), PUBLISHED_AUROC.items())
def test_the_published_auroc_is_reproduced_to_its_last_digit(
    report: EvaluationReport, finding: str, published: float
) -> None:
    discrimination = report.of(finding).discrimination
    assert not isinstance(discrimination, TooFew)
    assert discrimination.auroc.value == pytest.approx(published, abs=1e-4)
    assert round(discrimination.auroc.value, 4) == published
    assert discrimination.auroc.low < published < discrimination.auroc.high


def test_any_of_fourteen_is_a_weak_triage_against_labels_mined_from_reports(
    report: EvaluationReport,
) -> None:
    triage = report.of("abnormal")
    assert not isinstance(triage.discrimination, TooFew)
    assert report.images == 22_433
    assert triage.discrimination.prevalence == pytest.approx(0.469, abs=5e-4)
    assert triage.discrimination.auroc.value == pytest.approx(0.783, abs=5e-4)
    assert triage.details is not None
    best = {
        row.sensitivity_aimed: row.specificity_best_case.value for row in triage.details.rule_out
    }
    for sensitivity, specificity in ((0.90, 0.438), (0.95, 0.300), (0.99, 0.097)):
        assert best[sensitivity] == pytest.approx(specificity, abs=5e-4)


def test_men_and_women_and_both_views_have_the_figures_known(report: EvaluationReport) -> None:
    details = report.of("abnormal").details
    assert details is not None
    groups = {group.group: group.auroc for table in details.subgroups for group in table.groups}
    for group, known in (("F", 0.784), ("M", 0.782), ("PA", 0.782), ("AP", 0.764)):
        area = groups[group]
        assert isinstance(area, Estimate)
        assert area.value == pytest.approx(known, abs=6e-4)


def test_the_label_noise_and_not_the_network_caps_the_figure(whole: Predictions) -> None:
    judged = adjudicated(labels_folder(), whole)
    scores, labels = judged.probabilities[:, 0], judged.labels[:, 0]
    assert len(judged) == 935
    assert auroc(scores, labels) == pytest.approx(0.895, abs=5e-4)
    specificities = ranking(scores, labels).specificities_at(SENSITIVITIES)[0]
    assert specificities[:2] == pytest.approx((0.794, 0.648), abs=5e-4)


def test_the_strongest_single_finding_triages_worse_than_all_together(whole: Predictions) -> None:
    labels = whole.labels[:, 0]
    assert auroc(whole.probabilities[:, 1:].max(axis=1), labels) == pytest.approx(0.766, abs=5e-4)


def test_real_scores_keep_the_promise_of_abstention(whole: Predictions) -> None:
    kept = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        tuning = (rng.random(whole.persons.max() + 1) < 0.5)[whole.persons]
        columns = (whole.probabilities[:, 0], whole.labels[:, 0], whole.persons)
        rule = abstention_rule(*(column[tuning] for column in columns), coverage=0.9)
        result = measure_abstention(rule, *(column[~tuning] for column in columns))
        assert result.coverage_abnormal is not None
        assert result.coverage_normal is not None
        kept.append((result.coverage_abnormal.value, result.coverage_normal.value))
    assert np.mean(kept, axis=0) == pytest.approx((0.9, 0.9), abs=0.012)


def test_two_thousand_resamplings_of_fourteen_findings_take_well_under_a_minute(
    measured: tuple[EvaluationReport, float],
) -> None:
    report, cpu_s = measured
    assert report.resamplings == 2000
    assert len(report.findings) == 15
    assert cpu_s < 45.0


def test_a_person_in_both_halves_is_noticed(whole: Predictions) -> None:
    head = Predictions.of(whole.images[:1000], whole.findings, whole.probabilities[:1000])
    persons = {image.person for image in head.images}
    with pytest.raises(NotMeasurable, match=f"{len(persons)} of the persons"):
        evaluate(whole, MINED, tuning=head)
