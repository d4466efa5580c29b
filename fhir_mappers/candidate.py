"""One instance of a study as a candidate to be read, and why candidates are left out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from ai_engine.image import View
from ai_engine.result import Reason
from fhir_mappers.acquisition import is_chest, named_view
from fhir_mappers.study import Instance, Series


class PassedOver(StrEnum):
    """Why an image is not read although the model could: another of the study stands for it."""

    DUPLICATE = "DUPLICATE"
    SAME_EXPOSURE = "SAME_EXPOSURE"
    SAME_PLACE = "SAME_PLACE"
    OTHER_STACK = "OTHER_STACK"
    OTHER_SERIES = "OTHER_SERIES"
    BEYOND_LIMIT = "BEYOND_LIMIT"


Refusal = tuple[Reason | PassedOver, str]
"""A coded reason and one sentence without patient data."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance with what its series and study say of it."""

    series: Series
    instance: Instance
    study_description: str = ""

    @property
    def modality(self) -> str:
        """Its own modality, else that of the series."""
        return self.instance.modality or self.series.modality

    @property
    def body_part(self) -> str:
        """Its own body part, else that of the series."""
        return self.instance.body_part or self.series.body_part

    @property
    def descriptions(self) -> tuple[str, str, str]:
        """Descriptions of series, protocol and study: the closest to the image first."""
        own = self.instance.description or self.series.description
        return own, self.instance.protocol_name, self.study_description

    @property
    def is_chest(self) -> bool | None:
        """Whether the header speaks of a chest; ``None`` where it names no part of the body."""
        return is_chest(self.body_part, self.instance.region_codes, self.descriptions)

    @property
    def view(self) -> View:
        """Direction of projection, as far as the header names it."""
        return named_view(self.instance.view_position, self.instance.view_codes, self.descriptions)

    @property
    def is_original(self) -> bool:
        """Whether the pixels are those that were acquired.

        References
        ----------
        DICOM PS3.3 C.7.6.1.1.2 Image Type.
        """
        return self.instance.image_type[:1] != ("DERIVED",)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to read of some candidates, in order; what is passed over; what a reader should know."""

    read: tuple[Candidate, ...] = ()
    passed_over: tuple[tuple[Candidate, Refusal], ...] = ()
    notes: tuple[str, ...] = ()


Rule = tuple[Callable[[Candidate], bool], Reason, str]
"""When an image is refused, and as what."""


def refusal(candidate: Candidate, rules: Iterable[Rule]) -> Refusal | None:
    """Give what the first rule that holds says, or ``None``."""
    return next(((reason, words) for holds, reason, words in rules if holds(candidate)), None)


def numbered(number: int | None) -> tuple[bool, int]:
    """Sort what has a number before what has none."""
    return number is None, number or 0
