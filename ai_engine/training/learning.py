"""The network with all that changes while it learns. Needs the ``[torch]`` extra."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ai_engine.networks import SaliencyNetwork
from ai_engine.training.checkpoint import Checkpoint, optimiser_tensors, restore_optimiser
from ai_engine.training.configuration import Stage
from ai_engine.training.optimisation import averaged, optimiser_of, schedule_of


class Learning:
    """Weights, moments, rates, moving average and loss scale: they are kept and come back together.

    Parameters
    ----------
    network
        On its device, in its memory layout.
    stage
        How it learns.
    steps
        Of the stage.
    device
        Of the network.
    scaled
        Whether the loss is scaled, for ``float16``.
    """

    def __init__(
        self,
        network: SaliencyNetwork,
        stage: Stage,
        steps: int,
        device: torch.device,
        *,
        scaled: bool,
    ) -> None:
        self.network = network
        self._clip_norm = stage.clip_norm
        self._optimiser = optimiser_of(network, stage)
        self._schedule = schedule_of(self._optimiser, stage, steps)
        self._average = averaged(network, stage.average_decay) if stage.average_decay else None
        self._scaler = torch.amp.GradScaler(device.type, enabled=scaled)

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the moving average, where there is one."""
        return self.network if self._average is None else self._average.module

    @property
    def head_rate(self) -> float:
        """Learning rate of the head."""
        return float(self._optimiser.param_groups[-1]["lr"])

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled: then some steps are skipped, to find the scale."""
        return self._scaler.is_enabled()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        scaled = self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch has no type for it

    def step(self) -> bool:
        """Take a step down the gradients; give whether they were numbers.

        A step of gradients that are none is not taken.
        """
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._clip_norm)
        finite = bool(norm.isfinite())
        if finite or self.scaled:
            self._scaler.step(self._optimiser)
            self._scaler.update()
        if finite:
            self._schedule.step()
            if self._average is not None:
                self._average.update_parameters(self.network)
        self._optimiser.zero_grad(set_to_none=True)
        return finite

    def checkpoint(self, state: Mapping[str, object]) -> Checkpoint:
        """Give all of it, with what else the training keeps."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= optimiser_tensors(self._optimiser)
        if self._average is not None:
            tensors |= {f"average.{k}": v for k, v in self._average.state_dict().items()}
        learning = {
            "groups": self._optimiser.state_dict()["param_groups"],
            "scaler": self._scaler.state_dict(),
            "scheduled": self._schedule.last_epoch,
        }
        return Checkpoint(tensors, {**state, "learning": learning})

    def restore(self, kept: Checkpoint) -> None:
        """Go back to a checkpoint."""
        learning: dict[str, Any] = kept.state["learning"]
        self.network.load_state_dict(_under("network.", kept.tensors))
        if self._average is not None:
            self._average.load_state_dict(_under("average.", kept.tensors))
        restore_optimiser(self._optimiser, kept.tensors, learning["groups"])
        self._scaler.load_state_dict(learning["scaler"])
        self._schedule.last_epoch = learning["scheduled"]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }
