"""How fast the study page shows images: ``make bench`` prints the table of docs/benchmarks.md.

A real ``radcds serve`` reads a folder with a real chest radiograph and a made CT of 300 slices; a
real Chromium on the same machine opens the study page. Each opening is a fresh browser context,
which keeps nothing from the one before. ``--openings 2 --slices 10`` is a quick look.
"""

import argparse
import gzip
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from running import free_port, machine, radcds, running

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from browsing import FLAGS, chromium
from viewer_preview import ct_slice

from cds_server import bootstrap
from cds_server.config import Settings
from cds_server.ports import ResultStore

SLICES, SIZE, DIFFERENT = 300, 512, 40
CT_UID = "1.2.826.0.1.3680043.8.498.300"
SCRIPTS = Path(__file__).parents[2] / "smart_app" / "static"
READ_TIMEOUT_S = 300.0
TIMEOUT_MS = 60_000
SCROLL = """async slices => {
  const pane = document.querySelector(".pane");
  const slider = pane.querySelector("input[type=range]");
  const drawn = act => new Promise(done => {
    const watch = new MutationObserver(() => { watch.disconnect(); done(performance.now()); });
    watch.observe(pane, {attributes: true, attributeFilter: ["data-shown"]});
    act();
  });
  const frame = () => new Promise(requestAnimationFrame);
  if (slider.value !== "1") {
    slider.value = 1;
    await drawn(() => slider.dispatchEvent(new Event("input", {bubbles: true})));
  }
  await frame();
  const press = () => pane.querySelector(".stage").dispatchEvent(
    new KeyboardEvent("keydown", {key: "]", bubbles: true, cancelable: true}));
  const times = [], start = performance.now();
  for (let slice = 0; slice < slices; slice++) {
    const pressed = performance.now();
    times.push(await drawn(press) - pressed);
    await frame();
  }
  return {times, total: performance.now() - start, at: Number(slider.value),
    renderer: pane.dataset.renderer};
}"""


@dataclass(frozen=True)
class Served:
    """A server with two studies that it has read."""

    base: str
    token: str
    radiograph: str
    ct: str


def write_ct(folder: Path, progress: Progress) -> None:
    """Write the slices of a body with two lungs and a spine, uncompressed."""
    task = progress.add_task("making a CT", total=SLICES)
    folder.mkdir()
    for number in range(SLICES):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values: dict[str, Any] = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": f"{CT_UID}.1.{number + 1}",
            "StudyInstanceUID": CT_UID,
            "SeriesInstanceUID": f"{CT_UID}.1",
            "StudyDate": "20261120",
            "StudyTime": "101500",
            "AccessionNumber": "CT300",
            "StudyDescription": "CT of nobody",
            "Modality": "CT",
            "SeriesNumber": 1,
            "InstanceNumber": number + 1,
            "BodyPartExamined": "CHEST",
            "PatientName": "TEST^CT",
            "PatientID": "CT300",
            "PatientBirthDate": "19700101",
            "PatientSex": "O",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "PixelSpacing": [0.7, 0.7],
            "SliceThickness": 1,
            "ImagePositionPatient": [-180, -180, number],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": SIZE,
            "Columns": SIZE,
            "BitsAllocated": 16,
            "BitsStored": 12,
            "HighBit": 11,
            "PixelRepresentation": 0,
            "RescaleIntercept": -1024,
            "RescaleSlope": 1,
            "WindowCenter": 40,
            "WindowWidth": 400,
            "PixelData": ct_slice(number % DIFFERENT, SIZE).clip(0, 4095).tobytes(),
        }
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
        progress.advance(task)
    progress.remove_task(task)


@contextmanager
def served(folder: Path, progress: Progress) -> Iterator[Served]:
    """Run radcds over the two studies, and wait until both are read."""
    archive, data, port = folder / "archive", folder / "data", free_port()
    archive.mkdir()
    radiograph = get_testdata_file("RG1_UNCR.dcm", download=False)
    assert radiograph, "RG1_UNCR.dcm is missing: pip install pydicom-data"
    shutil.copy(str(radiograph), archive)
    write_ct(archive / "ct", progress)
    base = f"http://127.0.0.1:{port}"
    variables = {
        "RADCDS_ARCHIVE": str(archive),
        "RADCDS_DATA_DIR": str(data),
        "RADCDS_BASE_URL": base,
    }
    with running(radcds(port), f"{base}/readyz", folder / "radcds.log", variables):
        settings = replace(Settings(), data_dir=data, base_url=base)
        task = progress.add_task("waiting until both are read", total=None)
        found = _read(bootstrap.services(settings).store)
        progress.remove_task(task)
        token = (data / "sign-in-token").read_text(encoding="ascii")
        ct = found.pop(CT_UID)
        (radiograph_id,) = found.values()
        yield Served(base, token, radiograph_id, ct)


def _read(store: ResultStore) -> dict[str, str]:
    """Wait for two results; give their ids by study."""
    deadline = time.monotonic() + READ_TIMEOUT_S
    while time.monotonic() < deadline:
        entries = store.entries()
        if len(entries) == 2 and all(entry.result for entry in entries):
            return {entry.study_instance_uid: entry.result_id for entry in entries}
        time.sleep(0.5)
    msg = "the studies were not read in time"
    raise RuntimeError(msg)


@contextmanager
def signed_in(browser: Browser, server: Served) -> Iterator[tuple[Page, str]]:
    """Sign in with a fresh context; give its page, and where the session's pages are."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(f"{server.base}/sign-in")
    page.locator("input[name=token]").fill(server.token)
    page.locator("form:has(input[name=token]) button").click()
    page.wait_for_url("**/worklist")
    yield page, page.url.removesuffix("/worklist")
    context.close()


def first_image(page: Page, address: str) -> float:
    """Open a study page; give the time from navigation to its first image in ms."""
    page.goto(address)
    page.wait_for_selector("body[data-first-image]")
    return float(str(page.locator("body").get_attribute("data-first-image")))


def openings(
    browser: Browser, server: Served, study: str, count: int, progress: Progress
) -> list[float]:
    """Open a study in fresh contexts."""
    task = progress.add_task("opening the study page", total=count)
    times = []
    for _ in range(count):
        with signed_in(browser, server) as (page, home):
            times.append(first_image(page, f"{home}/studies/{study}"))
        progress.advance(task)
    progress.remove_task(task)
    return times


def scrolled(browser: Browser, server: Served, slices: int) -> dict[str, Any]:
    """Scroll through the CT, each slice drawn and on the screen before the next key."""
    with signed_in(browser, server) as (page, home):
        first_image(page, f"{home}/studies/{server.ct}")
        found: dict[str, Any] = page.evaluate(SCROLL, slices)
    assert found["at"] == slices + 1
    return found


def script_bytes(names: tuple[str, ...]) -> int:
    return sum(len(gzip.compress((SCRIPTS / name).read_bytes(), 9)) for name in names)


def line(name: str, times: list[float]) -> str:
    return f"| {name} | {times[0]:.0f} | {statistics.median(times):.0f} | {max(times):.0f} |"


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--openings", type=int, default=10, help="fresh contexts a study")
    options.add_argument("--slices", type=int, default=100, help="that are scrolled through")
    given = options.parse_args()
    slices = min(given.slices, SLICES - 1)
    named, today = machine(), datetime.now(UTC).date()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as name,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        served(Path(name), progress) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        version = browser.version
        radiograph = openings(browser, server, server.radiograph, given.openings, progress)
        ct = openings(browser, server, server.ct, given.openings, progress)
        task = progress.add_task("scrolling", total=None)
        scroll = scrolled(browser, server, slices)
        progress.remove_task(task)
        browser.close()
    print(f"{named}; Chromium {version}, {scroll['renderer']}, no GPU; {today}\n")
    print("| from navigation to the first image | the first time | median ms | worst ms |")
    print("|---|---|---|---|")
    print(line(f"RG1, 1955 x 1841, 16 bit, {len(radiograph)} fresh contexts", radiograph))
    print(line(f"CT, {SLICES} slices of {SIZE} x {SIZE}, {len(ct)} fresh contexts", ct))
    times = scroll["times"]
    print(
        f"\nScrolling {slices} slices of the CT, each on the screen before the next: "
        f"{scroll['total'] / slices:.1f} ms a slice on average;\nfrom key to drawn "
        f"{statistics.median(times):.1f} ms median, {max(times):.0f} ms worst."
    )
    page = ("shell.js", "forms.js", "viewer.js")
    everything = tuple(sorted(path.name for path in SCRIPTS.glob("*.js")))
    print(
        f"Scripts, gzipped: {script_bytes(page):,} bytes on the study page, "
        f"{script_bytes(everything):,} bytes in all."
    )


if __name__ == "__main__":
    main()
