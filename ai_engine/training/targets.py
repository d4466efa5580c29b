"""Labels as numbers: what is there, what was judged, and how much a present finding weighs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.labelled_image import LabelledImage

_LEAST_WEIGHT = 0.5
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Labels of some images.

    Parameters
    ----------
    present, judged
        **shape** ``(images, findings)``, 0 or 1. What was not judged is not present.
    """

    present: Floats
    judged: Floats

    @property
    def positives(self) -> Floats:
        """Images in which each finding is present, **shape** ``(findings,)``."""
        return np.asarray(self.present.sum(0), dtype=np.float32)

    @property
    def negatives(self) -> Floats:
        """Images in which each finding was judged absent, **shape** ``(findings,)``."""
        return np.asarray((self.judged - self.present).sum(0), dtype=np.float32)


def targets_of(images: Sequence[LabelledImage], findings: Sequence[str]) -> Targets:
    """Give the labels of images in the order of the findings."""
    present = [[finding in each.present for finding in findings] for each in images]
    judged = [[finding in each.judged for finding in findings] for each in images]
    shape = (len(images), len(findings))
    return Targets(
        np.array(present, dtype=np.float32).reshape(shape),
        np.array(judged, dtype=np.float32).reshape(shape),
    )


def positive_weights(targets: Targets, cap: float) -> Floats:
    """Give the weight of a present finding: absent by present images, from one half to ``cap``.

    A cap of 1 weighs present and absent alike.
    """
    ratio = targets.negatives / np.maximum(targets.positives, 1.0)
    lowest = min(_LEAST_WEIGHT, cap) if cap > 1.0 else 1.0
    return np.asarray(np.clip(ratio, lowest, cap), dtype=np.float32)


def learnable(
    images: Sequence[LabelledImage], findings: Sequence[str], known: Collection[str], least: int
) -> tuple[str, ...]:
    """Give the findings that these images can teach.

    Parameters
    ----------
    images
        To train on.
    findings
        Asked for.
    known
        Findings of the sets.
    least
        Positive images below which a finding is left out; 0 refuses instead.

    Raises
    ------
    LabelsRefused
        If a finding is none of the sets', or is present, or absent, in no image and must not be
        left out; or if none is left.
    """
    if unknown := sorted(set(findings) - set(known)):
        msg = (
            f"The sets judge no {unknown[0]!r}; they judge: {', '.join(sorted(known))}. Correct "
            "the stage's findings."
        )
        raise LabelsRefused(msg)
    targets = targets_of(images, findings)
    enough = np.minimum(targets.positives, targets.negatives) >= max(least, 1)
    if not least and not enough.all():
        index = int(np.flatnonzero(~enough)[0])
        msg = (
            f"{findings[index]!r} is present in {targets.positives[index]:.0f} and absent in "
            f"{targets.negatives[index]:.0f} of the images to train on: one class teaches nothing. "
            "Remove the finding, set least_positives, or change the split."
        )
        raise LabelsRefused(msg)
    kept = tuple(name for name, fits in zip(findings, enough, strict=True) if fits)
    if not kept:
        msg = f"No finding has {least} positive images to train on. Lower least_positives."
        raise LabelsRefused(msg)
    return kept
