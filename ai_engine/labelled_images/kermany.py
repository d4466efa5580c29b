"""Kermany's chest radiographs of children of 1 to 5 years, with or without pneumonia."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import ImagesMissing, LabelsRefused
from ai_engine.labelled_images.image_files import ImageFiles, by_stem, refuse_missing
from ai_engine.labelled_images.label_file import read_rows
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.labelled_images.official_split import Part
from ai_engine.labelled_images.pixel_reader import PICTURES, decode_picture

PNEUMONIA = "pneumonia"
_COLUMNS = frozenset({"file", "pneumonia", "pid", "official_test"})
_PERSON = re.compile(r"(?P<kind>NORMAL2-IM|IM|person)-?(?P<number>\d+)[-_]", re.IGNORECASE)
_KINDS = {"normal2-im": "N2-", "im": "N-", "person": "P"}
_FOLDERS = {"normal": False, "pneumonia": True}


class KermanyPneumonia:
    """The radiographs of children, as published or as a zip with a table.

    The published split has persons on both sides; ``parts`` says what it says, and the split of a
    run refuses it or leaves those persons out of training.

    Parameters
    ----------
    images
        Folders and zips. Without ``labels`` the folders ``train``, ``val``, ``test`` and in them
        ``NORMAL`` and ``PNEUMONIA`` tell, and the person comes from the file's name.
    labels
        CSV with the columns ``file``, ``pneumonia`` (0, 1), ``pid`` and ``official_test``
        (``True``, ``False``).

    Raises
    ------
    LabelsRefused
        If a value is another, or a file has a name of another form.
    ImagesMissing
        If an image is missing.

    References
    ----------
    Kermany, Zhang and Goldbaum, Mendeley Data, 10.17632/rscbjbr9sj.2; Cell 2018.
    """

    def __init__(self, images: Sequence[Path], labels: Path | None = None) -> None:
        self._files = ImageFiles(images, PICTURES)
        told = _of_folders(self._files) if labels is None else _of_table(self._files, labels)
        self._images = tuple(image for image, _ in told)
        self._parts = {image.address: part for image, part in told}

    @property
    def findings(self) -> tuple[str, ...]:
        """Pneumonia."""
        return (PNEUMONIA,)

    @property
    def images(self) -> Sequence[LabelledImage]:
        """In the order of the table, or of the names."""
        return self._images

    @property
    def parts(self) -> Mapping[str, Part]:
        """The published split of each address."""
        return self._parts

    def pixels(self, image: LabelledImage) -> NDArray[np.float32]:
        """Read one image.

        Raises
        ------
        UnreadableImage
            If it is damaged.
        """
        return decode_picture(image.address, self._files.content(image.address))


def _labelled(address: str, person: str, *, pneumonia: bool) -> LabelledImage:
    judged = frozenset({PNEUMONIA})
    return LabelledImage(address, person, judged if pneumonia else frozenset(), judged, "kermany")


def _of_table(files: ImageFiles, labels: Path) -> list[tuple[LabelledImage, Part]]:
    """Read the table.

    Raises
    ------
    LabelsRefused
        If a value is none of those that it may be.
    """
    addresses, missing, told = by_stem(files), [], []
    rows = read_rows(labels, _COLUMNS)
    for row in rows:
        if row["pneumonia"] not in {"0", "1"} or row["official_test"] not in {"True", "False"}:
            msg = (
                f"{labels}: {row['file']} must have pneumonia 0 or 1, official_test True or False."
            )
            raise LabelsRefused(msg)
        address = addresses.get(PurePosixPath(row["file"]).stem)
        if address is None:
            missing.append(row["file"])
            continue
        part = Part.TEST if row["official_test"] == "True" else Part.TRAINING
        told.append((_labelled(address, row["pid"], pneumonia=row["pneumonia"] == "1"), part))
    refuse_missing(missing, len(rows), "Name every folder and zip of the set.")
    return told


def _of_folders(files: ImageFiles) -> list[tuple[LabelledImage, Part]]:
    """Read the published folders.

    Raises
    ------
    ImagesMissing
        If there is no image in such a folder.
    LabelsRefused
        If the name of a file tells no person.
    """
    told = []
    for address in files.place_of:
        folders = [each.lower() for each in PurePosixPath(address).parts[:-1]]
        if not folders or folders[-1] not in _FOLDERS:
            continue
        matched = _PERSON.match(PurePosixPath(address).name)
        if not matched:
            msg = f"{address}: its name tells no person. Keep the published names."
            raise LabelsRefused(msg)
        person = _KINDS[matched["kind"].lower()] + matched["number"]
        part = Part.TEST if "test" in folders else Part.TRAINING
        told.append((_labelled(address, person, pneumonia=_FOLDERS[folders[-1]]), part))
    if not told:
        msg = "There is no image in a folder NORMAL or PNEUMONIA. Name the unpacked folder."
        raise ImagesMissing(msg)
    return told
