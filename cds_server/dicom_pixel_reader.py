"""DICOM files as images to train and to evaluate on, read as the server reads them."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ai_engine.errors import UnreadableImage
from ai_engine.labelled_images.pixel_reader import ImageHeader
from fhir_mappers.acquisition import text, view
from fhir_mappers.errors import ImageDeclined
from fhir_mappers.pixels import image

_YEARS_IN = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True, slots=True)
class DicomPixelReader:
    """A ``PixelReader``: the same windows, inversions and refusals as in serving.

    The files are a site's own and are opened in this process, not in the sandbox.
    """

    def header(self, path: Path) -> ImageHeader:
        """Read what a file says of itself.

        Raises
        ------
        UnreadableImage
            If it is no DICOM file.
        """
        dataset = _opened(path, with_pixels=False)
        return ImageHeader(
            study_uid=text(dataset, "StudyInstanceUID"),
            instance_uid=text(dataset, "SOPInstanceUID"),
            view=view(dataset),
            sex=text(dataset, "PatientSex") if text(dataset, "PatientSex") in {"F", "M"} else "",
            age_years=_age_years(text(dataset, "PatientAge")),
            manufacturer=text(dataset, "Manufacturer"),
            site=text(dataset, "InstitutionName"),
        )

    def pixels(self, path: Path) -> NDArray[np.float32]:
        """Read an image as displayed.

        Raises
        ------
        UnreadableImage
            If it is no DICOM file, or holds no image that the server would show to a model.
        """
        try:
            return image(_opened(path, with_pixels=True)).pixels
        except ImageDeclined as error:
            msg = f"{path.name}: {error.outcome.detail}"
            raise UnreadableImage(msg) from error


def _opened(path: Path, *, with_pixels: bool) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=not with_pixels)
    except (InvalidDicomError, OSError, EOFError) as error:
        msg = f"{path.name} is no DICOM file that can be read"
        raise UnreadableImage(msg) from error


def _age_years(said: str) -> float | None:
    """Read an age.

    References
    ----------
    DICOM PS3.5 6.2, AS: three digits and D, W, M or Y.
    """
    number, unit = said[:-1], said[-1:]
    return float(number) * _YEARS_IN[unit] if number.isdecimal() and unit in _YEARS_IN else None
