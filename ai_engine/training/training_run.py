"""Train a network by a configuration, stage by stage. Needs the ``[torch]`` extra."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from ai_engine.chexnet import load_chexnet
from ai_engine.errors import TrainingFailed
from ai_engine.labelled_images.pixel_reader import PixelReader
from ai_engine.networks import (
    Architecture,
    SaliencyNetwork,
    build_network,
    load_imagenet_weights,
)
from ai_engine.preprocess import InputSpec
from ai_engine.training.arithmetic import arithmetic, explained
from ai_engine.training.checkpoint import read_tensors
from ai_engine.training.configuration import Configuration
from ai_engine.training.draws import stage_seed
from ai_engine.training.image_sets import SplitSet, open_set
from ai_engine.training.prepared_images import plain_tensors
from ai_engine.training.processes import Processes, device_of, started_processes
from ai_engine.training.run_folder import RunFolder
from ai_engine.training.stage_data import StageData, findings_of, stage_data
from ai_engine.training.stage_training import BEST, LAST, StageTraining
from ai_engine.training.stop_request import StopRequest
from ai_engine.training.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a run gave.

    Parameters
    ----------
    weights
        Safetensors of the whole network: the best or the last epoch, as configured.
    architecture
        What the network is.
    findings
        Of its head, in order.
    spec
        Its input.
    mean_auroc
        Best on the validation images, or ``None`` where it could not be measured.
    run
        Folder of the run.
    """

    weights: Path
    architecture: Architecture
    findings: tuple[str, ...]
    spec: InputSpec
    mean_auroc: float | None
    run: Path

    def network(self) -> SaliencyNetwork:
        """Build the network with these weights, in evaluation mode.

        Raises
        ------
        RunRefused
            If the file is damaged.
        """
        network = build_network(self.architecture, len(self.findings))
        network.load_state_dict(read_tensors(self.weights).tensors)
        return network.eval()


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    configuration: Configuration
    folder: RunFolder
    data: Path
    sets: Mapping[str, SplitSet]
    device: torch.device
    processes: Processes
    progress: Progress


def train(
    configuration: Configuration,
    run: Path,
    *,
    data: Path,
    reader: PixelReader | None = None,
    given: str = "",
    console: Console | None = None,
) -> TrainedModel:
    """Train, or go on with a run that was stopped or killed.

    On a CPU, and on a GPU with ``deterministic``, a run that was killed at any moment ends with the
    weights of one that was not, bit for bit. Started by ``torchrun``, the processes share each
    step; the first one writes.

    Parameters
    ----------
    configuration
        What to do.
    run
        Folder of the run: new, empty, or of the same configuration.
    data
        Folder that relative paths of the configuration are below.
    reader
        Of DICOM files, for the layouts that need one; it is picklable.
    given
        The text that the configuration was read from, kept in the run.
    console
        Where bars and messages go; standard error by default.

    Returns
    -------
    TrainedModel
        Of the last stage.

    Raises
    ------
    ConfigurationRefused, LabelsRefused, ImagesMissing, UnreadableImage, ModelUnavailable
        If the configuration, labels, images or start weights cannot be used.
    RunRefused
        If the folder is of another run, in use, or damaged.
    TrainingFailed
        If there is no such device, too little memory, or a loss that is no number.
    TrainingStopped
        After a checkpoint, if somebody pressed Ctrl-C or sent SIGTERM.
    """
    folder, device = RunFolder(run), device_of(configuration.hardware.device)
    with (
        started_processes(device) as processes,
        arithmetic(configuration),
        plain_tensors(),
        _shown(console, processes) as progress,
        _held(folder, processes),
        explained(),
    ):
        sets = _opened(configuration, data, reader, progress)
        if processes.first:
            files = _files(configuration, data)
            folder.claim(configuration, given, list(sets.values()), files, str(device))
        processes.wait()
        started = _Run(configuration, folder, data, sets, device, processes, progress)
        for number in range(len(configuration.stages)):
            _train_stage(started, number)
    return trained_model(configuration, run)


def trained_model(configuration: Configuration, run: Path) -> TrainedModel:
    """Give what a run that has ended gave.

    Raises
    ------
    TrainingFailed
        If it has not ended.
    """
    stage = configuration.stages[-1]
    folder = RunFolder(run)
    told = folder.completed(stage.name)
    if told is None:
        msg = f"{run}: stage {stage.name!r} has not ended. Train on."
        raise TrainingFailed(msg)
    network = configuration.network
    return TrainedModel(
        weights=folder.stage(stage.name) / (BEST if stage.keep == "best" else LAST),
        architecture=Architecture(network.architecture),
        findings=tuple(told["findings"]),
        spec=InputSpec(stage.rows, stage.columns, network.mean, network.std),
        mean_auroc=told["mean_auroc"],
        run=run,
    )


def _train_stage(run: _Run, number: int) -> None:
    """Train one stage, unless it has ended."""
    stage = run.configuration.stages[number]
    if run.folder.completed(stage.name) is not None:
        return
    cache = run.configuration.hardware.cache
    data = stage_data(
        run.configuration,
        number,
        run.sets,
        run.data,
        run.folder.path / "cache" if cache is None else run.data / cache,
        run.processes,
        run.progress,
    )
    _tell(run, number, data)
    network = _starting_network(run, number, len(data.findings)).to(run.device)
    with StopRequest() as stop:
        around = Surroundings(
            run.folder.stage(stage.name),
            run.device,
            run.configuration.precision,
            run.processes,
            run.progress,
            stop,
        )
        training = StageTraining(network, data, run.configuration, number, around)
        training.run()
    if run.processes.first:
        told = {"findings": list(data.findings), "mean_auroc": training.best_auroc}
        run.folder.complete(stage.name, told)
    run.processes.wait()


def _tell(run: _Run, number: int, data: StageData) -> None:
    """Say what is trained on, and what is left out."""
    stage = run.configuration.stages[number]
    left_out = [name for name in stage.findings if name not in data.findings]
    unmeasured = [
        name
        for name, positives, negatives in zip(
            data.findings,
            data.validation_targets.positives,
            data.validation_targets.negatives,
            strict=True,
        )
        if min(positives, negatives) == 0
    ]
    validated, place = len(data.validation_targets.present), "files" if data.on_disk else "memory"
    first = (
        f"Stage {stage.name}: {data.order.images} images to train on, {validated} to validate on, "
        f"{data.order.steps} steps, on {run.device.type}; prepared images are kept in {place}."
    )
    lines = [first]
    if left_out:
        lines.append(f"Left out for too few positive images: {', '.join(left_out)}.")
    if unmeasured:
        lines.append(f"Of one class in validation, so not measured: {', '.join(unmeasured)}.")
    for line in lines:
        run.progress.console.print(line, highlight=False, markup=False)


def _starting_network(run: _Run, number: int, findings: int) -> SaliencyNetwork:
    """Build the network of a stage with the backbone of the stage before it, or of the start.

    Raises
    ------
    ModelUnavailable
        If the start weights cannot be used.
    """
    wanted = run.configuration.network
    torch.manual_seed(stage_seed(run.configuration.seed, number))
    network = build_network(Architecture(wanted.architecture), findings)
    weights = wanted.weights and run.data / wanted.weights
    if number:
        before = run.configuration.stages[number - 1]
        path = run.folder.stage(before.name) / (BEST if before.keep == "best" else LAST)
        tensors = read_tensors(path).tensors
        backbone = {
            name.removeprefix("backbone."): each
            for name, each in tensors.items()
            if name.startswith("backbone.")
        }
        network.backbone.load_state_dict(backbone)
    elif wanted.start == "chexnet" and weights is not None:
        network.backbone.load_state_dict(load_chexnet(weights).backbone.state_dict())
    elif wanted.start == "imagenet":
        load_imagenet_weights(network, weights)
    return network


def _opened(
    configuration: Configuration, data: Path, reader: PixelReader | None, progress: Progress
) -> dict[str, SplitSet]:
    """Open the sets that stages use, and refuse findings that nothing can teach at once."""
    used = {name for stage in configuration.stages for name in stage.sets}
    sets = {}
    for each in configuration.sets:
        if each.name in used:
            task = progress.add_task(f"reading headers of {each.name}", total=None, visible=False)
            sets[each.name] = open_set(
                each,
                data,
                reader,
                lambda: progress.update(task, advance=1, visible=True),  # noqa: B023 - called before the next
            )
            progress.remove_task(task)
            progress.console.print(sets[each.name].summary(), highlight=False, markup=False)
    for stage in configuration.stages:
        findings_of(stage, sets)
    return sets


def _files(configuration: Configuration, data: Path) -> dict[str, Path]:
    """Give the files beside labels that the result depends on."""
    files = {
        f"teacher of {stage.name}": data / stage.teacher.probabilities
        for stage in configuration.stages
        if stage.teacher
    }
    if configuration.network.weights:
        files["start weights"] = data / configuration.network.weights
    return files


def _shown(console: Console | None, processes: Processes) -> Progress:
    """Give the bars: the first process alone shows any."""
    if processes.first:
        return Progress(console=console or Console(stderr=True))
    return Progress(console=Console(quiet=True), disable=True)


@contextmanager
def _held(folder: RunFolder, processes: Processes) -> Iterator[None]:
    if not processes.first:
        yield
        return
    with folder.held():
        yield
