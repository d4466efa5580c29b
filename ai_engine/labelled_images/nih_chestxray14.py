"""NIH ChestX-ray14: one label string an image, mined from reports."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import LabelsRefused
from ai_engine.image import View
from ai_engine.labelled_images.image_files import ImageFiles, by_stem, refuse_missing
from ai_engine.labelled_images.label_file import (
    age_years,
    finding_name,
    read_rows,
    read_text,
    sex_letter,
)
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.labelled_images.official_split import Part
from ai_engine.labelled_images.pixel_reader import PICTURES, decode_picture

NIH_FINDINGS = (
    "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
    "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening",
    "hernia",
)  # fmt: skip
"""The fourteen findings, in the order of the CheXNet paper."""

ABNORMAL = "abnormal"
"""Any of the findings: the first of the set."""

_COLUMNS = frozenset({"Image Index", "Finding Labels", "Patient ID"})
_NONE = "no_finding"
_VIEWS = {"PA": View.PA, "AP": View.AP}


class NihChestXray14:
    """The images of NIH ChestX-ray14, or some of them.

    Parameters
    ----------
    labels
        ``Data_Entry_2017.csv`` in any release, or a file with its columns. Unquoted commas in its
        header do no harm. A column ``source`` names collections within it.
    images
        Folders and zips with the images; ``.png`` and ``.jpg`` are told apart by nobody.
    training_list
        ``train_val_list.txt``: what it does not name is of the official test set. Without it, a
        column ``nih_official_split`` says ``test``.
    skip_missing
        Leave out labelled images that are not there, instead of refusing the set.

    Raises
    ------
    LabelsRefused
        If a column is missing, a label is unknown, or nothing is left.
    ImagesMissing
        If images are missing.

    References
    ----------
    Wang et al., ChestX-ray8, CVPR 2017; nihcc.app.box.com/v/ChestXray-NIHCC.
    """

    def __init__(
        self,
        labels: Path,
        images: Sequence[Path],
        *,
        training_list: Path | None = None,
        skip_missing: bool = False,
    ) -> None:
        self._files = ImageFiles(images, PICTURES)
        addresses = by_stem(self._files)
        rows = read_rows(labels, _COLUMNS)
        trained = None if training_list is None else set(read_text(training_list).split())
        missing, self._images, self._parts = [], [], {}
        for row in rows:
            name = row["Image Index"]
            address = addresses.get(PurePosixPath(name).stem)
            if address is None:
                missing.append(name)
                continue
            self._images.append(_image(labels, address, row))
            test = (
                row.get("nih_official_split") == "test"
                if trained is None
                else (name not in trained)
            )
            self._parts[address] = Part.TEST if test else Part.TRAINING
        if not skip_missing:
            refuse_missing(missing, len(rows), "Name every folder and zip, or set skip_missing.")
        self._left_out = len(missing)
        if not self._images:
            msg = f"{labels}: none of its {len(rows)} images is there. Name their folders or zips."
            raise LabelsRefused(msg)

    @property
    def findings(self) -> tuple[str, ...]:
        """``abnormal`` and the fourteen findings."""
        return (ABNORMAL, *NIH_FINDINGS)

    @cached_property
    def images(self) -> Sequence[LabelledImage]:
        """In the order of the label file."""
        return tuple(self._images)

    @property
    def left_out(self) -> int:
        """How many labelled images are not there."""
        return self._left_out

    @property
    def parts(self) -> Mapping[str, Part]:
        """What the official list says of each address."""
        return self._parts

    def pixels(self, image: LabelledImage) -> NDArray[np.float32]:
        """Read one image.

        Raises
        ------
        UnreadableImage
            If it is damaged.
        """
        return decode_picture(image.address, self._files.content(image.address))


def _image(labels: Path, address: str, row: Mapping[str, str]) -> LabelledImage:
    """Read one line.

    Raises
    ------
    LabelsRefused
        If it names a finding that is none of the fourteen, or nobody.
    """
    named = {finding_name(label) for label in row["Finding Labels"].split("|")}
    if unknown := named - {*NIH_FINDINGS, _NONE}:
        msg = f"{labels}: {row['Image Index']} has the label {min(unknown)!r}, none of NIH's."
        raise LabelsRefused(msg)
    if not row["Patient ID"]:
        msg = f"{labels}: {row['Image Index']} has no Patient ID, so it cannot be split by person."
        raise LabelsRefused(msg)
    present = frozenset(named - {_NONE})
    return LabelledImage(
        address=address,
        person=row["Patient ID"],
        present=present | {ABNORMAL} if present else present,
        judged=frozenset({ABNORMAL, *NIH_FINDINGS}),
        source=row.get("source", ""),
        view=_VIEWS.get(row.get("View Position", "").upper(), View.UNKNOWN),
        sex=sex_letter(row.get("Patient Gender", "")),
        age_years=age_years(row.get("Patient Age", "")),
    )
