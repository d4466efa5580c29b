"""Weights that others have published: read without running their code, fitted layer by layer."""

import pickle
import re
import struct
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ai_engine.errors import ModelUnavailable

_RGB = 3
_NAMED = 3
_COUNTER = "num_batches_tracked"
_DAMAGED = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


def read_published(path: Path) -> object:
    """Read a file that ``torch.save`` wrote, new or old format: tensors and plain values only.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    object
        What was saved, on the CPU.

    Raises
    ------
    ModelUnavailable
        If there is no such file, if it is damaged, or if it holds Python objects: to make those, a
        pickle runs code of its author's choice, so they are refused and nothing is run.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # on odd files; what comes of them is checked
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ModelUnavailable(msg) from error
    except _DAMAGED as error:
        msg = f"{path}: {_reason(str(error))}"
        raise ModelUnavailable(msg) from error


def _reason(told: str) -> str:
    """Say why torch refused a file; its own words advise to run the code after all."""
    forbidden = re.search(r"(?:GLOBAL|class|function) (\w[\w.]*\.\w+)\b(?!\.)", told)
    if forbidden or "TorchScript" in told or "legacy .tar" in told:
        what = forbidden[1] if forbidden else "another format than tensors by name"
        return (
            f"holds Python objects ({what}), and loading those can run any code. Nothing was "
            "loaded. If you trust the file, convert it in a container without network and data, "
            'with the versions it was written with: torch.save(torch.load(FILE)["model"]'
            '.state_dict(), "weights.pth"), or ["state_dict"] where the file has one, and give '
            "weights.pth here"
        )
    return "is damaged, cut short, or no PyTorch file"


def tensors_by_name(path: Path, content: object) -> dict[str, Tensor]:
    """Take a state dict as such, or refuse.

    Raises
    ------
    ModelUnavailable
        If it is anything but a dictionary of tensors by name.
    """
    if not isinstance(content, Mapping) or not content:
        msg = f"{path}: holds no state dict: tensors by the names of their layers"
        raise ModelUnavailable(msg)
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            msg = f"{path}: {name!r} is no tensor, so this is no state dict"
            raise ModelUnavailable(msg)
        tensors[name] = value
    return tensors


def undotted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give DenseNet layers today's names: ``norm1`` for the ``norm.1`` of torchvision before 0.2.2.

    References
    ----------
    torchvision, ``models/densenet.py``, ``_load_state_dict``.
    """
    dotted = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {dotted.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}


def fitted(
    path: Path,
    published: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    published_name: Callable[[str], str],
    *,
    left: Collection[str] = (),
) -> dict[str, Tensor]:
    """Fit published tensors to the layers of a network: all of them, or an error.

    Parameters
    ----------
    path
        For messages.
    published
        Tensors by the publisher's names.
    wanted
        The network's own state; the input channels of a stem may differ from three.
    published_name
        From a name of ours to the publisher's.
    left
        Publisher's names that are not taken over: the classifier.

    Returns
    -------
    dict[str, Tensor]
        A complete state by our names. Counters of batches, which nothing reads and older files
        lack, are kept as they are.

    Raises
    ------
    ModelUnavailable
        If a layer is missing, is one too many, has another shape, or holds values that are not
        finite; it is named.
    """
    names = {ours: published_name(ours) for ours in wanted if not ours.endswith(_COUNTER)}
    extra = published.keys() - names.values() - set(left)
    _refuse(path, "misses", [each for each in names.values() if each not in published])
    _refuse(path, "has unknown", sorted(each for each in extra if not each.endswith(_COUNTER)))
    loaded = dict(wanted)
    for ours, theirs in names.items():
        tensor = _for_channels(published[theirs], wanted[ours])
        if tensor.shape != wanted[ours].shape:
            msg = (
                f"{path}: layer {theirs} has shape {tuple(published[theirs].shape)}, "
                f"expected {tuple(wanted[ours].shape)}: it is of another architecture"
            )
            raise ModelUnavailable(msg)
        if not torch.isfinite(tensor).all():
            msg = f"{path}: layer {theirs} holds values that are not finite"
            raise ModelUnavailable(msg)
        loaded[ours] = tensor
    return loaded


def _refuse(path: Path, what: str, names: list[str]) -> None:
    if names:
        rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        msg = (
            f"{path}: {what} layer {', '.join(names[:_NAMED])}{rest}: it is of another "
            "architecture, or not whole"
        )
        raise ModelUnavailable(msg)


def _for_channels(published: Tensor, wanted: Tensor) -> Tensor:
    """Spread the sum of an RGB stem evenly over the channels; three channels keep theirs."""
    kernels = published.ndim == wanted.ndim == 4  # noqa: PLR2004 - out, in, rows, columns
    if not kernels or published.shape[1] != _RGB or wanted.shape[1] == _RGB:
        return published
    if published.shape[0] != wanted.shape[0] or published.shape[2:] != wanted.shape[2:]:
        return published
    channels = wanted.shape[1]
    return published.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels
