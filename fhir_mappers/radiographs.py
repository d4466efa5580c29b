"""Which radiographs of a study are read: frontal views of the chest, the latest first."""

from collections.abc import Iterable, Sequence

from ai_engine.image import View
from ai_engine.result import Reason
from fhir_mappers.candidate import Candidate, Choice, PassedOver, Refusal, Rule

MODALITIES = frozenset({"CR", "DX"})
MOST_RADIOGRAPHS = 8

_FOR_PROCESSING_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
_DAY = len("YYYYMMDD")

RULES: tuple[Rule, ...] = (
    (
        lambda image: image.is_chest is False,
        Reason.NON_CHEST,
        "The radiograph is of another body part; the model reads chest radiographs.",
    ),
    (
        lambda image: image.instance.number_of_frames > 1,
        Reason.MULTI_FRAME,
        "The image has several frames; the model reads single ones.",
    ),
    (
        lambda image: (
            image.instance.presentation_intent == "FOR PROCESSING"
            or image.instance.sop_class_uid == _FOR_PROCESSING_CLASS
        ),
        Reason.POOR_QUALITY,
        "A raw image (FOR PROCESSING); the model reads images for presentation.",
    ),
    (
        lambda image: "LOCALIZER" in image.instance.image_type,
        Reason.POOR_QUALITY,
        "A localizer, not a diagnostic image.",
    ),
    (
        lambda image: image.instance.image_type[:2] == ("DERIVED", "SECONDARY"),
        Reason.POOR_QUALITY,
        "A derived image (DERIVED, SECONDARY), made after the examination from another one.",
    ),
    (
        lambda image: image.view is View.LATERAL,
        Reason.LATERAL_VIEW,
        "A lateral view; the model reads frontal views (PA, AP).",
    ),
    (
        lambda image: image.view is View.OTHER,
        Reason.UNKNOWN_VIEW,
        "An oblique or special view; the model reads PA and AP.",
    ),
)
"""What is never read, in the order in which it is asked. A view that the header does not name is
passed on: the engine's scope gate declines it in its own words.

References
----------
DICOM PS3.3 C.7.6.1.1.2 Image Type; C.8.1.1, C.8.11.5 View; C.8.11.1 Presentation Intent Type.
"""

_SAME_EXPOSURE: Refusal = (
    PassedOver.SAME_EXPOSURE,
    "A processed copy of an exposure of which the study holds the original.",
)
_BEYOND_LIMIT: Refusal = (
    PassedOver.BEYOND_LIMIT,
    f"More than {MOST_RADIOGRAPHS} radiographs: frontal views are read first, the latest first.",
)


def choose(radiographs: Sequence[Candidate]) -> Choice:
    """Choose among radiographs that no rule refuses.

    Every take of a repeated view is read, so that no finding is lost with the take that shows it.
    Of one exposure the original is read, its processed copies are not.
    """
    copies = _processed_copies(radiographs)
    ranked = sorted(
        (each for each in radiographs if each.instance.sop_instance_uid not in copies),
        key=lambda each: each.instance.sop_instance_uid,
    )
    ranked.sort(key=_recency, reverse=True)
    ranked.sort(key=lambda each: each.view is View.UNKNOWN)
    return Choice(
        read=tuple(ranked[:MOST_RADIOGRAPHS]),
        passed_over=tuple(
            (each, _SAME_EXPOSURE)
            for each in radiographs
            if each.instance.sop_instance_uid in copies
        )
        + tuple((each, _BEYOND_LIMIT) for each in ranked[MOST_RADIOGRAPHS:]),
    )


def _recency(image: Candidate) -> tuple[str, int, int]:
    """Order by time, then by number where the header has no time."""
    instance = image.instance
    return instance.acquired, image.series.series_number or 0, instance.instance_number or 0


def _processed_copies(radiographs: Iterable[Candidate]) -> frozenset[str]:
    """Name the derived images whose exposure has an original among the radiographs.

    The same exposure has the same Irradiation Event UID. Only where one of two images has none,
    the same moment, acquisition number and view are taken for it.

    References
    ----------
    DICOM PS3.3 C.7.6.1, C.8.7.8 Irradiation Event UID (0008,3010).
    """
    originals = [each for each in radiographs if each.is_original]
    events = {uid for each in originals for uid in each.instance.irradiation_event_uids}
    moments = {_moment(each) for each in originals}
    unnamed = {_moment(each) for each in originals if not each.instance.irradiation_event_uids}
    copies = set()
    for each in radiographs:
        own = each.instance.irradiation_event_uids
        at_the_same_time = len(each.instance.acquired) > _DAY and _moment(each) in (
            unnamed if own else moments
        )
        if not each.is_original and (at_the_same_time or not events.isdisjoint(own)):
            copies.add(each.instance.sop_instance_uid)
    return frozenset(copies)


def _moment(image: Candidate) -> tuple[str, int | None, View]:
    return image.instance.acquired, image.instance.acquisition_number, image.view
