"""A backbone with a saliency head, and the one place that builds it."""

from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]  # public, but not in its __all__

from ai_engine.errors import UnreadableImage
from ai_engine.networks.architecture import Architecture
from ai_engine.networks.backbone import Backbone, build_backbone
from ai_engine.networks.saliency_head import SaliencyHead

_IMAGE_DIMENSIONS = 4
_LEAST_SIDE_PX = 32


class SaliencyNetwork(nn.Module):
    """A classifier whose maps add up to its logits, in training and in evaluation.

    Parameters
    ----------
    architecture
        What the backbone is.
    backbone
        From images to features.
    findings
        How many findings the head tells.
    channels
        Of the images.

    Attributes
    ----------
    backbone
        Its output is the input of the head: the layer to name to other explanation tools.
    dropout
        Drops whole feature maps, which is dropout after pooling, and keeps map and logit equal.
    head
        The classifier.
    """

    def __init__(
        self, architecture: Architecture, backbone: Backbone, findings: int, *, channels: int
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.channels = channels
        self.backbone = backbone.module
        self.dropout = nn.Dropout2d(backbone.dropout)
        self.head = SaliencyHead(backbone.features, findings)

    def features(self, images: Tensor) -> Tensor:
        """Give what the head sees.

        Parameters
        ----------
        images
            **shape** ``(batch, channels, rows, columns)``, normalised by ``preprocess``, at least
            32 by 32.

        Returns
        -------
        Tensor
            **shape** ``(batch, features, rows, columns)``, one cell for 32 by 32 pixels, after the
            last activation and before dropout.

        Raises
        ------
        UnreadableImage
            If the images have another shape.
        """
        if not is_tracing():  # type: ignore[no-untyped-call]  # a traced shape cannot be compared
            self._check(images)
        features: Tensor = self.backbone(images)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits and maps.

        Parameters
        ----------
        images
            As ``features`` takes them.

        Returns
        -------
        tuple[Tensor, Tensor]
            Logits ``(batch, findings)`` and maps ``(batch, findings, rows, columns)``.
        """
        logits, maps = self.head(self.dropout(self.features(images)))
        return logits, maps

    def _check(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != _IMAGE_DIMENSIONS or shape[1] != self.channels:
            msg = (
                f"{self.architecture} takes images of shape (batch, {self.channels}, rows, "
                f"columns), got {shape}; build the network with the channels of the images"
            )
            raise UnreadableImage(msg)
        if min(shape[2:]) < _LEAST_SIDE_PX:
            msg = (
                f"{self.architecture} takes images of at least {_LEAST_SIDE_PX} by "
                f"{_LEAST_SIDE_PX} pixels, got {shape[2]} by {shape[3]}"
            )
            raise UnreadableImage(msg)


def build_network(
    architecture: Architecture, findings: int, *, channels: int = 1
) -> SaliencyNetwork:
    """Build a network with random weights.

    Parameters
    ----------
    architecture
        Which backbone.
    findings
        How many findings the head tells, at least 1.
    channels
        Of the images, at least 1: 1 for a radiograph, one for each window of CT.

    Returns
    -------
    SaliencyNetwork
        In training mode, as torch builds modules.

    Raises
    ------
    ValueError
        If there are no findings or no channels, or the architecture is not known.
    """
    if findings < 1 or channels < 1:
        msg = f"a network needs a finding and a channel, got {findings=} and {channels=}"
        raise ValueError(msg)
    known = Architecture(architecture)
    return SaliencyNetwork(known, build_backbone(known, channels), findings, channels=channels)
