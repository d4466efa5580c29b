"""Which image is drawn when: a function of the seed, whatever the number of processes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import ConfigurationRefused
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.training.configuration import Stage


class Draw(NamedTuple):
    """One image of one step.

    Parameters
    ----------
    epoch
        From 0.
    position
        Within the epoch, from 0.
    image
        Index of the image.
    """

    epoch: int
    position: int
    image: int


@dataclass(frozen=True, slots=True, eq=False)
class DrawOrder:
    """The order of a whole stage.

    Parameters
    ----------
    images
        How many there are.
    shares
        Probability that each is drawn, **shape** ``(images,)``; ``None`` draws each once an epoch.
    batch
        Images that go through the network at once.
    accumulation
        Batches of one step.
    epochs
        Of the stage.
    seed
        Of the order.

    Raises
    ------
    ConfigurationRefused
        If there are fewer images than one step takes.
    """

    images: int
    shares: NDArray[np.float64] | None
    batch: int
    accumulation: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        """Check that there is a step.

        Raises
        ------
        ConfigurationRefused
            If there is none.
        """
        if self.images < self.batch * self.accumulation:
            msg = (
                f"A step takes {self.batch} x {self.accumulation} images and there are only "
                f"{self.images} to train on. Lower batch or accumulation."
            )
            raise ConfigurationRefused(msg)

    @property
    def steps_an_epoch(self) -> int:
        """Whole steps of an epoch; a rest too small for one is left to another epoch."""
        return self.images // (self.batch * self.accumulation)

    @property
    def steps(self) -> int:
        """Steps of the stage."""
        return self.steps_an_epoch * self.epochs

    def of_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Give the indices of an epoch in their order."""
        rng = np.random.default_rng([self.seed, epoch])
        length = self.steps_an_epoch * self.batch * self.accumulation
        if self.shares is None:
            return rng.permutation(self.images)[:length].astype(np.int64)
        return rng.choice(self.images, length, p=self.shares).astype(np.int64)

    def batches(self, first_step: int, rank: int = 0, processes: int = 1) -> Iterator[list[Draw]]:
        """Give the batches of one process, from a step on to the end of the stage.

        Batch ``j`` of a step is the work of process ``j`` modulo ``processes``.

        Parameters
        ----------
        first_step
            From 0.
        rank, processes
            Which process of how many; their number divides ``accumulation``.
        """
        a_step = self.batch * self.accumulation
        for epoch in range(first_step // self.steps_an_epoch, self.epochs):
            order = self.of_epoch(epoch)
            begin = max(first_step - epoch * self.steps_an_epoch, 0)
            for step in range(begin, self.steps_an_epoch):
                for part in range(rank, self.accumulation, processes):
                    start = step * a_step + part * self.batch
                    yield [
                        Draw(epoch, position, int(order[position]))
                        for position in range(start, start + self.batch)
                    ]


def stage_seed(seed: int, number: int) -> int:
    """Give the seed of a stage: those of two stages or two runs have nothing in common."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]) >> 1


def draw_shares(images: Sequence[LabelledImage], stage: Stage) -> NDArray[np.float64] | None:
    """Give the probability of each image to be drawn, or ``None`` where each is drawn once.

    Raises
    ------
    ConfigurationRefused
        If a weight is of a source that no image has.
    """
    if stage.sampling == "shuffled":
        return None
    counts: dict[str, int] = {}
    for each in images:
        counts[each.source] = counts.get(each.source, 0) + 1
    weights = _weights(stage.source_weights, counts, balanced=stage.sampling == "balanced")
    drawn = np.array([weights[each.source] for each in images], dtype=np.float64)
    return np.asarray(drawn / drawn.sum(), dtype=np.float64)


def _weights(
    given: Mapping[str, float], counts: Mapping[str, int], *, balanced: bool
) -> dict[str, float]:
    """Give the weight of each source.

    Raises
    ------
    ConfigurationRefused
        If one is given for a source that is not there.
    """
    if unknown := set(given) - set(counts):
        msg = f"source_weights: no image is of {min(unknown)!r}; sources: {', '.join(counts)}."
        raise ConfigurationRefused(msg)
    if balanced:
        return {source: 1.0 / count for source, count in counts.items()}
    return {source: given.get(source, 1.0) for source in counts}
