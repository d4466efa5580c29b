"""What AIR and DICOM ask of a result object, whatever it holds."""

from collections.abc import Iterator

from fhir_mappers.air.access import code, is_uid, items, shown, text, texts
from fhir_mappers.air.kinds import PICTURES, PRIMITIVES, RESULTS, Kind
from fhir_mappers.air.objects import AirObject, ResultSet
from fhir_mappers.air.rule import Check, Rule, error, warning
from fhir_mappers.air.schemes import SCHEMES, is_private

_AIR = "IHE RAD AIR 6.5.3.1"
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_MODALITY = {
    Kind.REPORT: "SR",
    Kind.SEGMENTATION: "SEG",
    Kind.PRESENTATION_STATE: "PR",
    Kind.KEY_OBJECT: "KO",
}
_DATE_DIGITS = 8
_TIME_DIGITS = 12


def _equipment(checked: AirObject, _: ResultSet) -> Iterator[str]:
    if not checked.algorithms:
        yield (
            "no item of ContributingEquipmentSequence (0018,A001) has the purpose "
            "Processing Equipment (109102, DCM) or Processing Algorithm"
        )


def _placeholder_purpose(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for each in checked.algorithms:
        value = code(each, "PurposeOfReferenceCodeSequence").value
        if value.casefold().startswith("newcode"):
            yield f"the purpose of reference has the code {shown(value)}"


def _algorithm_has(keyword: str) -> Check:
    def check(checked: AirObject, _: ResultSet) -> Iterator[str]:
        for number, each in enumerate(checked.algorithms, 1):
            if not texts(each, keyword):
                yield f"algorithm {number} has no {keyword}"

    return check


def _content_date(checked: AirObject, _: ResultSet) -> Iterator[str]:
    date, time = text(checked.dataset, "ContentDate"), text(checked.dataset, "ContentTime")
    if not _is_date(date):
        yield f"ContentDate is {'malformed' if date else 'absent or empty'}"
    if not _is_time(time):
        yield f"ContentTime is {'malformed' if time else 'absent or empty'}"


def _content_after_creation(checked: AirObject, _: ResultSet) -> Iterator[str]:
    """Compare the earliest that the content can be with the latest that the creation can be."""
    content = _moment(checked, "Content", "0")
    creation = _moment(checked, "InstanceCreation", "9")
    if content and creation and content > creation:
        yield "ContentDate and ContentTime are later than InstanceCreationDate and -Time"


def _moment(checked: AirObject, what: str, filler: str) -> str:
    date, time = text(checked.dataset, f"{what}Date"), text(checked.dataset, f"{what}Time")
    if not _is_date(date) or not _is_time(time):
        return ""
    return date + time.replace(".", "").ljust(_TIME_DIGITS, filler)


def _is_date(value: str) -> bool:
    return len(value) == _DATE_DIGITS and value.isascii() and value.isdigit()


def _is_time(value: str) -> bool:
    whole, _, fraction = value.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()) or len(whole) not in {2, 4, 6}:
        return False
    return len(digits) <= _TIME_DIGITS and (not fraction or len(whole) == 6)  # noqa: PLR2004 - HHMMSS


def _uids(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for keyword in _IDENTITY:
        if not checked.uid(keyword):
            yield f"{keyword} is absent or empty"
    for keyword in sorted({keyword for keyword, value in checked.uids if not is_uid(value)}):
        yield f"{keyword} holds a value that is no UID"


def _file_meta(checked: AirObject, _: ResultSet) -> Iterator[str]:
    meta = getattr(checked.dataset, "file_meta", None)
    if meta is None:
        return
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if text(meta, f"MediaStorage{keyword}") != checked.uid(keyword):
            yield f"MediaStorage{keyword} (file meta information) is not the {keyword}"


def _modality(checked: AirObject, _: ResultSet) -> Iterator[str]:
    expected, found = _MODALITY[checked.kind], text(checked.dataset, "Modality")
    if found != expected:
        yield f"Modality (0008,0060) is {shown(found) or 'empty'}, not {expected}"


def _unknown_schemes(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for scheme in _unidentified(checked):
        if not is_private(scheme):
            yield f"the coding scheme {shown(scheme)} is not registered, and nothing identifies it"


def _private_schemes(checked: AirObject, _: ResultSet) -> Iterator[str]:
    for scheme in _unidentified(checked):
        if is_private(scheme):
            yield f"nothing identifies the private coding scheme {shown(scheme)}"


def _unidentified(checked: AirObject) -> list[str]:
    named = items(checked.dataset, "CodingSchemeIdentificationSequence")
    identified = {text(each, "CodingSchemeDesignator") for each in named}
    return sorted({each.scheme for each in checked.codes if each.scheme} - SCHEMES - identified)


GENERAL_RULES: tuple[Rule, ...] = (
    error(
        "equipment",
        PRIMITIVES,
        "Each algorithm is an item of Contributing Equipment Sequence, with the purpose of "
        "processing.",
        _AIR,
        _equipment,
    ),
    warning(
        "equipment-purpose",
        PRIMITIVES,
        "The purpose of reference is an assigned code: `Newcode1` is a placeholder of the "
        "supplement's text.",
        f"believed: {_AIR} (Rev. 1.1) has the placeholder, PS3.16 CID 7005 has 109102",
        _placeholder_purpose,
    ),
    error(
        "equipment-manufacturer",
        PRIMITIVES,
        "Each algorithm has a Manufacturer.",
        _AIR,
        _algorithm_has("Manufacturer"),
    ),
    error(
        "equipment-model",
        PRIMITIVES,
        "Each algorithm has a Manufacturer's Model Name.",
        _AIR,
        _algorithm_has("ManufacturerModelName"),
    ),
    error(
        "equipment-version",
        PRIMITIVES,
        "Each algorithm has Software Versions.",
        _AIR,
        _algorithm_has("SoftwareVersions"),
    ),
    error(
        "equipment-device",
        PRIMITIVES,
        "Each algorithm has a Device UID, which changes when the model does.",
        _AIR,
        _algorithm_has("DeviceUID"),
    ),
    warning(
        "picture-equipment",
        PICTURES,
        "A picture, presentation state or key object selection beside the results names the "
        "algorithm too.",
        f"believed: {_AIR} by analogy; PS3.3 C.12.1",
        _equipment,
    ),
    error(
        "content-date",
        PRIMITIVES,
        "Content Date and Content Time are there: when the analysis began.",
        f"{_AIR}; PS3.3 C.17.2, C.7.6.16",
        _content_date,
    ),
    error(
        "content-after-creation",
        PRIMITIVES,
        "The content is not younger than the object.",
        f"{_AIR}: it is the time when the analysis began; PS3.3 C.17.2, C.12.1",
        _content_after_creation,
    ),
    error(
        "uid",
        RESULTS,
        "The object has its four identifiers, and every UID in it is one.",
        "PS3.5 9.1; PS3.3 C.12.1, C.7.3.1, C.7.2.1",
        _uids,
    ),
    error(
        "file-meta",
        RESULTS,
        "The file meta information names the object that follows.",
        "PS3.10 7.1",
        _file_meta,
    ),
    error(
        "modality",
        frozenset(_MODALITY),
        "The modality is the one of the kind of object: SR, SEG, PR or KO.",
        "PS3.3 C.17.1, C.8.20.1, C.11.9, C.17.6.1",
        _modality,
    ),
    error(
        "coding-scheme",
        RESULTS,
        "A coding scheme is registered, or Coding Scheme Identification Sequence says what it is.",
        "PS3.3 8.2, C.12.1; PS3.16 Table 8-1",
        _unknown_schemes,
    ),
    warning(
        "private-scheme",
        RESULTS,
        "Coding Scheme Identification Sequence says what a private coding scheme is.",
        "believed: PS3.3 C.12.1 allows it to be absent; then no reader can look the code up",
        _private_schemes,
    ),
)
