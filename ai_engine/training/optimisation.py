"""Optimiser, schedule, moving average and loss. Needs the ``[torch]`` extra."""

import re
from typing import Any

import torch
from monai.optimizers import WarmupCosineSchedule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from ai_engine.networks import SaliencyNetwork
from ai_engine.training.configuration import Stage

_LEAST_OF_BODY = 0.1
_BLOCK = re.compile(r"_?blocks\.\d+\.\d+|denseblock\d+\.denselayer\d+")
_Tensors = tuple[Tensor, ...] | list[Tensor]


def optimiser_of(network: SaliencyNetwork, stage: Stage) -> torch.optim.AdamW:
    """Build AdamW with a rate for the head, and one for each layer below it.

    A layer is a block, or what stands between blocks: stem, transition, last convolution. timm's
    own layer-wise rates know only timm's networks, and give all others one rate.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019. Clark et al., ELECTRA,
    ICLR 2020 (layer-wise rates).
    """
    layers = _layers(network.backbone)
    groups: list[dict[str, Any]] = []
    for depth, layer in enumerate(layers):
        share = max(stage.layer_decay ** (len(layers) - 1 - depth), _LEAST_OF_BODY)
        groups += _decayed_and_not(layer, stage.body_rate * share, stage.weight_decay)
    groups += _decayed_and_not(list(network.head.parameters()), stage.head_rate, stage.weight_decay)
    return torch.optim.AdamW(groups)


def _layers(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Give the parameters of each layer, from the image up."""
    layers: list[list[nn.Parameter]] = []
    before: str | None = None
    for name, parameter in backbone.named_parameters():
        matched = _BLOCK.match(name)
        block = matched[0] if matched else ""
        if block != before:
            layers.append([])
            before = block
        layers[-1].append(parameter)
    return layers


def _decayed_and_not(
    parameters: list[nn.Parameter], rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Give a group of weights, which decay, and one of biases and norms, which do not."""
    weights = [each for each in parameters if each.ndim > 1]
    others = [each for each in parameters if each.ndim <= 1]
    return [
        {"params": members, "lr": rate, "weight_decay": decay}
        for members, decay in ((weights, weight_decay), (others, 0.0))
        if members
    ]


def schedule_of(
    optimiser: torch.optim.Optimizer, stage: Stage, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Let the rates rise over the first steps, then fall to zero as a cosine does."""
    rising = round(stage.warmup * steps)
    schedule: torch.optim.lr_scheduler.LambdaLR = WarmupCosineSchedule(
        optimiser, rising, steps, warmup_multiplier=1.0 / max(rising, 1)
    )
    return schedule


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Build the moving average of the weights (EMA).

    In the first steps it forgets faster, ``(1 + n) / (10 + n)`` at step n, so that the weights
    that training started from do not stay in it.

    References
    ----------
    Polyak and Juditsky 1992; the ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    @torch.no_grad()
    def blend(average: _Tensors, current: _Tensors, steps: Tensor | int) -> None:
        done = int(steps)
        share = 1.0 - min(decay, (1.0 + done) / (10.0 + done))
        torch._foreach_lerp_(average, current, share)

    return AveragedModel(network, multi_avg_fn=blend)


class MaskedLoss(nn.Module):
    """Binary cross-entropy over what was judged, and over what a teacher has an opinion on.

    The sum is divided by what is judged on average, a constant, so that the loss of a step is the
    same however the step is divided into batches and processes.

    Parameters
    ----------
    present, judged
        **shape** ``(images, findings)``, 0 or 1, of every image to train on.
    positive_weight
        **shape** ``(findings,)``.
    taught
        The teacher's probabilities, NaN where it has none, or ``None``.
    teacher_weight
        Share of the teacher, 0 to 1, where it has an opinion.
    """

    present: Tensor
    judged: Tensor
    positive_weight: Tensor
    taught: Tensor | None

    def __init__(
        self,
        present: Tensor,
        judged: Tensor,
        positive_weight: Tensor,
        taught: Tensor | None = None,
        teacher_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("present", present)
        self.register_buffer("judged", judged)
        self.register_buffer("positive_weight", positive_weight)
        self.register_buffer("taught", taught)
        self._teacher_weight = teacher_weight
        counted = judged if taught is None else torch.maximum(judged, (~taught.isnan()).float())
        self._counted_an_image = float(counted.sum()) / len(present)

    def forward(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Give the mean loss of some images.

        Parameters
        ----------
        logits
            **shape** ``(batch, findings)``.
        indices
            Of the images, **shape** ``(batch,)``.
        """
        loss = (
            functional.binary_cross_entropy_with_logits(
                logits, self.present[indices], pos_weight=self.positive_weight, reduction="none"
            )
            * self.judged[indices]
        )
        if self.taught is not None:
            opinion = self.taught[indices]
            share = self._teacher_weight * (~opinion.isnan()).float()
            distilled = functional.binary_cross_entropy_with_logits(
                logits, opinion.nan_to_num(0.5), reduction="none"
            )
            loss = (1.0 - share) * loss + share * distilled
        return loss.sum() / (len(indices) * self._counted_an_image)
