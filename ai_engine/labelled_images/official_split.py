"""Into which part the makers of a set put an image."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from ai_engine.labelled_images.labelled_image import ImageSet


class Part(StrEnum):
    """A part of a set; no person is in two."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


class OfficiallySplit(ImageSet, Protocol):
    """A set whose makers, or whose label file, say what is for testing."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """The part of each address that has one."""
        ...
