"""Checkpoints: one file, written whole or not at all, that runs no code when read."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ai_engine.errors import RunRefused

_NAME = "step-{:09d}.safetensors"
_KEPT = 2


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything that a stage needs to go on.

    Parameters
    ----------
    tensors
        Weights, their moving average and the optimiser's moments, by name.
    state
        Everything else, as JSON: the step, rates, the loss scale, the figures so far.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and remove those that are older than the one before it.

    Parameters
    ----------
    folder
        Of the checkpoints.
    step
        After which it is taken.
    checkpoint
        What to keep.
    """
    write_tensors(folder / _NAME.format(step), checkpoint.tensors, checkpoint.state)
    for old in sorted(folder.glob("step-*.safetensors"))[:-_KEPT]:
        old.unlink()


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint, or ``None`` where there is none.

    Raises
    ------
    RunRefused
        If it is damaged.
    """
    found = sorted(folder.glob("step-*.safetensors"))
    return read_tensors(found[-1]) if found else None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
    """Write tensors and JSON into one safetensors file, on disk before it has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: each.detach().to("cpu").contiguous() for name, each in tensors.items()}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        part = Path(folder) / path.name
        save_file(kept, part, {"state": json.dumps(state)})
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        part.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_tensors(path: Path) -> Checkpoint:
    """Read what ``write_tensors`` wrote.

    Raises
    ------
    RunRefused
        If it is damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        msg = f"{path} is damaged ({error}). Remove it to go on from the checkpoint before it."
        raise RunRefused(msg) from error
    return Checkpoint(tensors, state)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Give the moments of each parameter by its number."""
    return {
        f"optimiser.{index}.{name}": value
        for index, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Give an optimiser its moments back, in the memory layout of their parameters.

    Another layout would be added up in another order, and the last bit would differ.

    Parameters
    ----------
    optimiser
        New, of the same network.
    tensors
        With those of ``optimiser_tensors``.
    groups
        Rates and the like, of its ``state_dict``.
    """
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind != "optimiser":
            continue
        index, _, moment = rest.partition(".")
        parameter = parameters[int(index)]
        alike = value.shape == parameter.shape
        fitted = torch.empty_like(parameter).copy_(value) if alike else value
        state.setdefault(int(index), {})[moment] = fitted
    optimiser.load_state_dict({"state": state, "param_groups": groups})
