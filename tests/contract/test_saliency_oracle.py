"""pytorch-grad-cam judges the maps: of the serving graph, and of every network that is built."""

import functools
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from random_networks import calibrated, pictures

from ai_engine.bundle import Bundle, default_bundle_path, load_bundle
from ai_engine.engine import Engine
from ai_engine.image import Image
from ai_engine.preprocess import InputSpec, network_input
from ai_engine.result import TriageResult
from ai_engine.runtime import CpuRuntime

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(default_bundle_path())


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> object:
    from safetensors.torch import load_file  # noqa: PLC0415 - after the skip

    from ai_engine.networks import EfficientNetLite0  # noqa: PLC0415 - after the skip

    network = EfficientNetLite0(len(bundle.findings))
    weights = load_file(default_bundle_path() / "models/model.safetensors")
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network.eval()


def oracle(network: object, layer: object, inputs: NDArray[np.float32], index: int) -> NDArray:
    from pytorch_grad_cam import GradCAM  # noqa: PLC0415 - after the skip
    from pytorch_grad_cam.utils.model_targets import (  # noqa: PLC0415 - after the skip
        ClassifierOutputTarget,
    )

    class LogitsOnly(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: object) -> object:
            return self.network(images)[0]

    class Grid(GradCAM):  # type: ignore[misc]
        def get_target_width_height(self, input_tensor: object) -> None:
            """Keep the map at the grid of its layer."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Grid(model=LogitsOnly(), target_layers=[layer]) as cam:
            return cam(torch.from_numpy(inputs), [ClassifierOutputTarget(index)])[0]


def test_every_map_of_the_serving_graph_equals_pytorch_grad_cam(
    bundle: Bundle, network: object, engine: Engine, rg1_image: Image
) -> None:
    inputs = network_input(rg1_image.pixels, bundle.input_spec)
    result = engine.read([rg1_image])
    assert isinstance(result, TriageResult)
    layer = network.backbone.bn2  # type: ignore[attr-defined]
    for index, saliency in enumerate(result.saliency):
        expected = oracle(network, layer, inputs, index)
        assert expected.shape == saliency.grid.shape
        highest = expected.max()
        normalised = expected / highest if highest > 0 else expected
        assert np.abs(normalised - saliency.grid).max() < 1e-4, saliency.label


def test_the_oracle_notices_the_wrong_layer(
    bundle: Bundle, network: object, engine: Engine, rg1_image: Image
) -> None:
    inputs = network_input(rg1_image.pixels, bundle.input_spec)
    result = engine.read([rg1_image])
    assert isinstance(result, TriageResult)
    wrong = oracle(network, network.backbone.conv_head, inputs, 0)  # type: ignore[attr-defined]
    assert np.abs(wrong / max(wrong.max(), 1e-9) - result.saliency[0].grid).max() > 1e-3


def test_the_serving_graph_equals_the_reference_network(
    bundle: Bundle, network: object, rg1_image: Image
) -> None:
    inputs = network_input(rg1_image.pixels, bundle.input_spec)
    with torch.no_grad():
        logits, maps = network(torch.from_numpy(inputs))  # type: ignore[operator]
    served_logits, served_maps = CpuRuntime(bundle).infer(inputs)
    assert np.abs(logits[0].numpy() - served_logits).max() < 1e-4
    assert np.abs(maps[0].numpy() - served_maps).max() < 1e-3


def test_map_mean_plus_bias_is_the_logit(bundle: Bundle, rg1_image: Image) -> None:
    inputs = network_input(rg1_image.pixels, bundle.input_spec)
    logits, maps = CpuRuntime(bundle).infer(inputs)
    assert np.allclose(maps.mean((1, 2)) + np.array(bundle.head_bias), logits, atol=1e-4)


SIZES = {  # findings, and the side of the image; B7 is slow
    "efficientnet-lite0": (14, 128),
    "efficientnet-b0": (14, 128),
    "efficientnet-b7": (3, 96),
    "densenet121": (14, 128),
}
ARCHITECTURES = list(SIZES)


@dataclass(frozen=True)
class Explained:
    """A network with random weights, and what it says of one image, once for each finding.

    The judge takes one target for each image of a batch. In a batch of another size, sums are made
    in another order, and a deep network makes more of that than the limits below.
    """

    network: Any
    images: Any
    logits: Any
    maps: Any

    def evidence(self, upsampled_to: int = 0) -> NDArray[np.float32]:
        """Give Grad-CAM: what speaks for each finding, ``(findings, rows, columns)``."""
        own = self.maps.diagonal().permute(2, 0, 1)[None]
        evidence = own.clamp(min=0) / own[0, 0].numel()
        if upsampled_to:
            size = (upsampled_to, upsampled_to)
            evidence = torch.nn.functional.interpolate(evidence, size, mode="bilinear")
        return evidence[0].numpy()


@functools.cache
def explained(architecture: str) -> Explained:
    from ai_engine.networks import Architecture, build_network  # noqa: PLC0415 - after the skip

    torch.manual_seed(20)
    findings, side = SIZES[architecture]
    network = calibrated(build_network(Architecture(architecture), findings), side=side)
    images = pictures(1, 1, side, seed=21).repeat(findings, 1, 1, 1)
    with torch.no_grad():
        logits, maps = network(images)
    return Explained(network, images, logits, maps)


class Logits:
    """Build the network that other libraries explain: logits alone, all findings of one image."""

    def __new__(cls, network: Any) -> Any:
        class FirstOutput(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, images: Any) -> Any:
                output = self.network(images)
                return output[0] if isinstance(output, tuple) else output

        return FirstOutput()


def judged(method: str, network: Any, layer: Any, images: Any) -> NDArray[np.float32]:
    """Run a method of pytorch-grad-cam, at the grid of the layer: each image for its finding."""
    import pytorch_grad_cam  # noqa: PLC0415 - after the skip
    from pytorch_grad_cam.utils.model_targets import (  # noqa: PLC0415 - after the skip
        ClassifierOutputTarget,
    )

    class Grid(getattr(pytorch_grad_cam, method)):  # type: ignore[misc]
        def get_target_width_height(self, input_tensor: object) -> None:
            """Keep the map at the grid of its layer."""

    targets = [ClassifierOutputTarget(index) for index in range(len(images))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Grid(model=Logits(network), target_layers=[layer]) as cam:
            return np.asarray(cam(images, targets))


def as_the_judge_scales(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    from pytorch_grad_cam.utils.image import scale_cam_image  # noqa: PLC0415 - after the skip

    return np.asarray(scale_cam_image(scale_cam_image(evidence)))


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Give the mean over the findings that have any evidence."""
    pairs = zip(one, other, strict=True)
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs if a.std() and b.std()]
    assert len(alike) > len(one) / 2
    return float(np.mean(alike))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["GradCAM", "HiResCAM"])
def test_the_maps_of_one_pass_equal_those_of_a_gradient_for_each_finding(
    architecture: str, method: str
) -> None:
    one = explained(architecture)
    findings, side = SIZES[architecture]
    expected = judged(method, one.network, one.network.backbone, one.images)
    assert expected.shape == (findings, side // 32, side // 32)
    assert (expected.max((1, 2)) > 0.9).sum() > findings / 2
    assert np.abs(expected - as_the_judge_scales(one.evidence())).max() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_our_own_grad_cam_by_gradient_gives_the_same_maps(architecture: str) -> None:
    from ai_engine.gradient_saliency import GradientSaliency  # noqa: PLC0415 - after the skip

    one = explained(architecture)
    evidence = one.maps.clamp(min=0).numpy()
    strongest = evidence.max((2, 3), keepdims=True)
    exact = evidence / np.where(strongest > 0, strongest, 1)
    by_gradient = GradientSaliency(one.network, "backbone").maps(one.images)
    assert np.abs(by_gradient - exact).max() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_map_of_every_architecture_adds_up_to_the_logit(architecture: str) -> None:
    one = explained(architecture)
    assert one.logits.std() > 0.1
    assert (one.maps.mean((2, 3)) + one.network.head.bias - one.logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [
        ("efficientnet-b0", "_bn1"),
        ("efficientnet-b0", "_conv_head"),
        ("densenet121", "norm5"),
        ("densenet121", "denseblock4"),
        ("efficientnet-lite0", "conv_head"),
    ],
)
def test_a_layer_before_the_last_activation_gives_another_map(
    architecture: str, layer: str
) -> None:
    one = explained(architecture)
    wrong = judged("GradCAM", one.network, one.network.backbone.get_submodule(layer), one.images)
    right = as_the_judge_scales(one.evidence())
    assert np.abs(wrong - right).max() > 0.01
    assert correlation(wrong, right) < 0.9995


def test_the_swish_that_monai_shares_silently_explains_the_stem() -> None:
    from monai.networks.nets import EfficientNetBN  # noqa: PLC0415 - after the skip

    one = explained("efficientnet-b0")
    monai = EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=1, num_classes=14)
    state = one.network.backbone.state_dict()
    head = {"_fc.weight": one.network.head.weight, "_fc.bias": one.network.head.bias}
    monai.load_state_dict(state | head)
    wrong = judged("GradCAM", monai.eval(), monai._swish, one.images)
    assert wrong.shape == (14, 64, 64), "the grid of the stem, not of the last layer"
    assert abs(correlation(wrong, one.evidence(upsampled_to=64))) < 0.2


def test_monais_grad_cam_is_upside_down_unless_told_otherwise() -> None:
    from monai.visualize import GradCAM  # noqa: PLC0415 - after the skip

    one = explained("efficientnet-b0")
    right, images = one.evidence(upsampled_to=128), one.images[:1].clone().requires_grad_()
    network = Logits(one.network)
    default = GradCAM(network, "network.backbone")
    plain = GradCAM(network, "network.backbone", postprocessing=lambda each: each)
    flipped = np.stack([default(images, index)[0, 0].numpy() for index in range(14)])
    upright = np.stack([plain(images, i)[0, 0].detach().numpy() for i in range(14)])
    assert correlation(flipped, right) < -0.99
    assert np.abs(upright - right).max() < 1e-5 * right.max()


def test_the_exported_graph_gives_what_the_network_gives() -> None:
    from ai_engine.runtime import compiled  # noqa: PLC0415 - after the skip
    from ai_engine.training.onnx_graph import onnx_graph  # noqa: PLC0415 - after the skip

    one = explained("efficientnet-b0")
    rows, columns = one.images.shape[2:]
    graph = onnx_graph(one.network, InputSpec(rows, columns, 0.5, 0.25))
    logits, maps = compiled(graph, "f32", 2)(one.images[:1].numpy()).values()
    assert np.abs(logits - one.logits[:1].numpy()).max() < 1e-4
    assert np.abs(maps - one.maps[:1].numpy()).max() < 1e-3


def test_the_examples_of_the_page_hold() -> None:
    page = Path(__file__).parent.parent.parent / "docs/explanation/saliency.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(examples) == 2
    exec("\n".join(examples), {})  # noqa: S102 - the page is ours
