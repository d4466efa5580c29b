"""Cascading randomisation: a map that stays when the weights are gone never came from them.

Judges torch networks with a ``backbone`` and a ``head``, as ``ai_engine.networks`` builds them.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.estimate import Estimate
from ai_engine.evaluation.resampling import PersonDraws, mean_over_persons

if TYPE_CHECKING:
    from torch import Generator, nn

Floats = NDArray[np.float64]
_BATCH = 16
PASSES_BELOW = 0.5
"""Limit of the upper end of |Spearman| with every block randomised."""


@dataclass(frozen=True, slots=True)
class RandomisedBlock:
    """How alike maps are once this block and all above it are randomised.

    Parameters
    ----------
    block
        Its name.
    abs_spearman
        Mean absolute rank correlation of the cells with the maps of the trained network.
    """

    block: str
    abs_spearman: Estimate


@dataclass(frozen=True, slots=True)
class RandomisationResult:
    """Blocks from the output down to the input.

    Parameters
    ----------
    images
        How many maps were compared.
    blocks
        Cascading: every block keeps those before it randomised.
    passes
        Whether the maps are lost with the weights: upper end below 0.5 at the last block.
    """

    images: int
    blocks: tuple[RandomisedBlock, ...]
    passes: bool


def cascading_randomisation(
    network: "nn.Module",
    inputs: NDArray[np.float32],
    finding_indices: Sequence[int],
    *,
    seed: int = 1,
    progress: Progress | None = None,
) -> RandomisationResult:
    """Randomise a copy of the network from its head to its stem, and compare maps on the way.

    The weights of every tensor are shuffled, which keeps their distribution, so that it is what
    was learned that is lost, not the scale.

    Parameters
    ----------
    network
        Torch network in evaluation mode with ``backbone`` and ``head``; gives logits and maps.
    inputs
        **shape** ``(images, channels, rows, columns)``, ready for the network, of one person each.
    finding_indices
        Finding whose map is compared, one per image.
    seed
        Of the shuffling and the intervals.
    progress
        Where to show how far it is, or ``None``.

    Raises
    ------
    NotMeasurable
        If there is no image, the lengths differ, or the network has no ``backbone`` and ``head``.

    References
    ----------
    Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    import torch  # noqa: PLC0415 - of the [torch] extra

    if not len(inputs) or len(inputs) != len(finding_indices):
        msg = f"{len(inputs)} images need as many findings; got {len(finding_indices)}."
        raise NotMeasurable(msg)
    shuffled = copy.deepcopy(network).eval()
    cascade = _blocks(shuffled)
    trained = _maps(shuffled, inputs, finding_indices)
    generator = torch.Generator().manual_seed(seed)
    draws = PersonDraws(np.arange(len(inputs)), seed=seed)
    blocks = []
    shown = progress.track(cascade, description="randomising weights") if progress else cascade
    for name, block in shown:
        _shuffle(block, generator)
        values = np.array(
            [
                abs(spearman(before, after))
                for before, after in zip(
                    trained, _maps(shuffled, inputs, finding_indices), strict=True
                )
            ]
        )
        blocks.append(RandomisedBlock(name, mean_over_persons(values, draws)))
    passes = blocks[-1].abs_spearman.high < PASSES_BELOW
    return RandomisationResult(len(inputs), tuple(blocks), passes)


def spearman(first: Floats, second: Floats) -> float:
    """Give the rank correlation of two maps; 0 where one is flat and ranks nothing."""
    one, two = (_ranks(each.ravel()) for each in (first, second))
    spread = float(one.std() * two.std())
    if spread == 0.0:
        return 0.0
    return float(((one - one.mean()) * (two - two.mean())).mean() / spread)


def _ranks(values: Floats) -> Floats:
    """Give ranks, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def _blocks(network: "nn.Module") -> list[tuple[str, "nn.Module"]]:
    """List what holds weights, from the output to the input; stages are taken block by block.

    Raises
    ------
    NotMeasurable
        If the network has another shape.
    """
    parts = dict(network.named_children())
    if not {"backbone", "head"} <= set(parts):
        msg = (
            f"cascading randomisation needs a network with a backbone and a head; this one has "
            f"{', '.join(parts) or 'no parts'}. Wrap it as the networks of ai_engine.networks are."
        )
        raise NotMeasurable(msg)
    found: list[tuple[str, nn.Module]] = []
    for name, part in parts["backbone"].named_children():
        inner = [each for each in part.named_children() if each[0].isdigit()]
        found += [(f"{name}.{number}", block) for number, block in inner] or [(name, part)]
    found = [each for each in found if any(True for _ in each[1].parameters())]
    return [("head", parts["head"]), *reversed(found)]


def _shuffle(block: "nn.Module", generator: "Generator") -> None:
    import torch  # noqa: PLC0415 - of the [torch] extra

    with torch.no_grad():
        for weights in block.parameters():
            order = torch.randperm(weights.numel(), generator=generator)
            weights.copy_(weights.flatten()[order.to(weights.device)].view_as(weights))


def _maps(
    network: "nn.Module", inputs: NDArray[np.float32], finding_indices: Sequence[int]
) -> list[Floats]:
    import torch  # noqa: PLC0415 - of the [torch] extra

    device = next(network.parameters()).device
    maps: list[Floats] = []
    with torch.no_grad():
        for start in range(0, len(inputs), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(inputs[start : start + _BATCH]))
            _, given = network(batch.to(device))
            found = given.float().cpu().numpy().astype(np.float64)
            chosen = finding_indices[start : start + _BATCH]
            maps += [each[finding] for each, finding in zip(found, chosen, strict=True)]
    return maps
