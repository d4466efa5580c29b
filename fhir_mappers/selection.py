"""Which instances of a study are given to the model, and why the others are not."""

from dataclasses import dataclass

from ai_engine.result import NotAnalysed, Reason
from fhir_mappers.study import Instance, Series, Study

_RADIOGRAPH_MODALITIES = frozenset({"CR", "DX"})
_NO_IMAGES = frozenset({"SR", "PR", "KO", "SEG", "DOC", "OT", "RTSTRUCT", "REG", "PLAN"})
_LATERAL_VIEWS = frozenset({"LL", "RL", "LATERAL", "LAT"})
_FRONTAL_VIEWS = frozenset({"PA", "AP"})

# Which reason says most about a study, when every instance was excluded.
_MOST_TELLING = (
    Reason.LATERAL_VIEW,
    Reason.MULTI_FRAME,
    Reason.POOR_QUALITY,
    Reason.UNSUPPORTED_MODALITY,
    Reason.NO_IMAGE,
)


@dataclass(frozen=True, slots=True)
class ChosenInstance:
    """One instance to fetch and read."""

    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One instance that is not read, with the coded reason."""

    sop_instance_uid: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The instances to read, the best candidate first, and every exclusion."""

    chosen: tuple[ChosenInstance, ...]
    excluded: tuple[Exclusion, ...]

    def declined(self) -> NotAnalysed:
        """Say why nothing of the study can be read: the most telling of the exclusions."""
        for reason in _MOST_TELLING:
            for exclusion in self.excluded:
                if exclusion.reason is reason:
                    return NotAnalysed(reason, exclusion.detail)
        return NotAnalysed(Reason.NO_IMAGE, "The study holds no image.")


def select_images(study: Study) -> Selection:
    """Choose the radiographs of a study: frontal views first, then those without a named view.

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.2 Image Type; C.8.1.1 View Position; C.7.3.1.1.1 Modality.
    """
    chosen: list[tuple[bool, ChosenInstance]] = []
    excluded: list[Exclusion] = []
    for series in study.series:
        for instance in series.instances:
            refusal = _refusal(series, instance)
            if refusal is None:
                frontal = instance.view_position in _FRONTAL_VIEWS
                choice = ChosenInstance(series.series_instance_uid, instance.sop_instance_uid)
                chosen.append((not frontal, choice))
            else:
                excluded.append(Exclusion(instance.sop_instance_uid, *refusal))
    chosen.sort(key=lambda each: each[0])
    return Selection(tuple(choice for _, choice in chosen), tuple(excluded))


def _refusal(series: Series, instance: Instance) -> tuple[Reason, str] | None:
    """Say why an instance is left out, or ``None``."""
    if series.modality in _NO_IMAGES or instance.number_of_frames == 0:
        return Reason.NO_IMAGE, "The study holds no image, only reports or other objects."
    if series.modality not in _RADIOGRAPH_MODALITIES:
        return (
            Reason.UNSUPPORTED_MODALITY,
            f"The study is of modality {_modality(series)}; the model reads chest radiographs.",
        )
    if instance.number_of_frames > 1:
        return Reason.MULTI_FRAME, "The image has several frames; the model reads single ones."
    if instance.view_position in _LATERAL_VIEWS:
        return Reason.LATERAL_VIEW, "A lateral view; the model reads frontal views (PA, AP)."
    if "LOCALIZER" in instance.image_type:
        return Reason.POOR_QUALITY, "A localizer, not a diagnostic image."
    return None


def _modality(series: Series) -> str:
    """Name the modality in words that hold nothing but letters."""
    known = series.modality.isalpha() and series.modality.isascii()
    body_part = series.body_part if series.body_part.isalpha() else ""
    return (
        f"{series.modality} ({body_part.lower()})"
        if known and body_part
        else (series.modality if known else "unknown")
    )
