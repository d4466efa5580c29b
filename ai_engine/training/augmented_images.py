"""Prepared images, varied by draw. Needs the ``[torch]`` extra."""

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import set_track_meta
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ai_engine.training.augmentation import IMAGE
from ai_engine.training.draws import Draw, DrawOrder


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Varies an image by what depends on the seed and the draw alone.

    So neither the number of workers or processes, nor a resumption, changes an image.

    Parameters
    ----------
    prepared
        The images, by index.
    variations
        MONAI's transforms.
    seed
        Of the variations.
    """

    def __init__(self, prepared: Dataset[Any], variations: Compose, seed: int) -> None:
        self._prepared, self._variations, self._seed = prepared, variations, seed

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        """Give the image of a draw, **shape** ``(1, rows, columns)``, and its index."""
        state = np.random.SeedSequence([self._seed, *draw]).generate_state(1)
        self._variations.set_random_state(seed=int(state[0]))
        varied = self._variations({IMAGE: self._prepared[draw.image][IMAGE]})
        return varied[IMAGE], draw.image


class _Batches:
    """What a ``DataLoader`` iterates to know its batches."""

    def __init__(self, order: DrawOrder, first_step: int, rank: int, processes: int) -> None:
        self._arguments = (first_step, rank, processes)
        self._order = order

    def __iter__(self) -> Iterator[list[Draw]]:
        return self._order.batches(*self._arguments)

    def __len__(self) -> int:
        first_step, _, processes = self._arguments
        return (self._order.steps - first_step) * self._order.accumulation // processes


def batches(
    images: AugmentedImages,
    order: DrawOrder,
    first_step: int,
    rank: int,
    processes: int,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches of one process to the end of the stage: images and their indices."""
    loader: DataLoader[tuple[Tensor, int]] = DataLoader(
        images,
        batch_sampler=_Batches(order, first_step, rank, processes),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # shares what is in memory
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    yield from loader


def _start_worker(_: int) -> None:
    """Leave Ctrl-C to the main process, which stops at a checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_track_meta(False)
    torch.set_num_threads(1)
