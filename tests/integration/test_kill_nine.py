"""Killed at any moment and started again, a batch loses nothing and doubles nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from conftest import sample

STUDIES = 20
KILLS = 10


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty studies made of one real radiograph, shrunk, each under UIDs of its own."""
    folder = tmp_path_factory.mktemp("studies")
    dataset = pydicom.dcmread(sample("RG1_UNCR.dcm"))
    pixels = dataset.pixel_array[::4, ::4]
    dataset.Rows, dataset.Columns = pixels.shape
    for number in range(STUDIES):
        for keyword, part in (
            ("StudyInstanceUID", 1),
            ("SeriesInstanceUID", 2),
            ("SOPInstanceUID", 3),
        ):
            setattr(dataset, keyword, f"2.25.{number + 1}.{part}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.AccessionNumber = f"ACC{number // 2}"
        dataset.PixelData = (pixels + number).tobytes()
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def command(studies: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "cds_server.cli",
        "read",
        str(studies),
        "--out",
        str(out),
        "--json",
    ]


def artefacts(out: Path) -> dict[str, bytes]:
    """Everything written, but for the audit log, which rightly tells of each attempt."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".radcds" not in path.parts and path.name != "audit.ndjson"
    }


@pytest.mark.timeout(600)
def test_killed_ten_times_all_twenty_results_are_there_once(studies: Path, tmp_path: Path) -> None:
    rng = random.Random(20261124)
    out = tmp_path / "out"
    written: dict[str, bytes] = {}
    for _ in range(KILLS):
        with subprocess.Popen(
            command(studies, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            time.sleep(rng.uniform(1.2, 3.2))
            running.send_signal(signal.SIGKILL)
        for name, content in artefacts(out).items():
            if not Path(name).name.startswith("tmp"):
                assert written.setdefault(name, content) == content, f"{name} changed after a kill"
    finished = subprocess.run(command(studies, out), capture_output=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert len(report["studies"]) == STUDIES
    assert {study["state"] for study in report["studies"]} == {"published"}
    assert len({study["result_id"] for study in report["studies"]}) == STUDIES
    folders = [path for path in out.iterdir() if path.name != ".radcds"]
    assert len(folders) == STUDIES
    for name, content in artefacts(out).items():
        assert written.get(name, content) == content
    check_trail(out)


def check_trail(out: Path) -> None:
    """The trail verifies, and tells of exactly one result per study."""
    verified = subprocess.run(
        [sys.executable, "-m", "cds_server.cli", "audit", "verify", "--data-dir", out / ".radcds"],
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    for folder in out.iterdir():
        if folder.name == ".radcds":
            continue
        events = [json.loads(line) for line in (folder / "audit.ndjson").read_text().splitlines()]
        created = [event for event in events if event["action"] == "C"]
        assert len(created) == 1, folder.name


@pytest.mark.timeout(600)
def test_the_process_that_runs_the_network_may_die_and_no_study_goes_unread(
    studies: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed, read = 0, 0
    with subprocess.Popen(
        command(studies, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        while running.poll() is None:
            time.sleep(0.05)
            if (by_now := len(list(out.glob("*/bundle.json")))) > read:
                read = by_now
                killed += kill_inference(out / ".radcds" / "inference")
        assert running.stdout is not None
        report = json.loads(running.stdout.read())
    assert running.returncode == 0
    assert killed > 2
    assert len(report["studies"]) == STUDIES
    assert not [study for study in report["studies"] if "not_analysed" in study]
    check_trail(out)


def kill_inference(folder: Path) -> int:
    """Kill the process that holds the lock in a folder; give how many there were."""
    killed = 0
    for each in Path("/proc").glob("[0-9]*"):
        try:
            holds = any(
                link.readlink().parent == folder and link.readlink().suffix == ".lock"
                for link in (each / "fd").iterdir()
            )
        except OSError:
            continue
        if holds:
            os.kill(int(each.name), signal.SIGKILL)
            killed += 1
    return killed
