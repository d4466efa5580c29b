"""Networks, each with a head whose maps add up to its logits. Needs the ``[torch]`` extra."""

from ai_engine.networks.architecture import Architecture
from ai_engine.networks.efficientnet_lite0 import EfficientNetLite0
from ai_engine.networks.imagenet_weights import load_imagenet_weights
from ai_engine.networks.saliency_head import SaliencyHead
from ai_engine.networks.saliency_network import SaliencyNetwork, build_network

__all__ = [
    "Architecture",
    "EfficientNetLite0",
    "SaliencyHead",
    "SaliencyNetwork",
    "build_network",
    "load_imagenet_weights",
]
