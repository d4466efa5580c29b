"""Which slices of a study are read: one stack of parallel slices, in the order of their place."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from statistics import median

from ai_engine.result import Reason
from fhir_mappers.candidate import Candidate, Choice, PassedOver, Refusal, Rule, numbered
from fhir_mappers.study import Plane

LEAST_SLICES = 10
MOST_SLICES = 1000

_AXIAL_COSINE = 0.7
_PARALLEL_COSINE = 0.9998
_SAME_PLACE_MM = 0.05
_MUCH_COVERED = 0.8
_GAP = 1.5

_REFORMATTED = frozenset({"MPR", "MIP", "MINIP", "IP", "REFORMATTED", "PROJECTION", "VRT", "SSD"})
_SHARP_KERNEL = re.compile(
    r"LUNG|BONE|\bEDGE|SHARP|HRCT"  # GE, and in words
    r"|^[A-Z]{1,2}[5-9]\d"  # Siemens: B50 to B90, Br59, Bl57
    r"|^FC(3\d|5\d|8\d)"  # Canon
    r"|^(D|L|Y[CD])$"  # Philips
)


def _is_derived(image: Candidate) -> bool:
    """Whether the image was computed from slices: a reformation, projection or measured map."""
    kinds = image.instance.image_type
    words = set(re.split(r"[^A-Z0-9]+", " ".join(kinds[2:])))
    return (
        kinds[1:2] == ("SECONDARY",)
        or not words.isdisjoint(_REFORMATTED)
        or not (image.is_original or kinds[2:3] in {(), ("AXIAL",), ("VOLUME",)})
    )


def _is_not_axial(image: Candidate) -> bool:
    plane = image.instance.plane
    return image.modality == "CT" and plane is not None and abs(plane.normal[2]) < _AXIAL_COSINE


RULES: tuple[Rule, ...] = (
    (
        lambda image: "LOCALIZER" in image.instance.image_type,
        Reason.POOR_QUALITY,
        "A localizer, not a diagnostic image.",
    ),
    (
        _is_derived,
        Reason.POOR_QUALITY,
        "A derived image, such as a reformation, a projection or a map; the model reads slices.",
    ),
    (
        _is_not_axial,
        Reason.POOR_QUALITY,
        "A sagittal or coronal slice; the model reads axial ones.",
    ),
)
"""What is never read, in the order in which it is asked.

References
----------
DICOM PS3.3 C.8.2.1.1.1 CT Image Type; C.8.15.2.1.1 Enhanced CT Image Type.
"""

_OTHER_SERIES: Refusal = (PassedOver.OTHER_SERIES, "Another series of the same study was read.")
_OTHER_STACK: Refusal = (
    PassedOver.OTHER_STACK,
    "Other slices of its series were read, which differ in plane, matrix, spacing or coordinates.",
)
_SAME_PLACE: Refusal = (PassedOver.SAME_PLACE, "Another slice at the same place was read.")
_BEYOND_LIMIT: Refusal = (
    PassedOver.BEYOND_LIMIT,
    f"The series has more than {MOST_SLICES} slices; those in between are left out.",
)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Slices of one series that belong together, in order.

    ``places_mm`` say where each lies along the normal; empty where the header does not.
    """

    slices: tuple[Candidate, ...]
    places_mm: tuple[float, ...] = ()
    covered: tuple[Candidate, ...] = ()

    @property
    def number_of_slices(self) -> int:
        return sum(each.instance.number_of_frames for each in self.slices)

    @property
    def is_placed(self) -> bool:
        """Whether the order in space is known; an enhanced object knows that of its frames."""
        return bool(self.places_mm) or self.slices[0].instance.number_of_frames > 1

    @property
    def distances_mm(self) -> list[float]:
        pairs = zip(self.places_mm, self.places_mm[1:], strict=False)
        return [upper - lower for lower, upper in pairs]

    @property
    def usual_distance_mm(self) -> float:
        """Between neighbours, as most of them lie; infinite where it is not known."""
        return round(median(self.distances_mm), 2) if self.distances_mm else inf

    @property
    def length_mm(self) -> float:
        """How much of the patient is covered; infinite where only the object itself knows."""
        if self.places_mm:
            return self.places_mm[-1] - self.places_mm[0]
        return inf if self.is_placed else 0.0


def choose(slices: Sequence[Candidate]) -> Choice:
    """Choose one stack among slices that no rule refuses.

    In order of weight: enough slices, a known order in space, a chest, much of the patient covered,
    a soft kernel, no more slices than are read, acquired rather than derived, thin distances, many
    slices, a low series number.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 Image Position and Orientation (Patient).
    """
    stacks = _stacks(slices)
    if not stacks:
        return Choice()
    best = _best(stacks)
    step = ceil(len(best.slices) / MOST_SLICES)
    read = best.slices[::step]
    reading = {each.instance.sop_instance_uid for each in read}
    thinned = {each.instance.sop_instance_uid for each in best.slices} - reading
    covered = {each.instance.sop_instance_uid for each in best.covered}
    series_instance_uid = best.slices[0].series.series_instance_uid

    def why(image: Candidate) -> Refusal:
        if image.series.series_instance_uid != series_instance_uid:
            return _OTHER_SERIES
        if image.instance.sop_instance_uid in thinned:
            return _BEYOND_LIMIT
        return _SAME_PLACE if image.instance.sop_instance_uid in covered else _OTHER_STACK

    passed_over = tuple(
        (each, why(each)) for each in slices if each.instance.sop_instance_uid not in reading
    )
    return Choice(read, passed_over, _notes(best, step))


def _stacks(slices: Sequence[Candidate]) -> list[_Stack]:
    """Part slices into those of one series, modality, matrix, frame of reference and spacing."""
    alike: dict[tuple[object, ...], list[Candidate]] = {}
    for each in slices:
        one, plane = each.instance, each.instance.plane
        key = (
            each.series.series_instance_uid,
            each.modality,
            one.sop_instance_uid if one.number_of_frames > 1 else "",
            one.rows,
            one.columns,
            plane and (plane.frame_of_reference_uid, plane.spacing_mm),
        )
        alike.setdefault(key, []).append(each)
    return [_stack(members) for members in alike.values()]


def _stack(members: Sequence[Candidate]) -> _Stack:
    """Put slices in order: those parallel to most, by their place along the normal."""
    planes = [(each, each.instance.plane) for each in members]
    placed = [(each, plane) for each, plane in planes if plane is not None]
    if not placed or members[0].instance.number_of_frames > 1:
        return _Stack(tuple(sorted(members, key=_by_number)))
    usual = _usual([plane for _, plane in placed])
    places = sorted(
        (
            (_along(usual.normal, plane.position_mm), each)
            for each, plane in placed
            if _is_parallel(plane, usual)
        ),
        key=lambda place: (place[0], _by_number(place[1])),
    )
    return _without_repeats(places)


def _usual(planes: Sequence[Plane]) -> Plane:
    """Give a plane that lies as most of them do; always the same one."""
    alike: dict[tuple[float, ...], list[Plane]] = {}
    for plane in planes:
        alike.setdefault(tuple(round(each, 2) for each in plane.orientation), []).append(plane)
    most = max(alike.items(), key=lambda item: (len(item[1]), item[0]))[1]
    return min(most, key=lambda plane: plane.orientation)


def _is_parallel(plane: Plane, other: Plane) -> bool:
    one, two = plane.orientation, other.orientation
    cosines = _along(one[:3], two[:3]), _along(one[3:], two[3:])
    return min(cosines) > _PARALLEL_COSINE


def _without_repeats(places: Sequence[tuple[float, Candidate]]) -> _Stack:
    """Keep one slice at each place: of the larger acquisition, then of the later one."""
    sizes = Counter(each.instance.acquisition_number for _, each in places)
    runs: list[list[tuple[float, Candidate]]] = []
    for place, each in places:
        if not runs or place - runs[-1][0][0] > _SAME_PLACE_MM:
            runs.append([])
        runs[-1].append((place, each))

    def worth(item: tuple[float, Candidate]) -> tuple[int, int, int, str, str]:
        one = item[1].instance
        return (
            sizes[one.acquisition_number],
            one.acquisition_number or 0,
            one.instance_number or 0,
            one.acquired,
            one.sop_instance_uid,
        )

    kept = [max(run, key=worth) for run in runs]
    uids = {each.instance.sop_instance_uid for _, each in kept}
    return _Stack(
        slices=tuple(each for _, each in kept),
        places_mm=tuple(place for place, _ in kept),
        covered=tuple(each for _, each in places if each.instance.sop_instance_uid not in uids),
    )


def _best(stacks: Sequence[_Stack]) -> _Stack:
    tier = min(map(_tier, stacks))
    stacks = [each for each in stacks if _tier(each) == tier]
    longest_mm = max((each.length_mm for each in stacks if each.length_mm < inf), default=0.0)
    much_mm = _MUCH_COVERED * longest_mm
    return min((each for each in stacks if each.length_mm >= much_mm), key=_disfavour)


def _tier(stack: _Stack) -> tuple[bool, bool, int]:
    chest = {True: 0, None: 1, False: 2}[stack.slices[0].is_chest]
    return stack.number_of_slices < LEAST_SLICES, not stack.is_placed, chest


def _disfavour(stack: _Stack) -> tuple[object, ...]:
    first = stack.slices[0]
    kernel = first.instance.kernel or first.descriptions[0].upper()
    return (
        bool(_SHARP_KERNEL.search(kernel)),
        len(stack.slices) > MOST_SLICES,
        not first.is_original,
        stack.usual_distance_mm,
        -stack.number_of_slices,
        numbered(first.series.series_number),
        first.series.series_instance_uid,
        first.instance.sop_instance_uid,
    )


def _notes(stack: _Stack, step: int) -> tuple[str, ...]:
    """Say what a reader of the result should know of the slices."""
    notes = []
    if stack.number_of_slices < LEAST_SLICES:
        notes.append(f"Slices in the series: {stack.number_of_slices}, fewer than {LEAST_SLICES}.")
    if not stack.is_placed:
        notes.append("The header does not say where the slices lie; they are read by number.")
    usual_mm = stack.usual_distance_mm
    gaps = [each for each in stack.distances_mm if each > _GAP * usual_mm]
    if gaps:
        notes.append(
            f"Gaps between slices: {len(gaps)}, the widest {max(gaps):.1f} mm where "
            f"{usual_mm:.1f} mm is usual."
        )
    if step > 1:
        notes.append(f"One slice of every {step} is read.")
    return tuple(notes)


def _by_number(image: Candidate) -> tuple[tuple[bool, int], str]:
    return numbered(image.instance.instance_number), image.instance.sop_instance_uid


def _along(normal: Sequence[float], vector: Sequence[float]) -> float:
    return sum(each * other for each, other in zip(normal, vector, strict=True))
