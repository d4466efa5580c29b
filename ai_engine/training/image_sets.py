"""From the configuration of a set to the set, split by person."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_engine.errors import ConfigurationRefused, LabelsRefused
from ai_engine.labelled_images.fhir_labelled_folder import FhirLabelledFolder
from ai_engine.labelled_images.image_table import ImageTable
from ai_engine.labelled_images.kermany import KermanyPneumonia
from ai_engine.labelled_images.labelled_image import ImageSet
from ai_engine.labelled_images.nih_chestxray14 import NihChestXray14
from ai_engine.labelled_images.official_split import Part
from ai_engine.labelled_images.pixel_reader import PixelReader
from ai_engine.training.configuration import (
    FhirSet,
    KermanySet,
    NihSet,
    SetConfiguration,
    TableSet,
)
from ai_engine.training.splits import SplitImages, split_by_person


@dataclass(frozen=True, slots=True, eq=False)
class SplitSet:
    """A set that was opened and split.

    Parameters
    ----------
    name
        As stages call it.
    of
        The set.
    split
        Its parts.
    label_files
        That its labels come from.
    """

    name: str
    of: ImageSet
    split: SplitImages
    label_files: tuple[Path, ...]

    def summary(self) -> str:
        """Say how many images it has and how they are used."""
        split, of = self.split, self.of
        told = (
            f"Set {self.name}: {len(split.training)} images to train on, {len(split.validation)} "
            f"to validate on, {len(split.test)} held out"
        )
        used = len(split.training) + len(split.validation) + len(split.test)
        if unused := len(of.images) - used:
            told += f", {unused} not used, by its views and its split"
        if isinstance(of, NihChestXray14 | ImageTable) and of.left_out:
            told += f"; {of.left_out} labelled images are not there"
        return f"{told}."


def open_set(
    wanted: SetConfiguration,
    data: Path,
    reader: PixelReader | None,
    noted: Callable[[], None] = lambda: None,
) -> SplitSet:
    """Open a set and split it.

    Parameters
    ----------
    wanted
        Its configuration.
    data
        Folder that its paths are below.
    reader
        Of DICOM files, for the layouts that need one.
    noted
        Called after each header that was read.

    Raises
    ------
    ConfigurationRefused
        If the layout needs a reader and there is none.
    LabelsRefused
        If its labels cannot be used.
    ImagesMissing
        If images are missing.
    UnreadableImage
        If a header cannot be read.
    """
    of, parts = _opened(wanted, data, reader, noted)
    images = [each for each in of.images if not wanted.views or each.view in wanted.views]
    if not images:
        msg = f"set {wanted.name!r} has no image of the views {', '.join(wanted.views)}."
        raise LabelsRefused(msg)
    return SplitSet(
        wanted.name, of, split_by_person(images, parts, wanted.split), label_files(wanted, data)
    )


def label_files(wanted: SetConfiguration, data: Path) -> tuple[Path, ...]:
    """Give the files that the labels of a set come from."""
    if isinstance(wanted, NihSet):
        lists = () if wanted.training_list is None else (data / wanted.training_list,)
        return (data / wanted.labels, *lists)
    if isinstance(wanted, KermanySet):
        return () if wanted.labels is None else (data / wanted.labels,)
    if isinstance(wanted, TableSet):
        return (data / wanted.labels,)
    return tuple(data / each for each in wanted.resources)


def _opened(
    wanted: SetConfiguration,
    data: Path,
    reader: PixelReader | None,
    noted: Callable[[], None],
) -> tuple[ImageSet, Mapping[str, Part]]:
    if isinstance(wanted, NihSet):
        nih = NihChestXray14(
            data / wanted.labels,
            [data / each for each in wanted.images],
            training_list=wanted.training_list and data / wanted.training_list,
            skip_missing=wanted.skip_missing,
        )
        return nih, nih.parts
    if isinstance(wanted, KermanySet):
        labels = wanted.labels and data / wanted.labels
        kermany = KermanyPneumonia([data / each for each in wanted.images], labels)
        return kermany, kermany.parts
    if isinstance(wanted, TableSet):
        table = ImageTable(
            data / wanted.labels,
            [data / each for each in wanted.images],
            reader=_needed(wanted, reader) if wanted.layout == "dicom_table" else None,
            skip_missing=wanted.skip_missing,
            noted=noted,
        )
        return table, table.parts
    return _fhir(wanted, data, _needed(wanted, reader), noted), {}


def _fhir(
    wanted: FhirSet, data: Path, reader: PixelReader, noted: Callable[[], None]
) -> FhirLabelledFolder:
    return FhirLabelledFolder(
        [data / each for each in wanted.resources],
        data / wanted.images,
        wanted.codes,
        reader,
        complete_reports=wanted.complete_reports,
        noted=noted,
    )


def _needed(wanted: SetConfiguration, reader: PixelReader | None) -> PixelReader:
    """Give the reader.

    Raises
    ------
    ConfigurationRefused
        If there is none.
    """
    if reader is None:
        msg = f"set {wanted.name!r} is of DICOM files and no reader of DICOM was given."
        raise ConfigurationRefused(msg)
    return reader
