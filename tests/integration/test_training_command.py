"""`radcds train` and `radcds evaluate`, as a data scientist runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from training_sets import configuration, write_set

from ai_engine.bundle import default_bundle_path

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="needs the [torch] extra")

PROGRAM = str(Path(sys.executable).parent / "radcds")
HOSPITAL = """
name = "ours"
[network]
architecture = "efficientnet-lite0"
start = "random"
[[sets]]
name = "hospital"
layout = "table"
labels = "labels.csv"
images = ["."]
split = { validation = 0.3, test = 0.5 }
[[stages]]
name = "only"
sets = ["hospital"]
findings = ["abnormal"]
rows = 32
columns = 32
epochs = 1
batch = 8
"""


def radcds(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "RADCDS" not in name},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_a_model_is_trained_and_the_same_command_again_does_nothing_new(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "squares.toml").write_text(configuration())
    done = radcds(tmp_path, "train", "squares.toml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "findings left, right" in done.stdout
    weights = Path(done.stdout.partition("weights: ")[2].strip())
    first = (tmp_path / weights).read_bytes()
    again = radcds(tmp_path, "train", "squares.toml", "--out", "run")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / weights).read_bytes() == first
    (tmp_path / "squares.toml").write_text(configuration(seed="4"))
    other = radcds(tmp_path, "train", "squares.toml", "--out", "run")
    assert other.returncode == 3
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch = 3", "epoch"),
        ("name = ", "is no TOML"),
        (configuration(layout='"csv"'), "layout"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_told_in_a_line(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    done = radcds(tmp_path, "train", "wrong.toml", "--out", "run")
    assert done.returncode == 3
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_shipped_model_is_judged_on_images_of_a_hospital(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = ["path,person,abnormal"]
    for number in range(90):
        picture = rng.normal(90.0, 30.0, (64, 64)).clip(0, 255).astype(np.uint8)
        Pillow.fromarray(picture).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,p{number},{number % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "hospital.toml").write_text(HOSPITAL)
    shipped = default_bundle_path()
    done = radcds(
        tmp_path, "evaluate", shipped, "hospital.toml", "--out", "report", "--maps", "1",
        "--labels-from", "a coin",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "report/report.json").read_text())
    assert figures["about"]["model"] == "cxr-lite0"
    assert figures["about"]["labels_from"] == "a coin"
    assert 30 < figures["images"] < 60
    page = (tmp_path / "report/report.html").read_text()
    assert "better than a coin" in page
    assert "<script" not in page
    wrong = radcds(
        tmp_path, "evaluate", shipped, "hospital.toml", "--out", "report", "--set", "clinic"
    )
    assert wrong.returncode == 3
    assert "has no set 'clinic'; it has hospital" in wrong.stderr
