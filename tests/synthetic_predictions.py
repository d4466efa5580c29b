"""Predictions of known quality on people who do not exist."""

from collections.abc import Sequence

import numpy as np

from ai_engine.evaluation.predictions import Predictions
from ai_engine.image import View
from ai_engine.labelled_images.labelled_image import LabelledImage

FINDINGS = ("mass", "effusion")


def predictions(
    people: int = 120,
    *,
    seed: int = 1,
    skill: float = 1.5,
    sources: Sequence[str] = ("B",),
    first_person: int = 0,
    brightness_tells: float = 0.0,
) -> Predictions:
    """Give one or two images per person, and scores that know as much as ``skill`` says.

    Parameters
    ----------
    people
        How many.
    seed
        Of the random numbers.
    skill
        Distance of the classes in standard deviations.
    sources
        Where the images come from, in turn.
    first_person
        Number of the first person.
    brightness_tells
        How much brighter images with a finding are, in standard deviations.
    """
    rng = np.random.default_rng(seed)
    images, rows, bright = [], [], []
    for number in range(first_person, first_person + people):
        for shot in range(1 + number % 2):
            present = frozenset(name for name in FINDINGS if rng.random() < 0.3)
            images.append(
                LabelledImage(
                    address=f"{number}-{shot}.png",
                    person=str(number),
                    present=present,
                    judged=frozenset(FINDINGS),
                    source=sources[number % len(sources)],
                    view=View.PA if number % 3 else View.AP,
                    sex="FM"[number % 2],
                    age_years=float(20 + number % 70),
                )
            )
            truth = [float(bool(present)), *(float(name in present) for name in FINDINGS)]
            scores = rng.normal(size=3) + skill * np.array(truth)
            rows.append(1.0 / (1.0 + np.exp(-(scores - skill / 2))))
            bright.append(0.5 + 0.05 * (rng.normal() + brightness_tells * truth[0]))
    return Predictions.of(
        images, ("abnormal", *FINDINGS), np.array(rows), brightness=np.array(bright)
    )
