"""What AIR and DICOM ask of the content items of a structured report."""

from collections.abc import Iterator

from fhir_mappers.air.access import code, items, numbers, shown, text
from fhir_mappers.air.content_tree import Node
from fhir_mappers.air.kinds import Kind
from fhir_mappers.air.objects import AirObject, ResultSet
from fhir_mappers.air.rule import Rule, error, warning

_REPORT = frozenset({Kind.REPORT})
_NAMED = {"TEXT", "NUM", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"}
_POINTING = {"IMAGE", "COMPOSITE", "WAVEFORM", "SCOORD", "SCOORD3D", "TCOORD"}
_VALUE_TYPES = _NAMED | _POINTING | {"CONTAINER", "TABLE"}
_GROUP = "125007"
_COORDINATES: dict[str, tuple[int, int | None]] = {
    "POINT": (2, 2),
    "CIRCLE": (4, 4),
    "ELLIPSE": (8, 8),
    "POLYLINE": (4, None),
    "MULTIPOINT": (2, None),
}
"""Fewest and most values of Graphic Data (PS3.3 C.18.6.1.2)."""


def _content_items(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _own_items(checked):
        if each.value_type not in _VALUE_TYPES:
            found = shown(each.value_type) or "nothing"
            yield f"content item {each.path} has {found} as its Value Type"
        if each.parent and not text(each.item, "RelationshipType"):
            yield f"content item {each.path} has no Relationship Type"


def _concept_names(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _own_items(checked):
        must = each.value_type in _NAMED or each.parent is None
        if must and not each.name.whole:
            yield f"content item {each.path} has no concept name with value, scheme and meaning"


def _coded_values(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _own_items(checked):
        if each.value_type == "CODE" and not each.value.whole:
            yield f"content item {each.path} has no code with value, scheme and meaning"


def _depth(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if checked.too_deep:
        yield "the content tree is nested deeper, or is larger, than is looked into"


def _tracking(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _groups(checked):
        if not any(text(child.item, "TextValue") for child in each.named("112039")):
            yield f"group {each.path} has no Tracking Identifier (112039, DCM)"
        if not any(text(child.item, "UID") for child in each.named("112040")):
            yield f"group {each.path} has no Tracking Unique Identifier (112040, DCM)"


def _group_algorithm(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _groups(checked):
        if not any(below.is_named("111001") for below in each.below()):
            yield f"group {each.path} names no algorithm (111001, DCM)"


def _algorithm_version(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in checked.nodes:
        names = any(text(child.item, "TextValue") for child in each.named("111001"))
        versions = any(text(child.item, "TextValue") for child in each.named("111003"))
        if names != versions:
            missing = "version (111003, DCM)" if names else "name (111001, DCM)"
            yield f"the algorithm at content item {each.path} has no {missing}"


def _units(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _measurements(checked):
        for value in items(each.item, "MeasuredValueSequence"):
            if not code(value, "MeasurementUnitsCodeSequence").whole:
                yield f"measurement {each.path} has no units"
            if len(numbers(value, "NumericValue")) != 1:
                yield f"measurement {each.path} has a value that is not one number"


def _no_value(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in _measurements(checked):
        explained = items(each.item, "NumericValueQualifierCodeSequence")
        if not explained and not items(each.item, "MeasuredValueSequence"):
            yield f"measurement {each.path} has no value, and nothing says why"


def _graphics(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in checked.nodes:
        if each.value_type == "SCOORD":
            yield from (f"location {each.path} {what}" for what in _graphic(each))


def _graphic(node: Node) -> Iterator[str]:
    kind, values = text(node.item, "GraphicType"), numbers(node.item, "GraphicData")
    if kind not in _COORDINATES:
        yield f"has {shown(kind) or 'nothing'} as its Graphic Type"
    elif not _makes(kind, len(values)):
        yield f"has {len(values)} coordinates, which make no {kind}"
    if sum(child.value_type == "IMAGE" for child in node.children) != 1:
        yield "is not selected from exactly one image"


def _makes(kind: str, count: int) -> bool:
    fewest, most = _COORDINATES[kind]
    return count % 2 == 0 and count >= fewest and (most is None or count <= most)


def _inside(checked: AirObject, all_: ResultSet) -> Iterator[str]:
    for each in checked.nodes:
        if each.value_type == "SCOORD" and text(each.item, "PixelOriginInterpretation") != "VOLUME":
            image = _image_of(each, all_)
            if image is not None and not _within(each, image):
                yield f"location {each.path} lies outside the image that it is selected from"


def _image_of(node: Node, all_: ResultSet) -> AirObject | None:
    for child in node.children:
        for reference in items(child.item, "ReferencedSOPSequence"):
            return all_.by_uid.get(text(reference, "ReferencedSOPInstanceUID"))
    return None


def _within(node: Node, image: AirObject) -> bool:
    size = (*numbers(image.dataset, "Columns"), *numbers(image.dataset, "Rows"))
    values = numbers(node.item, "GraphicData")
    if len(size) != 2:  # noqa: PLR2004 - columns and rows
        return True
    return all(0 <= value <= size[index % 2] for index, value in enumerate(values))


def _locations_3d(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in checked.nodes:
        if each.value_type != "SCOORD3D":
            continue
        if not text(each.item, "ReferencedFrameOfReferenceUID"):
            yield f"location {each.path} has no frame of reference"
        values = numbers(each.item, "GraphicData")
        if not values or len(values) % 3:
            yield f"location {each.path} has {len(values)} coordinates, which make no points"


def _own_items(checked: AirObject) -> Iterator[Node]:
    return (each for each in checked.nodes if not each.by_reference)


def _groups(checked: AirObject) -> Iterator[Node]:
    return (each for each in checked.nodes if each.is_named(_GROUP))


def _measurements(checked: AirObject) -> Iterator[Node]:
    return (each for each in checked.nodes if each.value_type == "NUM")


CONTENT_RULES: tuple[Rule, ...] = (
    error(
        "content-item",
        _REPORT,
        "Each content item has a Value Type, and below the root a Relationship Type.",
        "PS3.3 C.17.3",
        _content_items,
    ),
    error(
        "concept-name",
        _REPORT,
        "What needs a concept name has one, with value, scheme and meaning.",
        "PS3.3 C.17.3, 8.8",
        _concept_names,
    ),
    error(
        "coded-value",
        _REPORT,
        "What is coded has a code with value, scheme and meaning.",
        "PS3.3 C.18.2, 8.8",
        _coded_values,
    ),
    error(
        "content-depth",
        _REPORT,
        "The content tree is one that can be looked through: 64 levels, 200,000 items.",
        "a limit of this checker",
        _depth,
    ),
    error(
        "tracking",
        _REPORT,
        "Each measurement group has a Tracking Identifier and a Tracking Unique Identifier.",
        "IHE RAD AIR 6.5.3; PS3.16 TID 1501, 1410, 1411",
        _tracking,
    ),
    warning(
        "group-algorithm",
        _REPORT,
        "Each measurement group names the algorithm that made it.",
        "believed: PS3.16 TID 4019, which TID 1501, 1410 and 1411 include",
        _group_algorithm,
    ),
    error(
        "algorithm-version",
        _REPORT,
        "Algorithm Name (111001, DCM) and Algorithm Version (111003, DCM) come together.",
        "PS3.16 TID 4019",
        _algorithm_version,
    ),
    error(
        "measurement-units",
        _REPORT,
        "A measured value is one number, with its units.",
        "PS3.3 C.18.1",
        _units,
    ),
    warning(
        "measurement-absent",
        _REPORT,
        "A measurement without a value says why, by Numeric Value Qualifier.",
        "believed: PS3.3 C.18.1 allows it to be absent; then nobody knows what it means",
        _no_value,
    ),
    error(
        "location",
        _REPORT,
        "A location has the coordinates of its Graphic Type, and is selected from one image.",
        "IHE RAD AIR 6.5.3.4; PS3.3 C.18.6",
        _graphics,
    ),
    error(
        "location-inside",
        _REPORT,
        "A location lies within the rows and columns of its image, where that is given.",
        "PS3.3 C.18.6.1.1",
        _inside,
    ),
    error(
        "location-3d",
        _REPORT,
        "A location in space has a frame of reference and whole points.",
        "IHE RAD AIR 6.5.3.4; PS3.3 C.18.9",
        _locations_3d,
    ),
)
