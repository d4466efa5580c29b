"""Where a stage is trained. Needs the ``[torch]`` extra."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress

from ai_engine.training.processes import Processes
from ai_engine.training.stop_request import StopRequest

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """Where a stage is trained.

    Parameters
    ----------
    folder
        Of the stage in the run.
    device
        Of the network.
    precision
        Of the forward pass: ``float32``, ``bfloat16`` or ``float16``.
    processes
        That train together.
    progress
        Shows how far it is.
    stop
        Whether somebody asked to stop.
    """

    folder: Path
    device: torch.device
    precision: str
    processes: Processes
    progress: Progress
    stop: StopRequest

    def mixed_precision(self) -> AbstractContextManager[None]:
        """Give the context of a forward pass."""
        dtype = _DTYPES[self.precision]
        context: AbstractContextManager[None] = torch.autocast(
            self.device.type, dtype=dtype, enabled=dtype is not torch.float32
        )
        return context
