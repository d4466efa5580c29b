"""Which networks there are."""

from enum import StrEnum


class Architecture(StrEnum):
    """A network that this package builds; the value is its name in configurations and bundles.

    References
    ----------
    Tan and Le, EfficientNet, ICML 2019 (B0 to B7; the Lite variants have no squeeze-excite and use
    ReLU6). Huang et al., Densely Connected Convolutional Networks, CVPR 2017; Rajpurkar et al.,
    CheXNet, arXiv:1711.05225, is a DenseNet-121.
    """

    EFFICIENTNET_LITE0 = "efficientnet-lite0"
    EFFICIENTNET_B0 = "efficientnet-b0"
    EFFICIENTNET_B1 = "efficientnet-b1"
    EFFICIENTNET_B2 = "efficientnet-b2"
    EFFICIENTNET_B3 = "efficientnet-b3"
    EFFICIENTNET_B4 = "efficientnet-b4"
    EFFICIENTNET_B5 = "efficientnet-b5"
    EFFICIENTNET_B6 = "efficientnet-b6"
    EFFICIENTNET_B7 = "efficientnet-b7"
    DENSENET121 = "densenet121"
