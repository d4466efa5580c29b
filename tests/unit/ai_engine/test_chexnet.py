"""A public CheXNet checkpoint becomes our network, logit for logit, and runs no code on the way."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from random_networks import calibrated, pictures

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")

import torchvision  # noqa: E402 - after the skip
from torch import nn  # noqa: E402 - likewise

from ai_engine.chexnet import CHEXNET_FINDINGS, load_chexnet  # noqa: E402 - likewise
from ai_engine.errors import ModelUnavailable  # noqa: E402 - likewise

IMAGES = pictures(2, 3, 64, seed=9)


class DenseNet121(nn.Module):  # type: ignore[misc, name-defined]
    """As two of the three publishers wrap torchvision's network."""

    def __init__(self, densenet121: Any) -> None:
        super().__init__()
        self.densenet121 = densenet121

    def forward(self, images: Any) -> Any:
        return self.densenet121(images)


def chexnet() -> Any:
    network = torchvision.models.densenet121(weights=None)
    network.classifier = nn.Sequential(nn.Linear(1024, 14), nn.Sigmoid())
    return network


@pytest.fixture(scope="module")
def reference() -> Any:
    torch.manual_seed(8)
    return calibrated(chexnet(), channels=3, side=64)


@pytest.fixture(scope="module")
def logits(reference: Any) -> Any:
    with torch.no_grad():
        features = nn.functional.relu(reference.features(IMAGES)).mean((2, 3))
        return reference.classifier[0](features)


def parallel(network: Any) -> dict[str, Any]:
    """Give the state with the names of two publishers: of DataParallel, and of their wrapper."""
    return dict(nn.DataParallel(DenseNet121(network)).state_dict())


def arnoweng(network: Any) -> dict[str, Any]:
    """Give what torchvision named in 2017, before batches were counted."""
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", n): t for n, t in parallel(network).items()}
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in old
    return {"state_dict": {n: t for n, t in old.items() if "num_batches_tracked" not in n}}


def zoogzog(network: Any) -> dict[str, Any]:
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    state = parallel(network)
    return {"epoch": 3, "state_dict": state, "best_loss": 0.1, "optimizer": optimiser.state_dict()}


def jrzech(network: Any) -> dict[str, Any]:
    """Give the state dict of the network that is pickled there."""
    return dict(network.state_dict())


def zipped(content: Any, path: Path) -> None:
    torch.save(content, path)


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("layout", "save"),
    [(arnoweng, legacy), (arnoweng, zipped), (zoogzog, legacy), (jrzech, zipped)],
)
def test_the_logits_are_those_of_the_checkpoint(
    layout: Any,
    save: Any,
    reference: Any,
    logits: Any,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.pth.tar"
    save(layout(reference), path)
    ours = load_chexnet(path, channels=3)
    with torch.no_grad():
        got, maps = ours(IMAGES)
        assert (torch.sigmoid(got) - reference(IMAGES)).abs().max() < 1e-5
    assert logits.std() > 0.1
    assert (got - logits).abs().max() < 1e-5
    assert (maps.mean((2, 3)) + ours.head.bias - logits).abs().max() < 1e-5
    assert not ours.training


def test_a_grey_image_that_is_the_same_in_every_channel_gives_the_same_logits(
    reference: Any, tmp_path: Path
) -> None:
    torch.save(arnoweng(reference), tmp_path / "model.pth.tar")
    ours = load_chexnet(tmp_path / "model.pth.tar")
    grey = IMAGES[:, :1]
    with torch.no_grad():
        expected = reference(grey.repeat(1, 3, 1, 1))
        got = torch.sigmoid(ours(grey)[0])
    assert (got - expected).abs().max() < 1e-5


def test_the_findings_are_in_the_order_of_the_publishers() -> None:
    # CLASS_NAMES of arnoweng/CheXNet model.py and zoogzog/chexnet ChexnetTrainer.py;
    # PRED_LABEL of jrzech/reproduce-chexnet cxr_dataset.py.
    published = [
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
        "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
        "Hernia",
    ]  # fmt: skip
    assert list(CHEXNET_FINDINGS) == [name.lower() for name in published]


def test_a_whole_pickled_network_is_refused_with_what_to_do(
    reference: Any, logits: Any, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    rng = torch.get_rng_state()
    torch.save({"model": reference, "best_loss": 0.1, "rng_state": rng, "LR": 0.01}, path)
    with pytest.raises(ModelUnavailable, match=r"torchvision\.models\.densenet\.DenseNet") as told:
        load_chexnet(path)
    assert 'torch.save(torch.load(FILE)["model"].state_dict(), "weights.pth")' in str(told.value)
    trusted = torch.load(path, weights_only=False)["model"]
    torch.save(trusted.state_dict(), tmp_path / "weights.pth")
    with torch.no_grad():
        got, _ = load_chexnet(tmp_path / "weights.pth", channels=3)(IMAGES)
    assert (got - logits).abs().max() < 1e-5


class Malicious:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self._mark),)


def bare_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [zipped, legacy, bare_pickle])
def test_a_malicious_checkpoint_runs_nothing(save: Any, tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pth.tar", tmp_path / "was here"
    save({"state_dict": {"a": torch.zeros(1)}, "epoch": Malicious(mark)}, path)
    with pytest.raises(ModelUnavailable, match=r"Nothing was loaded|is damaged"):
        load_chexnet(path)
    assert not mark.exists()
    if save is not bare_pickle:
        torch.load(path, weights_only=False)
        assert mark.exists(), "the checkpoint was harmless, and this test proved nothing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"state_dict": 5}, "holds no state dict"),
        ({"epoch": 5}, "'epoch' is no tensor"),
        (
            {"conv1.weight": torch.zeros(1)},
            r"no layer classifier\.0\.weight.*layer is conv1\.weight",
        ),
        ({"classifier.0.weight": torch.zeros(14, 1024)}, r"misses layer features\.conv0\.weight"),
    ],
)
def test_another_layout_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ModelUnavailable, match=message):
        load_chexnet(tmp_path / "model.pth")


def test_another_number_of_findings_is_refused_as_their_order_is_not_known(tmp_path: Path) -> None:
    state = {"module.densenet121.classifier.0.weight": torch.zeros(8, 1024)}
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    with pytest.raises(ModelUnavailable, match="tells 8 findings, CheXNet tells 14"):
        load_chexnet(tmp_path / "model.pth")


def test_a_deeper_densenet_is_refused_by_its_first_unknown_layer(
    reference: Any, tmp_path: Path
) -> None:
    deeper = {"features.denseblock3.denselayer25.norm1.weight": torch.zeros(1)}
    torch.save(reference.state_dict() | deeper, tmp_path / "model.pth")
    with pytest.raises(
        ModelUnavailable, match=r"has unknown layer features\.denseblock3\.denselayer25"
    ):
        load_chexnet(tmp_path / "model.pth")


def test_a_checkpoint_that_was_cut_short_is_damaged(reference: Any, tmp_path: Path) -> None:
    for save in (zipped, legacy):
        save(zoogzog(reference), tmp_path / "whole")
        content = (tmp_path / "whole").read_bytes()
        (tmp_path / "cut").write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(ModelUnavailable, match="is damaged, cut short"):
            load_chexnet(tmp_path / "cut")
