"""The parts of a training against hand calculation, scikit-learn and torch's own."""

import dataclasses
import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")

from rich.progress import Progress  # noqa: E402 - after the skip
from sklearn.metrics import roc_auc_score  # noqa: E402
from sklearn.utils.class_weight import compute_class_weight  # noqa: E402
from torch.nn.functional import binary_cross_entropy_with_logits  # noqa: E402
from training_sets import configuration, write_set  # noqa: E402

from ai_engine.errors import (  # noqa: E402
    ConfigurationRefused,
    ImagesMissing,
    LabelsRefused,
    RunRefused,
    TrainingFailed,
)
from ai_engine.labelled_images.image_table import ImageTable  # noqa: E402
from ai_engine.networks import Architecture, build_network  # noqa: E402
from ai_engine.preprocess import InputSpec, network_input  # noqa: E402
from ai_engine.training import configuration as tables  # noqa: E402
from ai_engine.training.augmentation import IMAGE, augmentation  # noqa: E402
from ai_engine.training.augmented_images import AugmentedImages  # noqa: E402
from ai_engine.training.checkpoint import (  # noqa: E402
    Checkpoint,
    newest_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from ai_engine.training.configuration import Augmentation, Stage  # noqa: E402
from ai_engine.training.configuration_file import (  # noqa: E402
    parse_configuration,
    read_configuration,
)
from ai_engine.training.draws import Draw  # noqa: E402
from ai_engine.training.optimisation import (  # noqa: E402
    MaskedLoss,
    averaged,
    optimiser_of,
    schedule_of,
)
from ai_engine.training.prepared_images import (  # noqa: E402
    ImagesInMemory,
    ImagesOnDisk,
    SetImage,
    plain_tensors,
)
from ai_engine.training.processes import device_of  # noqa: E402
from ai_engine.training.targets import Targets, positive_weights  # noqa: E402
from ai_engine.training.training_run import train  # noqa: E402
from ai_engine.training.validation import aurocs  # noqa: E402

ROOT = Path(__file__).parents[2]
SPEC = InputSpec(32, 48, 0.5, 0.25)
RECIPES = sorted((ROOT / "ai_engine/training/recipes").glob("*.toml"))
NO_CHANGE = Augmentation(
    rotation_degrees=0.0,
    magnification_low=1.0,
    magnification_high=1.0,
    shift=0.0,
    gamma_low=1.0,
    gamma_high=1.0,
    contrast=0.0,
    brightness=0.0,
)


def stage(**changes: Any) -> Stage:
    values: dict[str, Any] = {
        "name": "s", "sets": ("a",), "findings": ("left", "right"), "rows": 32, "columns": 32,
        "epochs": 1, "batch": 4,
    }  # fmt: skip
    return Stage(**{**values, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    write_set(folder, images=12)
    return folder


@pytest.fixture
def images(data: Path) -> list[SetImage]:
    table = ImageTable(data / "labels.csv", [data])
    return [SetImage("squares", table, each) for each in table.images]


def test_the_configuration_knows_every_architecture_and_no_other() -> None:
    assert set(get_args(tables.Architecture)) == {each.value for each in Architecture}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_network_of_every_recipe_builds(path: Path) -> None:
    wanted = read_configuration(path)
    with torch.device("meta"):
        network = build_network(
            Architecture(wanted.network.architecture), len(wanted.stages[-1].findings)
        )
    assert network.head.weight.shape[0] == len(wanted.stages[-1].findings)


# Augmentation


def half(rows: int = 33, columns: int = 33) -> np.ndarray:
    """An image whose upper half is bright and whose left edge is brightest."""
    pixels = np.zeros((1, rows, columns), dtype=np.float16)
    pixels[:, : rows // 2] = 1.0
    pixels[:, :, : columns // 4] += 1.0
    return pixels


def varied(wanted: Augmentation, seed: int, pixels: np.ndarray | None = None) -> np.ndarray:
    given = half() if pixels is None else pixels
    with plain_tensors():
        images = AugmentedImages([{IMAGE: given}], augmentation(wanted, *given.shape[1:]), seed)
        image, index = images[Draw(0, 0, 0)]
    assert index == 0
    assert type(image) is torch.Tensor
    assert image.dtype == torch.float32
    return image.numpy()


def test_without_variations_the_image_is_unchanged() -> None:
    assert np.allclose(varied(NO_CHANGE, 1), half(), atol=1e-4)


def test_no_chest_is_ever_stood_on_its_head_and_half_are_mirrored() -> None:
    mirrored = 0
    for seed in range(40):
        image = varied(Augmentation(horizontal_flip=True, gamma_low=1.0, gamma_high=1.0), seed)[0]
        assert image[:16].mean() > image[17:].mean()
        mirrored += image[:, 17:].mean() > image[:, :16].mean()
    assert 8 <= mirrored <= 32
    kept = [varied(Augmentation(), seed)[0] for seed in range(20)]
    assert all(image[:, :16].mean() > image[:, 17:].mean() for image in kept)


def test_a_magnified_square_is_larger_by_as_much() -> None:
    pixels = np.zeros((1, 101, 101), dtype=np.float16)
    pixels[:, 30:71, 30:71] = 1.0
    larger = dataclasses.replace(NO_CHANGE, magnification_low=1.0, magnification_high=1.5)
    areas = [float(varied(larger, seed, pixels).sum()) for seed in range(30)]
    assert min(areas) > 41**2 * 0.97
    assert 41**2 * 1.3 < max(areas) < 41**2 * 1.5**2 * 1.03


def test_a_variation_depends_on_seed_epoch_position_and_image_alone() -> None:
    with plain_tensors():
        images = AugmentedImages(
            [{IMAGE: half()}, {IMAGE: half()}], augmentation(Augmentation(), 33, 33), 5
        )
        first = images[Draw(2, 7, 1)][0]
        others = [images[Draw(*draw)][0] for draw in ((3, 7, 1), (2, 8, 1), (2, 7, 0))]
        assert torch.equal(images[Draw(2, 7, 1)][0], first)
    assert not any(torch.equal(each, first) for each in others)
    assert not np.array_equal(varied(Augmentation(), 1), varied(Augmentation(), 2))


# Prepared images


def test_images_are_prepared_as_for_serving_in_memory_and_on_disk(
    images: list[SetImage], tmp_path: Path
) -> None:
    with Progress(disable=True) as progress:
        memory = ImagesInMemory(images, SPEC, 2, progress)
        disk = ImagesOnDisk(images, SPEC, tmp_path)
        disk.fill(0, progress)
    for at, each in enumerate(images):
        expected = network_input(each.of.pixels(each.image), SPEC)[0].astype(np.float16)
        assert np.array_equal(memory[at][IMAGE], expected)
        assert np.array_equal(disk[at][IMAGE], expected)
    assert len(list(tmp_path.glob("*/*.npy"))) == len(images)


def test_a_prepared_file_that_was_cut_short_is_made_anew(
    images: list[SetImage], tmp_path: Path
) -> None:
    disk = ImagesOnDisk(images, SPEC, tmp_path)
    before = disk[0][IMAGE]
    (path,) = tmp_path.glob("*/*.npy")
    for length in (0, 40, 200):
        path.write_bytes(path.read_bytes()[:length])
        assert np.array_equal(disk[0][IMAGE], before)
        assert np.array_equal(np.load(path), before)


def test_another_size_or_set_never_meets_a_file_of_this_one(
    images: list[SetImage], tmp_path: Path
) -> None:
    ImagesOnDisk(images, SPEC, tmp_path)[0]
    other = ImagesOnDisk(images, InputSpec(48, 48, 0.5, 0.25), tmp_path)
    assert other[0][IMAGE].shape == (1, 48, 48)
    renamed = [SetImage("others", each.of, each.image) for each in images]
    ImagesOnDisk(renamed, SPEC, tmp_path)[0]
    assert len(list(tmp_path.glob("*/*.npy"))) == 3


def prepare(images: list[SetImage], cache: Path, progress: Progress, *, on_disk: bool) -> None:
    if on_disk:
        ImagesOnDisk(images, SPEC, cache).fill(0, progress)
    else:
        ImagesInMemory(images, SPEC, 2, progress)


@pytest.mark.parametrize("on_disk", [True, False])
def test_unreadable_images_are_all_counted_and_ten_named(
    data: Path, tmp_path: Path, *, on_disk: bool
) -> None:
    shutil.copytree(data, tmp_path / "damaged")
    pixels = np.full((8, 8), np.nan, dtype=np.float32)
    table = tmp_path / "damaged" / "labels.csv"
    table.write_text(table.read_text().replace("000.png", "000.npy"))
    np.save(tmp_path / "damaged" / "000.npy", pixels)
    for number in range(1, 12):
        (tmp_path / "damaged" / f"{number:03}.png").write_bytes(b"no picture")
    of = ImageTable(table, [tmp_path / "damaged"])
    damaged = [SetImage("squares", of, each) for each in of.images]
    with (
        Progress(disable=True) as progress,
        pytest.raises(ImagesMissing, match=r"(?s)12 of 12 .*000\.npy.*no numbers.*and 2 more"),
    ):
        prepare(damaged, tmp_path / "cache", progress, on_disk=on_disk)


# Loss, rates, average


@pytest.mark.parametrize(("positive", "negative"), [(1, 1), (3, 40), (40, 3), (50, 55), (1, 99)])
def test_the_weight_balances_the_classes_as_scikit_learn_does(positive: int, negative: int) -> None:
    present = np.array([[1.0]] * positive + [[0.0]] * negative, dtype=np.float32)
    targets = Targets(present, np.ones_like(present))
    of_absent, of_present = compute_class_weight(
        "balanced", classes=np.array([0, 1]), y=present[:, 0].astype(int)
    )
    expected = np.clip(of_present / of_absent, 0.5, 10.0)
    assert positive_weights(targets, 10.0)[0] == pytest.approx(expected, rel=1e-5)
    assert positive_weights(targets, 1.0)[0] == 1.0


def test_the_loss_counts_what_was_judged_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    present, judged = ((rng.random((6, 3)) < 0.5).astype(np.float32) for _ in range(2))
    present *= judged
    logits = torch.from_numpy(rng.normal(size=(6, 3)).astype(np.float32))
    weight = torch.tensor([1.0, 4.0, 0.5])
    loss = MaskedLoss(torch.from_numpy(present), torch.from_numpy(judged), weight)
    probability = 1.0 / (1.0 + np.exp(-logits.numpy().astype(np.float64)))
    by_hand = (
        -(
            weight.numpy() * present * np.log(probability)
            + (judged - present) * np.log1p(-probability)
        ).sum()
        / judged.sum()
    )
    assert float(loss(logits, torch.arange(6))) == pytest.approx(by_hand, rel=1e-5)


def test_a_step_has_one_loss_however_it_is_divided() -> None:
    rng = np.random.default_rng(3)
    judged = torch.from_numpy((rng.random((8, 2)) < 0.4).astype(np.float32))
    loss = MaskedLoss(judged.clone(), judged, torch.ones(2))
    logits, order = torch.randn(8, 2), torch.randperm(8)
    whole = float(loss(logits, order))
    parts = [float(loss(logits[at : at + 2], order[at : at + 2])) for at in range(0, 8, 2)]
    assert sum(parts) / 4 == pytest.approx(whole, rel=1e-5)


def test_a_teacher_counts_where_it_has_an_opinion() -> None:
    present = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    judged = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    taught = torch.tensor([[0.3, math.nan], [math.nan, 0.9]])
    logits = torch.tensor([[0.2, -1.0], [0.7, 2.0]])
    loss = MaskedLoss(present, judged, torch.ones(2), taught, 0.25)
    label = binary_cross_entropy_with_logits(logits, present, reduction="none")
    soft = binary_cross_entropy_with_logits(logits, taught.nan_to_num(), reduction="none")
    expected = 0.75 * label[0, 0] + 0.25 * soft[0, 0] + label[0, 1] + label[1, 0]
    expected = (expected + 0.25 * soft[1, 1]) / 4
    assert float(loss(logits, torch.arange(2))) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("architecture", "blocks"),
    [("efficientnet-lite0", 16), ("efficientnet-b0", 16), ("densenet121", 58)],
)
def test_rates_fall_from_the_head_down_and_every_weight_has_one(
    architecture: str, blocks: int
) -> None:
    network = build_network(Architecture(architecture), 2)
    wanted = stage(head_rate=3e-4, body_rate=1e-4, layer_decay=0.9, weight_decay=0.02)
    groups = optimiser_of(network, wanted).param_groups
    rate_of = {id(each): group["lr"] for group in groups for each in group["params"]}
    named = list(network.named_parameters())
    assert len(rate_of) == len(named) == sum(len(group["params"]) for group in groups)
    assert rate_of[id(network.head.weight)] == rate_of[id(network.head.bias)] == 3e-4
    body = [rate_of[id(each)] for name, each in named if name.startswith("backbone.")]
    assert max(body) <= 1e-4
    assert min(body) >= 1e-5 * (1 - 1e-9)
    assert len(set(body)) >= min(10, blocks)
    assert body == sorted(body)
    assert all(
        (group["weight_decay"] > 0) == (each.ndim > 1)
        for group in groups
        for each in group["params"]
    )


def test_rates_rise_and_fall_as_a_cosine() -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedule_of(optimiser, stage(warmup=0.2), 100)
    rates = []
    for _ in range(100):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert 0.0 < rates[0] < rates[10] < rates[20] == pytest.approx(1.0)
    assert all(before >= after for before, after in pairwise(rates[20:]))
    assert rates[60] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] < 0.001


def test_the_average_follows_its_definition() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = averaged(network, 0.9)
    expected = 0.0
    for step in range(200):
        torch.nn.init.constant_(network.weight, float(step))
        average.update_parameters(network)
        decay = 0.0 if step == 0 else min(0.9, (1.0 + step) / (10.0 + step))
        expected = decay * expected + (1.0 - decay) * step
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_area_under_the_curve_is_that_of_the_judged_images() -> None:
    rng = np.random.default_rng(4)
    judged = (rng.random((80, 2)) < 0.7).astype(np.float32)
    present = judged * (rng.random((80, 2)) < 0.4)
    present[:, 1] = 0.0
    logits = rng.normal(size=(80, 2)).astype(np.float32)
    told = aurocs(logits, Targets(present, judged), ["left", "right"])
    counted = judged[:, 0] > 0
    assert told["left"] == roc_auc_score(present[counted, 0], logits[counted, 0])
    assert told["right"] is None


# Checkpoints


def trained(steps: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(steps):
        network(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return network, optimiser


def test_moments_come_back_with_every_bit_and_in_the_layout_of_their_weights(
    tmp_path: Path,
) -> None:
    network, optimiser = trained(3)
    groups = optimiser.state_dict()["param_groups"]
    save_checkpoint(tmp_path, 3, Checkpoint(optimiser_tensors(optimiser), {"groups": groups}))
    kept = newest_checkpoint(tmp_path)
    assert kept is not None
    fresh = torch.optim.AdamW(network.parameters(), lr=1.0)
    restore_optimiser(fresh, kept.tensors, kept.state["groups"])
    assert fresh.param_groups[0]["lr"] == 1e-2
    for parameter in network.parameters():
        for name, value in optimiser.state[parameter].items():
            assert torch.equal(fresh.state[parameter][name], value)
            assert fresh.state[parameter][name].stride() == value.stride()


def test_the_newest_checkpoint_and_the_one_before_it_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, step, Checkpoint({"a": torch.ones(1) * step}, {"step": step}))
    assert len(list(tmp_path.iterdir())) == 2
    kept = newest_checkpoint(tmp_path)
    assert kept is not None
    assert kept.state == {"step": 100}


def test_a_damaged_checkpoint_is_refused_with_the_way_on(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, Checkpoint({"a": torch.ones(9)}, {}))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunRefused, match=r"step-000000005.*damaged.*checkpoint before it"):
        newest_checkpoint(tmp_path)


def test_a_pickle_in_the_place_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "step-000000001.safetensors")
    with pytest.raises(RunRefused, match="damaged"):
        newest_checkpoint(tmp_path)


# Refusals of a whole training


def alone(**changes: str) -> str:
    """The configuration with its first stage alone."""
    head, _, rest = configuration(**changes).partition("[[stages]]")
    first, _, last = rest.partition("[[stages]]")
    return f"{head}[[stages]]{first}[hardware]{last.partition('[hardware]')[2]}"


def run(text: str, data: Path, folder: Path) -> None:
    train(parse_configuration(text), folder, data=data, given=text)


def test_a_loss_that_is_no_number_stops_the_training_with_the_remedy(
    data: Path, tmp_path: Path
) -> None:
    text = alone().replace(
        "epochs = 1", "epochs = 9\nhead_rate = 1e35\nbody_rate = 1e35\nclip_norm = 1e30"
    )
    with pytest.raises(TrainingFailed, match=r"step \d+: the .*Lower body_rate and head_rate"):
        run(text, data, tmp_path / "run")


def test_a_device_that_is_not_there_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(TrainingFailed, match=r"no CUDA device\. Set it to 'auto' or 'cpu'"):
            device_of("cuda")
    assert device_of("cpu").type == "cpu"


def test_validation_images_of_one_class_cannot_choose_the_best_epoch(
    data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    header, *lines = table.read_text().splitlines()
    lines = [",".join([*line.split(",")[:3], str(at % 2), "1"]) for at, line in enumerate(lines)]
    lines = [line.replace(",0,1", ",1,1") if ",p0," in line else line for line in lines]
    parts = [
        f"{line},{'validation' if ',p0,' in line else 'test' if ',p1,' in line else 'training'}"
        for line in lines
    ]
    table.write_text("\n".join([f"{header},split", *parts]))
    text = alone(split="{ official = true }", keep='"best"')
    with pytest.raises(LabelsRefused, match=r"none of left is both.*or set keep = 'last'"):
        run(text, tmp_path / "data", tmp_path / "run")


def test_a_finding_that_nothing_teaches_is_refused_before_the_first_step(
    data: Path, tmp_path: Path
) -> None:
    text = configuration().replace('["left", "right"]', '["left", "fracture"]')
    with pytest.raises(LabelsRefused, match="judge no 'fracture'"):
        run(text, data, tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()


def test_a_step_of_more_images_than_there_are_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="A step takes 800 x 1 images"):
        run(alone(batch="800"), data, tmp_path / "run")


def test_a_run_that_has_ended_gives_its_network_again_and_holds_tensorboard_events(
    data: Path, tmp_path: Path
) -> None:
    text = alone(batch="4")
    wanted = parse_configuration(text)
    first = train(wanted, tmp_path / "run", data=data, given=text)
    written = first.weights.stat().st_mtime_ns
    assert train(wanted, tmp_path / "run", data=data, given=text) == first
    assert first.weights.stat().st_mtime_ns == written
    logits, maps = first.network()(torch.zeros(1, 1, 32, 32))
    assert logits.shape == (1, 1)
    assert torch.allclose(maps.mean((2, 3)) + first.network().head.bias, logits, atol=1e-5)
    (events,) = (tmp_path / "run/stages/first/tensorboard").iterdir()
    assert events.stat().st_size > 100
    (line,) = (tmp_path / "run/stages/first/metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["mean_auroc"] == first.mean_auroc
