"""Make the pictures of the DICOM results: ``python scripts/dicom_pictures.py``.

A real radiograph is read by the model that ships; other programs render what radcds made of it:
dcmtk the report and the greys of the presentation state, Chromium the page. Needs the development
environment (``make test`` installs it), dcmtk and Chromium.
"""

import io
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

import numpy as np
import pydicom
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from playwright.sync_api import sync_playwright
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from ai_engine.bundle import default_bundle_path
from ai_engine.engine import Engine
from cds_server.config import Settings
from fhir_mappers.dicom_study import study_of
from fhir_mappers.identifiers import result_id
from fhir_mappers.pixels import image
from fhir_mappers.report_context import ReportContext
from fhir_mappers.report_set import report_set

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
LONGEST_SIDE = 680
_STYLE = """
body {font: 13px/1.3 sans-serif; margin: 20px; color: #111}
main {columns: 2; column-gap: 32px; overflow-wrap: anywhere}
h1 {font-size: 19px} h2 {font-size: 16px} h3 {font-size: 14px} p {margin: 5px 0}
td {padding: 1px; font-size: 13px} td:first-child {white-space: nowrap; padding-right: 12px}
small {font-size: 11px}
"""
_WRAP = """() => {
  const main = document.createElement("main");
  main.append(...document.body.childNodes);
  document.body.append(main);
  const annex = [...main.children].find((each) => each.textContent.trim() === "Annex");
  while (annex && annex.nextSibling) annex.nextSibling.remove();
  if (annex) annex.remove();
}"""


def main() -> None:
    """Read the radiograph, render its results, save the pictures."""
    source = Path(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    made = results(source)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in made.items():
            (Path(folder) / name).write_bytes(content)
        photograph_report(Path(folder))
        state = Path(folder) / "presentation-state.dcm"
        save(presented(source, state), "pacs-presentation-state.png")
    capture = pydicom.dcmread(io.BytesIO(made["secondary-capture.dcm"]))
    save(Pillow.fromarray(capture.pixel_array), "pacs-overlay.png")


def results(path: Path) -> dict[str, bytes]:
    """Read a radiograph with the model that ships, and give its DICOM objects."""
    engine = Engine.from_path(default_bundle_path())
    source = pydicom.dcmread(path)
    picture = image(source)
    described = source.to_json_dict(bulk_data_threshold=0, bulk_data_element_handler=str)
    study = study_of([described], timezone="UTC")
    context = ReportContext(
        result_id(study.study_instance_uid, engine.model.sha256),
        Settings().site,
        engine.model,
        datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
        "0.1.0",
        engine.model_card,
    )
    outcome = engine.read([picture])
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return dict(report_set(study, outcome, context=context, source=header, image=picture).dicom)


def photograph_report(folder: Path) -> None:
    """Let dcmtk render the report as a page, and Chromium show it."""
    page = folder / "report.html"
    dcmtk("dsr2html", folder / "report.dcm", page)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=FLAGS)
        shown = browser.new_page(viewport={"width": 1200, "height": 400})
        shown.goto(page.as_uri())
        shown.evaluate(_WRAP)
        shown.add_style_tag(content=_STYLE)
        shown.screenshot(path=IMAGES / "pacs-report.png", full_page=True)
        browser.close()


def presented(image_path: Path, state_path: Path) -> Pillow.Image:
    """Give the image as its presentation state shows it.

    dcmtk applies the lookup tables; the graphic objects, which it leaves to viewers, are drawn here
    as the object says.
    """
    with tempfile.TemporaryDirectory() as folder:
        grey = Path(folder) / "grey.pgm"
        dcmtk("dcmp2pgm", "-p", state_path, image_path, grey)
        with Pillow.open(grey) as opened:
            full = opened.convert("RGB")
    scale = LONGEST_SIDE / max(full.size)
    small = full.resize((round(full.width * scale), round(full.height * scale)))
    draw = ImageDraw.Draw(small)
    for annotation in pydicom.dcmread(state_path).GraphicAnnotationSequence:
        for each in annotation.get("GraphicObjectSequence", ()):
            corners = np.array(each.GraphicData).reshape(-1, 2) * scale
            draw.line([tuple(corner) for corner in corners], fill=(255, 220, 60), width=2)
        for each in annotation.get("TextObjectSequence", ()):
            write(draw, small.size, each)
    return small


def write(draw: ImageDraw.ImageDraw, size: tuple[int, int], words: Dataset) -> None:
    """Write a text object into its box, which is given as fractions of the display."""
    left, top = (
        side * fraction
        for side, fraction in zip(size, words.BoundingBoxTopLeftHandCorner, strict=True)
    )
    lines = str(words.UnformattedTextValue).replace("\r\n", "\n")
    font = ImageFont.load_default(15)
    for right, down in ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1)):
        draw.multiline_text((left + right, top + down), lines, (0, 0, 0), font)
    draw.multiline_text((left, top), lines, (255, 220, 60), font)


def save(picture: Pillow.Image, name: str) -> None:
    """Save a picture, small enough for a page."""
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    picture.save(IMAGES / name, optimize=True)


def dcmtk(tool: str, *arguments: str | Path) -> None:
    """Run a tool of dcmtk.

    Raises
    ------
    FileNotFoundError
        If dcmtk is not installed.
    """
    found = which(tool)
    if found is None:
        msg = f"{tool} is missing: run scripts/install_system.sh dcmtk"
        raise FileNotFoundError(msg)
    subprocess.run([found, *arguments], check=True)  # noqa: S603 - a fixed tool of dcmtk


if __name__ == "__main__":
    main()
