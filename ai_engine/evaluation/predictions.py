"""What a model said of labelled images, checked before anything is measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.resampling import numbered
from ai_engine.labelled_images.labelled_image import LabelledImage

ABNORMAL = "abnormal"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Probabilities of a model beside what was judged to be there. Build it with ``of``.

    Parameters
    ----------
    findings
        What the columns are, in the order of the model.
    images
        What is known of each image.
    probabilities
        **shape** ``(images, findings)``, 0 to 1.
    labels
        **shape** ``(images, findings)``: 1 present, 0 absent, ``nan`` not judged.
    brightness
        Mean of the pixels of each image, **shape** ``(images,)``, 0 to 1, for a trivial baseline;
        ``None`` where it was not taken.
    """

    findings: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.float64]
    brightness: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        images: Sequence[LabelledImage],
        findings: Sequence[str],
        probabilities: ArrayLike,
        *,
        brightness: ArrayLike | None = None,
        any_finding: str = ABNORMAL,
    ) -> Self:
        """Put probabilities beside the labels of their images.

        Parameters
        ----------
        images
            The images, in the order of the rows of ``probabilities``.
        findings
            Names of the columns.
        probabilities
            **shape** ``(images, findings)``, 0 to 1.
        brightness
            Mean of the pixels of each image, 0 to 1.
        any_finding
            The finding that means "any finding present". Where no image was judged for it by that
            name, it is present where any finding is, and absent where findings were judged and
            none is.

        Raises
        ------
        NotMeasurable
            If there is no image, the lengths differ, or a value is no probability; the message
            says which finding and row, and what to do.
        """
        scores = np.asarray(probabilities, dtype=np.float64)
        _check(images, tuple(findings), scores)
        bright = None if brightness is None else np.asarray(brightness, dtype=np.float64)
        if bright is not None and (bright.shape != (len(images),) or not np.isfinite(bright).all()):
            msg = (
                f"{len(images)} images need as many finite brightness values; got an array of "
                f"shape {bright.shape}. Take the mean of the pixels of every image, or none at all."
            )
            raise NotMeasurable(msg)
        columns = [_labels(images, finding, any_finding) for finding in findings]
        return cls(tuple(findings), tuple(images), scores, np.stack(columns, axis=1), bright)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def persons(self) -> NDArray[np.int64]:
        """Number of the person of each image, **shape** ``(images,)``, from 0 upwards."""
        return numbered([image.person for image in self.images])

    @property
    def sources(self) -> tuple[str, ...]:
        """Collections that the images come from."""
        return tuple(sorted({image.source for image in self.images}))

    def of_source(self, source: str) -> Self:
        """Keep the images of one collection.

        Raises
        ------
        NotMeasurable
            If none is of it.
        """
        kept = np.array([image.source == source for image in self.images])
        if not kept.any():
            msg = f"no image is of source {source!r}; there are {', '.join(self.sources)}."
            raise NotMeasurable(msg)
        return replace(
            self,
            images=tuple(np.array(self.images, dtype=object)[kept]),
            probabilities=self.probabilities[kept],
            labels=self.labels[kept],
            brightness=None if self.brightness is None else self.brightness[kept],
        )

    def judged(self, finding: str) -> NDArray[np.int64]:
        """Give the rows that were judged for a finding.

        Raises
        ------
        NotMeasurable
            If the model has no such finding.
        """
        return np.flatnonzero(~np.isnan(self.labels[:, self.column(finding)]))

    def column(self, finding: str) -> int:
        """Give the column of a finding.

        Raises
        ------
        NotMeasurable
            If the model has no such finding.
        """
        if finding not in self.findings:
            msg = f"the model has no finding {finding!r}; it has {', '.join(self.findings)}."
            raise NotMeasurable(msg)
        return self.findings.index(finding)


def refuse_shared_persons(
    held_out: Sequence[LabelledImage], other: Sequence[LabelledImage], *, other_is: str
) -> None:
    """Refuse to measure on persons that the model, its thresholds or its calibration have seen.

    Parameters
    ----------
    held_out
        The images to measure on.
    other
        Images of training or tuning.
    other_is
        What they are called in the message, such as ``"tuning"``.

    Raises
    ------
    NotMeasurable
        If a person is in both; it says how many, never who.
    """
    shared = {image.person for image in held_out} & {image.person for image in other}
    if shared:
        msg = (
            f"{len(shared)} of the persons to evaluate on are also among the {other_is} images, "
            f"so every figure would flatter. Split by person, or leave those persons out of one "
            f"of the two."
        )
        raise NotMeasurable(msg)


def _check(
    images: Sequence[LabelledImage], findings: tuple[str, ...], scores: NDArray[np.float64]
) -> None:
    """Refuse what cannot be measured.

    Raises
    ------
    NotMeasurable
        With what is wrong, where, and the remedy.
    """
    if not images:
        msg = "there is no image to evaluate on. Check the folder and the filters of the set."
        raise NotMeasurable(msg)
    if not findings or len(set(findings)) != len(findings):
        msg = "a model needs at least one finding, and each finding one name of its own."
        raise NotMeasurable(msg)
    if scores.shape != (len(images), len(findings)):
        msg = (
            f"{len(images)} labelled images and {len(findings)} findings need probabilities of "
            f"shape ({len(images)}, {len(findings)}); got {scores.shape}. Run the model on every "
            f"image once, in the order of the set."
        )
        raise NotMeasurable(msg)
    for wrong, what, remedy in (
        (~np.isfinite(scores), "no number", "Find the image that the network fails on"),
        ((scores < 0.0) | (scores > 1.0), "outside 0 to 1", "Give probabilities, not logits"),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            msg = (
                f"{int(wrong.sum())} probabilities are {what}, the first for {findings[column]} "
                f"in row {row} ({scores[row, column]}). {remedy}."
            )
            raise NotMeasurable(msg)


def _labels(images: Sequence[LabelledImage], finding: str, any_finding: str) -> NDArray[np.float64]:
    """Give 1, 0 or ``nan`` for each image."""
    if finding == any_finding and not any(finding in image.judged for image in images):
        return np.array(
            [float(bool(image.present)) if image.judged else np.nan for image in images]
        )
    return np.array(
        [float(finding in image.present) if finding in image.judged else np.nan for image in images]
    )
