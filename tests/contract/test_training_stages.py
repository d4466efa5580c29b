"""Stages in a row: what each begins with, learns from, and how it is cut short."""

import os
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")

from rich.console import Console  # noqa: E402 - after the skip
from safetensors.torch import load_file  # noqa: E402
from training_sets import configuration, write_set  # noqa: E402

from ai_engine.chexnet import CHEXNET_FINDINGS  # noqa: E402
from ai_engine.errors import TrainingFailed, TrainingStopped  # noqa: E402
from ai_engine.networks import Architecture, build_network, load_imagenet_weights  # noqa: E402
from ai_engine.training.arithmetic import explained  # noqa: E402
from ai_engine.training.configuration_file import (  # noqa: E402
    parse_configuration,
    read_configuration,
)
from ai_engine.training.image_sets import SplitSet, open_set  # noqa: E402
from ai_engine.training.stage_data import findings_of  # noqa: E402
from ai_engine.training.training_run import TrainedModel, train  # noqa: E402

ROOT = Path(__file__).parents[2]
STILL = "body_rate = 1e-30\nweight_decay = 0.0\n"
"""A body that does not move shows what it began with."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    write_set(folder, images=20)
    return folder


def run(text: str, data: Path, folder: Path) -> TrainedModel:
    console = Console(file=(folder.with_suffix(".log")).open("w"))
    try:
        return train(parse_configuration(text), folder, data=data, given=text, console=console)
    finally:
        console.file.close()


def alone(text: str) -> str:
    head, _, rest = text.partition("[[stages]]")
    first, _, last = rest.partition("[[stages]]")
    return f"{head}[[stages]]{first}[hardware]{last.partition('[hardware]')[2]}"


def test_a_stage_begins_with_the_backbone_of_the_one_before_and_a_head_of_its_own(
    data: Path, tmp_path: Path
) -> None:
    text = configuration(average_decay="0.0").replace("layer_decay", f"{STILL}layer_decay")
    model = run(text, data, tmp_path / "run")
    first, second = (
        load_file(tmp_path / "run/stages" / name / "last.safetensors")
        for name in ("first", "second")
    )
    assert model.findings == ("left", "right")
    assert second["head.weight"].shape[0] == 2
    assert torch.equal(first["backbone.conv_head.weight"], second["backbone.conv_head.weight"])
    random = build_network(Architecture.EFFICIENTNET_LITE0, 1).state_dict()
    assert not torch.equal(first["backbone.conv_head.weight"], random["backbone.conv_head.weight"])


def test_the_first_stage_begins_with_the_weights_of_imagenet(data: Path, tmp_path: Path) -> None:
    text = alone(configuration(start='"imagenet"')).replace("keep", f"{STILL}keep")
    model = run(text, data, tmp_path / "run")
    expected = build_network(Architecture.EFFICIENTNET_LITE0, 1)
    load_imagenet_weights(expected)
    trained = model.network().backbone.state_dict()
    for name, each in expected.backbone.named_parameters():
        assert torch.equal(trained[name], each), name


def test_a_densenet_begins_with_the_weights_of_a_chexnet_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    chexnet = build_network(Architecture.DENSENET121, len(CHEXNET_FINDINGS), channels=3)
    layers = {f"features.{name}": each for name, each in chexnet.backbone.state_dict().items()}
    layers["classifier.0.weight"] = chexnet.head.weight.detach()
    layers["classifier.0.bias"] = chexnet.head.bias.detach()
    path = tmp_path / "chexnet.pth.tar"
    torch.save(
        {"state_dict": {f"module.densenet121.{name}": each for name, each in layers.items()}}, path
    )
    text = configuration(architecture='"densenet121"', start=f'"chexnet"\nweights = "{path}"')
    model = run(alone(text).replace("keep", f"{STILL}keep"), data, tmp_path / "run")
    trained = model.network().backbone.state_dict()
    for name, each in chexnet.backbone.named_parameters():
        grey = each.sum(1, keepdim=True) if name == "conv0.weight" else each
        assert torch.allclose(trained[name], grey, atol=1e-6), name


def test_a_student_learns_the_opinion_of_its_teacher(data: Path, tmp_path: Path) -> None:
    """The teacher is sure that every chest is abnormal, whatever the labels say."""
    lines = [f"{number:03}.png,0.999" for number in range(20)]
    (tmp_path / "teacher.csv").write_text("\n".join(["Image Index,prob_Left", *lines]))
    teacher = f'teacher = {{ probabilities = "{tmp_path}/teacher.csv", weight = 1.0 }}'
    text = alone(configuration(batch="4"))
    text = text.replace("keep", f"{teacher}\nhead_rate = 0.05\nkeep")
    network = run(text.replace("epochs = 1", "epochs = 3"), data, tmp_path / "run").network()
    network.train()  # a few steps are too few for the running statistics
    with torch.no_grad():
        assert float(network(torch.rand(8, 1, 32, 32) * 4 - 2)[0].mean()) > 0.5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_to_weights_that_are_numbers(
    data: Path, tmp_path: Path, precision: str
) -> None:
    text = alone(configuration(precision=f'"{precision}"'))
    weights = load_file(run(text, data, tmp_path / "run").weights)
    assert all(torch.isfinite(each.float()).all() for each in weights.values())
    assert weights["head.weight"].dtype == torch.float32


def test_what_is_trained_on_and_what_is_left_out_is_said(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "data"
    table.mkdir()
    for path in data.iterdir():
        (table / path.name).write_bytes(path.read_bytes())
    lines = (table / "labels.csv").read_text().splitlines()
    lines = [f"{lines[0]},rare", *(f"{line},0" for line in lines[1:])]
    (table / "labels.csv").write_text("\n".join([*lines, "999.png,p99,A,1,1,1"]))
    text = alone(configuration(split="{ validation = 0.25 }\nskip_missing = true"))
    text = text.replace('["left"]', '["left", "rare"]\nleast_positives = 2')
    model = run(text, table, tmp_path / "run")
    told = " ".join((tmp_path / "run.log").read_text().split())
    assert model.findings == ("left",)
    assert "1 labelled images are not there" in told
    assert "Left out for too few positive images: rare." in told


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), TrainingFailed, "Lower the stage's batch"),
        (MemoryError(), TrainingFailed, "Lower the stage's batch"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            TrainingFailed,
            "Lower the stage's batch",
        ),
        (RuntimeError("set CUBLAS_WORKSPACE_CONFIG"), TrainingFailed, ":4096:8"),
        (KeyboardInterrupt(), TrainingStopped, "start it again"),
    ],
)
def test_what_torch_gives_up_over_is_told_with_the_remedy(
    error: BaseException, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message), explained():
        raise error


def test_another_error_of_torch_is_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="other"), explained():
        raise RuntimeError("other")  # noqa: EM101 - torch's


def opened(recipe: str, folder: Path) -> dict[str, SplitSet]:
    wanted = read_configuration(ROOT / f"ai_engine/training/recipes/{recipe}.toml")
    return {each.name: open_set(each, folder, None) for each in wanted.sets}


real_data = pytest.mark.skipif(
    "RADCDS_DATA" not in os.environ, reason="RADCDS_DATA names no folder of real radiographs"
)


@real_data
def test_the_recipe_of_the_shipped_model_holds_out_the_persons_of_its_card() -> None:
    sets = opened("cxr-lite0", Path(os.environ["RADCDS_DATA"]))
    adults, children = sets["adults"].split, sets["children"].split
    assert (len(adults.training), len(adults.validation), len(adults.test)) == (1009, 141, 181)
    assert {each.source for each in adults.test} == {"B"}
    assert len(children.training) + len(children.validation) == 4775
    stage = read_configuration(ROOT / "ai_engine/training/recipes/cxr-lite0.toml").stages[1]
    assert findings_of(stage, sets) == (
        "abnormal", "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule",
        "pneumonia", "consolidation", "edema", "pleural_thickening",
    )  # fmt: skip


@real_data
def test_every_real_radiograph_of_a_few_decodes_to_0_to_1() -> None:
    for one in opened("cxr-lite0", Path(os.environ["RADCDS_DATA"])).values():
        for each in one.of.images[::400]:
            pixels = one.of.pixels(each)
            assert pixels.dtype == np.float32
            assert 0.0 <= pixels.min() < 0.3 < pixels.max() <= 1.0
