"""Where images come from and how they become pixels, as protocols.

An archive gives the bytes of an instance as they are stored. Only a decoder opens them: what comes
from outside is opened in a process of its own, with limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from ai_engine.image import Image
from fhir_mappers.viewer_images import Pixels


@dataclass(frozen=True, slots=True)
class FileProblem:
    """An input that cannot be read.

    Parameters
    ----------
    path
        Which file or folder.
    what
        What is wrong with it.
    remedy
        What to do.
    """

    path: Path
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A study that an archive lists.

    Parameters
    ----------
    study_instance_uid
        Which study.
    modalities
        Modalities in the study (0008,0061), sorted; empty where the archive does not say.
    number_of_instances
        Number of Study Related Instances (0020,1208), or ``None`` where it does not say.
    """

    study_instance_uid: str
    modalities: tuple[str, ...] = ()
    number_of_instances: int | None = None


class ImageArchive(Protocol):
    """Where studies are: a PACS, or a folder of DICOM files. Threads may share it."""

    @property
    def problems(self) -> Sequence[FileProblem]:
        """Every input that cannot be read; a PACS has none, it refused them itself."""
        ...

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:
        """List the studies that the archive holds, by Study Instance UID.

        Parameters
        ----------
        since
            Leaves out studies that began earlier by their date and time; ``None`` leaves out none.
            An archive may list more, and what has no date may be left out.

        Raises
        ------
        ArchiveUnreachable
            If it does not answer.
        """
        ...

    def holds(self, study_instance_uid: str) -> bool:
        """Say whether the archive lists a study.

        Raises
        ------
        ArchiveUnreachable
            If it does not answer.
        """
        ...

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON (PS3.18 F.2) of each instance of a study, without pixels.

        Raises
        ------
        StudyNotFound
            If the archive has no such study.
        InstanceUnreadable
            If it describes the study in more than is read.
        ArchiveUnreachable
            If it does not answer.
        """
        ...

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> bytes:
        """Give the DICOM Part 10 file of one instance, in its stored transfer syntax, unopened.

        Raises
        ------
        InstanceUnreadable
            If what comes is no such file, is cut off, or is beyond the size that is read.
        StudyNotFound
            If there is no such object.
        ArchiveUnreachable
            If the archive does not answer.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DecodedInstance:
    """One opened instance.

    Parameters
    ----------
    header
        Every attribute but the pixel data, with file meta information.
    image
        What the engine sees of it.
    """

    header: Dataset
    image: Image


class Decoder(Protocol):
    """Opens instances, bounded in time and memory whatever they hold. Threads may share it."""

    def decode(self, instance: bytes) -> DecodedInstance:
        """Open an instance for the model.

        Raises
        ------
        InstanceUnreadable
            If it is damaged, or takes more time or memory than it may.
        ImageDeclined
            If it holds no image that the model could see; with the coded reason.
        ArchiveUnreachable
            If no process to open it in can be had now; the image is not at fault.
        """
        ...

    def header(self, instance: bytes) -> Dataset:
        """Open the header of an instance alone, whatever else it holds; each attribute as it is.

        Raises
        ------
        InstanceUnreadable
            If it is damaged, or takes more time or memory than it may.
        ArchiveUnreachable
            If no process to open it in can be had now; the instance is not at fault.
        """
        ...

    def pixels(self, instance: bytes, frame: int) -> Pixels:
        """Open one frame of an instance for the viewer; frames count from 0.

        Raises
        ------
        InstanceUnreadable
            If it is damaged, or takes more time or memory than it may.
        ImageDeclined
            If it holds no pixels that can be shown.
        ArchiveUnreachable
            If no process to open it in can be had now; the image is not at fault.
        """
        ...
