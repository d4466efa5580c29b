"""Nobody is in two parts of a split."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.labelled_images.official_split import Part
from ai_engine.training.configuration import Shares, SplitConfiguration
from ai_engine.training.splits import (
    SplitImages,
    place_of,
    refuse_shared_persons,
    split_by_person,
)

CLEAN = SplitConfiguration(validation=0.1, of_source={"B": Shares(validation=0.25, test=0.5)})


def image_of(person: str, source: str = "", address: str = "") -> LabelledImage:
    none = frozenset[str]()
    return LabelledImage(address or f"{person}-{source}", person, none, none, source)


def population(seed: int) -> list[LabelledImage]:
    dice = random.Random(seed)
    drawn = {(str(dice.randrange(400)), dice.choice("ABC")) for _ in range(80)}
    return [image_of(person, source) for person, source in sorted(drawn)]


images = st.integers(0, 10**6).map(population)


def persons(part: list[LabelledImage]) -> set[str]:
    return {each.person for each in part}


@settings(max_examples=30)
@given(images)
def test_a_persons_part_depends_on_nobody_else(drawn: list[LabelledImage]) -> None:
    split = split_by_person(drawn, {}, CLEAN)
    parts = (split.training, split.validation, split.test)
    assert len(persons(drawn)) >= sum(len(persons(part)) for part in parts)
    again = split_by_person(drawn[::-1], {}, CLEAN)
    assert [persons(part) for part in parts] == [
        persons(part) for part in (again.training, again.validation, again.test)
    ]


@settings(max_examples=30)
@given(images)
def test_a_person_held_out_in_the_clean_source_is_trained_on_nowhere(
    drawn: list[LabelledImage],
) -> None:
    split = split_by_person(drawn, {}, CLEAN)
    assert all(each.source == "B" for each in split.test)
    clean = {each.person for each in drawn if each.source == "B"}
    tested, used = (
        {each.address for each in part} for part in (split.test, split.training + split.validation)
    )
    for each in drawn:
        held_out = each.person in clean and place_of(each.person) < 0.5
        assert (each.address in tested) == (held_out and each.source == "B")
        assert (each.address in used) == (not held_out)


@pytest.mark.parametrize(
    ("person", "place"), [("11097", 0.446904), ("1250", 0.993203), ("p", 0.042691)]
)
def test_a_persons_place_never_changes(person: str, place: float) -> None:
    assert place_of(person) == pytest.approx(place, abs=1e-6)


@settings(max_examples=5)
@given(st.floats(0.05, 0.6))
def test_the_shares_are_about_those_asked_for(share: float) -> None:
    drawn = [image_of(str(person)) for person in range(2000)]
    wanted = SplitConfiguration(validation=share, test=0.2)
    split = split_by_person(drawn, {}, wanted)
    assert len(split.validation) / 2000 == pytest.approx(share, abs=0.04)
    assert len(split.test) / 2000 == pytest.approx(0.2, abs=0.04)


OFFICIAL = [
    (image_of("1", address="a"), Part.TRAINING),
    (image_of("1", address="b"), Part.TEST),
    (image_of("2", address="c"), Part.TRAINING),
    (image_of("3", address="d"), Part.TEST),
]


def test_a_person_on_both_sides_of_an_official_split_is_refused() -> None:
    drawn, parts = [each for each, _ in OFFICIAL], {each.address: part for each, part in OFFICIAL}
    with pytest.raises(LabelsRefused, match=r"1 persons are in (training|validation) and in test"):
        split_by_person(drawn, parts, SplitConfiguration(official=True))


def test_or_is_left_out_of_training_where_that_was_asked_for() -> None:
    drawn, parts = [each for each, _ in OFFICIAL], {each.address: part for each, part in OFFICIAL}
    wanted = SplitConfiguration(official=True, shared_persons="leave_out", validation=0.0)
    split = split_by_person(drawn, parts, wanted)
    assert [each.address for each in split.training] == ["c"]
    assert [each.address for each in split.test] == ["b", "d"]


def test_stated_validation_images_are_validated_on() -> None:
    drawn = [image_of(str(person)) for person in range(30)]
    parts = {
        each.address: [Part.TRAINING, Part.VALIDATION, Part.TEST][at % 3]
        for at, each in enumerate(drawn)
    }
    split = split_by_person(drawn, parts, SplitConfiguration(official=True, validation=0.5))
    assert [len(split.training), len(split.validation), len(split.test)] == [10, 10, 10]


def test_an_official_split_that_there_is_not_is_refused() -> None:
    with pytest.raises(LabelsRefused, match="holds nothing out"):
        split_by_person([image_of("1")], {}, SplitConfiguration(official=True))


def test_a_split_that_leaves_nobody_to_train_on_is_refused() -> None:
    nobody = [image_of(person) for person in ("p",)]
    with pytest.raises(LabelsRefused, match="no image to train on"):
        split_by_person(nobody, {}, SplitConfiguration(validation=0.2))


@pytest.mark.parametrize(
    "split",
    [
        SplitImages([image_of("1")], [image_of("1")], []),
        SplitImages([image_of("1")], [], [image_of("1")]),
        SplitImages([], [image_of("1")], [image_of("1")]),
    ],
)
def test_a_person_in_two_parts_is_noticed(split: SplitImages) -> None:
    with pytest.raises(LabelsRefused, match="1 persons are in"):
        refuse_shared_persons(split)
