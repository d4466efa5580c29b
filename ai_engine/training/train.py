"""Train the network: paediatric pneumonia first, then adult findings."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from ai_engine.networks import EfficientNetLite0
from ai_engine.preprocess import InputSpec
from ai_engine.training.dataset import (
    NIH_LABELS,
    Radiograph,
    kermany_training_radiographs,
    load_inputs,
    nih_radiographs,
    split_by_patient,
    targets,
)

LEAST_POSITIVES = 20
"""A finding with fewer positive training images is not offered."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the network is trained; written onto the model card.

    Parameters
    ----------
    spec
        Input of the network.
    pretraining_side
        Rows and columns of the pre-training images.
    pretraining_epochs, epochs
        Passes over the paediatric and the adult images.
    batch
        Images a step.
    learning_rate, weight_decay
        Of AdamW; the rate is the peak of a one-cycle schedule.
    source_weight
        How much more often an image of the clean source B is drawn.
    seed
        Of every random choice.
    """

    spec: InputSpec = field(
        default_factory=lambda: InputSpec(rows=320, columns=320, mean=0.5, std=0.25)
    )
    pretraining_side: int = 224
    pretraining_epochs: int = 1
    epochs: int = 7
    batch: int = 32
    learning_rate: float = 6e-4
    weight_decay: float = 0.02
    source_weight: float = 3.0
    seed: int = 20261124


def train(data: Path, recipe: Recipe) -> tuple[EfficientNetLite0, list[str]]:
    """Train on the images of ``data`` and give the network with the names of its findings.

    Parameters
    ----------
    data
        Folder with ``nih_cxr`` and ``kermany``.
    recipe
        How.

    Returns
    -------
    tuple[EfficientNetLite0, list[str]]
        The network in evaluation mode; findings in ``snake_case``, ``abnormal`` first.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    training = split_by_patient(nih_radiographs(data)).training
    findings = findings_with_enough(training)
    network = EfficientNetLite0(1, imagenet=True)
    if recipe.pretraining_epochs:
        side = recipe.pretraining_side
        spec = InputSpec(side, side, recipe.spec.mean, recipe.spec.std)
        paediatric = kermany_training_radiographs(data)
        labels = np.array([[float(bool(each.labels))] for each in paediatric], dtype=np.float32)
        images = _stack(data / "kermany" / "images_224_jpg.zip", paediatric, spec, "paediatric")
        weights = np.ones(len(paediatric))
        _fit(network, images, labels, weights, recipe.pretraining_epochs, recipe, rng)
    adult = EfficientNetLite0(len(findings))
    adult.backbone.load_state_dict(network.backbone.state_dict())
    images = _stack(data / "nih_cxr" / "images_512_jpg.zip", training, recipe.spec, "adult")
    weights = np.array([recipe.source_weight if each.source == "B" else 1.0 for each in training])
    _fit(adult, images, targets(training, findings), weights, recipe.epochs, recipe, rng)
    return adult.eval(), findings


def findings_with_enough(training: list[Radiograph]) -> list[str]:
    """Name the findings with at least ``LEAST_POSITIVES`` positive images, ``abnormal`` first."""
    positives = {label: sum(label in each.labels for each in training) for label in NIH_LABELS}
    offered = [label.lower() for label, n in positives.items() if n >= LEAST_POSITIVES]
    return ["abnormal", *offered]


def _stack(
    archive: Path, radiographs: list[Radiograph], spec: InputSpec, what: str
) -> NDArray[np.float16]:
    stacked = np.empty((len(radiographs), 1, spec.rows, spec.columns), dtype=np.float16)
    with Progress() as bar:
        task = bar.add_task(f"loading {what} radiographs", total=len(radiographs))
        for index, one in enumerate(load_inputs(archive, radiographs, spec)):
            stacked[index] = one
            bar.advance(task)
    return stacked


def _fit(  # noqa: PLR0913, PLR0917 - the parts of one training run
    network: EfficientNetLite0,
    images: NDArray[np.float16],
    labels: NDArray[np.float32],
    weights: NDArray[np.float64],
    epochs: int,
    recipe: Recipe,
    rng: np.random.Generator,
) -> None:
    """Train in place with class-weighted binary cross-entropy."""
    network.train().to(memory_format=torch.channels_last)
    positives = labels.sum(0)
    ratio = (len(labels) - positives) / np.maximum(positives, 1)
    positive_weight = torch.from_numpy(np.clip(ratio, 0.5, 10.0).astype(np.float32))
    steps = len(images) // recipe.batch * epochs
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps, pct_start=0.2
    )
    drawn = weights / weights.sum()
    with Progress() as bar:
        task = bar.add_task("training", total=steps)
        for _ in range(steps):
            chosen = rng.choice(len(images), recipe.batch, replace=False, p=drawn)
            batch = torch.from_numpy(images[chosen]).float()
            batch = _augmented(batch, rng).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, _ = network(batch)
            loss = functional.binary_cross_entropy_with_logits(
                logits.float(), torch.from_numpy(labels[chosen]), pos_weight=positive_weight
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            bar.update(task, advance=1, description=f"training, loss {loss.item():.3f}")
    network.eval()


def _augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Rotate, scale, shift, mirror, and change brightness and contrast, each image by its own."""
    n = len(images)
    angle = np.deg2rad(rng.uniform(-8, 8, n))
    scale = rng.uniform(0.88, 1.12, n)
    mirror = rng.choice([-1.0, 1.0], n)
    shift = rng.uniform(-0.06, 0.06, (n, 2))
    rows = [
        [scale * mirror * np.cos(angle), -scale * np.sin(angle), shift[:, 0]],
        [scale * mirror * np.sin(angle), scale * np.cos(angle), shift[:, 1]],
    ]
    theta = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).float()
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast = torch.from_numpy(rng.uniform(0.8, 1.2, (n, 1, 1, 1))).float()
    brightness = torch.from_numpy(rng.uniform(-0.3, 0.3, (n, 1, 1, 1))).float()
    return moved * contrast + brightness
