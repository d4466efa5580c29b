"""Which instances of a study are given to the model, and why the others are not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ai_engine.result import NotAnalysed, Reason
from fhir_mappers import ct_series, radiographs
from fhir_mappers.candidate import (
    Candidate,
    Choice,
    PassedOver,
    Refusal,
    Rule,
    numbered,
    refusal,
)
from fhir_mappers.study import Study

NO_IMAGES = frozenset({"SR", "PR", "KO", "SEG", "DOC", "OT", "RTSTRUCT", "REG", "PLAN"})
"""Modalities of what is said about images, our own results among them: never a reason to read."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_RESULT_OBJECTS = (
    "1.2.840.10008.5.1.4.1.1.66",  # segmentations, registrations
    "1.2.840.10008.5.1.4.1.1.30",  # parametric maps
    "1.2.840.10008.5.1.4.1.1.481",  # radiotherapy
)
_LONGEST_WORD = 16

# Which reason says most about a study, when every instance was excluded.
_MOST_TELLING = (
    Reason.LATERAL_VIEW,
    Reason.UNKNOWN_VIEW,
    Reason.MULTI_FRAME,
    Reason.POOR_QUALITY,
    Reason.NON_CHEST,
    Reason.UNSUPPORTED_MODALITY,
)

_OBJECT_RULES: tuple[Rule, ...] = (
    (
        lambda each: (
            each.instance.number_of_frames < 1
            or each.modality in NO_IMAGES
            or _is_of_class(each, *_RESULT_OBJECTS)
        ),
        Reason.NO_IMAGE,
        "No image: a report, a presentation, a segmentation or another object made from images.",
    ),
    (
        lambda each: _is_of_class(each, _SECONDARY_CAPTURE),
        Reason.NO_IMAGE,
        "A secondary capture, such as a copy of a screen or a film, not an acquired image.",
    ),
)
_IMAGE_RULES: tuple[Rule, ...] = (
    (
        lambda each: each.instance.quality_control,
        Reason.POOR_QUALITY,
        "An image of a phantom, made for quality control.",
    ),
    (
        lambda each: each.instance.samples_per_pixel > 1,
        Reason.POOR_QUALITY,
        "A colour image; the model reads greyscale ones.",
    ),
    (
        lambda each: each.instance.burned_in_annotation,
        Reason.POOR_QUALITY,
        "The picture has words burned in (Burned In Annotation YES).",
    ),
)
_REJECTED: Refusal = (
    Reason.POOR_QUALITY,
    "The image was withdrawn after it was made: a key object of the study rejects it.",
)
_DUPLICATE: Refusal = (PassedOver.DUPLICATE, "The archive lists the same instance more than once.")
_OTHER_SERIES: Refusal = (PassedOver.OTHER_SERIES, "Another series of the same study was read.")


@dataclass(frozen=True, slots=True)
class ChosenInstance:
    """One instance to fetch and read."""

    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One instance that is not read, with the coded reason and a sentence without patient data.

    A ``Reason`` says that it cannot be read, ``PassedOver`` that another stands for it.
    """

    sop_instance_uid: str
    reason: Reason | PassedOver
    detail: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read of a study, and every other instance exactly once.

    Parameters
    ----------
    chosen
        Radiographs, the best candidate first; or the slices of one series, in the order in which
        they lie along their normal.
    excluded
        Each instance that is not chosen, in the order of the study.
    notes
        What a reader of the result should know, such as missing slices; no patient data.
    """

    chosen: tuple[ChosenInstance, ...]
    excluded: tuple[Exclusion, ...]
    notes: tuple[str, ...] = ()

    def declined(self) -> NotAnalysed:
        """Say why nothing of the study can be read: the most telling of the exclusions."""
        for reason in _MOST_TELLING:
            for exclusion in self.excluded:
                if exclusion.reason is reason:
                    return NotAnalysed(reason, exclusion.detail)
        only = ", only reports or other objects" if self.excluded else ""
        return NotAnalysed(Reason.NO_IMAGE, f"The study holds no image{only}.")


def select_images(
    study: Study, *, modalities: frozenset[str] = radiographs.MODALITIES
) -> Selection:
    """Choose what the model reads of a study.

    The choice does not depend on the order in which the archive lists series and instances.

    Parameters
    ----------
    study
        As the archive describes it.
    modalities
        What the model reads (0008,0060). ``CR`` and ``DX`` are read image by image, others as one
        stack of slices; where a study holds both, the slices are read.

    References
    ----------
    DICOM PS3.3 C.7.3.1.1.1 Modality; C.7.6.1.1.2 Image Type; C.7.6.2 Image Plane; C.8.1.1 View
    Position.
    """
    candidates = sorted(
        (
            Candidate(series, instance, study.description)
            for series in study.series
            for instance in series.instances
        ),
        key=_in_study,
    )
    rejected = frozenset(uid for each in candidates for uid in each.instance.rejects)
    judged = [(each, _refusal(each, modalities, rejected)) for each in candidates]
    judged.sort(key=lambda each: each[1] is not None)
    readable: list[Candidate] = []
    left_out: list[tuple[Candidate, Refusal]] = []
    seen: set[str] = set()
    for each, why in judged:
        if each.instance.sop_instance_uid in seen:
            left_out.append((each, _DUPLICATE))
        elif why is not None:
            left_out.append((each, why))
        else:
            readable.append(each)
        seen.add(each.instance.sop_instance_uid)
    choice = _choice(readable)
    left_out = sorted([*left_out, *choice.passed_over], key=lambda pair: _in_study(pair[0]))
    return Selection(
        chosen=tuple(
            ChosenInstance(each.series.series_instance_uid, each.instance.sop_instance_uid)
            for each in choice.read
        ),
        excluded=tuple(Exclusion(each.instance.sop_instance_uid, *why) for each, why in left_out),
        notes=choice.notes,
    )


def _choice(readable: Sequence[Candidate]) -> Choice:
    """Choose a stack of slices where there is one, else radiographs."""
    single = [each for each in readable if each.modality in radiographs.MODALITIES]
    slices = [each for each in readable if each.modality not in radiographs.MODALITIES]
    stack = ct_series.choose(slices)
    if not stack.read:
        return radiographs.choose(single)
    others = tuple((each, _OTHER_SERIES) for each in single)
    return replace(stack, passed_over=(*stack.passed_over, *others))


def _refusal(
    each: Candidate, modalities: frozenset[str], rejected: frozenset[str]
) -> Refusal | None:
    """Say why the model cannot read an instance, or ``None``."""
    if why := refusal(each, _OBJECT_RULES):
        return why
    if each.modality not in modalities:
        words = f"The image is of modality {_in_words(each)}; the model reads {_read(modalities)}."
        return Reason.UNSUPPORTED_MODALITY, words
    is_radiograph = each.modality in radiographs.MODALITIES
    if why := refusal(each, radiographs.RULES if is_radiograph else ct_series.RULES):
        return why
    if each.instance.sop_instance_uid in rejected:
        return _REJECTED
    return refusal(each, _IMAGE_RULES)


def _in_study(each: Candidate) -> tuple[object, ...]:
    """Order by series and number; complete, so that no order of the archive shows through."""
    series, instance = each.series, each.instance
    return (
        numbered(series.series_number),
        (series.series_instance_uid, series.modality, series.body_part, series.description),
        numbered(instance.instance_number),
        instance.sop_instance_uid,
        repr(instance),
    )


def _is_of_class(each: Candidate, *families: str) -> bool:
    return any(f"{each.instance.sop_class_uid}.".startswith(f"{family}.") for family in families)


def _in_words(each: Candidate) -> str:
    """Name modality and body part, in words that hold nothing but letters."""
    modality, body_part = (
        word if word.isascii() and word.isalpha() and len(word) <= _LONGEST_WORD else ""
        for word in (each.modality, each.body_part)
    )
    return f"{modality or 'unknown'} ({body_part.lower()})" if body_part else modality or "unknown"


def _read(modalities: frozenset[str]) -> str:
    if modalities <= radiographs.MODALITIES:
        return "chest radiographs"
    return "images of modality " + ", ".join(sorted(modalities))
