"""From a trained network to the bundle that ships."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ai_engine.bundle import Bundle, Calibration
from ai_engine.bundle_files import write_bundle
from ai_engine.image import AgeBand, Subject, View
from ai_engine.networks import EfficientNetLite0
from ai_engine.preprocess import network_input, thumbnail
from ai_engine.publishers import SigningKey
from ai_engine.result import ModelIdentity
from ai_engine.runtime import CpuRuntime
from ai_engine.scope import Familiarity, Range, Scope
from ai_engine.training.bundle_contents import bundle_contents
from ai_engine.training.card import model_card
from ai_engine.training.dataset import (
    Radiograph,
    nih_radiographs,
    read_all_pixels,
    split_by_patient,
    targets,
)
from ai_engine.training.evaluate import (
    calibrate,
    held_out_report,
    operating_points,
    probabilities,
)
from ai_engine.training.onnx_graph import onnx_graph
from ai_engine.training.train import Recipe
from ai_engine.triage_rule import OperatingPoint

NAME, VERSION = "cxr-lite0", "1.0.1"
RADIOGRAPHS = frozenset({"CR", "DX"})
ADULT_CHESTS = Scope(
    frozenset({Subject.CHEST_RADIOGRAPH}),
    frozenset({View.PA, View.AP}),
    frozenset({AgeBand.ADULT, AgeBand.UNKNOWN}),
    Range(200.0, 600.0),
)
"""Detectors for chests measure 350 by 430 mm; cropped ones less, never half of it."""
_THUMBNAIL_SIDE = 32
_COMPONENTS = 48
_FAMILIAR_SHARE = 0.995
_LEAST_VALIDATION_AUROC = 0.6
_LEAST_VALIDATION_POSITIVES = 5


def export(
    network: EfficientNetLite0,
    findings: list[str],
    data: Path,
    recipe: Recipe,
    out: Path,
    key: SigningKey,
) -> None:
    """Calibrate, evaluate on held-out patients through the runtime that serves, and write.

    Parameters
    ----------
    network
        Trained; its weights are rounded to half precision, as they ship.
    findings
        Of its head, in order.
    data
        Folder with ``nih_cxr``.
    recipe
        How it was trained.
    out
        Folder of the new bundle.
    key
        Of its publisher.
    """
    split = split_by_patient(nih_radiographs(data))
    archive = data / "nih_cxr" / "images_512_jpg.zip"
    validation = read_all_pixels(archive, split.validation, "validation")
    held_out = read_all_pixels(archive, split.held_out, "held-out")
    training = read_all_pixels(archive, split.training, "training")
    familiarity = _familiarity(training, validation)
    everything = _uncalibrated(network, findings, familiarity, recipe)
    offered = _offered(everything, split.validation, validation)
    network = _with_findings(network, [findings.index(finding) for finding in offered])
    bundle = _uncalibrated(network, offered, familiarity, recipe)
    bundle = _with_operating_points(bundle, split.validation, validation)
    scores = _scores(bundle, held_out)
    labels = _labels(bundle, split.held_out)
    brightness = np.array([float(pixels.mean()) for pixels in held_out])
    report = held_out_report(scores, labels, split.held_out, brightness, bundle.operating_points)
    counts = {
        "training": len(split.training),
        "validation": len(split.validation),
        "held_out": len(split.held_out),
    }
    card = model_card(NAME, VERSION, offered, asdict(recipe), counts, report)
    contents = bundle_contents(replace(bundle, card=card), save(_halved(network)))
    write_bundle(out, NAME, VERSION, contents, key)


def _uncalibrated(
    network: EfficientNetLite0, findings: list[str], familiarity: Familiarity, recipe: Recipe
) -> Bundle:
    """Make a bundle of a network; its weights are folded and rounded, as they ship."""
    fold_and_round(network)
    return Bundle(
        identity=ModelIdentity(NAME, VERSION, ""),
        input_spec=recipe.spec,
        head_bias=tuple(network.head.bias.tolist()),
        operating_points=dict.fromkeys(findings, OperatingPoint(0.5)),
        calibration=dict.fromkeys(findings, Calibration(1.0, 0.0)),
        scope=ADULT_CHESTS,
        familiarity=familiarity,
        card={},
        graph=onnx_graph(network.eval(), recipe.spec),
        modalities=RADIOGRAPHS,
    )


def fold_and_round(network: EfficientNetLite0) -> None:
    """Fold each normalisation into its convolution and round all weights to half precision.

    The converter would fold after rounding, and the graph would differ from the reference. What is
    folded first and rounded then passes through the converter unchanged.
    """
    modules = list(network.modules())
    convolutions = [each for each in modules if isinstance(each, nn.Conv2d)]
    normalisations = [each for each in modules if isinstance(each, nn.BatchNorm2d)]
    with torch.no_grad():
        for convolution, norm in zip(convolutions, normalisations, strict=True):
            assert norm.running_mean is not None  # noqa: S101 - every layer here keeps statistics
            assert norm.running_var is not None  # noqa: S101 - likewise
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            convolution.weight.mul_(scale[:, None, None, None]).copy_(convolution.weight.half())
            norm.bias.copy_((norm.bias - norm.running_mean * scale).half())
            norm.weight.fill_(1.0)
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
        network.head.weight.copy_(network.head.weight.half())
        network.head.bias.copy_(network.head.bias.half())


def _halved(network: EfficientNetLite0) -> dict[str, Tensor]:
    """Store in half precision what is exact in it: all but the variances."""
    return {
        name: tensor if name.endswith("running_var") else tensor.half()
        for name, tensor in network.state_dict().items()
    }


def _offered(
    bundle: Bundle, radiographs: list[Radiograph], pixels: list[NDArray[np.float32]]
) -> list[str]:
    """Name the findings that the network separates on clean validation patients.

    ``abnormal`` is always offered; the rest must not live on the shortcuts of the other sources.
    """
    logits, labels = _logits(bundle, pixels), _labels(bundle, radiographs)
    clean = np.array([each.source == "B" for each in radiographs])
    offered = []
    for index, finding in enumerate(bundle.findings):
        label, score = labels[finding][clean], logits[clean, index]
        measurable = label.sum() >= _LEAST_VALIDATION_POSITIVES
        separates = measurable and roc_auc_score(label, score) >= _LEAST_VALIDATION_AUROC
        if finding == "abnormal" or separates:
            offered.append(finding)
    return offered


def _with_findings(network: EfficientNetLite0, indices: list[int]) -> EfficientNetLite0:
    """Keep only some findings of the head; the others are not offered."""
    smaller = EfficientNetLite0(len(indices))
    weights = dict(network.state_dict())
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][indices]
    smaller.load_state_dict(weights)
    return smaller.eval()


def _familiarity(
    training: list[NDArray[np.float32]], validation: list[NDArray[np.float32]]
) -> Familiarity:
    """Describe the training images, and set the limit by validation images they never saw."""
    thumbnails = np.stack([thumbnail(pixels, _THUMBNAIL_SIDE) for pixels in training])
    mean = thumbnails.mean(0)
    _, _, rows = np.linalg.svd(thumbnails - mean, full_matrices=False)
    familiarity = Familiarity(mean, rows[:_COMPONENTS].astype(np.float32), 1.0)
    errors = [familiarity.error(pixels) for pixels in validation]
    return replace(familiarity, limit=float(np.quantile(errors, _FAMILIAR_SHARE)))


def _with_operating_points(
    bundle: Bundle, radiographs: list[Radiograph], pixels: list[NDArray[np.float32]]
) -> Bundle:
    logits = _logits(bundle, pixels)
    labels = _labels(bundle, radiographs)
    clean = np.array([each.source == "B" for each in radiographs])
    # "abnormal" is set on the clean source alone; the rarer findings need every image.
    used = {finding: clean if finding == "abnormal" else np.ones_like(clean) for finding in labels}
    calibration = {
        finding: calibrate(logits[used[finding], index], labels[finding][used[finding]])
        for index, finding in enumerate(bundle.findings)
    }
    scores = {
        finding: probabilities(logits[used[finding], index], calibration[finding])
        for index, finding in enumerate(bundle.findings)
    }
    chosen = operating_points(scores, {f: labels[f][used[f]] for f in labels})
    return replace(bundle, calibration=calibration, operating_points=chosen)


def _logits(bundle: Bundle, pixels: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    runtime = CpuRuntime(bundle)
    return np.stack(
        [runtime.infer(network_input(each, bundle.input_spec))[0] for each in pixels]
    ).astype(np.float64)


def _scores(bundle: Bundle, pixels: list[NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    logits = _logits(bundle, pixels)
    return {
        finding: probabilities(logits[:, index], bundle.calibration[finding])
        for index, finding in enumerate(bundle.findings)
    }


def _labels(bundle: Bundle, radiographs: list[Radiograph]) -> dict[str, NDArray[np.float64]]:
    columns = targets(radiographs, list(bundle.findings)).astype(np.float64)
    return {finding: columns[:, index] for index, finding in enumerate(bundle.findings)}
