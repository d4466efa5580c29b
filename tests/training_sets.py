"""A small generated set to train on, and its configuration: bright squares on noise."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

FINDINGS = ("left", "right")
SIDE = 40


def write_set(folder: Path, *, images: int = 44, seed: int = 7) -> None:
    """Write PNG files of two images a person, and ``labels.csv``; some labels are not judged."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["path", "person", "source", *FINDINGS])
        for number in range(images):
            present = rng.random(2) < 0.5
            pixels = rng.normal(90.0, 30.0, (SIDE, SIDE))
            for side, there in enumerate(present):
                if there:
                    pixels[12:28, 4 + 20 * side : 16 + 20 * side] += 110.0
            name = f"{number:03}.png"
            Pillow.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            told = ["" if rng.random() < 0.1 else str(int(there)) for there in present]
            rows.writerow([name, f"p{number // 2}", "AB"[number % 3 == 0], *told])


def configuration(**changes: str) -> str:
    """Give the text of a configuration for it; a change replaces the line of its key."""
    text = """
name = "squares"
seed = 3
deterministic = true
precision = "float32"
[network]
architecture = "efficientnet-lite0"
start = "random"
[[sets]]
name = "squares"
layout = "table"
labels = "labels.csv"
images = ["."]
split = { validation = 0.25 }
[[stages]]
name = "first"
sets = ["squares"]
findings = ["left"]
rows = 32
columns = 32
epochs = 1
batch = 8
keep = "last"
[[stages]]
name = "second"
sets = ["squares"]
findings = ["left", "right"]
rows = 32
columns = 32
epochs = 2
batch = 4
accumulation = 2
average_decay = 0.9
layer_decay = 0.9
sampling = "balanced"
[hardware]
device = "cpu"
threads = 1
checkpoint_steps = 3
"""
    for key, value in changes.items():
        lines = [
            f"{key} = {value}" if line.startswith(f"{key} = ") else line
            for line in text.splitlines()
        ]
        assert f"{key} = {value}" in lines, key
        text = "\n".join(lines)
    return text
