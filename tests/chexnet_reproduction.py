"""The published predictions of a CheXNet reproduction, where the data is: no image is needed.

Predictions: J. Zech, reproduce-chexnet, github.com/jrzech/reproduce-chexnet, BSD-3. Labels: NIH
Clinical Center, Wang et al., CVPR 2017.
"""

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from ai_engine.evaluation.predictions import Predictions
from ai_engine.image import View
from ai_engine.labelled_images.labelled_image import LabelledImage

# AUROC of the retrained model (2022), README.md of the repository, section "Replicated results".
PUBLISHED_AUROC = {
    "Atelectasis": 0.8180, "Cardiomegaly": 0.9090, "Consolidation": 0.8002, "Edema": 0.8945,
    "Effusion": 0.8827, "Emphysema": 0.9316, "Fibrosis": 0.8251, "Hernia": 0.9175,
    "Infiltration": 0.7156, "Mass": 0.8377, "Nodule": 0.7756, "Pleural_Thickening": 0.7889,
    "Pneumonia": 0.7617, "Pneumothorax": 0.8776,
}  # fmt: skip
ADJUDICATED = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")


def labels_folder() -> Path:
    """Find the label files, or skip the test."""
    root = os.environ.get("RADCDS_DATA")
    folder = Path(root or "") / "labels"
    if root is None or not (folder / "reproduce_chexnet_preds.csv.gz").exists():
        pytest.skip("RADCDS_DATA names no folder with labels/reproduce_chexnet_preds.csv.gz")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def predictions(folder: Path) -> Predictions:
    """Give the 14 findings and "abnormal", the chance that any of the 14 is there."""
    predicted = {row["Image Index"]: row for row in rows(folder / "reproduce_chexnet_preds.csv.gz")}
    findings = tuple(PUBLISHED_AUROC)
    images = [
        _image(row, frozenset(findings))
        for row in rows(folder / "Data_Entry_2017_v2020.csv.gz")
        if row["Image Index"] in predicted
    ]
    given = np.array(
        [[float(predicted[each.address][f"prob_{name}"]) for name in findings] for each in images]
    )
    any_of_them = 1.0 - np.prod(1.0 - given, axis=1, keepdims=True)
    return Predictions.of(images, ("abnormal", *findings), np.hstack((any_of_them, given)))


def adjudicated(folder: Path, whole: Predictions) -> Predictions:
    """Keep the images that radiologists judged together, with "abnormal" as any of their four."""
    judged = {
        row["Image Index"]: frozenset(name for name in ADJUDICATED if row[name] == "YES")
        for row in rows(folder / "google2019_nih-chest-xray-labels.csv.gz")
    }
    kept = [index for index, each in enumerate(whole.images) if each.address in judged]
    images = [
        LabelledImage(
            address=each.address,
            person=each.person,
            present=judged[each.address],
            judged=frozenset(ADJUDICATED),
        )
        for each in (whole.images[index] for index in kept)
    ]
    return Predictions.of(images, ("abnormal",), whole.probabilities[kept, :1])


def _image(row: dict[str, str], findings: frozenset[str]) -> LabelledImage:
    return LabelledImage(
        address=row["Image Index"],
        person=row["Patient ID"],
        present=frozenset(row["Finding Labels"].split("|")) & findings,
        judged=findings,
        view=View(row["View Position"]),
        sex=row["Patient Gender"],
        age_years=float(row["Patient Age"]),
    )
