"""Splits by person: nobody is in two parts."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.labelled_images.official_split import Part
from ai_engine.training.configuration import Shares, SplitConfiguration


@dataclass(frozen=True, slots=True)
class SplitImages:
    """Three lists of images that share no person.

    Parameters
    ----------
    training, validation, test
        In the order of the set.
    """

    training: list[LabelledImage] = field(default_factory=list)
    validation: list[LabelledImage] = field(default_factory=list)
    test: list[LabelledImage] = field(default_factory=list)

    def add(self, part: Part, image: LabelledImage) -> None:
        """Put an image into a part."""
        {
            Part.TRAINING: self.training,
            Part.VALIDATION: self.validation,
            Part.TEST: self.test,
        }[part].append(image)


def split_by_person(
    images: Sequence[LabelledImage], parts: Mapping[str, Part], wanted: SplitConfiguration
) -> SplitImages:
    """Split a set.

    A person's part depends on the person's key alone, by a hash: the order of the images, their
    number, and other persons change nothing.

    Parameters
    ----------
    images
        Of the set.
    parts
        What the set's makers say of each address; used if ``wanted.official``.
    wanted
        The rule.

    Raises
    ------
    LabelsRefused
        If an official split was asked for and there is none, it has a person in two parts, or a
        part that is needed is empty.
    """
    official = wanted.official
    split = _official(images, parts, wanted) if official else _hashed(images, wanted)
    refuse_shared_persons(split)
    if not split.training:
        msg = "The split leaves no image to train on. Lower its shares of validation and test."
        raise LabelsRefused(msg)
    return split


def refuse_shared_persons(split: SplitImages) -> None:
    """Check that no person is in two parts.

    Raises
    ------
    LabelsRefused
        If one is; it counts the persons and names no one.
    """
    persons = {
        "training": _persons(split.training),
        "validation": _persons(split.validation),
        "test": _persons(split.test),
    }
    for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
        if shared := persons[one] & persons[other]:
            msg = (
                f"{len(shared)} persons are in {one} and in {other}: figures would flatter. Mend "
                "the split, or set split.shared_persons = 'leave_out'."
            )
            raise LabelsRefused(msg)


def place_of(person: str) -> float:
    """Give a number from 0 to 1 that depends on the person's key alone."""
    digest = hashlib.sha256(f"split 1|{person}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _hashed(images: Sequence[LabelledImage], wanted: SplitConfiguration) -> SplitImages:
    others = Shares(validation=wanted.validation, test=wanted.test)
    of_person: dict[str, Shares] = {}
    for source, shares in wanted.of_source.items():
        for each in images:
            if each.source == source:
                of_person.setdefault(each.person, shares)
    split = SplitImages()
    for each in images:
        shares = of_person.get(each.person, others)
        part = _part(each.person, shares)
        aside = each.person in of_person and each.source not in wanted.of_source
        if not (part is Part.TEST and aside):
            split.add(part, each)
    return split


def _part(person: str, shares: Shares) -> Part:
    place = place_of(person)
    if place < shares.test:
        return Part.TEST
    return Part.VALIDATION if place < shares.test + shares.validation else Part.TRAINING


def _official(
    images: Sequence[LabelledImage], parts: Mapping[str, Part], wanted: SplitConfiguration
) -> SplitImages:
    """Follow the set's makers.

    Raises
    ------
    LabelsRefused
        If they hold nothing out.
    """
    if Part.TEST not in parts.values():
        msg = (
            "split.official is set, and the set holds nothing out. Name its official list, give "
            "its table a column split, or remove split.official."
        )
        raise LabelsRefused(msg)
    tested = {each.person for each in images if parts.get(each.address) is Part.TEST}
    validated = {each.person for each in images if parts.get(each.address) is Part.VALIDATION}
    aside = tested | validated if wanted.shared_persons == "leave_out" else frozenset[str]()
    split = SplitImages()
    for each in images:
        part = parts.get(each.address, Part.TRAINING)
        if part is Part.TRAINING and each.person in aside:
            continue
        if (
            part is Part.VALIDATION
            and wanted.shared_persons == "leave_out"
            and (each.person in tested)
        ):
            continue
        if part is Part.TRAINING and not validated and place_of(each.person) < wanted.validation:
            part = Part.VALIDATION
        split.add(part, each)
    return split


def _persons(images: Collection[LabelledImage]) -> set[str]:
    return {each.person for each in images}
