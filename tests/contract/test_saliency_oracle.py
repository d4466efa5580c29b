"""pytorch-grad-cam, run on the shipped weights, judges the maps of the serving graph."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from ai_engine.bundle import Bundle, default_bundle_path, load_bundle
from ai_engine.engine import Engine
from ai_engine.image import Image
from ai_engine.preprocess import network_input
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
    weights = load_file(default_bundle_path() / "weights.safetensors")
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
