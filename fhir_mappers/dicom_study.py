"""DICOM JSON of a study's instances in, ``Study`` out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from fhir_mappers.dicom_instance import instance_of, whole_number
from fhir_mappers.dicom_json import CONTROL, Attributes, text, values
from fhir_mappers.errors import InvalidStudy
from fhir_mappers.patient_and_study import zone_of
from fhir_mappers.study import Instance, Patient, PersonName, Series, Study

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(\.\d{1,6})?")


def check_uid(value: str, attribute: str) -> str:
    """Give the UID back if it is one.

    Raises
    ------
    InvalidStudy
        If it is anything but digits and single dots, at most 64 characters. The message names the
        attribute, never the value.

    References
    ----------
    DICOM PS3.5 9.1.
    """
    if len(value) > _LONGEST_UID or not _UID.fullmatch(value):
        msg = f"{attribute} is not a UID of digits and dots, at most {_LONGEST_UID} characters"
        raise InvalidStudy(msg)
    return value


def study_of(metadata: Sequence[Attributes], *, timezone: str) -> Study:
    """Read the study that instances belong to.

    Parameters
    ----------
    metadata
        DICOM JSON of each instance, as WADO-RS ``/metadata`` gives it.
    timezone
        IANA zone of a study without Timezone Offset From UTC (0008,0201).

    Raises
    ------
    InvalidStudy
        If there is no instance, a UID is malformed, or instances disagree about study or patient.

    References
    ----------
    DICOM PS3.18 F.2 DICOM JSON model; PS3.3 C.7.1.1, C.7.2.1, C.7.3.1.
    """
    if not metadata:
        msg = "the study has no instance"
        raise InvalidStudy(msg)
    first = min(metadata, key=lambda each: text(each, "00080018"))
    for tag, name in (("0020000D", "Study Instance UID"), ("00100020", "Patient ID")):
        if any(text(each, tag) != text(first, tag) for each in metadata):
            msg = f"the instances of the study disagree about {name}"
            raise InvalidStudy(msg)
    return Study(
        study_instance_uid=check_uid(text(first, "0020000D"), "Study Instance UID"),
        accession_number=text(first, "00080050"),
        patient=Patient(
            patient_id=text(first, "00100020"),
            issuer=text(first, "00100021"),
            name=_person_name(first, "00100010"),
            birth_date=_iso_date(text(first, "00100030")),
            sex=_sex(text(first, "00100040")),
        ),
        started=_started(first, timezone),
        description=text(first, "00081030"),
        referring_physician=_person_name(first, "00080090"),
        series=_series(metadata),
        institution=text(first, "00080080"),
    )


def unidentified_study(study_instance_uid: str) -> Study:
    """Give the study of which nothing but its UID is known, so that its failure can be reported."""
    nobody = Patient(patient_id="", issuer="", name=PersonName(), birth_date=None, sex="")
    return Study(study_instance_uid, "", nobody, None, "", PersonName(), ())


def _series(metadata: Sequence[Attributes]) -> tuple[Series, ...]:
    members: dict[str, list[Attributes]] = {}
    for each in metadata:
        uid = check_uid(text(each, "0020000E"), "Series Instance UID")
        members.setdefault(uid, []).append(each)
    series = [_one_series(uid, instances) for uid, instances in members.items()]
    return tuple(sorted(series, key=lambda s: (_order(s.series_number), s.series_instance_uid)))


def _one_series(uid: str, members: Sequence[Attributes]) -> Series:
    """Read a series; what it says of itself is what its first instance says."""
    members = sorted(members, key=_instance_order)
    first = members[0]
    series = Series(
        series_instance_uid=uid,
        modality=text(first, "00080060").upper(),
        body_part=text(first, "00180015").upper(),
        description=text(first, "0008103E"),
        series_number=whole_number(first, "00200011"),
        instances=(),
    )
    return replace(series, instances=tuple(_instance(each, series) for each in members))


def _instance(attributes: Attributes, series: Series) -> Instance:
    check_uid(text(attributes, "00080018"), "SOP Instance UID")
    return instance_of(attributes, series)


def _instance_order(attributes: Attributes) -> tuple[tuple[bool, int], str]:
    return _order(whole_number(attributes, "00200013")), text(attributes, "00080018")


def _order(number: int | None) -> tuple[bool, int]:
    """Sort what has a number before what has none."""
    return number is None, number or 0


def _person_name(attributes: Attributes, tag: str) -> PersonName:
    """Split a PN: the alphabetic group, else the ideographic, else the phonetic."""
    named = values(attributes, tag)
    groups = named[0] if named else None
    if not isinstance(groups, Mapping):
        return PersonName()
    name = next(
        (str(groups[key]) for key in ("Alphabetic", "Ideographic", "Phonetic") if groups.get(key)),
        "",
    )
    parts = [CONTROL.sub("", part).strip() for part in name.split("^")]
    return PersonName(*(parts + [""] * 5)[:5])


def _sex(value: str) -> str:
    return value if value in {"M", "F", "O"} else ""


def _iso_date(value: str) -> str | None:
    match = _DATE.fullmatch(value)
    try:
        return date(*map(int, match.groups())).isoformat() if match else None
    except ValueError:
        return None


def _started(attributes: Attributes, zone: str) -> datetime | None:
    """Join date and time with an offset: never naive, or nothing."""
    day = _iso_date(text(attributes, "00080020"))
    if day is None:
        return None
    started = datetime.fromisoformat(day)
    match = _TIME.fullmatch(text(attributes, "00080030"))
    if match:
        hour, minute, second, fraction = match.groups()
        try:
            started = started.replace(
                hour=int(hour), minute=int(minute or 0), second=min(int(second or 0), 59)
            ) + timedelta(seconds=float(fraction or 0))
        except ValueError:
            match = None
    return started.replace(tzinfo=zone_of(text(attributes, "00080201")) or ZoneInfo(zone))
