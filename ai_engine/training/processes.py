"""One training in several processes, as ``torchrun`` starts them. Needs the ``[torch]`` extra."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from ai_engine.errors import TrainingFailed


@dataclass(frozen=True, slots=True)
class Processes:
    """Which process this is.

    Parameters
    ----------
    rank
        Number of this one, from 0; the first writes the run folder.
    count
        How many train together.
    local_rank, local_count
        The same on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()

    def added(self, values: Tensor) -> Tensor:
        """Add up over the processes, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def agree(self, module: nn.Module) -> None:
        """Give every process the first one's buffers: each has seen other batches."""
        if self.count > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)


@contextmanager
def started_processes(device: torch.device) -> Iterator[Processes]:
    """Join the other processes, where ``torchrun`` started this one, until the block ends.

    Parameters
    ----------
    device
        Of the network: decides how they talk (NCCL, or Gloo on CPUs).
    """
    if not distributed.is_torchelastic_launched():
        yield Processes()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        local_rank = distributed.get_node_local_rank()
        if device.type == "cuda":
            torch.cuda.set_device(local_rank)
        yield Processes(
            rank=distributed.get_rank(),
            count=distributed.get_world_size(),
            local_rank=local_rank,
            local_count=_on_this_machine(),
        )
    finally:
        distributed.destroy_process_group()


def _on_this_machine() -> int:
    """Count the processes of this machine by its host name."""
    names: list[object] = [None] * distributed.get_world_size()
    distributed.all_gather_object(names, platform.node())
    return names.count(platform.node())


def device_of(wanted: str) -> torch.device:
    """Choose the device.

    Parameters
    ----------
    wanted
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    TrainingFailed
        If CUDA was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        msg = (
            "hardware.device is 'cuda' and torch finds no CUDA device. Set it to 'auto' or 'cpu', "
            "or install a torch with CUDA and the driver."
        )
        raise TrainingFailed(msg)
    use_cuda = wanted != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")
