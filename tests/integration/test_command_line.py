"""The command line as radiology IT meets it, bad input and all."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import sample
from studies import chest_instance

from ai_engine.bundle import default_bundle_path
from fhir_mappers.report_context import DICOM_FILES


def radcds(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cds_server.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
        timeout=120,
    )


def test_the_three_samples_are_each_told_in_words(tmp_path: Path) -> None:
    names = ("RG1_UNCR.dcm", "693_UNCR.dcm", "RG3_UNCR.dcm")
    done = radcds("read", *map(sample, names), "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    by_uid = {study["study_instance_uid"]: study for study in json.loads(done.stdout)["studies"]}
    head = by_uid["1.2.276.0.7230010.3.1.2.296485376.1.1521713414.1800996"]
    chest = by_uid["1.3.6.1.4.1.5962.1.2.9.20040826185059.5457"]
    assert chest["priority"] in {"normal", "flagged", "urgent"}
    files = {path.name for path in Path(chest["artefacts"]).iterdir()}
    assert files == {
        "audit.ndjson",
        "bundle.json",
        "card.json",
        "oru.hl7",
        "overlay.png",
        *DICOM_FILES,
    }
    declined = {path.name for path in Path(head["artefacts"]).iterdir()}
    assert {"report.dcm", "root-result.dcm"} == {name for name in declined if name.endswith(".dcm")}
    assert head["not_analysed"]["reason"] == "UNSUPPORTED_MODALITY"
    leg = by_uid["1.3.6.1.4.1.5962.1.2.11.20040826185059.5457"]
    assert leg["not_analysed"]["reason"] == "NON_CHEST"


def test_bad_files_are_named_with_a_remedy_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    chest_instance().save_as(folder / "good.dcm", enforce_file_format=True)
    (folder / "letter.txt").write_text("Dear colleague")
    (folder / "empty.dcm").write_bytes(b"")
    whole = sample("RG1_UNCR.dcm").read_bytes()
    (folder / "half.dcm").write_bytes(whole[: len(whole) // 2])
    done = radcds("read", folder, tmp_path / "missing", "--out", tmp_path / "out", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert {Path(problem["path"]).name for problem in report["problems"]} == {
        "letter.txt",
        "empty.dcm",
        "missing",
    }
    reasons = [study.get("not_analysed", {}).get("reason") for study in report["studies"]]
    assert len(reasons) == 2
    assert "UNREADABLE" in reasons
    assert "Traceback" not in done.stderr
    for line in ("letter.txt: is not a DICOM file", "empty.dcm: is empty", "Check the path"):
        assert line in done.stderr
    trail = radcds("audit", "verify", "--data-dir", tmp_path / "out" / ".radcds")
    assert "events verify" in trail.stdout


def test_a_corrupt_model_refuses_to_start(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(default_bundle_path(), tmp_path / "bundle"))
    content = bytearray((bundle / "models/model.onnx").read_bytes())
    content[1000] ^= 1
    (bundle / "models/model.onnx").write_bytes(content)
    done = radcds(
        "read", sample("RG1_UNCR.dcm"), "--out", tmp_path / "out", RADCDS_MODEL=str(bundle)
    )
    assert done.returncode == 3
    assert "models/model.onnx has a wrong sha256" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_setting_refuses_to_start(tmp_path: Path) -> None:
    done = radcds("read", tmp_path, "--out", tmp_path / "out", RADCDS_DISPLAYMODE="triage_only")
    assert done.returncode == 3
    assert "unknown setting 'displaymode'" in done.stderr


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = radcds("read", sample("RG1_UNCR.dcm"), "--out", tmp_path / "file" / "out")
    assert done.returncode == 3
    assert "cannot be made" in done.stderr


PORTS = ("--port", "0", "--ehr-port", "0")


def test_the_demo_ends_with_an_address_that_answers(tmp_path: Path) -> None:
    done = radcds("demo", "--once", "--json", *PORTS, "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert len(shown["studies"]) == 2
    assert "/studies/" in shown["open"]
    assert (tmp_path / "demo" / "oru-outbox").is_dir()
    printed = radcds("demo", "--once", *PORTS, "--out", tmp_path / "demo")
    assert "Open  http://127.0.0.1:" in printed.stdout
    assert "overlay.png" in printed.stdout


def test_a_port_in_use_refuses_to_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = radcds(
            "serve",
            "--port",
            port,
            RADCDS_ARCHIVE=str(tmp_path),
            RADCDS_DATA_DIR=str(tmp_path / "data"),
        )
    assert done.returncode == 3
    assert "is not free" in done.stderr


def test_beyond_loopback_is_refused_while_nobody_signs_in(tmp_path: Path) -> None:
    done = radcds("serve", "--host", "192.0.2.1", RADCDS_ARCHIVE=str(tmp_path))
    assert done.returncode == 3
    assert "--insecure" in done.stderr


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    ill = radcds("doctor", RADCDS_DATA_DIR=data)
    assert ill.returncode == 1
    assert "FAIL  archive: archive: set RADCDS_ARCHIVE" in ill.stdout
    archive = tmp_path / "archive"
    archive.mkdir()
    well = radcds("doctor", "--json", RADCDS_DATA_DIR=data, RADCDS_ARCHIVE=str(archive))
    assert well.returncode == 0
    (archive / "letter.txt").write_text("Dear colleague")
    again = radcds("doctor", RADCDS_DATA_DIR=data, RADCDS_ARCHIVE=str(archive))
    assert again.returncode == 1
    assert "letter.txt is not a DICOM file" in again.stdout
    assert all(check["passed"] for check in json.loads(well.stdout))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    try:
        full = radcds("read", sample("RG1_UNCR.dcm"), "--out", disk / "out")
        assert full.returncode in {1, 4}
        assert "Traceback" not in full.stderr
        assert "full" in full.stderr or "No space" in full.stderr
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        done = radcds("read", sample("RG1_UNCR.dcm"), "--out", disk / "out", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["studies"][0]["state"] == "published"
    finally:
        leave(disk)


def leave(disk: Path) -> None:
    """Take a disk away, once the process that ran the network has left it too."""
    deadline = time.monotonic() + 10
    while subprocess.run(["umount", disk], check=False, capture_output=True).returncode:
        assert time.monotonic() < deadline, "somebody is still on the disk"
        time.sleep(0.1)
