"""What cannot be measured is refused, with words and a remedy."""

import numpy as np
import pytest
from synthetic_predictions import predictions

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.predictions import Predictions, refuse_shared_persons
from ai_engine.labelled_images.labelled_image import LabelledImage

FINDINGS = ("abnormal", "mass")


def image(person: str, *present: str, judged: tuple[str, ...] = ("mass",)) -> LabelledImage:
    return LabelledImage(f"{person}.png", person, frozenset(present), frozenset(judged))


IMAGES = [image("7"), image("8", "mass"), image("9", judged=())]
SCORES = np.array([[0.1, 0.1], [0.9, 0.8], [0.5, 0.5]])


def test_an_image_is_abnormal_where_any_finding_is_and_not_judged_where_none_was() -> None:
    labels = Predictions.of(IMAGES, FINDINGS, SCORES).labels
    assert labels[:2].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert np.isnan(labels[2]).all()


def test_a_reader_who_judged_abnormal_is_believed() -> None:
    images = [image("7", "abnormal", judged=("abnormal", "mass")), image("8", "mass")]
    labels = Predictions.of(images, FINDINGS, SCORES[:2]).labels
    assert labels[0].tolist() == [1.0, 0.0]
    assert np.isnan(labels[1, 0])


def test_only_judged_images_count_for_a_finding() -> None:
    assert Predictions.of(IMAGES, FINDINGS, SCORES).judged("mass").tolist() == [0, 1]


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="no image to evaluate on"):
        Predictions.of([], FINDINGS, np.empty((0, 2)))


def test_labels_and_scores_of_different_length_are_refused() -> None:
    with pytest.raises(NotMeasurable, match=r"shape \(3, 2\); got \(2, 2\).*every image once"):
        Predictions.of(IMAGES, FINDINGS, SCORES[:2])


def test_a_score_that_is_no_number_is_refused_and_named() -> None:
    broken = SCORES.copy()
    broken[1, 1] = np.nan
    with pytest.raises(NotMeasurable, match=r"1 probabilities are no number.*mass in row 1"):
        Predictions.of(IMAGES, FINDINGS, broken)


@pytest.mark.parametrize("value", [-0.01, 1.01, 4.2])
def test_a_logit_is_not_taken_for_a_probability(value: float) -> None:
    broken = SCORES.copy()
    broken[2, 0] = value
    with pytest.raises(NotMeasurable, match=r"outside 0 to 1.*abnormal in row 2.*not logits"):
        Predictions.of(IMAGES, FINDINGS, broken)


def test_a_finding_named_twice_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="one name of its own"):
        Predictions.of(IMAGES, ("mass", "mass"), SCORES)


@pytest.mark.parametrize("brightness", [[0.5], [0.5, 0.5, np.nan]])
def test_brightness_is_that_of_every_image_or_of_none(brightness: list[float]) -> None:
    with pytest.raises(NotMeasurable, match="every image, or none"):
        Predictions.of(IMAGES, FINDINGS, SCORES, brightness=brightness)


def test_a_person_in_two_splits_is_refused_and_not_named() -> None:
    held_out, tuning = predictions(60, first_person=0), predictions(60, first_person=57)
    with pytest.raises(
        NotMeasurable, match=r"3 of the persons.*tuning.*Split by person"
    ) as refused:
        refuse_shared_persons(held_out.images, tuning.images, other_is="tuning")
    assert not any(key in str(refused.value) for key in ("57", "58", "59"))


def test_a_person_known_by_another_source_is_still_the_same_person() -> None:
    of_a, of_b = predictions(30, sources=("A",)), predictions(30, sources=("B",))
    with pytest.raises(NotMeasurable, match="30 of the persons"):
        refuse_shared_persons(of_a.images, of_b.images, other_is="training")


def test_one_source_keeps_its_rows_together() -> None:
    both = predictions(40, sources=("A", "B"))
    kept = both.of_source("B")
    rows = [index for index, each in enumerate(both.images) if each.source == "B"]
    assert kept.images == tuple(both.images[row] for row in rows)
    assert (kept.probabilities == both.probabilities[rows]).all()
    assert both.brightness is not None
    assert kept.brightness is not None
    assert (kept.brightness == both.brightness[rows]).all()
    with pytest.raises(NotMeasurable, match="there are A, B"):
        both.of_source("C")


def test_a_finding_that_the_model_lacks_is_named_beside_those_it_has() -> None:
    with pytest.raises(NotMeasurable, match="no finding 'hernia'; it has abnormal, mass"):
        Predictions.of(IMAGES, FINDINGS, SCORES).column("hernia")
