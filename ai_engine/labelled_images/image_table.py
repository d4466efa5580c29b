"""A CSV file with one line an image and one column a finding: pictures or DICOM files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_engine.errors import LabelsRefused
from ai_engine.image import View
from ai_engine.labelled_images.image_files import ImageFiles, refuse_missing
from ai_engine.labelled_images.label_file import age_years, finding_name, read_rows, sex_letter
from ai_engine.labelled_images.labelled_image import LabelledImage
from ai_engine.labelled_images.official_split import Part
from ai_engine.labelled_images.pixel_reader import ImageHeader, PixelReader, decode_picture

_REQUIRED = frozenset({"path", "person"})
_KNOWN = _REQUIRED | {"view", "sex", "age", "site", "manufacturer", "source", "split"}
_OF_HEADER = frozenset({"view", "sex", "age", "site", "manufacturer"})
_JUDGEMENTS = frozenset({"", "0", "1"})


class ImageTable:
    """Images that a CSV file lists.

    Columns: ``path`` below one of the places, ``person``; optionally ``view`` (PA, AP, LATERAL,
    OTHER), ``sex`` (F, M), ``age`` (years, or as DICOM writes it), ``site``, ``manufacturer``,
    ``source``, ``split`` (training, validation, test); every other column is a finding: ``1`` is
    present, ``0`` is absent, empty was not judged.

    Parameters
    ----------
    table
        The CSV file.
    images
        Folders and zips with the images.
    reader
        For DICOM files; what the table has no column for is then taken from the header. Without
        one the images are PNG, JPEG or NumPy files.
    skip_missing
        Leave out listed images that are not there.
    noted
        Called after each header that was read, for a progress bar.

    Raises
    ------
    LabelsRefused
        If the table is empty, names nobody, has no column of a finding, or a value that is none.
    ImagesMissing
        If images are missing.
    UnreadableImage
        If a header cannot be read.
    """

    def __init__(
        self,
        table: Path,
        images: Sequence[Path],
        *,
        reader: PixelReader | None = None,
        skip_missing: bool = False,
        noted: Callable[[], None] = lambda: None,
    ) -> None:
        self._files, self._reader = ImageFiles(images), reader
        rows = read_rows(table, _REQUIRED)
        columns = _finding_columns(table, rows[0])
        missing = [row["path"] for row in rows if row["path"] not in self._files.place_of]
        if not skip_missing:
            refuse_missing(missing, len(rows), "Correct the column path, or set skip_missing.")
        there = [row for row in rows if row["path"] in self._files.place_of]
        self._left_out = len(missing)
        self._images = tuple(_image(table, row, columns) for row in there)
        _refuse_twice(table, self._images)
        if reader and (absent := _OF_HEADER - set(rows[0])):
            headers = []
            for each in self._images:
                headers.append(reader.header(self._files.path(each.address)))
                noted()
            self._images = tuple(map(_completed(absent), self._images, headers))
        self._parts = {row["path"]: Part(row["split"]) for row in there if row.get("split")}
        judged = frozenset[str]().union(*(each.judged for each in self._images))
        self._findings = tuple(name for name in columns.values() if name in judged)
        if not self._findings:
            msg = f"{table}: no image that is there was judged for any finding."
            raise LabelsRefused(msg)

    @property
    def findings(self) -> tuple[str, ...]:
        """In the order of the columns."""
        return self._findings

    @property
    def images(self) -> Sequence[LabelledImage]:
        """In the order of the lines."""
        return self._images

    @property
    def left_out(self) -> int:
        """How many listed images are not there."""
        return self._left_out

    @property
    def parts(self) -> Mapping[str, Part]:
        """What the column ``split`` says, by address."""
        return self._parts

    def pixels(self, image: LabelledImage) -> NDArray[np.float32]:
        """Read one image.

        Raises
        ------
        UnreadableImage
            If it cannot be read or decoded.
        """
        if self._reader is not None:
            return self._reader.pixels(self._files.path(image.address))
        return decode_picture(image.address, self._files.content(image.address))


def _finding_columns(table: Path, row: Mapping[str, str]) -> dict[str, str]:
    """Give the finding of each column.

    Raises
    ------
    LabelsRefused
        If there is none, or two mean the same.
    """
    columns = {name: finding_name(name) for name in row if name not in _KNOWN}
    if not columns or "" in columns.values():
        msg = (
            f"{table}: besides {', '.join(sorted(_KNOWN))} there must be named columns of findings."
        )
        raise LabelsRefused(msg)
    names = list(columns.values())
    if twice := {name for name in names if names.count(name) > 1}:
        msg = f"{table}: two columns mean {min(twice)!r}; leave one."
        raise LabelsRefused(msg)
    return columns


def _image(table: Path, row: Mapping[str, str], columns: Mapping[str, str]) -> LabelledImage:
    """Read one line.

    Raises
    ------
    LabelsRefused
        Naming the value that is none of those it may be.
    """
    for name, allowed in (
        *((name, _JUDGEMENTS) for name in columns),
        ("view", {"", *View}),
        ("split", {"", *Part}),
    ):
        if row.get(name, "") not in allowed:
            listed = ", ".join(sorted(map(str, filter(None, allowed))))
            msg = f"{table}: {row['path']}, {name}: {row[name]!r} is none of {listed} or empty."
            raise LabelsRefused(msg)
    if not row["person"]:
        msg = f"{table}: {row['path']} names no person, so it cannot be split by person."
        raise LabelsRefused(msg)
    return LabelledImage(
        address=row["path"],
        person=row["person"],
        present=frozenset(columns[name] for name in columns if row[name] == "1"),
        judged=frozenset(columns[name] for name in columns if row[name]),
        source=row.get("source", ""),
        view=View(row.get("view") or View.UNKNOWN),
        sex=sex_letter(row.get("sex", "")),
        age_years=age_years(row.get("age", "")),
        site=row.get("site", ""),
        manufacturer=row.get("manufacturer", ""),
    )


def _refuse_twice(table: Path, images: Sequence[LabelledImage]) -> None:
    """Refuse a path that is listed twice.

    Raises
    ------
    LabelsRefused
        Naming it.
    """
    seen = set[str]()
    for each in images:
        if each.address in seen:
            msg = f"{table}: {each.address} is listed twice; leave one line."
            raise LabelsRefused(msg)
        seen.add(each.address)


def _completed(
    absent: frozenset[str],
) -> Callable[[LabelledImage, ImageHeader], LabelledImage]:
    """Give what fills columns that the table lacks from the header."""

    def complete(image: LabelledImage, header: ImageHeader) -> LabelledImage:
        told = replace(
            image,
            view=header.view,
            sex=header.sex,
            age_years=header.age_years,
            site=header.site,
            manufacturer=header.manufacturer,
        )
        kept = {
            "age_years" if name == "age" else name: getattr(
                image, "age_years" if name == "age" else name
            )
            for name in _OF_HEADER - absent
        }
        return replace(told, **kept)

    return complete
