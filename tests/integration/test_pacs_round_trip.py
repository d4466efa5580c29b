"""A real PACS and a real server: what is sent comes back with its result, whatever its syntax."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pydicom
import pytest
from conftest import sample
from orthanc import AE_TITLE, Orthanc, free_ports, orthanc
from syntaxes import LOSSLESS, LOSSY, encoded

ROOT = Path(__file__).parent.parent.parent
HOOK = ROOT / "deploy/orthanc/radcds.lua"
EVERY_RESULT = ["KO", "OT", "PR", "SEG", "SR", "SR"]
RESULTS = set(EVERY_RESULT)
# storescu cannot propose HTJ2K; JPEG Lossless without selection value is proposed with it.
NAMES = [each for each in (*LOSSLESS, *LOSSY) if each not in {"HTJ2K", "JPEG Lossless"}]
# How storescu proposes each transfer syntax.
PROPOSED = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
}
PATIENCE_S = 5.0


@dataclass(frozen=True)
class Beside:
    """A PACS with radcds beside it."""

    pacs: Orthanc
    radcds: str
    data: Path


@contextmanager
def radcds(pacs: Orthanc, folder: Path, port: int, **changes: str) -> Iterator[None]:
    """Run the server beside a PACS until the block ends."""
    variables = {
        **os.environ,
        "RADCDS_ARCHIVE": pacs.url,
        "RADCDS_RESULT_ARCHIVE": pacs.url,
        "RADCDS_DATA_DIR": str(folder / "data"),
        "RADCDS_PACS_EVENTS_TOKEN": str(folder / "token"),
        "RADCDS_BASE_URL": f"http://127.0.0.1:{port}",
        "RADCDS_WATCH_DAYS": "0",
        "RADCDS_WATCH_MODALITIES": "",
        "RADCDS_POLL_INTERVAL_S": "1",
        "RADCDS_SETTLE_S": "0.5",
        "RADCDS_WEB_WORKERS": "1",
        **changes,
    }
    command = [sys.executable, "-m", "cds_server.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=variables) as running:
        try:
            wait_for(lambda: ready(f"http://127.0.0.1:{port}/readyz"), 30)
            yield
        finally:
            running.terminate()
            running.wait(30)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(true: object, patience_s: float) -> float:
    """Wait until something is true, and give how long it took."""
    assert callable(true)
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < patience_s, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    folder = tmp_path_factory.mktemp("beside")
    (port,) = free_ports(1)
    token = "token-of-the-pacs-" + "x" * 32
    (folder / "token").write_text(token)
    (folder / "events").write_text(f"http://127.0.0.1:{port}\n{token}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORTHANC_RADCDS_EVENTS", str(folder / "events"))
        with (
            orthanc(folder, dicom=True, lua=HOOK.read_text()) as pacs,
            radcds(pacs, folder, port),
        ):
            yield Beside(pacs, f"http://127.0.0.1:{port}", folder / "data")


def as_study(content: bytes, number: int) -> pydicom.Dataset:
    """Give a file identifiers of its own, its pixels untouched."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.7.{number}"
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.AccessionNumber = f"ACC{number}"
    return dataset


def send(pacs: Orthanc, dataset: pydicom.Dataset, folder: Path) -> Path:
    path = folder / f"{dataset.StudyInstanceUID}.dcm"
    dataset.save_as(path)
    program = which("storescu")
    assert program, "storescu is missing: run scripts/install_system.sh dcmtk"
    proposed = PROPOSED[str(dataset.file_meta.TransferSyntaxUID)]
    subprocess.run(
        [program, proposed, "-aec", AE_TITLE, "127.0.0.1", str(pacs.dicom_port), str(path)],
        check=True,
        capture_output=True,
    )
    return path


def modalities(pacs: Orthanc, study: str) -> list[str]:
    found = pacs.find(StudyInstanceUID=study)
    tags = [json.loads(pacs.ask(f"/instances/{each}/simplified-tags")) for each in found]
    return sorted(each["Modality"] for each in tags)


def has_report(pacs: Orthanc, study: str) -> bool:
    return modalities(pacs, study).count("SR") == 2


def results(pacs: Orthanc, study: str) -> dict[str, bytes]:
    """Give every object of the study that is no image, by its identifier."""
    found = {}
    for each in pacs.find(StudyInstanceUID=study):
        content = pacs.file(each)
        dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        if dataset.Modality in RESULTS:
            found[str(dataset.SOPInstanceUID)] = content
    return found


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_a_radiograph_in_any_syntax_has_its_result_or_its_decline_within_five_seconds(
    beside: Beside, tmp_path: Path, number: int
) -> None:
    dataset = as_study(encoded(sample("RG1_UNCR.dcm"), NAMES[number]), number + 1)
    study = str(dataset.StudyInstanceUID)
    path = send(beside.pacs, dataset, tmp_path)
    (stored,) = beside.pacs.find(SOPInstanceUID=str(dataset.SOPInstanceUID))
    native = beside.pacs.file(stored)
    wait_for(lambda: has_report(beside.pacs, study), PATIENCE_S)
    found = modalities(beside.pacs, study)
    assert found == ["CR", *EVERY_RESULT]
    assert hashlib.sha256(beside.pacs.file(stored)).digest() == hashlib.sha256(native).digest()
    sent = pydicom.dcmread(path, stop_before_pixels=True)
    kept = pydicom.dcmread(io.BytesIO(native), stop_before_pixels=True)
    assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert kept == sent


@pytest.mark.parametrize(
    ("name", "number", "modality"), [("RG3_J2KR.dcm", 50, "CR"), ("693_UNCR.dcm", 51, "CT")]
)
def test_what_the_model_does_not_read_has_its_decline_in_the_pacs(
    beside: Beside, tmp_path: Path, name: str, number: int, modality: str
) -> None:
    dataset = as_study(sample(name).read_bytes(), number)
    study = str(dataset.StudyInstanceUID)
    send(beside.pacs, dataset, tmp_path)
    wait_for(lambda: has_report(beside.pacs, study), PATIENCE_S)
    assert modalities(beside.pacs, study) == sorted([modality, "SR", "SR"])
    for content in results(beside.pacs, study).values():
        assert b"Not analysed" in content or b"NOT ANALYSED" in content
