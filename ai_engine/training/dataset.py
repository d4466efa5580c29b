"""The labelled radiographs, split by patient."""

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.progress import Progress

from ai_engine.preprocess import InputSpec, network_input

NIH_LABELS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
)  # fmt: skip

_HELD_OUT_OF_B, _VALIDATION_OF_B, _VALIDATION_OF_REST = 0.5, 0.75, 0.1


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One labelled image.

    Parameters
    ----------
    file
        Name within its archive.
    patient
        Key of the patient: no patient is on two sides of a split.
    source
        Which collection it came from; figures are never pooled over sources.
    labels
        Findings present; empty means none of the labelled ones.
    """

    file: str
    patient: str
    source: str
    labels: frozenset[str]


def nih_radiographs(folder: Path) -> list[Radiograph]:
    """List the adult radiographs of ``nih_cxr/labels.csv``."""
    with (folder / "nih_cxr" / "labels.csv").open(encoding="utf-8", newline="") as handle:
        return [
            Radiograph(
                file=row["Image Index"].replace(".png", ".jpg"),
                patient=row["Patient ID"],
                source=row["source"],
                labels=frozenset(row["Finding Labels"].split("|")) - {"No Finding"},
            )
            for row in csv.DictReader(handle)
        ]


def kermany_training_radiographs(folder: Path) -> list[Radiograph]:
    """List the paediatric training radiographs whose patient is not in the official test set."""
    with (folder / "kermany" / "labels.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    tested = {row["pid"] for row in rows if row["official_test"] == "True"}
    return [
        Radiograph(
            row["file"], row["pid"], "kermany", frozenset({"p"} if row["pneumonia"] == "1" else ())
        )
        for row in rows
        if row["pid"] not in tested
    ]


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets that share no patient."""

    training: list[Radiograph]
    validation: list[Radiograph]
    held_out: list[Radiograph]


def split_by_patient(radiographs: list[Radiograph]) -> Split:
    """Hold out half of the patients of source B; validate on a quarter, and on a tenth of the rest.

    A patient belongs to one set, decided by a hash of the patient's key, whatever the order of the
    rows. The rest of A and C is trained on; patients held out in B are never trained on elsewhere.
    """
    of_b = {each.patient for each in radiographs if each.source == "B"}
    sets: Split = Split([], [], [])
    for each in radiographs:
        draw = _draw(each.patient)
        if each.patient in of_b:
            if draw < _HELD_OUT_OF_B:
                if each.source == "B":
                    sets.held_out.append(each)
            else:
                (sets.validation if draw < _VALIDATION_OF_B else sets.training).append(each)
        else:
            (sets.validation if draw < _VALIDATION_OF_REST else sets.training).append(each)
    return sets


def _draw(patient: str) -> float:
    """Give a number from 0 to 1 that depends on the patient alone."""
    digest = hashlib.sha256(f"split 1|{patient}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def load_inputs(
    archive: Path, radiographs: list[Radiograph], spec: InputSpec
) -> Iterator[NDArray[np.float32]]:
    """Read and preprocess images one by one, as ``(1, rows, columns)``."""
    with zipfile.ZipFile(archive) as files:
        for each in radiographs:
            yield network_input(read_pixels(files, each), spec)[0]


def read_pixels(files: zipfile.ZipFile, radiograph: Radiograph) -> NDArray[np.float32]:
    """Read one image as ``(rows, columns)``, 0 to 1."""
    with Pillow.open(io.BytesIO(files.read(radiograph.file))) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255.0


def read_all_pixels(
    archive: Path, radiographs: list[Radiograph], what: str
) -> list[NDArray[np.float32]]:
    """Read images with a progress bar."""
    with zipfile.ZipFile(archive) as files, Progress() as bar:
        steps = bar.track(radiographs, description=f"reading {what} radiographs")
        return [read_pixels(files, each) for each in steps]


def targets(radiographs: list[Radiograph], findings: list[str]) -> NDArray[np.float32]:
    """Give the labels as 0 and 1, **shape** ``(images, findings)``; ``abnormal`` is any label."""
    rows = [
        [
            float(bool(each.labels)) if finding == "abnormal" else float(finding in keys)
            for finding in findings
        ]
        for each in radiographs
        for keys in [{label.lower() for label in each.labels}]
    ]
    return np.array(rows, dtype=np.float32)
