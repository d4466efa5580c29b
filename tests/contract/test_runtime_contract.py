"""Whatever runs the network gives the same numbers; a process of its own may die meanwhile."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ai_engine.bundle import Bundle, default_bundle_path, load_bundle
from ai_engine.errors import ModelFailed, ModelUnavailable
from ai_engine.image import Image
from ai_engine.inference import Runtime
from ai_engine.inference_process import Bounds, InferenceProcess
from ai_engine.preprocess import network_input
from ai_engine.runtime import CpuRuntime


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(default_bundle_path())


@pytest.fixture
def picture(bundle: Bundle, rg1_image: Image) -> NDArray[np.float32]:
    return network_input(rg1_image.pixels, bundle.input_spec)


@pytest.fixture
def process(bundle: Bundle, tmp_path: Path) -> Iterator[InferenceProcess]:
    process = InferenceProcess(bundle, tmp_path / "inference", bounds=Bounds(idle_s=0.2))
    yield process
    process.close()


@pytest.fixture(params=["in this process", "in its own"])
def runtime(request: pytest.FixtureRequest, bundle: Bundle) -> Runtime:
    if request.param == "in its own":
        return request.getfixturevalue("process")  # type: ignore[no-any-return]
    return CpuRuntime(bundle)


def test_logits_are_the_means_of_the_maps(
    runtime: Runtime, bundle: Bundle, picture: NDArray[np.float32]
) -> None:
    logits, maps = runtime.infer(picture)
    assert logits.shape == (len(bundle.findings),)
    assert np.allclose(maps.mean((1, 2)) + np.array(bundle.head_bias), logits, atol=1e-4)


def test_it_gives_the_same_numbers_in_any_process_and_in_any_thread(
    runtime: Runtime, bundle: Bundle, picture: NDArray[np.float32]
) -> None:
    expected = CpuRuntime(bundle).infer(picture)
    with ThreadPoolExecutor(4) as pool:
        for given in pool.map(runtime.infer, [picture] * 8):
            assert all(np.array_equal(*each) for each in zip(given, expected, strict=True))


def test_what_it_gives_can_be_changed_by_its_owner(
    runtime: Runtime, picture: NDArray[np.float32]
) -> None:
    logits, maps = runtime.infer(picture)
    logits[0], maps[0] = 1, 1


def test_a_wrong_number_of_findings_is_no_result(
    bundle: Bundle, picture: NDArray[np.float32], tmp_path: Path
) -> None:
    other = replace(bundle, head_bias=bundle.head_bias[:2])
    process = InferenceProcess(other, tmp_path, bounds=Bounds(idle_s=0.2))
    for runtime in (CpuRuntime(other), process):
        with pytest.raises(ModelFailed, match="gives 3 findings, the bundle names 2"):
            runtime.infer(picture)
    process.close()


def test_maps_that_explain_something_else_are_no_result(
    bundle: Bundle, picture: NDArray[np.float32], tmp_path: Path
) -> None:
    other = replace(bundle, head_bias=tuple(each + 0.1 for each in bundle.head_bias))
    process = InferenceProcess(other, tmp_path, bounds=Bounds(idle_s=0.2))
    for runtime in (CpuRuntime(other), process):
        with pytest.raises(ModelFailed, match="do not add up"):
            runtime.infer(picture)
    process.close()


def test_an_input_that_the_network_does_not_take_is_told(process: InferenceProcess) -> None:
    with pytest.raises(ModelFailed, match="the network gave no answer"):
        process.infer(np.zeros((1, 3, 64, 64), np.float32))


def test_workers_share_one_process_that_ends_after_them(bundle: Bundle, tmp_path: Path) -> None:
    first, second = (InferenceProcess(bundle, tmp_path, bounds=Bounds(idle_s=0.3)) for _ in "12")
    with ThreadPoolExecutor(2) as pool:
        pids = set(pool.map(lambda each: each.pid, (first, second)))
    assert len(pids) == 1
    (pid,) = pids
    first.close()
    time.sleep(0.6)
    assert runs(pid), "one is still connected"
    second.close()
    until(lambda: not runs(pid))
    assert not list(tmp_path.glob("*.sock"))


def test_another_model_or_precision_is_another_process(
    process: InferenceProcess, bundle: Bundle, tmp_path: Path
) -> None:
    half = InferenceProcess(
        bundle, tmp_path / "inference", precision="f16", bounds=Bounds(idle_s=0.2)
    )
    assert half.pid != process.pid
    half.close()


def test_a_killed_process_loses_no_image(
    process: InferenceProcess, picture: NDArray[np.float32]
) -> None:
    expected, _ = process.infer(picture)
    for _ in range(3):
        os.kill(process.pid, signal.SIGKILL)
        assert np.array_equal(process.infer(picture)[0], expected)


def test_a_process_killed_again_and_again_while_it_reads_gives_every_answer_or_says_so(
    process: InferenceProcess, picture: NDArray[np.float32]
) -> None:
    expected, _ = process.infer(picture)
    over = threading.Event()

    def kill() -> None:
        while not over.wait(1.5):
            for each in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    held = {link.readlink().parent for link in (each / "fd").iterdir()}
                    mine = b"ai_engine.inference_child" in (each / "cmdline").read_bytes()
                    if mine and process._folder in held:
                        os.kill(int(each.name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    answers, told = 0, 0
    until_s = time.monotonic() + 8
    while time.monotonic() < until_s:
        try:
            assert np.array_equal(process.infer(picture)[0], expected)
            answers += 1
        except (ModelFailed, ModelUnavailable):
            told += 1
    over.set()
    killer.join()
    assert answers > told


def test_a_hung_process_is_killed_and_the_image_read_by_the_next(
    bundle: Bundle, picture: NDArray[np.float32], tmp_path: Path
) -> None:
    process = InferenceProcess(bundle, tmp_path, bounds=Bounds(timeout_s=2.0, idle_s=0.2))
    expected, _ = process.infer(picture)
    hung = process.pid
    os.kill(hung, signal.SIGSTOP)
    assert np.array_equal(process.infer(picture)[0], expected)
    assert process.pid != hung
    assert not runs(hung)
    process.close()


def test_too_little_memory_is_told_and_not_waited_for(bundle: Bundle, tmp_path: Path) -> None:
    process = InferenceProcess(bundle, tmp_path, bounds=Bounds(memory_mb=24))
    began = time.monotonic()
    with pytest.raises(ModelUnavailable):
        process.pid  # noqa: B018 - it is started when asked for
    assert time.monotonic() - began < 20


def test_a_damaged_graph_is_told(bundle: Bundle, tmp_path: Path) -> None:
    process = InferenceProcess(replace(bundle, graph=b"no graph"), tmp_path)
    with pytest.raises(ModelUnavailable, match="the graph of the model cannot be compiled"):
        process.pid  # noqa: B018 - it is started when asked for


def test_a_folder_with_a_long_name_is_no_trouble(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 20)
    process = InferenceProcess(bundle, folder, bounds=Bounds(idle_s=0.2))
    assert process.pid > 0
    process.close()


def test_nobody_else_may_connect(process: InferenceProcess) -> None:
    assert process.pid > 0
    (listening,) = process._folder.glob("*.sock")
    assert listening.stat().st_mode & 0o077 == 0
    assert process._folder.stat().st_mode & 0o077 == 0


ALONE = """
import sys
from pathlib import Path
import numpy as np
from ai_engine.bundle import default_bundle_path, load_bundle
from ai_engine.engine import Engine
from ai_engine.inference_process import InferenceProcess
process = InferenceProcess(load_bundle(default_bundle_path()), Path(sys.argv[1]))
process.infer(np.zeros((1, 1, 320, 320), np.float32))
process.close()
print("openvino" in sys.modules, "torch" in sys.modules)
"""


def test_no_process_that_serves_loads_a_session_that_a_fork_could_inherit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False False"
    assert not done.stderr


def runs(pid: int) -> bool:
    """Say whether a process runs: what has ended and was not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(so: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
