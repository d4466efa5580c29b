"""Everything of a network before its head: an image in, features after the last activation out."""

from dataclasses import dataclass

import timm
from monai.networks.nets.efficientnet import EfficientNetBN, efficientnet_params
from torch import Tensor, nn
from torchvision.models import densenet121

from ai_engine.networks.architecture import Architecture

_RGB = 3
_LITE0_DROPOUT = 0.2
_LITE0_DROP_PATH = 0.1


@dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone and what its head must know of it.

    Parameters
    ----------
    module
        From images ``(batch, channels, rows, columns)`` to ``(batch, features, rows, columns)``.
        Its output is what the head sees: it is the layer to explain.
    features
        How many features it gives.
    dropout
        Share of the pooled features that the architecture drops in training, 0 to 1.
    """

    module: nn.Module
    features: int
    dropout: float


def build_backbone(architecture: Architecture, channels: int) -> Backbone:
    """Build a backbone with random weights.

    Parameters
    ----------
    architecture
        Which.
    channels
        Of the images.

    Returns
    -------
    Backbone
        EfficientNet-B from MONAI, Lite0 from timm. DenseNet-121 is torchvision's, whose names the
        CheXNet checkpoints carry; MONAI's is the same network under other names, and its loader
        passes over what does not fit.
    """
    if architecture is Architecture.DENSENET121:
        return _densenet121(channels)
    if architecture is Architecture.EFFICIENTNET_LITE0:
        return _efficientnet_lite0(channels)
    module = _EfficientNetFeatures(architecture, channels)
    dropout: float = efficientnet_params[architecture.value][3]
    return Backbone(module, module.feature_count, dropout)


class _EfficientNetFeatures(EfficientNetBN):  # type: ignore[misc]  # MONAI has no types
    """MONAI's EfficientNet up to the activation after its last convolution.

    Its Swish is a Python autograd function, which exporters refuse. ``nn.SiLU`` is the same
    function, keeps the same one tensor for the gradient, and runs in one kernel.

    MONAI fixes the padding to the size that the architecture was published at, 224 to 600 pixels;
    images of another size are padded as if they had that one.
    """

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__(architecture.value, pretrained=False, in_channels=channels, num_classes=1)
        self.feature_count: int = self._fc.in_features
        del self._avg_pooling, self._dropout, self._fc
        for module in list(self.modules()):
            if hasattr(module, "_swish"):
                module._swish = nn.SiLU()  # noqa: SLF001 - MONAI's own switch knows no SiLU

    def forward(self, images: Tensor) -> Tensor:
        """Give the features that MONAI's own ``forward`` pools."""
        stem = self._swish(self._bn0(self._conv_stem(self._conv_stem_padding(images))))
        deep = self._conv_head(self._conv_head_padding(self._blocks(stem)))
        features: Tensor = self._swish(self._bn1(deep))
        return features


def _efficientnet_lite0(channels: int) -> Backbone:
    module = timm.create_model(
        "tf_efficientnet_lite0",
        pretrained=False,
        num_classes=0,
        global_pool="",
        in_chans=channels,
        drop_path_rate=_LITE0_DROP_PATH,
    )
    return Backbone(module, module.num_features, _LITE0_DROPOUT)


def _densenet121(channels: int) -> Backbone:
    """Take torchvision's features and add the ReLU that it applies as a function, out of place."""
    network = densenet121(weights=None)
    module: nn.Sequential = network.features
    if channels != _RGB:
        module.conv0 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(module.conv0.weight)
    module.add_module("relu5", nn.ReLU())
    return Backbone(module, network.classifier.in_features, 0.0)
