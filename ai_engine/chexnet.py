"""Public CheXNet checkpoints become our DenseNet-121, logit for logit.

================================  =============================================================
arnoweng/CheXNet                  ``model.pth.tar``, read by ``model.py`` (``map_state_dict``):
                                  ``state_dict`` with ``module.densenet121.features…`` in the
                                  names of torchvision before 0.2.2 (``norm.1``)
zoogzog/chexnet                   ``m-….pth.tar``, written by ``ChexnetTrainer.py`` (``train``):
                                  ``epoch``, ``state_dict``, ``best_loss``, ``optimizer``; the same
                                  names, from ``DensenetModels.py``
jrzech/reproduce-chexnet          ``checkpoint``, written by ``model.py`` (``checkpoint``): the
                                  whole network pickled as ``model``. Refused, as a pickle runs
                                  code; its ``state_dict()`` saved alone is read: ``features…``
================================  =============================================================

All three end in ``Sequential(Linear(1024, 14), Sigmoid())`` and list the findings in one order
(``CLASS_NAMES`` of arnoweng's ``model.py`` and of zoogzog's ``ChexnetTrainer.py``, ``PRED_LABEL``
of jrzech's ``cxr_dataset.py``). All three normalise with the RGB means and deviations of ImageNet.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

from torch import Tensor

from ai_engine.errors import ModelUnavailable
from ai_engine.networks import Architecture, SaliencyNetwork, build_network
from ai_engine.networks.published_weights import (
    fitted,
    read_published,
    tensors_by_name,
    undotted,
)

CHEXNET_FINDINGS = (
    "atelectasis",
    "cardiomegaly",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
    "consolidation",
    "edema",
    "emphysema",
    "fibrosis",
    "pleural_thickening",
    "hernia",
)
"""The 14 labels of ChestX-ray14 in the order of the checkpoints' outputs."""

_CLASSIFIER = "classifier.0."
_PREFIXES = ("module.", "densenet121.")


def load_chexnet(path: Path, *, channels: int = 1) -> SaliencyNetwork:
    """Build DenseNet-121 with the weights of a public CheXNet checkpoint.

    The checkpoints' sigmoid is not part of the network: the sigmoid of our logits is their output.

    Parameters
    ----------
    path
        Checkpoint in one of the layouts above, in the old or the new format of ``torch.save``.
    channels
        Of the images. With 3, the network is theirs, for images normalised as theirs. With 1, the
        stem is summed: the logits are theirs for a grey image that is the same in all three
        channels *after* normalisation. They normalised each channel in its own way, so one channel
        is a start for training, and three channels are the reproduction.

    Returns
    -------
    SaliencyNetwork
        In evaluation mode; its findings are ``CHEXNET_FINDINGS``.

    Raises
    ------
    ModelUnavailable
        If the file is missing, damaged, holds Python objects, has another layout, or tells another
        number of findings.
    """
    published = _layers(path, read_published(path))
    network = build_network(Architecture.DENSENET121, len(CHEXNET_FINDINGS), channels=channels)
    network.load_state_dict(fitted(path, published, network.state_dict(), _published_name))
    return network.eval()


def _layers(path: Path, content: object) -> dict[str, Tensor]:
    """Find the state dict, and take off what wrapped the network.

    Raises
    ------
    ModelUnavailable
        If this is no CheXNet, or it tells another number of findings.
    """
    saved = content["state_dict"] if _is_checkpoint(content) else content
    tensors = tensors_by_name(path, saved)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): each for name, each in tensors.items()}
    tensors = undotted(tensors)
    classifier = tensors.get(f"{_CLASSIFIER}weight")
    if classifier is None:
        first = next(iter(tensors))
        msg = (
            f"{path}: has no layer {_CLASSIFIER}weight, so it is no CheXNet checkpoint on "
            f"DenseNet-121; its first layer is {first}"
        )
        raise ModelUnavailable(msg)
    if len(classifier) != len(CHEXNET_FINDINGS):
        msg = (
            f"{path}: tells {len(classifier)} findings, CheXNet tells {len(CHEXNET_FINDINGS)}: "
            "their order would be a guess"
        )
        raise ModelUnavailable(msg)
    return tensors


def _is_checkpoint(content: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(content, Mapping) and "state_dict" in content


def _published_name(name: str) -> str:
    part, _, rest = name.partition(".")
    return _CLASSIFIER + rest if part == "head" else f"features.{rest}"
