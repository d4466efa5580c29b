"""A workitem of a worklist (Unified Procedure Step) in DICOM JSON in, what is asked out.

References
----------
DICOM PS3.3 C.30 UPS modules; PS3.4 Annex CC; PS3.18 chapter 11; IHE RAD AI Workflow for Imaging.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from pydicom.sr.coding import Code

from fhir_mappers.dicom_json import Attributes, text, values
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy, MapperError

_DATE_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)?(\d\d)?(\d\d)?(?:\.\d{1,6})?([+-]\d{4})?")
_CODE_LENGTH, _MEANING_LENGTH = 16, 64

OBJECT_SET_INCOMPLETE = Code("110523", "DCM", "Object Set incomplete")
OBJECT_TYPES_NOT_SUPPORTED = Code("110522", "DCM", "Object Types not supported")
OBJECTS_INCORRECTLY_FORMATTED = Code("110521", "DCM", "Objects incorrectly formatted")
EQUIPMENT_FAILURE = Code("110501", "DCM", "Equipment failure")
RESOURCE_INADEQUATE = Code("110527", "DCM", "Resource inadequate")
INCORRECT_ENTRY_SELECTED = Code("110514", "DCM", "Incorrect worklist entry selected")
UNSPECIFIED_REASON = Code("110513", "DCM", "Discontinued for unspecified reason")
"""Of DICOM PS3.16 CID 9300 Procedure Discontinuation Reason."""


class InvalidWorkitem(MapperError):
    """A workitem that cannot even be named: it is left alone. Never holds what it says."""


class State(StrEnum):
    """Procedure Step State (0074,1000), DICOM PS3.4 CC.1.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    CANCELED = "CANCELED"
    COMPLETED = "COMPLETED"


class Stage(StrEnum):
    """How far the work is, in the words that the workitem shows: Progress Description (0074,1006).

    Read back, they say what was already told.
    """

    ACCEPTED = "Accepted; waiting to be read by the AI"
    READING = "Being read by the AI"
    DELIVERING = "Read by the AI; the results are being delivered"


@dataclass(frozen=True, slots=True)
class Discontinued:
    """Why a workitem is not carried out.

    Parameters
    ----------
    reason
        For Procedure Step Discontinuation Reason Code Sequence (0074,100E).
    words
        For Reason For Cancellation (0074,1238).
    """

    reason: Code
    words: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be read.

    Parameters
    ----------
    study_instance_uid
        The one study.
    series, instances
        UIDs of the series and instances that the workitem lists; empty where it lists none.
    """

    study_instance_uid: str
    series: frozenset[str]
    instances: frozenset[str]


@dataclass(frozen=True, slots=True)
class Workitem:
    """One piece of work, as its worklist describes it.

    Parameters
    ----------
    uid
        SOP Instance UID, checked: digits and dots, at most 64 characters.
    state
        ``None`` where it has none of the four.
    readiness
        Input Readiness State (0040,4041), or empty.
    priority, scheduled
        Scheduled Procedure Step Priority (0074,1200), and when it is scheduled to start.
    stations, codes, label
        Scheduled Station Name Code Sequence, Scheduled Workitem Code Sequence, Worklist Label.
    patient_id, issuer
        Of the patient that the workitem is about; empty where absent.
    asked
        What is to be read, or why that cannot be.
    shown
        The stage that its progress information shows, or ``None``.
    discontinued
        Why it is to be canceled, where its progress information says so already.
    modified
        When it was last changed, with an offset, or ``None``.
    """

    uid: str
    state: State | None
    readiness: str
    priority: str
    scheduled: datetime | None
    stations: tuple[Code, ...]
    codes: tuple[Code, ...]
    label: str
    patient_id: str
    issuer: str
    asked: Asked | Discontinued
    shown: Stage | None
    discontinued: Discontinued | None
    modified: datetime | None

    @property
    def ready(self) -> bool:
        """Whether its inputs are available."""
        return self.readiness == "READY"

    @property
    def may_be_ready(self) -> bool:
        """Whether they may be: a list need not say."""
        return self.readiness in {"", "READY"}

    @property
    def urgency(self) -> tuple[int, bool, float, str]:
        """Key of the order of work: HIGH before MEDIUM before LOW, then the earliest first."""
        rank = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}.get(self.priority, 1)
        starts_s = self.scheduled.timestamp() if self.scheduled else 0.0
        return rank, self.scheduled is None, starts_s, self.uid


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which workitems are ours to take. Every parameter that is given has to match.

    Parameters
    ----------
    station
        One of the stations that the workitem is scheduled for, or ``None`` for any.
    code
        The scheduled workitem code, or ``None`` for any.
    label
        The worklist label, or empty for any.

    Raises
    ------
    ValueError
        If none is given: the work of others would be taken.
    """

    station: Code | None = None
    code: Code | None = None
    label: str = ""

    def __post_init__(self) -> None:
        """Refuse to want everything.

        Raises
        ------
        ValueError
            If no parameter is given.
        """
        if not (self.station or self.code or self.label):
            msg = (
                "workitems are taken by station, workitem code or worklist label: give at least one"
            )
            raise ValueError(msg)

    def includes(self, workitem: Workitem) -> bool:
        """Say whether a workitem is ours to take. A worklist may ignore a matching key."""
        return (
            (self.station is None or self.station in workitem.stations)
            and (self.code is None or self.code in workitem.codes)
            and self.label in {"", workitem.label}
        )


def workitem(attributes: Attributes, *, timezone: str) -> Workitem:
    """Read a workitem. What is wrong with its inputs is in ``asked``.

    Parameters
    ----------
    attributes
        DICOM JSON, as the worklist gives it.
    timezone
        IANA zone of times without offset.

    Raises
    ------
    InvalidWorkitem
        If it has no valid SOP Instance UID.
    """
    try:
        uid = check_uid(text(attributes, "00080018"), "SOP Instance UID of the workitem")
    except InvalidStudy as error:
        raise InvalidWorkitem(str(error)) from None
    progress = next(iter(_items(attributes, "00741002")), {})
    return Workitem(
        uid=uid,
        state=_state(text(attributes, "00741000")),
        readiness=text(attributes, "00404041"),
        priority=text(attributes, "00741200"),
        scheduled=_moment(text(attributes, "00404005"), timezone),
        stations=_codes(attributes, "00404025"),
        codes=_codes(attributes, "00404018"),
        label=text(attributes, "00741202"),
        patient_id=text(attributes, "00100020"),
        issuer=text(attributes, "00100021"),
        asked=_asked(attributes),
        shown=_stage(text(progress, "00741006")),
        discontinued=_discontinued(progress),
        modified=_moment(text(attributes, "00404010"), timezone),
    )


def _asked(attributes: Attributes) -> Asked | Discontinued:
    """Read Input Information Sequence (0040,4021); where it cannot be followed, say why."""
    inputs = _items(attributes, "00404021")
    if not inputs:
        return Discontinued(OBJECT_SET_INCOMPLETE, "The workitem names no input.")
    if any(text(each, "0040E020") not in {"", "DICOM"} for each in inputs):
        return Discontinued(OBJECT_TYPES_NOT_SUPPORTED, "An input of the workitem is not DICOM.")
    try:
        studies = {_uid(each, "0020000D", "Study Instance UID") for each in inputs}
        series = {_uid(each, "0020000E", "Series Instance UID") for each in inputs}
        instances = {
            _uid(reference, "00081155", "Referenced SOP Instance UID")
            for each in inputs
            for reference in _items(each, "00081199")
        }
    except InvalidStudy as error:
        return Discontinued(
            OBJECTS_INCORRECTLY_FORMATTED, f"In the inputs of the workitem, {error}."
        )
    if "" in studies:
        return Discontinued(OBJECT_SET_INCOMPLETE, "An input of the workitem names no study.")
    if len(studies) > 1:
        words = f"The workitem names {len(studies)} studies; one study is read at a time."
        return Discontinued(OBJECT_TYPES_NOT_SUPPORTED, words)
    return Asked(studies.pop(), frozenset(series - {""}), frozenset(instances - {""}))


def _uid(attributes: Attributes, tag: str, name: str) -> str:
    """Give a UID, or empty where there is none."""
    return check_uid(text(attributes, tag), name) if values(attributes, tag) else ""


def _items(attributes: Attributes, tag: str) -> Sequence[Attributes]:
    """Give the items of a sequence; what is no item counts as an empty one."""
    return [item if isinstance(item, Mapping) else {} for item in values(attributes, tag)]


def _codes(attributes: Attributes, tag: str) -> tuple[Code, ...]:
    """Give the codes of a sequence that are complete and within the lengths of DICOM."""
    codes = []
    for item in _items(attributes, tag):
        value, scheme = text(item, "00080100"), text(item, "00080102")
        meaning = text(item, "00080104")[:_MEANING_LENGTH]
        lengths = {len(value), len(scheme)}
        if min(lengths) and max(lengths) <= _CODE_LENGTH and "\\" not in value + scheme + meaning:
            codes.append(Code(value, scheme, meaning or value))
    return tuple(codes)


def _discontinued(progress: Attributes) -> Discontinued | None:
    words = text(progress, "00741238")
    codes = _codes(progress, "0074100E")
    if not (words or codes or text(progress, "00404052")):
        return None
    return Discontinued(next(iter(codes), UNSPECIFIED_REASON), words or "Canceled on request.")


def _state(value: str) -> State | None:
    return State(value) if value in set(State) else None


def _stage(value: str) -> Stage | None:
    return Stage(value) if value in set(Stage) else None


def _moment(value: str, zone: str) -> datetime | None:
    """Read a DT to the second, with its offset or in the given zone."""
    match = _DATE_TIME.fullmatch(value)
    if not match:
        return None
    year, month, day, hour, minute, second, offset = match.groups()
    try:
        moment = datetime(  # noqa: DTZ001 - the zone follows
            int(year), int(month), int(day), int(hour or 0), int(minute or 0),
            min(int(second or 0), 59),
        )  # fmt: skip
        if offset:
            return datetime.strptime(f"{moment.isoformat()}{offset}", "%Y-%m-%dT%H:%M:%S%z")
        return moment.replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        return None
