"""Labels as numbers, the weight of a present finding, and a teacher's probabilities."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.training.configuration import Teacher
from ai_engine.training.targets import learnable, targets_of
from ai_engine.training.teacher import taught

NAMES = ("mass", "nodule", "hernia")


@st.composite
def labelled(draw: st.DrawFn) -> LabelledImage:
    judged = draw(st.frozensets(st.sampled_from(NAMES)))
    present = draw(st.frozensets(st.sampled_from(sorted(judged)))) if judged else frozenset()
    return LabelledImage(f"{draw(st.integers())}.png", "p", present, judged)


@settings(max_examples=30)
@given(st.lists(labelled(), max_size=12))
def test_present_absent_and_unjudged_add_up(images: list[LabelledImage]) -> None:
    targets = targets_of(images, NAMES)
    assert targets.present.shape == targets.judged.shape == (len(images), 3)
    assert (targets.present <= targets.judged).all()
    for at, name in enumerate(NAMES):
        assert targets.positives[at] == sum(name in each.present for each in images)
        assert targets.negatives[at] == sum(name in each.judged - each.present for each in images)


def chest(number: int, *present: str) -> LabelledImage:
    return LabelledImage(f"{number:03}.png", "p", frozenset(present), frozenset(NAMES))


IMAGES = [chest(1, "mass"), chest(2, "mass", "nodule"), chest(3), chest(4)]


def test_a_finding_of_one_class_is_refused_with_its_counts() -> None:
    with pytest.raises(LabelsRefused, match="'hernia' is present in 0 and absent in 4"):
        learnable(IMAGES, NAMES, NAMES, 0)


def test_or_is_left_out_where_a_least_number_was_given() -> None:
    assert learnable(IMAGES, NAMES, NAMES, 1) == ("mass", "nodule")
    assert learnable(IMAGES, NAMES, NAMES, 2) == ("mass",)


def test_a_finding_that_no_set_judges_is_refused_with_those_that_are() -> None:
    with pytest.raises(LabelsRefused, match="no 'fracture'; they judge: hernia, mass, nodule"):
        learnable(IMAGES, ("mass", "fracture"), NAMES, 0)


def test_a_stage_without_any_finding_to_learn_is_refused() -> None:
    with pytest.raises(LabelsRefused, match="No finding has 9 positive images"):
        learnable(IMAGES, NAMES, NAMES, 9)


def table(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "teacher.csv"
    path.write_text("\n".join(["Image Index,prob_Mass,prob_Pleural_Thickening", *lines]))
    return path


def test_a_teacher_has_an_opinion_on_what_its_table_has(tmp_path: Path) -> None:
    path = table(tmp_path, "001.jpg,0.25,0.5", "999.png,1,1")
    given_ = taught(Teacher(probabilities=path), path, IMAGES[:2], ("nodule", "mass"))
    assert np.isnan(given_[:, 0]).all()
    assert given_[0, 1] == pytest.approx(0.25)
    assert np.isnan(given_[1, 1])


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan", "", "much"])
def test_a_value_that_is_no_probability_is_refused(tmp_path: Path, value: str) -> None:
    path = table(tmp_path, f"001.png,{value},0.5")
    with pytest.raises(LabelsRefused, match=r"001\.png, is no probability"):
        taught(Teacher(probabilities=path), path, IMAGES, ("mass",))


def test_a_teacher_of_other_images_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "999.png,0.5,0.5")
    with pytest.raises(LabelsRefused, match="no probability of these images and findings"):
        taught(Teacher(probabilities=path), path, IMAGES, ("mass",))
