"""Training: images a second and peak memory, beside a plain loop of torch on the same images."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.progress import Progress
from running import machine

IMAGES, SIDE, BATCH, EPOCHS = 96, 1024, 16, 2
NETWORKS = {"efficientnet-lite0": 320, "efficientnet-b0": 224}
KEPT = {"kept in memory": 4.0, "kept on disk": 1e-9}
PLAIN = "plain torch DataLoader, read anew each epoch"
FULL_SET = 225_000
CONFIGURATION = """
name = "benchmark"
precision = "float32"
[network]
architecture = "{architecture}"
start = "random"
[[sets]]
name = "squares"
layout = "table"
labels = "labels.csv"
images = ["."]
[[stages]]
name = "only"
sets = ["squares"]
findings = ["square"]
rows = {side}
columns = {side}
epochs = {epochs}
batch = {batch}
keep = "last"
[hardware]
device = "cpu"
threads = 2
memory_gb = {memory_gb}
"""


def write_images(folder: Path) -> None:
    """Write PNG files as large as NIH's."""
    rng = np.random.default_rng(1)
    lines = ["path,person,square"]
    for number in range(IMAGES):
        pixels = rng.normal(100.0, 20.0, (SIDE, SIDE))
        pixels[300:700, 300:700] += 60.0 * (number % 2)
        Pillow.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,p{number},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(lines))


def ours(folder: Path, architecture: str, memory_gb: float) -> float:
    """Train, and give the images a second of the last epoch."""
    from ai_engine.training.configuration_file import (  # noqa: PLC0415 - the child needs it
        parse_configuration,
    )
    from ai_engine.training.training_run import train  # noqa: PLC0415

    text = CONFIGURATION.format(
        architecture=architecture,
        side=NETWORKS[architecture],
        epochs=EPOCHS,
        batch=BATCH,
        memory_gb=memory_gb,
    )
    with tempfile.TemporaryDirectory() as run:
        train(parse_configuration(text), Path(run) / "run", data=folder, given=text)
        lines = (Path(run) / "run/stages/only/metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["images_per_s"])


def plain(folder: Path, architecture: str) -> float:
    """Train as most scripts do: a DataLoader that reads and resizes, AdamW, no more."""
    import torch  # noqa: PLC0415 - the child needs it
    from torch.nn.functional import binary_cross_entropy_with_logits  # noqa: PLC0415
    from torch.utils.data import DataLoader, Dataset  # noqa: PLC0415

    from ai_engine.networks import Architecture, build_network  # noqa: PLC0415
    from ai_engine.preprocess import InputSpec, network_input  # noqa: PLC0415

    side = NETWORKS[architecture]

    class Pictures(Dataset[tuple[NDArray[np.float32], float]]):
        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, number: int) -> tuple[NDArray[np.float32], float]:
            with Pillow.open(folder / f"{number}.png") as picture:
                pixels = np.asarray(picture, dtype=np.float32) / np.float32(255.0)
            return network_input(pixels, InputSpec(side, side, 0.5, 0.25))[0], number % 2

    torch.set_num_threads(2)
    network = build_network(Architecture(architecture), 1).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    for _ in range(EPOCHS):
        start, seen = time.perf_counter(), 0
        for images, labels in DataLoader(Pictures(), batch_size=BATCH, shuffle=True):
            logits, _ = network(images)
            loss = binary_cross_entropy_with_logits(logits[:, 0], labels.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += len(images)
        speed = seen / (time.perf_counter() - start)
    return speed


def measured(folder: Path, architecture: str, kind: str) -> tuple[float, float]:
    """Run one row in a process of its own: images a second, and peak memory in MB."""
    run = subprocess.run(
        [sys.executable, __file__, str(folder), architecture, kind],
        capture_output=True,
        text=True,
        check=True,
    )
    speed, peak = run.stdout.split()[-2:]
    return float(speed), float(peak)


def main() -> None:
    """Print the table."""
    print(f"Machine: {machine()}. {IMAGES} PNG of {SIDE}², batches of {BATCH}, float32, one epoch")
    print("after one that does not count; no workers beside the main process.\n")
    print("| network | images | images/s | peak MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, Progress(transient=True) as progress:
        folder = Path(name)
        write_images(folder)
        task = progress.add_task("training", total=len(NETWORKS) * (len(KEPT) + 1))
        for architecture, side in NETWORKS.items():
            for kind in (*KEPT, PLAIN):
                speed, peak = measured(folder, architecture, kind)
                progress.console.print(
                    f"| {architecture}, {side}² | {kind} | {speed:.1f} | {peak:.0f} |",
                    highlight=False,
                    soft_wrap=True,
                )
                progress.advance(task)
    for side in (320, 600):
        gigabytes = FULL_SET * side * side * 2 / 1e9
        print(f"\n{FULL_SET:,} prepared images of {side}² take {gigabytes:.0f} GB of disk.")


def child(folder: Path, architecture: str, kind: str) -> None:
    """Measure one row."""
    fast = plain(folder, architecture) if kind == PLAIN else ours(folder, architecture, KEPT[kind])
    print(fast, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(Path(sys.argv[1]), *sys.argv[2:])
    else:
        main()
