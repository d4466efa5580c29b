"""Grad-CAM for networks that do not pool and end in one linear layer: by gradient, per finding."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from ai_engine.errors import ModelFailed, NotExplainable

_MAPS = 4
_LOGITS = 2
_CELLS = 2


class GradientSaliency:
    """Grad-CAM maps of every finding of any network, by pytorch-grad-cam.

    ``SaliencyNetwork`` needs none of this: its maps come with its logits. Here the network runs
    once for an image and then backwards once for each finding, only down to the layer explained.

    It works on a copy, so that weights, gradients, hooks and mode of the network stay as they are,
    and later changes of it are not seen.

    Parameters
    ----------
    network
        From images ``(batch, channels, rows, columns)`` to logits ``(batch, findings)``, or to a
        tuple whose first element is that.
    target_layer
        Dotted name, as ``network.named_modules()`` gives it, of the layer to explain: the last one
        with rows and columns, after its activation. A layer before the activation gives another
        map that looks alike.

    Raises
    ------
    NotExplainable
        If the network has no layer of that name.

    References
    ----------
    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """

    def __init__(self, network: nn.Module, target_layer: str) -> None:
        self._name = target_layer
        self._runs = 0
        copied = copy.deepcopy(network).eval().requires_grad_(False)  # noqa: FBT003 - torch's own
        layer = dict(copied.named_modules()).get(target_layer) if target_layer else None
        if layer is None:
            named = ", ".join(name for name, _ in network.named_children())
            msg = f"the network has no layer named {target_layer!r}; it begins with {named}"
            raise NotExplainable(msg)
        # Hooks run in this order: cut below, let the library listen, keep what it heard.
        layer.register_forward_hook(self._cut)
        self._grad_cam = _GridGradCam(copied, [layer])
        layer.register_forward_hook(_aside)

    def maps(self, images: Tensor) -> NDArray[np.float32]:
        """Explain every finding.

        Parameters
        ----------
        images
            What the network takes, with the batch first.

        Returns
        -------
        NDArray[np.float32]
            **shape** ``(batch, findings, rows, columns)`` of the layer, 0 to 1: evidence for the
            finding, as a share of the strongest in its own map. A map without any stays zero.

        Raises
        ------
        NotExplainable
            If the layer does not run, runs more than once, has no rows and columns, or the logits
            do not depend on it.
        ModelFailed
            If a map holds values that are not numbers.
        """
        self._runs = 0
        with torch.enable_grad():
            logits = self._logits(images.detach())
            grids = [self._grad_cam.grid(images, each.sum()) for each in logits.unbind(1)]
        maps = np.stack(grids, axis=1)
        if not np.isfinite(maps).all():
            msg = f"the maps of layer {self._name} hold values that are not numbers"
            raise ModelFailed(msg)
        strongest = maps.max((2, 3), keepdims=True)
        return np.asarray(maps / np.where(strongest > 0, strongest, 1), dtype=np.float32)

    def _logits(self, images: Tensor) -> Tensor:
        """Run the network, and check what came of it.

        Raises
        ------
        NotExplainable
            If the layer was not run, or does not decide the logits.
        """
        output = self._grad_cam.activations_and_grads(images.to(self._grad_cam.device))
        logits = output[0] if isinstance(output, tuple) else output
        if not self._runs:
            msg = f"layer {self._name} does not run when the network does: name one that does"
            raise NotExplainable(msg)
        if not isinstance(logits, Tensor) or logits.ndim != _LOGITS:
            msg = "the network gives no logits of shape (batch, findings)"
            raise NotExplainable(msg)
        if not logits.requires_grad:
            msg = f"the logits do not depend on layer {self._name}: name one that decides them"
            raise NotExplainable(msg)
        return logits

    def _cut(self, _layer: nn.Module, _inputs: object, output: object) -> Tensor:
        """Begin the gradient here: nothing below needs one, nor memory for one.

        Raises
        ------
        NotExplainable
            If the layer runs again, or has no rows and columns.
        """
        self._runs += 1
        if self._runs > 1:
            msg = (
                f"layer {self._name} runs more than once in a pass, so its maps could be those of "
                "another place: give the last place a module of its own"
            )
            raise NotExplainable(msg)
        if (
            not isinstance(output, Tensor)
            or output.ndim != _MAPS
            or output.shape[2:].numel() < _CELLS
        ):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            msg = (
                f"layer {self._name} gives {shape}, not (batch, features, rows, columns) with more "
                "than one cell: name a layer before pooling, or give larger images"
            )
            raise NotExplainable(msg)
        return output.detach().requires_grad_()


def _aside(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    """Hand on a copy: an in-place ReLU that follows must not change what was recorded."""
    return output.clone()


class _GridGradCam(GradCAM):  # type: ignore[misc]  # the library has no types
    """Its Grad-CAM at the grid of the layer, without its stretching from minimum to maximum."""

    def grid(self, images: Tensor, score: Tensor) -> NDArray[np.float32]:
        """Give the map of one score, not negative: ``(batch, rows, columns)``."""
        heard = self.activations_and_grads
        heard.gradients = []
        score.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        (features,) = (each.numpy() for each in heard.activations)
        gradients = heard.gradients[0].numpy() if heard.gradients else np.zeros_like(features)
        layer = self.target_layers[0]
        cam = self.get_cam_image(images, layer, [], features, gradients)
        return np.asarray(np.maximum(cam, 0), dtype=np.float32)
