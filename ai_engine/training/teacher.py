"""The probabilities of a teacher, such as CheXNet, from a table."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import LabelsRefused
from ai_engine.labelled_images.label_file import finding_name, read_rows
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.training.configuration import Teacher


def taught(
    teacher: Teacher, table: Path, images: Sequence[LabelledImage], findings: Sequence[str]
) -> NDArray[np.float32]:
    """Give what the teacher thinks of each image.

    Parameters
    ----------
    teacher
        How its table is laid out.
    table
        The table.
    images
        To train on.
    findings
        Of the network.

    Returns
    -------
    NDArray[np.float32]
        **shape** ``(images, findings)``, 0 to 1; NaN where it has no opinion.

    Raises
    ------
    LabelsRefused
        If it has an opinion on none of them, or a value is no probability.
    """
    rows = {
        PurePosixPath(row[teacher.image_column]).stem: row
        for row in read_rows(table, frozenset({teacher.image_column}))
    }
    first = next(iter(rows.values()))
    columns = {
        finding_name(name.removeprefix(teacher.prefix)): name
        for name in first
        if name.startswith(teacher.prefix)
    }
    known = [(at, columns[name]) for at, name in enumerate(findings) if name in columns]
    given = np.full((len(images), len(findings)), np.nan, dtype=np.float32)
    for line, image in enumerate(images):
        row = rows.get(PurePosixPath(image.address).stem)
        for at, column in known if row is not None else ():
            given[line, at] = _probability(table, row[column] if row else "", image.address)
    if np.isnan(given).all():
        msg = (
            f"{table} has no probability of these images and findings; its columns are "
            f"{', '.join(first)}. Correct image_column and prefix, or remove the teacher."
        )
        raise LabelsRefused(msg)
    return given


def _probability(table: Path, text: str, image: str) -> float:
    """Read one value.

    Raises
    ------
    LabelsRefused
        If it is not from 0 to 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value <= 1.0:
        msg = f"{table}: {text!r}, for {image}, is no probability from 0 to 1."
        raise LabelsRefused(msg)
    return value
