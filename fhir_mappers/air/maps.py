"""What AIR and DICOM ask of segmentations and parametric maps."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

from fhir_mappers.air.access import code, items, shown, text, texts
from fhir_mappers.air.kinds import MAPS, Kind
from fhir_mappers.air.objects import AirObject, ResultSet
from fhir_mappers.air.references import Place
from fhir_mappers.air.rule import Rule, error, warning

_SEG = frozenset({Kind.SEGMENTATION})
_MAP = frozenset({Kind.PARAMETRIC_MAP})


def _segments(checked: AirObject) -> Iterator[tuple[str, Dataset]]:
    """Give each segment with a name for people.

    Yields
    ------
    tuple
        Of the number in the file, and the item of Segment Sequence (0062,0002).
    """
    for place, each in enumerate(items(checked.dataset, "SegmentSequence"), 1):
        yield f"segment {shown(text(each, 'SegmentNumber')) or place}", each


def _algorithm_type(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for name, each in _segments(checked):
        found = text(each, "SegmentAlgorithmType")
        if found not in {"AUTOMATIC", "SEMIAUTOMATIC"}:
            yield f"{name} has {shown(found) or 'no'} Segment Algorithm Type"


def _algorithm_name(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for name, each in _segments(checked):
        made = text(each, "SegmentAlgorithmType") != "MANUAL"
        if made and not text(each, "SegmentAlgorithmName"):
            yield f"{name} has no Segment Algorithm Name"


def _segment_codes(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if not items(checked.dataset, "SegmentSequence"):
        yield "SegmentSequence (0062,0002) has no segment"
    for name, each in _segments(checked):
        for keyword in (
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
        ):
            if not code(each, keyword).whole:
                yield f"{name} has no whole code in {keyword}"


def _overlap(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if len(items(checked.dataset, "SegmentSequence")) > 1 and text(
        checked.dataset, "SegmentsOverlap"
    ) not in {"YES", "NO", "UNDEFINED"}:
        yield "SegmentsOverlap (0062,0013) is none of YES, NO and UNDEFINED"


def _tracking_pair(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for name, each in _segments(checked):
        if bool(text(each, "TrackingID")) != bool(text(each, "TrackingUID")):
            yield f"{name} has one of Tracking ID and Tracking UID and not the other"


def _no_tracking(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for name, each in _segments(checked):
        if not texts(each, "TrackingID") and not texts(each, "TrackingUID"):
            yield f"{name} has no Tracking ID (0062,0020) and Tracking UID (0062,0021)"


def _listed(checked: AirObject, _: ResultSet) -> Iterator[str]:
    listed = checked.named_at[Place.LIST]
    if not listed:
        yield "ReferencedSeriesSequence (0008,1115) names no instance"
        return
    for uid in sorted(checked.named_at[Place.USE] - listed):
        yield f"instance {shown(uid)} is used and not listed in ReferencedSeriesSequence"


def _map_units(checked: AirObject, _: ResultSet) -> Iterator[str]:
    mappings = list(_value_mappings(checked))
    if not mappings:
        yield "no RealWorldValueMappingSequence (0040,9096) in its functional groups"
    if not all(code(each, "MeasurementUnitsCodeSequence").whole for each in mappings):
        yield "a real world value mapping has no units"


def _map_quantity(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if not all(items(each, "QuantityDefinitionSequence") for each in _value_mappings(checked)):
        yield "a real world value mapping does not say which quantity it is of"


def _value_mappings(checked: AirObject) -> Iterator[Dataset]:
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(checked.dataset, groups):
            yield from items(group, "RealWorldValueMappingSequence")


MAP_RULES: tuple[Rule, ...] = (
    error(
        "segment-algorithm-type",
        _SEG,
        "Each segment was made by an algorithm: AUTOMATIC or SEMIAUTOMATIC.",
        "PS3.3 C.8.20.2; an AI result is not MANUAL",
        _algorithm_type,
    ),
    error(
        "segment-algorithm-name",
        _SEG,
        "Each segment names the algorithm that made it.",
        "PS3.3 C.8.20.2",
        _algorithm_name,
    ),
    error(
        "segment-codes",
        _SEG,
        "There are segments, each with the codes of its category and its type.",
        "PS3.3 C.8.20.2, C.8.20.4",
        _segment_codes,
    ),
    warning(
        "segments-overlap",
        _SEG,
        "Where there are several segments, Segments Overlap says whether they do.",
        "believed: PS3.3 C.8.20.2 allows it to be absent; then a display must look at each pixel",
        _overlap,
    ),
    error(
        "segment-tracking-pair",
        _SEG,
        "Tracking ID and Tracking UID of a segment come together.",
        "PS3.3 C.8.20.2",
        _tracking_pair,
    ),
    warning(
        "segment-tracking",
        _SEG,
        "Each segment has a Tracking ID and a Tracking UID.",
        "believed: IHE RAD AIR 6.5.3, for longitudinal navigation",
        _no_tracking,
    ),
    error(
        "referenced-series",
        MAPS,
        "Referenced Series Sequence lists the instances that the object was derived from.",
        "PS3.3 C.12.4",
        _listed,
    ),
    error(
        "map-units",
        _MAP,
        "The values of a parametric map are mapped to real ones, with units.",
        "PS3.3 A.75.5, C.7.6.16.2.11",
        _map_units,
    ),
    warning(
        "map-quantity",
        _MAP,
        "The mapping says which quantity the values are of.",
        "believed: PS3.3 C.7.6.16.2.11 allows it to be absent",
        _map_quantity,
    ),
)
