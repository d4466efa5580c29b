"""Networks without a saliency head are explained by gradient, or it is said why they cannot be."""

from typing import Any

import numpy as np
import pytest
from random_networks import calibrated, pictures

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")

import torchvision  # noqa: E402 - after the skip
from torch import nn  # noqa: E402 - likewise

from ai_engine.errors import ModelFailed, NotExplainable  # noqa: E402 - likewise
from ai_engine.gradient_saliency import GradientSaliency  # noqa: E402 - likewise
from ai_engine.networks import Architecture, build_network  # noqa: E402 - likewise

IMAGES = pictures(2, 1, 64, seed=3)
OBLONG = pictures(2, 1, 96, seed=3)[:, :, :64]


class Perceptron(nn.Module):  # type: ignore[misc, name-defined]
    """Convolutions, then two layers on the whole grid: no closed form."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.convolution = nn.Conv2d(1, 6, 5, stride=8, padding=2)
        self.normalisation = nn.BatchNorm2d(6)
        self.activation = nn.ReLU(inplace=in_place)
        self.hidden = nn.Linear(6 * 8 * 8, 20)
        self.unused = nn.Conv2d(1, 1, 1)
        self.pooled = nn.AdaptiveAvgPool2d(1)
        self.logits = nn.Linear(20, 3)

    def features(self, images: Any) -> Any:
        return self.activation(self.normalisation(self.convolution(images)))

    def classify(self, features: Any) -> Any:
        return self.logits(torch.tanh(self.hidden(features.flatten(1))))

    def forward(self, images: Any) -> Any:
        self.pooled(images)
        return self.classify(self.features(images))


def by_hand(network: Any, before_activation: bool = False) -> Any:  # noqa: FBT001, FBT002 - a switch
    """Compute Grad-CAM from its two equations."""
    network.eval()
    normalised = network.normalisation(network.convolution(IMAGES))
    features = normalised if before_activation else normalised.relu()
    features = features.detach().requires_grad_()
    logits = network.classify(features.relu() if before_activation else features)
    maps = []
    for finding in range(3):
        (gradient,) = torch.autograd.grad(logits[:, finding].sum(), features, retain_graph=True)
        maps.append((gradient.mean((2, 3), keepdim=True) * features).sum(1).relu())
    raw = torch.stack(maps, 1).detach()
    return (raw / raw.amax((2, 3), keepdim=True).clamp(min=1e-30)).numpy()


def test_a_network_with_a_hidden_layer_is_explained_as_grad_cam_says() -> None:
    network = calibrated(Perceptron(), side=64)
    maps = GradientSaliency(network, "activation").maps(IMAGES)
    assert maps.shape == (2, 3, 8, 8)
    assert maps.dtype == np.float32
    assert maps.min() == 0
    assert np.allclose(maps.max((2, 3)), 1)
    assert np.abs(maps - by_hand(network)).max() < 1e-5


def test_an_activation_in_place_does_not_change_what_its_layer_gave() -> None:
    network = calibrated(Perceptron(in_place=True), side=64)
    maps = GradientSaliency(network, "normalisation").maps(IMAGES)
    assert np.abs(maps - by_hand(network, before_activation=True)).max() < 1e-5
    assert np.abs(maps - by_hand(network)).max() > 0.01


def test_the_gradient_finds_what_the_saliency_head_says_in_one_pass() -> None:
    torch.manual_seed(4)
    network = calibrated(build_network(Architecture.EFFICIENTNET_LITE0, 14), side=64)
    with torch.no_grad():
        evidence = network(OBLONG)[1].clamp(min=0).numpy()
    strongest = evidence.max((2, 3), keepdims=True)
    exact = evidence / np.where(strongest > 0, strongest, 1)
    assert np.abs(GradientSaliency(network, "backbone").maps(OBLONG) - exact).max() < 1e-5


def test_torchvisions_densenet_with_its_relu_in_place_is_explained() -> None:
    torch.manual_seed(5)
    network = calibrated(torchvision.models.densenet121(weights=None), channels=3, side=64)
    images = IMAGES.repeat(1, 3, 1, 1)
    few = nn.Linear(1024, 2)
    network.classifier = few
    maps = GradientSaliency(network, "features.norm5").maps(images)
    with torch.no_grad():
        features = network.features(images)
    features.requires_grad_()
    logits = few(features.relu().mean((2, 3)))
    for finding in range(2):
        (gradient,) = torch.autograd.grad(logits[:, finding].sum(), features, retain_graph=True)
        raw = (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu().detach()
        expected = (raw / raw.amax((1, 2), keepdim=True).clamp(min=1e-30)).numpy()
        assert np.abs(maps[:, finding] - expected).max() < 1e-4


def test_a_map_without_evidence_stays_zero() -> None:
    network = build_network(Architecture.EFFICIENTNET_LITE0, 2)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[-1.0], [0.0]]).expand_as(network.head.weight))
    assert not GradientSaliency(network, "backbone").maps(IMAGES).any()


def test_the_network_is_left_as_it_was() -> None:
    network = Perceptron().train()
    network(IMAGES).sum().backward()
    gradients = {name: each.grad for name, each in network.named_parameters()}
    state = {name: each.clone() for name, each in network.state_dict().items()}
    GradientSaliency(network, "activation").maps(IMAGES)
    assert network.training
    assert not network.activation._forward_hooks
    assert all(each.requires_grad for each in network.parameters())
    assert all(each.grad is gradients[name] for name, each in network.named_parameters())
    assert all(torch.equal(each, state[name]) for name, each in network.state_dict().items())


def test_the_same_images_give_the_same_maps_again_and_without_gradients_being_on() -> None:
    saliency = GradientSaliency(calibrated(Perceptron(), side=64), "activation")
    with torch.no_grad():
        first = saliency.maps(IMAGES)
    assert (first == saliency.maps(IMAGES)).all()
    assert np.abs(first[:1] - saliency.maps(IMAGES[:1])).max() < 1e-5


class Shared(Perceptron):
    """One activation, used twice, as MONAI's EfficientNet does."""

    def forward(self, images: Any) -> Any:
        return self.classify(self.features(self.activation(images)))


class Detached(Perceptron):
    def forward(self, images: Any) -> Any:
        return self.classify(self.features(images).detach()) + self.logits.bias


class Segments(Perceptron):
    def forward(self, images: Any) -> Any:
        return self.features(images)


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (Shared(), "activation", "layer activation runs more than once in a pass"),
        (
            Perceptron(),
            "pooled",
            r"layer pooled gives \(2, 1, 1, 1\).* name a layer before pooling",
        ),
        (Perceptron(), "hidden", r"layer hidden gives \(2, 20\), not \(batch, features, rows"),
        (Perceptron(), "unused", "layer unused does not run"),
        (Detached(), "activation", "the logits do not depend on layer activation"),
        (Segments(), "activation", r"no logits of shape \(batch, findings\)"),
    ],
)
def test_a_layer_that_explains_nothing_is_refused(network: Any, layer: str, message: str) -> None:
    saliency = GradientSaliency(network, layer)
    for _ in range(2):
        with pytest.raises(NotExplainable, match=message):
            saliency.maps(IMAGES)


def test_the_swish_that_stem_and_head_share_is_refused() -> None:
    network = build_network(Architecture.EFFICIENTNET_B0, 1)
    with pytest.raises(NotExplainable, match=r"backbone\._swish runs more than once"):
        GradientSaliency(network, "backbone._swish").maps(IMAGES)


@pytest.mark.parametrize("layer", ["", "activations", "activation.0"])
def test_an_unknown_layer_is_told_with_the_names_there_are(layer: str) -> None:
    with pytest.raises(NotExplainable, match=f"no layer named '{layer}'; it begins with convol"):
        GradientSaliency(Perceptron(), layer)


def test_a_map_that_is_not_a_number_is_a_failure() -> None:
    with pytest.raises(ModelFailed, match="not numbers"):
        GradientSaliency(calibrated(Perceptron(), side=64), "activation").maps(IMAGES * torch.nan)
