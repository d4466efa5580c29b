"""A bundle, judged on the held-out images of a set. Needs the ``[torch]`` extra."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from ai_engine.bundle import Bundle
from ai_engine.errors import LabelsRefused
from ai_engine.evaluation.evaluate import SaliencyFigures, evaluate
from ai_engine.evaluation.finding_evaluation import EvaluationOptions
from ai_engine.evaluation.predictions import Predictions
from ai_engine.evaluation.report import About, EvaluationReport
from ai_engine.evaluation.saliency_overlay import MappedImage
from ai_engine.evaluation.saliency_quality import SaliencyCase, judge_saliency
from ai_engine.evaluation.written_report import Example
from ai_engine.labelled_images.labelled_image import ImageSet, LabelledImage
from ai_engine.preprocess import network_input
from ai_engine.runtime import CpuRuntime
from ai_engine.training.image_sets import SplitSet

_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Judging:
    """What to judge a bundle on.

    Parameters
    ----------
    source
        Collection of the set whose images are used; ``""`` for all of a set that has one.
    labels_from
        Where the labels come from, in words: they bound every figure.
    maps
        Images with a finding whose maps are judged, at 127 inferences each; 0 for none.
    """

    source: str = ""
    labels_from: str = "the labels of the set"
    maps: int = 12


def evaluate_bundle(
    bundle: Bundle, images: SplitSet, judging: Judging, progress: Progress | None = None
) -> tuple[EvaluationReport, list[Example]]:
    """Measure a bundle, as it is served, on the images that its split holds out.

    The validation images of the split are the tuning split.

    Parameters
    ----------
    bundle
        The model.
    images
        The set.
    judging
        What to judge on.
    progress
        Where to show how far it is.

    Returns
    -------
    tuple[EvaluationReport, list[Example]]
        The report, and images with their maps to show in it.

    Raises
    ------
    LabelsRefused
        If the split holds out nothing of the source.
    NotMeasurable
        If nothing can be measured.
    UnreadableImage
        If an image cannot be read.
    ModelFailed
        If the network gives no usable answer.
    """
    held_out = _of_source(images.split.test, judging.source)
    if not held_out:
        named = f" of source {judging.source!r}" if judging.source else ""
        msg = f"the split of set {images.name!r} holds out no image{named}; give it a share of test"
        raise LabelsRefused(msg)
    runtime = CpuRuntime(bundle)
    predictions = _predicted(bundle, runtime, images.of, held_out, "held-out images", progress)
    tuning = _of_source(images.split.validation, judging.source)
    tuned = (
        _predicted(bundle, runtime, images.of, tuning, "tuning images", progress)
        if tuning
        else None
    )
    chosen = [each for each in held_out if each.present][: judging.maps]
    read = [(each, images.of.pixels(each)) for each in chosen]
    cases = [
        SaliencyCase(network_input(pixels, bundle.input_spec), 0, each.person)
        for each, pixels in read
    ]
    quality = judge_saliency(cases, runtime.infer, progress=progress) if cases else None
    source = f", source {judging.source}" if judging.source else ""
    report = evaluate(
        predictions,
        About(
            bundle.identity.name,
            bundle.identity.version,
            f"held-out images of set {images.name}{source}",
            judging.labels_from,
            bundle.identity.sha256,
        ),
        thresholds={name: point.flag for name, point in bundle.operating_points.items()},
        tuning=tuned,
        saliency=SaliencyFigures(quality),
        options=EvaluationOptions(triage_finding=bundle.findings[0]),
        progress=progress,
    )
    return report, [_example(bundle, runtime, pixels) for _, pixels in read[:_EXAMPLES]]


def _of_source(images: Sequence[LabelledImage], source: str) -> list[LabelledImage]:
    return [each for each in images if not source or each.source == source]


def _predicted(
    bundle: Bundle,
    runtime: CpuRuntime,
    of: ImageSet,
    images: Sequence[LabelledImage],
    what: str,
    progress: Progress | None,
) -> Predictions:
    probabilities, brightness = [], []
    for each in progress.track(images, description=f"reading {what}") if progress else images:
        pixels = of.pixels(each)
        logits, _ = runtime.infer(network_input(pixels, bundle.input_spec))
        probabilities.append(_probabilities(bundle, logits))
        brightness.append(float(pixels.mean()))
    return Predictions.of(images, bundle.findings, probabilities, brightness=brightness)


def _probabilities(bundle: Bundle, logits: NDArray[np.float32]) -> list[float]:
    return [
        calibration.probability(float(logit))
        for calibration, logit in zip(bundle.calibration.values(), logits, strict=True)
    ]


def _example(bundle: Bundle, runtime: CpuRuntime, pixels: NDArray[np.float32]) -> Example:
    logits, maps = runtime.infer(network_input(pixels, bundle.input_spec))
    finding, probability = bundle.findings[0], _probabilities(bundle, logits)[0]
    mapped = MappedImage(pixels, maps[0], finding)
    return Example(mapped, f"An image with a finding; {finding} at probability {probability:.2f}.")
