"""A classifier that says where its evidence lies."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SaliencyHead(nn.Module):
    """A linear classifier on pooled features, applied before pooling: every logit has its map.

    For features A with N cells, global average pooling and weights w, the logit is
    ``mean(w·A) + b``. The gradient of the logit is ``w/N`` in every cell, so the map ``w·A`` is
    Grad-CAM times N, before its ReLU, exactly, and costs nothing.

    Parameters
    ----------
    features
        How many features the backbone gives.
    findings
        How many findings are told.

    References
    ----------
    Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, equations 1
    and 2. Selvaraju et al., Grad-CAM, ICCV 2017, section 3.1 (generalises CAM).
    """

    def __init__(self, features: int, findings: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(findings, features))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits and maps.

        Parameters
        ----------
        features
            **shape** ``(batch, features, rows, columns)``, after the last activation.

        Returns
        -------
        tuple[Tensor, Tensor]
            Logits ``(batch, findings)`` and maps ``(batch, findings, rows, columns)``, which may be
            negative. The mean of a map plus the bias of its finding is its logit.
        """
        maps = functional.conv2d(features, self.weight[:, :, None, None])
        return maps.mean((2, 3)) + self.bias, maps
