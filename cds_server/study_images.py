"""The images of a study for the viewer, fetched from the archive when somebody looks.

Pixels are never stored: the archive keeps them. A few decoded images stay in memory for a while, so
that scrolling back costs nothing.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cds_server.errors import InstanceUnreadable, ResultNotFound, StudyNotFound
from cds_server.imaging import Decoder, ImageArchive
from fhir_mappers.dicom_study import study_of
from fhir_mappers.errors import ImageDeclined, InvalidStudy
from fhir_mappers.viewer_images import Pixels, ShownImage, ShownSeries, shown_images

_KEPT_BYTES = 128 * 1024 * 1024
_KEPT_LISTS = 64
_LIST_LASTS_S = 30.0
_T = TypeVar("_T")


class ImagesUnavailable(ResultNotFound):
    """The images of a study cannot be shown; the message says why. The result stands."""


@dataclass(frozen=True, slots=True)
class StudyImages:
    """What can be shown of one study."""

    study_instance_uid: str
    series: Sequence[ShownSeries]
    images: Sequence[ShownImage]


class ArchiveImages:
    """Reads the images of studies from an archive; threads may share it.

    Parameters
    ----------
    archive
        Where images are; ``None`` where the settings name none.
    decoder
        Opens them.
    timezone
        IANA zone of studies without offset.
    """

    def __init__(self, archive: ImageArchive | None, decoder: Decoder, *, timezone: str) -> None:
        self._archive = archive
        self._decoder = decoder
        self._timezone = timezone
        self._lists: _Kept[StudyImages] = _Kept(_KEPT_LISTS, lambda _: 1, lasts_s=_LIST_LASTS_S)
        self._pixels: _Kept[Pixels] = _Kept(_KEPT_BYTES, lambda each: len(each.stored))

    @property
    def available(self) -> bool:
        """Whether there is an archive to ask."""
        return self._archive is not None

    def of_study(self, study_instance_uid: str) -> StudyImages:
        """List what can be shown of a study.

        Raises
        ------
        ImagesUnavailable
            If the archive has none that can be shown.
        ArchiveUnreachable
            If it does not answer.
        """
        return self._lists.get(study_instance_uid, lambda: self._listed(study_instance_uid))

    def pixels(self, study_instance_uid: str, number: int) -> Pixels:
        """Give the pixels of an image by its number in the list, counted from 0.

        Raises
        ------
        ImagesUnavailable
            If there is no such image, or it cannot be decoded.
        ArchiveUnreachable
            If the archive does not answer.
        """
        images = self.of_study(study_instance_uid).images
        if not 0 <= number < len(images):
            msg = "there is no such image"
            raise ImagesUnavailable(msg)
        image = images[number]
        key = (study_instance_uid, image.sop_instance_uid, image.frame)
        return self._pixels.get(key, lambda: self._decoded(study_instance_uid, image))

    def _asked(self) -> ImageArchive:
        """Give the archive.

        Raises
        ------
        ImagesUnavailable
            If there is none.
        """
        if self._archive is None:
            msg = "no archive is set up here, so there are no images to show"
            raise ImagesUnavailable(msg)
        return self._archive

    def _listed(self, study_instance_uid: str) -> StudyImages:
        archive = self._asked()
        try:
            metadata = archive.metadata(study_instance_uid)
            study = study_of(metadata, timezone=self._timezone)
        except (StudyNotFound, InvalidStudy, InstanceUnreadable) as error:
            msg = "the archive does not have the images of this study"
            raise ImagesUnavailable(msg) from error
        series, images = shown_images(study, metadata)
        if not images:
            msg = "the study has no greyscale image"
            raise ImagesUnavailable(msg)
        return StudyImages(study_instance_uid, series, images)

    def _decoded(self, study_instance_uid: str, image: ShownImage) -> Pixels:
        try:
            instance = self._asked().instance(
                study_instance_uid, image.series_instance_uid, image.sop_instance_uid
            )
            shown = self._decoder.pixels(instance, image.frame)
        except (StudyNotFound, InstanceUnreadable) as error:
            msg = "the archive cannot give this image"
            raise ImagesUnavailable(msg) from error
        except ImageDeclined as error:
            raise ImagesUnavailable(error.outcome.detail) from error
        if shown.of != (study_instance_uid, image.sop_instance_uid):
            msg = "the archive sent another image than it was asked for"
            raise ImagesUnavailable(msg)
        return shown


class _Kept(Generic[_T]):
    """What was made lately; the oldest is dropped beyond a total weight, or when it is too old."""

    def __init__(
        self, most: int, weight: Callable[[_T], int], *, lasts_s: float = math.inf
    ) -> None:
        self._most = most
        self._lasts_s = lasts_s
        self._made_at: dict[Hashable, float] = {}
        self._weight = weight
        self._kept: OrderedDict[Hashable, _T] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Give what is kept under a key, or make it."""
        with self._lock:
            if key in self._kept:
                if time.monotonic() - self._made_at[key] < self._lasts_s:
                    self._kept.move_to_end(key)
                    return self._kept[key]
                self._drop(key)
        made = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._made_at[key] = time.monotonic()
                self._total += self._weight(made)
            while self._total > self._most and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))
        return made

    def _drop(self, key: Hashable) -> None:
        self._total -= self._weight(self._kept.pop(key))
        del self._made_at[key]
