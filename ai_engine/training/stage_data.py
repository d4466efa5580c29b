"""What one stage trains and validates on. Needs the ``[torch]`` extra."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch.utils.data import Dataset

from ai_engine.errors import ConfigurationRefused, LabelsRefused
from ai_engine.preprocess import InputSpec
from ai_engine.training.configuration import Configuration, Stage
from ai_engine.training.draws import DrawOrder, draw_shares, stage_seed
from ai_engine.training.image_sets import SplitSet
from ai_engine.training.optimisation import MaskedLoss
from ai_engine.training.prepared_images import (
    ImagesInMemory,
    ImagesOnDisk,
    SetImage,
    bytes_of,
)
from ai_engine.training.processes import Processes
from ai_engine.training.targets import Targets, learnable, positive_weights, targets_of
from ai_engine.training.teacher import taught

_GIGA = 10**9


@dataclass(frozen=True, slots=True, eq=False)
class StageData:
    """Images, labels and their order.

    Parameters
    ----------
    findings
        That the head will tell.
    spec
        Input of the network.
    training, validation
        Prepared images, by index.
    loss
        Knows the labels of the training images.
    order
        In which they are drawn.
    validation_targets
        Labels of the validation images.
    on_disk
        Whether the prepared images are kept there instead of in memory.
    """

    findings: tuple[str, ...]
    spec: InputSpec
    training: Dataset[Any]
    validation: Dataset[Any]
    loss: MaskedLoss
    order: DrawOrder
    validation_targets: Targets
    on_disk: bool


def findings_of(stage: Stage, sets: Mapping[str, SplitSet]) -> tuple[str, ...]:
    """Give the findings that the stage's images can teach.

    Raises
    ------
    LabelsRefused
        As ``learnable``.
    """
    images = [each.image for each in _images(stage, sets, "training")]
    known = {name for each in stage.sets for name in sets[each].of.findings}
    return learnable(images, stage.findings, known, stage.least_positives)


def stage_data(  # noqa: PLR0913, PLR0917 - what, of what, and where it is kept
    configuration: Configuration,
    number: int,
    sets: Mapping[str, SplitSet],
    data: Path,
    cache: Path,
    processes: Processes,
    progress: Progress,
) -> StageData:
    """Prepare every image of a stage, and its labels.

    Parameters
    ----------
    configuration
        Of the run.
    number
        Of the stage, from 0.
    sets
        By name.
    data
        Folder that the teacher's path is below.
    cache
        Folder for prepared images that memory does not hold.
    processes
        That train together.
    progress
        Shows how far it is.

    Raises
    ------
    ConfigurationRefused
        If a step takes more images than there are, or the processes cannot share it.
    LabelsRefused
        If a finding has one class only, or nothing can be validated and the best is to be kept.
    ImagesMissing
        If images cannot be read.
    """
    stage = configuration.stages[number]
    if stage.accumulation % processes.count:
        msg = (
            f"stage {stage.name!r}: its accumulation of {stage.accumulation} cannot be divided "
            f"among {processes.count} processes. Make it a multiple."
        )
        raise ConfigurationRefused(msg)
    training, validation = (_images(stage, sets, part) for part in ("training", "validation"))
    findings = findings_of(stage, sets)
    validated = targets_of([each.image for each in validation], findings)
    _refuse_unmeasurable(stage, findings, validated)
    images = [each.image for each in training]
    order = DrawOrder(
        len(training),
        draw_shares(images, stage),
        stage.batch,
        stage.accumulation,
        stage.epochs,
        stage_seed(configuration.seed, number),
    )
    network = configuration.network
    spec = InputSpec(stage.rows, stage.columns, network.mean, network.std)
    needed = bytes_of(len(training) + len(validation), spec) * processes.local_count
    on_disk = needed > configuration.hardware.memory_gb * _GIGA
    prepared = [
        _prepared(each, spec, cache if on_disk else None, configuration, processes, progress)
        for each in (training, validation)
    ]
    return StageData(
        findings,
        spec,
        prepared[0],
        prepared[1],
        _loss(stage, training, findings, data),
        order,
        validated,
        on_disk,
    )


def _images(stage: Stage, sets: Mapping[str, SplitSet], part: str) -> list[SetImage]:
    return [
        SetImage(name, sets[name].of, image)
        for name in stage.sets
        for image in getattr(sets[name].split, part)
    ]


def _prepared(
    images: list[SetImage],
    spec: InputSpec,
    cache: Path | None,
    configuration: Configuration,
    processes: Processes,
    progress: Progress,
) -> Dataset[Any]:
    workers = configuration.hardware.workers
    if cache is None:
        kept: Dataset[Any] = ImagesInMemory(images, spec, workers, progress)
        return kept
    on_disk = ImagesOnDisk(images, spec, cache)
    if processes.first:
        on_disk.fill(workers, progress)
    processes.wait()
    return on_disk


def _loss(
    stage: Stage, training: list[SetImage], findings: tuple[str, ...], data: Path
) -> MaskedLoss:
    images = [each.image for each in training]
    targets = targets_of(images, findings)
    teacher = stage.teacher
    opinions = (
        None
        if teacher is None
        else torch.from_numpy(taught(teacher, data / teacher.probabilities, images, findings))
    )
    return MaskedLoss(
        torch.from_numpy(targets.present),
        torch.from_numpy(targets.judged),
        torch.from_numpy(positive_weights(targets, stage.positive_weight_cap)),
        opinions,
        teacher.weight if teacher else 0.0,
    )


def _refuse_unmeasurable(stage: Stage, findings: tuple[str, ...], targets: Targets) -> None:
    """Refuse to look for the best epoch where no epoch can be measured.

    Raises
    ------
    LabelsRefused
        If no finding has both classes among the validation images.
    """
    measurable = (targets.positives > 0) & (targets.negatives > 0)
    if stage.keep == "best" and not measurable.any():
        msg = (
            f"stage {stage.name!r}: none of {', '.join(findings)} is both present and absent among "
            f"its {len(targets.present)} validation images. Raise split.validation, or set "
            "keep = 'last'."
        )
        raise LabelsRefused(msg)
