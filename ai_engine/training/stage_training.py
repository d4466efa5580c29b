"""The training of one stage, which a kill at any moment does not change. Needs ``[torch]``.

Every random number is a function of the seed and of the step: of the step's batches, of each
image's variation, and of dropout, which is seeded anew for each batch. So there is no generator
whose state would have to be kept, and the number of processes and workers changes nothing either.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from ai_engine.errors import TrainingFailed, TrainingStopped
from ai_engine.networks import SaliencyNetwork
from ai_engine.training.augmentation import augmentation
from ai_engine.training.augmented_images import AugmentedImages, batches
from ai_engine.training.checkpoint import newest_checkpoint, save_checkpoint, write_tensors
from ai_engine.training.configuration import Configuration, Stage
from ai_engine.training.draws import stage_seed
from ai_engine.training.epoch_figures import EpochFigures
from ai_engine.training.learning import Learning
from ai_engine.training.stage_data import StageData
from ai_engine.training.surroundings import Surroundings
from ai_engine.training.validation import aurocs, logits_of, mean_auroc

BEST, LAST = "best.safetensors", "last.safetensors"
_MOST_SKIPPED = 50


class StageTraining:
    """Trains one stage, from the start or from its newest checkpoint.

    Parameters
    ----------
    network
        With the weights to start from, on the device.
    data
        Prepared.
    configuration
        Of the run.
    number
        Of the stage, from 0.
    surroundings
        Where.

    Raises
    ------
    RunRefused
        If the newest checkpoint is damaged.
    """

    def __init__(
        self,
        network: SaliencyNetwork,
        data: StageData,
        configuration: Configuration,
        number: int,
        surroundings: Surroundings,
    ) -> None:
        self._stage: Stage = configuration.stages[number]
        self._hardware = configuration.hardware
        self._data, self._around = data, surroundings
        self._seed = stage_seed(configuration.seed, number)
        if self._hardware.channels_last:
            network.to(memory_format=torch.channels_last)
        self._loss = data.loss.to(surroundings.device)
        self._learning = Learning(
            network,
            self._stage,
            data.order.steps,
            surroundings.device,
            scaled=surroundings.precision == "float16",
        )
        self._figures = EpochFigures(surroundings.folder, writes=surroundings.processes.first)
        self._step, self._best, self._skipped = 0, -math.inf, 0
        self._restore()
        self._trained = self._wrapped(network)

    @property
    def best_auroc(self) -> float | None:
        """Best mean AUROC on the validation images so far; ``None`` where none was measured."""
        return None if math.isinf(self._best) else self._best

    def run(self) -> None:
        """Train to the end of the stage.

        Raises
        ------
        TrainingStopped
            After a checkpoint, if somebody asked to stop.
        TrainingFailed
            If the loss or the gradients are no numbers.
        """
        around, order = self._around, self._data.order
        task = around.progress.add_task(self._stage.name, total=order.steps, completed=self._step)
        drawn = self._batches()
        began, done = time.monotonic(), 0
        with self._events() as events:
            while self._step < order.steps:
                loss, stop = self._one_step(drawn)
                done += order.batch * order.accumulation
                speed = done / (time.monotonic() - began)
                epoch = (self._step - 1) // order.steps_an_epoch + 1
                told = f"{self._stage.name}, epoch {epoch}/{order.epochs}, loss {loss:.3f}"
                around.progress.update(task, advance=1, description=f"{told}, {speed:.1f} images/s")
                self._after_step(loss, speed, events, stop=stop)
                if self._step % order.steps_an_epoch == 0:
                    began, done = time.monotonic(), 0
        around.progress.remove_task(task)
        self._write(LAST)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        processes, stage = self._around.processes, self._stage
        variations = augmentation(stage.augmentation, stage.rows, stage.columns)
        return batches(
            AugmentedImages(self._data.training, variations, self._seed),
            self._data.order,
            self._step,
            processes.rank,
            processes.count,
            self._hardware.workers,
        )

    def _one_step(self, drawn: Iterator[tuple[Tensor, Tensor]]) -> tuple[float, bool]:
        """Take one step; give its loss and whether to stop, as all processes see it."""
        processes, order = self._around.processes, self._data.order
        self._trained.train()
        total = torch.zeros(2, device=self._around.device)
        parts = range(processes.rank, order.accumulation, processes.count)
        for part in parts:
            with self._unshared(last=part == parts[-1]):
                total[0] += self._backward(next(drawn), part)
        total[1] = float(self._around.stop.asked)
        loss, stop = processes.added(total).tolist()
        self._refuse_no_numbers("loss", finite=math.isfinite(loss), allowed=0)
        self._skipped = 0 if (finite := self._learning.step()) else self._skipped + 1
        allowed = _MOST_SKIPPED if self._learning.scaled else 0
        self._refuse_no_numbers("gradient", finite=finite, allowed=allowed)
        self._step += 1
        return loss, stop > 0

    def _unshared(self, *, last: bool) -> AbstractContextManager[None]:
        """Leave the exchange of gradients to the last batch of a step."""
        if last or not isinstance(self._trained, DistributedDataParallel):
            return nullcontext()
        alone: AbstractContextManager[None] = self._trained.no_sync()
        return alone

    def _backward(self, batch: tuple[Tensor, Tensor], part: int) -> Tensor:
        """Add the gradients of one batch; give its share of the step's loss."""
        around, order = self._around, self._data.order
        state = np.random.SeedSequence([self._seed, self._step, part]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]) >> 1)
        pixels, indices = (each.to(around.device, non_blocking=True) for each in batch)
        if self._hardware.channels_last:
            pixels = pixels.to(memory_format=torch.channels_last)
        with around.mixed_precision():
            logits, _ = self._trained(pixels)
        share: Tensor = self._loss(logits.float(), indices) / order.accumulation
        # DDP divides the sum of the processes' gradients by their number.
        self._learning.backward(share * around.processes.count)
        return share.detach()

    def _refuse_no_numbers(self, what: str, *, finite: bool, allowed: int) -> None:
        """Stop before a loss or gradient that is no number spoils the weights.

        Raises
        ------
        TrainingFailed
            If it is none, more often in a row than ``allowed``.
        """
        if not finite and self._skipped >= allowed:
            msg = (
                f"stage {self._stage.name!r}, step {self._step + 1}: the {what} is no number. The "
                "checkpoint before it is whole. Lower body_rate and head_rate, or set "
                "precision = 'float32', in a new run."
            )
            raise TrainingFailed(msg)

    def _after_step(
        self, loss: float, speed: float, events: SummaryWriter | None, *, stop: bool
    ) -> None:
        """Validate at the end of an epoch, and keep a checkpoint where one is due.

        Raises
        ------
        TrainingStopped
            If ``stop``, after the checkpoint.
        """
        order = self._data.order
        self._figures.add(loss)
        if events is not None:
            events.add_scalar("loss", loss, self._step)
        ended = self._step % order.steps_an_epoch == 0
        if ended:
            self._end_epoch(speed, events)
        due = self._step % self._hardware.checkpoint_steps == 0
        if (ended or due or stop) and self._around.processes.first:
            self._keep()
        if stop and self._step < order.steps:
            msg = (
                f"Stopped after step {self._step} of {order.steps} of stage {self._stage.name!r}; "
                "the checkpoint holds all of it. Start it again to go on."
            )
            raise TrainingStopped(msg)

    def _end_epoch(self, speed: float, events: SummaryWriter | None) -> None:
        """Validate; write the figures, and the weights if they are the best so far."""
        data, evaluated = self._data, self._learning.kept
        self._around.processes.agree(evaluated)
        logits = logits_of(
            evaluated, data.validation, len(data.findings), self._stage.batch, self._around
        )
        figures = aurocs(logits, data.validation_targets, data.findings)
        mean = mean_auroc(figures)
        epoch = self._step // data.order.steps_an_epoch
        rate = self._learning.head_rate
        line = self._figures.end(epoch, self._step, rate, speed, mean, figures)
        if events is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    events.add_scalar(name, value, self._step)
        if mean is not None and mean > self._best:
            self._best = mean
            self._write(BEST)

    def _write(self, name: str) -> None:
        """Write weights that a next stage, or an export, starts from."""
        if self._around.processes.first:
            told = {"findings": list(self._data.findings), "step": self._step}
            weights = self._learning.kept.state_dict()
            write_tensors(self._around.folder / name, weights, told)

    @property
    def _checkpoints(self) -> Path:
        return self._around.folder / "checkpoints"

    def _keep(self) -> None:
        state = {
            "step": self._step,
            "best": self.best_auroc,
            "skipped": self._skipped,
            "figures": self._figures.state(),
        }
        save_checkpoint(self._checkpoints, self._step, self._learning.checkpoint(state))

    def _restore(self) -> None:
        kept = newest_checkpoint(self._checkpoints)
        if kept is None:
            self._figures.forget_after(0)
            return
        self._learning.restore(kept)
        self._figures.restore(kept.state["figures"])
        best = kept.state["best"]
        self._step, self._skipped = kept.state["step"], kept.state["skipped"]
        self._best = -math.inf if best is None else best
        self._figures.forget_after(self._step)

    def _wrapped(self, network: nn.Module) -> nn.Module:
        if self._around.processes.count == 1:
            return network
        device = self._around.device
        return DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None
        )

    def _events(self) -> AbstractContextManager[SummaryWriter | None]:
        if not self._around.processes.first:
            return nullcontext()
        writer: AbstractContextManager[SummaryWriter] = SummaryWriter(
            str(self._around.folder / "tensorboard"), purge_step=self._step
        )
        return writer
