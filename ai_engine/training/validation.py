"""How well a network separates on images that it is not trained on. Needs the ``[torch]`` extra."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ai_engine.training.augmentation import IMAGE
from ai_engine.training.surroundings import Surroundings
from ai_engine.training.targets import Targets


def logits_of(
    network: nn.Module,
    images: Dataset[Any],
    findings: int,
    batch: int,
    around: Surroundings,
) -> NDArray[np.float32]:
    """Run a network over images, each process over its share.

    Parameters
    ----------
    network
        Gives logits and maps.
    images
        Prepared.
    findings
        How many the network tells.
    batch
        Images at once.
    around
        Device, precision, and the processes that share the work.

    Returns
    -------
    NDArray[np.float32]
        **shape** ``(images, findings)``.
    """
    count = len(images)  # type: ignore[arg-type]  # MONAI's have a length
    processes, device = around.processes, around.device
    share = _Share(images, range(processes.rank, count, processes.count))
    gathered = torch.zeros(count, findings, device=device)
    task = around.progress.add_task("validating", total=len(share))
    network.eval()
    with torch.no_grad():
        for pixels, indices in DataLoader(share, batch_size=batch):
            with around.mixed_precision():
                logits, _ = network(pixels.to(device).float())
            gathered[indices.to(device)] = logits.float()
            around.progress.advance(task, len(indices))
    around.progress.remove_task(task)
    return np.asarray(processes.added(gathered).cpu().numpy())


class _Share(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, images: Dataset[Any], indices: Sequence[int]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        index = self._indices[at]
        return torch.as_tensor(self._images[index][IMAGE]), index


def aurocs(
    logits: NDArray[np.float32], targets: Targets, findings: Sequence[str]
) -> dict[str, float | None]:
    """Give the area under the ROC curve of each finding; ``None`` where only one class is there.

    Parameters
    ----------
    logits
        **shape** ``(images, findings)``.
    targets
        Of the same images.
    findings
        Their names.
    """
    figures: dict[str, float | None] = {}
    for at, name in enumerate(findings):
        judged = targets.judged[:, at] > 0
        labels, scores = targets.present[judged, at], logits[judged, at]
        both = 0 < labels.sum() < len(labels)
        figures[name] = float(roc_auc_score(labels, scores)) if both else None
    return figures


def mean_auroc(figures: dict[str, float | None]) -> float | None:
    """Give the mean over the findings that could be measured, or ``None`` where none could."""
    measured = [each for each in figures.values() if each is not None]
    return sum(measured) / len(measured) if measured else None
