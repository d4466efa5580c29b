"""A real PACS and a real server: what is sent comes back with its result, whatever its syntax."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

import highdicom.sr
import pydicom
import pytest
import signed_models
from conftest import sample
from orthanc import AE_TITLE, Orthanc, free_ports, orthanc
from syntaxes import LOSSLESS, LOSSY, encoded

from cds_server.adapters.sql_arrival_store import SqlArrivalStore
from cds_server.adapters.sql_component_store import SqlComponentStore
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import open_engine

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
            components = SqlComponentStore(open_engine(folder / "data" / "radcds.sqlite"))
            wait_for(lambda: components.last_beat("worker"), 30)
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


def written(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write objects into files of their own."""
    folder.mkdir()
    paths = []
    for uid, content in contents.items():
        path = folder / f"{uid}.dcm"
        path.write_bytes(content)
        paths.append(path)
    return paths


def test_every_object_in_the_pacs_is_valid_for_other_peoples_judges(
    beside: Beside, tmp_path: Path
) -> None:
    dataset = as_study(sample("RG1_UNCR.dcm").read_bytes(), 60)
    study = str(dataset.StudyInstanceUID)
    source = send(beside.pacs, dataset, tmp_path)
    wait_for(lambda: has_report(beside.pacs, study), PATIENCE_S)
    paths = written(tmp_path / "results", results(beside.pacs, study))
    assert len(paths) == len(EVERY_RESULT)
    for path in paths:
        judged = run("dciodvfy", path)
        assert not [line for line in judged if line.startswith("Error")], path
    assert not [line for line in run("dcentvfy", source, *paths) if line.startswith("Error")]
    checked = subprocess.run(
        [sys.executable, "-m", "cds_server.cli", "air", "check", source, *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for path in paths:
        read = pydicom.dcmread(path, stop_before_pixels=True)
        if read.Modality == "SR":
            assert run("dsrdump", "-Ec", path)
            highdicom.sr.srread(path)


def test_a_repeat_adds_nothing_and_our_own_results_cause_no_reading(
    beside: Beside, tmp_path: Path
) -> None:
    dataset = as_study(sample("RG1_UNCR.dcm").read_bytes(), 61)
    study = str(dataset.StudyInstanceUID)
    send(beside.pacs, dataset, tmp_path)
    wait_for(lambda: has_report(beside.pacs, study), PATIENCE_S)
    first = results(beside.pacs, study)
    send(beside.pacs, dataset, tmp_path)
    token = (beside.data.parent / "token").read_text()
    for _ in range(3):
        tell(beside.radcds, token, study)
    store = SqlResultStore(open_engine(beside.data / "radcds.sqlite"))
    time.sleep(3)
    assert results(beside.pacs, study) == first
    assert len(store.entries_of_study(study)) == 1
    arrivals = SqlArrivalStore(open_engine(beside.data / "radcds.sqlite"))
    assert arrivals.waiting(datetime.now(UTC)) == (0, None)


def test_a_late_frontal_view_supersedes_the_earlier_result_in_the_pacs_too(
    beside: Beside, tmp_path: Path
) -> None:
    dataset = as_study(sample("RG1_UNCR.dcm").read_bytes(), 62)
    study = str(dataset.StudyInstanceUID)
    send(beside.pacs, dataset, tmp_path)
    wait_for(lambda: has_report(beside.pacs, study), PATIENCE_S)
    earlier = {uid for uid, content in results(beside.pacs, study).items() if is_report(content)}
    dataset.SOPInstanceUID = f"{study}.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ViewPosition = "AP"
    send(beside.pacs, dataset, tmp_path)
    wait_for(lambda: modalities(beside.pacs, study).count("SR") == 4, 2 * PATIENCE_S)
    reports = [c for c in results(beside.pacs, study).values() if is_report(c)]
    named = {
        str(instance.ReferencedSOPInstanceUID)
        for content in reports
        for of_study in pydicom.dcmread(io.BytesIO(content)).get("PredecessorDocumentsSequence", [])
        for series in of_study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert named
    assert named <= earlier


def test_another_model_version_adds_exactly_one_series_of_each_kind(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    (tmp_path / "token").write_text("t" * 40)
    newer = newer_model(tmp_path)
    with orthanc(tmp_path, dicom=True) as pacs:
        dataset = as_study(sample("RG1_UNCR.dcm").read_bytes(), 63)
        study = str(dataset.StudyInstanceUID)
        send(pacs, dataset, tmp_path)
        with radcds(pacs, tmp_path, port):
            wait_for(lambda: has_report(pacs, study), 30)
        first = results(pacs, study)
        with radcds(pacs, tmp_path, port):
            time.sleep(3)
        assert results(pacs, study) == first, "started again, it repeats nothing"
        publishers = signed_models.publishers_file(tmp_path / "publishers.json")
        named = {"RADCDS_MODEL": str(newer), "RADCDS_MODEL_PUBLISHERS": str(publishers)}
        with radcds(pacs, tmp_path, port, **named):
            wait_for(lambda: modalities(pacs, study).count("SR") == 4, 30)
            time.sleep(1)
        both = results(pacs, study)
    assert first.items() <= both.items()
    added = [content for uid, content in both.items() if uid not in first]
    assert series_by_modality(added) == series_by_modality(first.values())
    assert not set(series_of(added)) & set(series_of(first.values()))


def newer_model(folder: Path) -> Path:
    """Make another version of the model that ships: the same network under a new number."""
    return signed_models.copied(folder / "newer", version="1.0.2")


def series_of(contents: Iterable[bytes]) -> list[str]:
    read = [pydicom.dcmread(io.BytesIO(each), stop_before_pixels=True) for each in contents]
    return [str(each.SeriesInstanceUID) for each in read]


def series_by_modality(contents: Iterable[bytes]) -> dict[str, int]:
    """Count the series of each kind of object."""
    kinds: dict[str, set[str]] = {}
    for each in contents:
        read = pydicom.dcmread(io.BytesIO(each), stop_before_pixels=True)
        kinds.setdefault(str(read.SOPClassUID), set()).add(str(read.SeriesInstanceUID))
    return {kind: len(series) for kind, series in kinds.items()}


def is_report(content: bytes) -> bool:
    return bool(pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).Modality == "SR")


def tell(radcds_url: str, token: str, study: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{radcds_url}/pacs/events",
        json.dumps({"study": study}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        assert answer.status == 202


def run(program: str, *paths: Path) -> list[str]:
    """Ask a judge, and give every line that it says."""
    path = which(program) or str(Path(sys.executable).parent / program)
    said = subprocess.run(
        [path, *paths], capture_output=True, text=True, check=False, errors="replace"
    )
    return (said.stdout + said.stderr).splitlines()
