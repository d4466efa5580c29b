"""A study as the archive describes it: identity, order and the list of its instances."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PersonName:
    """A DICOM person name, its components unescaped.

    References
    ----------
    DICOM PS3.5 6.2 (PN).
    """

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""

    @property
    def text(self) -> str:
        """The name as one line for people."""
        parts = (self.prefix, self.given, self.middle, self.family, self.suffix)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose study it is, verbatim from the archive.

    Parameters
    ----------
    patient_id, issuer
        Patient ID (0010,0020) and Issuer of Patient ID (0010,0021); empty where absent.
    name
        Patient's Name (0010,0010).
    birth_date
        ISO 8601 ``YYYY-MM-DD``, or ``None``.
    sex
        ``M``, ``F``, ``O`` or empty (0010,0040).
    """

    patient_id: str
    issuer: str
    name: PersonName
    birth_date: str | None
    sex: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance. ``number_of_frames`` is 1 for a plain image and 0 for a non-image."""

    sop_instance_uid: str
    sop_class_uid: str
    instance_number: int | None
    rows: int
    columns: int
    number_of_frames: int
    image_type: tuple[str, ...]
    view_position: str


@dataclass(frozen=True, slots=True)
class Series:
    """One series with its instances, ordered by instance number, then UID."""

    series_instance_uid: str
    modality: str
    body_part: str
    description: str
    series_number: int | None
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """One study.

    Parameters
    ----------
    study_instance_uid
        Checked: digits and dots, at most 64 characters.
    accession_number
        Accession Number (0008,0050), or empty.
    patient
        Whose it is.
    started
        Study date and time with an offset (Timezone Offset From UTC, else the site's zone; never
        naive), or ``None`` where the header has no date.
    description
        Study Description (0008,1030), or empty.
    referring_physician
        Referring Physician's Name (0008,0090).
    series
        Ordered by series number, then UID.
    institution
        Institution Name (0008,0080), or empty: says which centre took the images.

    References
    ----------
    DICOM PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1.
    """

    study_instance_uid: str
    accession_number: str
    patient: Patient
    started: datetime | None
    description: str
    referring_physician: PersonName
    series: tuple[Series, ...]
    institution: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the study, each once, in the order of its series."""
        return tuple(dict.fromkeys(series.modality for series in self.series))

    @property
    def number_of_instances(self) -> int:
        """How many instances the study holds."""
        return sum(len(series.instances) for series in self.series)
