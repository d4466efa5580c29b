"""The network of the shipped model."""

from ai_engine.networks.architecture import Architecture
from ai_engine.networks.backbone import build_backbone
from ai_engine.networks.imagenet_weights import load_imagenet_weights
from ai_engine.networks.saliency_network import SaliencyNetwork


class EfficientNetLite0(SaliencyNetwork):
    """EfficientNet-Lite0 for radiographs.

    Parameters
    ----------
    findings
        How many findings the head has.
    imagenet
        Whether to start from the ImageNet weights.
    """

    def __init__(self, findings: int, *, imagenet: bool = False) -> None:
        architecture = Architecture.EFFICIENTNET_LITE0
        super().__init__(architecture, build_backbone(architecture, 1), findings, channels=1)
        if imagenet:
            load_imagenet_weights(self)
