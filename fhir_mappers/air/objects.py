"""What is checked: objects, one by one and together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset

from fhir_mappers.air.access import (
    DEEPEST,
    MOST_ITEMS,
    Code,
    code,
    code_of,
    elements,
    items,
    text,
    texts,
    walk,
)
from fhir_mappers.air.content_tree import Node, content_tree
from fhir_mappers.air.kinds import RESULTS, Kind, kind_of
from fhir_mappers.air.references import Place, Reference, references_of

Run = tuple[str, frozenset[tuple[str, str]]]
"""A study, and model name and device of the algorithms."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A measurement group or a segment that is tracked."""

    identifier: str
    uid: str
    where: str


@dataclass(frozen=True, eq=False)
class AirObject:
    """One object.

    Parameters
    ----------
    name
        For people, such as a file name.
    dataset
        With or without pixel data and file meta information.
    """

    name: str
    dataset: Dataset

    @cached_property
    def kind(self) -> Kind:
        """What it is, by its SOP Class; a scanned picture that no algorithm made is a source."""
        return kind_of(self.dataset)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The content tree, root first; empty for what has none."""
        if self.kind not in {Kind.REPORT, Kind.KEY_OBJECT}:
            return ()
        return tuple(content_tree(self.dataset))

    @cached_property
    def too_deep(self) -> bool:
        """Whether the content tree goes on where it is no longer looked at."""
        return len(self.nodes) >= MOST_ITEMS or any(
            each.path.count(".") >= DEEPEST and items(each.item, "ContentSequence")
            for each in self.nodes
        )

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """Every reference to another instance."""
        return tuple(references_of(self.dataset))

    @cached_property
    def codes(self) -> tuple[Code, ...]:
        """Every code, with its parts."""
        found = (code_of(item) for _, item in walk(self.dataset))
        return tuple(each for each in found if each.value)

    @cached_property
    def uids(self) -> tuple[tuple[str, str], ...]:
        """Every value of VR UI as keyword and value."""
        return tuple(
            (keyword, value)
            for _, item in walk(self.dataset)
            for keyword, vr in elements(item)
            if vr == "UI"
            for value in texts(item, keyword)
        )

    @cached_property
    def algorithms(self) -> tuple[Dataset, ...]:
        """The items of Contributing Equipment Sequence that describe an algorithm."""
        equipment = items(self.dataset, "ContributingEquipmentSequence")
        return tuple(each for each in equipment if _processes(each))

    def uid(self, keyword: str) -> str:
        """Give a UID of the object, or nothing."""
        return text(self.dataset, keyword)

    @cached_property
    def named_at(self) -> Mapping[Place, frozenset[str]]:
        """The SOP Instance UIDs that it refers to, by place."""
        return {
            place: frozenset(
                each.sop_instance_uid for each in self.references if each.place is place
            )
            for place in Place
        }

    @cached_property
    def tracked(self) -> tuple[Tracked, ...]:
        """Everything that has both a tracking identifier and a tracking UID."""
        return tuple(each for each in _tracked(self) if each.identifier and each.uid)


@dataclass(frozen=True, eq=False)
class ResultSet:
    """The objects that are checked together."""

    objects: tuple[AirObject, ...]

    @cached_property
    def results(self) -> tuple[AirObject, ...]:
        """What is no source."""
        return tuple(each for each in self.objects if each.kind in RESULTS)

    @cached_property
    def sources(self) -> tuple[AirObject, ...]:
        """The images that may have been analysed."""
        return tuple(each for each in self.objects if each.kind is Kind.SOURCE)

    @cached_property
    def by_uid(self) -> Mapping[str, AirObject]:
        """The objects by SOP Instance UID; of two with one UID, the first."""
        return {each.uid("SOPInstanceUID"): each for each in reversed(self.objects)}

    @cached_property
    def source_studies(self) -> frozenset[str]:
        """The studies of which images were given."""
        return frozenset(each.uid("StudyInstanceUID") for each in self.sources)

    @cached_property
    def source_series(self) -> frozenset[str]:
        """The series of the images that were given."""
        return frozenset(each.uid("SeriesInstanceUID") for each in self.sources)

    @cached_property
    def first_of_study(self) -> Mapping[str, AirObject]:
        """The first object of each study: a source image, where one was given."""
        ordered = (*self.sources, *self.results)
        return {each.uid("StudyInstanceUID"): each for each in reversed(ordered)}

    @cached_property
    def first_of_series(self) -> Mapping[str, AirObject]:
        """The first result of each series."""
        return {each.uid("SeriesInstanceUID"): each for each in reversed(self.results)}

    @cached_property
    def run_sizes(self) -> Mapping[Run, int]:
        """How many results the same algorithms made for the same study."""
        return Counter(run(each) for each in self.results)

    @cached_property
    def roots(self) -> tuple[AirObject, ...]:
        """The root results: SR that refer to other results, and that no other SR refers to."""
        reports = [each for each in self.results if each.kind is Kind.REPORT]
        results = frozenset(each.uid("SOPInstanceUID") for each in self.results)
        others = {
            each: (each.named_at[Place.TREE] | each.named_at[Place.EVIDENCE])
            & results - {each.uid("SOPInstanceUID")}
            for each in reports
        }
        below = frozenset[str]().union(*others.values())
        return tuple(
            each for each in reports if others[each] and each.uid("SOPInstanceUID") not in below
        )

    @cached_property
    def tracking(self) -> Mapping[tuple[Run, str], frozenset[Tracked]]:
        """What is tracked, by the algorithms and both the identifier and the UID."""
        found: dict[tuple[Run, str], set[Tracked]] = defaultdict(set)
        for each in self.results:
            for tracked in each.tracked:
                for key in (tracked.identifier, tracked.uid):
                    found[run(each), key].add(tracked)
        return {key: frozenset(tracked) for key, tracked in found.items()}

    @classmethod
    def of(cls, datasets: Iterable[tuple[str, Dataset]]) -> "ResultSet":
        """Build it of names and datasets."""
        return cls(tuple(AirObject(name, dataset) for name, dataset in datasets))


def run(checked: AirObject) -> Run:
    """Tell which algorithms made a result, for which study."""
    return checked.uid("StudyInstanceUID"), frozenset(
        (text(each, "ManufacturerModelName"), text(each, "DeviceUID"))
        for each in checked.algorithms
    )


def _processes(equipment: Dataset) -> bool:
    purpose = code(equipment, "PurposeOfReferenceCodeSequence")
    named = purpose.meaning.strip(" '\"").casefold() == "processing algorithm"
    return purpose.is_dcm("109102") or named


def _tracked(checked: AirObject) -> Iterator[Tracked]:
    for node in checked.nodes:
        for identifier in node.named("112039"):
            for uid in node.named("112040"):
                pair = text(identifier.item, "TextValue"), text(uid.item, "UID")
                yield Tracked(*pair, f"group {node.path}")
    for number, each in enumerate(items(checked.dataset, "SegmentSequence"), 1):
        yield Tracked(text(each, "TrackingID"), text(each, "TrackingUID"), f"segment {number}")
