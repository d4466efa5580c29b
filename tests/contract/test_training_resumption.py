"""A training that was killed ends as one that was not: to the last bit of every weight."""

import json
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")

from killed_training import STOPPED, started  # noqa: E402 - after the skip
from safetensors.torch import load_file  # noqa: E402 - after the skip
from training_sets import configuration, write_set  # noqa: E402 - after the skip

LONGEST_S = 240.0
BATCH_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Each process has seen those of its own batches; in training they do not count."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    write_set(folder)
    return folder


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    process = started(configuration(), run, data)
    process.join(LONGEST_S)
    assert process.exitcode == 0
    return run


def weights(run: Path) -> dict[str, bytes]:
    """Give the bytes of every weight file that a run ends with."""
    found = sorted((run / "stages").glob("*/*.safetensors"))
    return {str(each.relative_to(run)): each.read_bytes() for each in found}


def figures(run: Path) -> list[dict[str, object]]:
    """Give the figures of each epoch without its speed."""
    return [
        {
            key: value
            for key, value in json.loads(line).items()
            if key not in {"images_per_s", "epoch_s"}
        }
        for stage in ("first", "second")
        for line in (run / "stages" / stage / "metrics.jsonl").read_text().splitlines()
    ]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def steps(run: Path) -> list[str]:
    return [each.name for each in run.glob("stages/second/checkpoints/step-*.safetensors")]


def test_killed_again_and_again_it_ends_with_the_same_weights(
    unbroken: Path, data: Path, tmp_path: Path
) -> None:
    run, dice, kills = tmp_path / "killed", random.Random(), 0
    moments: list[Callable[[], bool]] = [
        (run / "resolved.json").is_file,
        (run / "stages/first/checkpoints/step-000000003.safetensors").is_file,
        lambda: bool(steps(run)),
        lambda: "step-000000006.safetensors" in steps(run),
    ]
    for moment in moments:
        process = started(configuration(), run, data)
        until(lambda moment=moment, process=process: moment() or not process.is_alive())
        time.sleep(dice.uniform(0.0, 0.3))
        process.kill()
        process.join(LONGEST_S)
        kills += process.exitcode == -signal.SIGKILL
    process = started(configuration(), run, data)
    process.join(LONGEST_S)
    assert process.exitcode == 0
    assert kills >= 3
    assert weights(run) == weights(unbroken)
    assert len(weights(run)) == 4
    assert figures(run) == figures(unbroken)


def test_asked_to_stop_it_stops_at_a_checkpoint_and_goes_on_to_the_same_weights(
    unbroken: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "stopped"
    process = started(configuration(), run, data)
    until(lambda: bool(steps(run)))
    process.terminate()
    process.join(LONGEST_S)
    assert process.exitcode == STOPPED
    assert "the checkpoint holds all of it" in run.with_suffix(".told").read_text()
    process = started(configuration(), run, data)
    process.join(LONGEST_S)
    assert process.exitcode == 0
    assert weights(run) == weights(unbroken)


def test_from_disk_and_with_workers_it_ends_with_the_same_weights(
    unbroken: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "streamed"
    text = configuration().replace("device =", "memory_gb = 1e-9\nworkers = 1\ndevice =")
    process = started(text, run, data)
    process.join(LONGEST_S)
    assert process.exitcode == 0
    assert list((run / "cache").glob("*/*.npy"))
    assert weights(run) == weights(unbroken)


def test_another_seed_ends_with_other_weights(unbroken: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "other"
    head, _, rest = configuration(seed="4").partition("[[stages]]")
    first, _, last = rest.partition("[[stages]]")
    process = started(
        f"{head}[[stages]]{first}[hardware]{last.partition('[hardware]')[2]}", run, data
    )
    process.join(LONGEST_S)
    assert process.exitcode == 0
    name = "stages/first/last.safetensors"
    assert (run / name).read_bytes() != (unbroken / name).read_bytes()


def test_two_processes_train_as_one_does(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    text = configuration(accumulation="2").partition("[[stages]]")
    second = "[[stages]]" + text[2].partition("[[stages]]")[2]
    alone = started(text[0] + second, tmp_path / "one", data)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    both = [
        started(
            text[0] + second,
            run,
            data,
            {
                "TORCHELASTIC_RUN_ID": "test",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
            },
        )
        for rank in range(2)
    ]
    for process in (alone, *both):
        process.join(LONGEST_S)
        assert process.exitcode == 0
    mine, theirs = (
        load_file(each / "stages/second/last.safetensors") for each in (tmp_path / "one", run)
    )
    for name, tensor in mine.items():
        if not name.endswith(BATCH_STATISTICS):
            assert torch.allclose(tensor.float(), theirs[name].float(), atol=2e-3), name
    losses = [
        [
            json.loads(line)["loss"]
            for line in (each / "stages/second/metrics.jsonl").read_text().splitlines()
        ]
        for each in (tmp_path / "one", run)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
