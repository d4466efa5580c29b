"""Cascading randomisation on real networks, and the shipped runtime under judgement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ai_engine.bundle import default_bundle_path, load_bundle
from ai_engine.errors import NotMeasurable
from ai_engine.evaluation.randomisation import _blocks, cascading_randomisation, spearman
from ai_engine.evaluation.saliency_quality import SaliencyCase, judge_saliency
from ai_engine.image import Image
from ai_engine.preprocess import network_input
from ai_engine.runtime import CpuRuntime

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")


class Blind(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A network whose map is the image itself: it shows edges whatever was learned."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 3))
        self.head = torch.nn.Linear(4, 1)

    def forward(self, images: object) -> tuple[object, object]:
        features = self.backbone(images)
        return self.head(features.mean((2, 3))), images[:, :, ::8, ::8]  # type: ignore[index]


def inputs(number: int, side: int) -> np.ndarray:
    """Give images of random patches."""
    patches = np.random.default_rng(1).normal(size=(number, 1, 8, 8)).astype(np.float32)
    return np.repeat(np.repeat(patches, side // 8, axis=2), side // 8, axis=3)


def test_the_maps_of_a_trained_network_are_lost_with_its_weights() -> None:
    from ai_engine.networks import EfficientNetLite0  # noqa: PLC0415 - after the skip

    torch.manual_seed(1)
    network = EfficientNetLite0(3, imagenet=True).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = cascading_randomisation(network, inputs(6, 224), [0, 1, 2, 0, 1, 2])
    assert result.passes
    assert result.blocks[0].block == "head"
    assert result.blocks[-1].block == "conv_stem"
    assert result.blocks[-1].abs_spearman.high < 0.5
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the copy is randomised"


def test_a_map_that_shows_edges_whatever_was_learned_does_not_pass() -> None:
    result = cascading_randomisation(Blind(), inputs(6, 32), [0] * 6)
    assert not result.passes
    assert result.blocks[-1].abs_spearman.value == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-b0", "densenet121"])
def test_every_weight_is_randomised_once_the_stem_last(name: str) -> None:
    from ai_engine.networks import Architecture, build_network  # noqa: PLC0415 - after the skip

    network = build_network(Architecture(name), 2, channels=1)
    blocks = _blocks(network)
    held = [id(weights) for _, block in blocks for weights in block.parameters()]
    assert sorted(held) == sorted(id(weights) for weights in network.parameters())
    assert blocks[0][0] == "head"
    assert "conv" in blocks[-1][0]
    assert len(blocks) > 8


def test_a_network_of_another_shape_is_refused() -> None:
    with pytest.raises(NotMeasurable, match="a backbone and a head; this one has 0, 1"):
        cascading_randomisation(
            torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1)),
            inputs(1, 8),
            [0],
        )


def test_images_without_a_finding_each_are_refused() -> None:
    with pytest.raises(NotMeasurable, match="2 images need as many findings; got 1"):
        cascading_randomisation(Blind(), inputs(2, 32), [0])


MAP = arrays(np.float64, 12, elements=st.integers(-4, 4).map(float))


@settings(max_examples=60)
@given(MAP, MAP)
def test_the_rank_correlation_is_that_of_scipy(first: np.ndarray, second: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the [torch] extra")
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        assert spearman(first, second) == 0.0
        return
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_the_serving_runtime_can_be_judged_as_it_is(rg1_image: Image) -> None:
    bundle = load_bundle(default_bundle_path())
    case = SaliencyCase(network_input(rg1_image.pixels, bundle.input_spec), 0, "1")
    quality = judge_saliency([case], CpuRuntime(bundle).infer, steps=5)
    assert (quality.map_rows, quality.map_columns) == (10, 10)
    assert 0.0 < quality.model.insertion_auc.value < 1.0
    assert quality.pointing is None
