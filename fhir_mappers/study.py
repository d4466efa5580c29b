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
class Plane:
    """Where a slice lies in the patient.

    Parameters
    ----------
    frame_of_reference_uid
        Which coordinates these are (0020,0052); empty where the header does not say.
    position_mm
        Centre of the first pixel, towards the patient's left, back and head (0020,0032).
    orientation
        Direction cosines of a row, then of a column (0020,0037): unit vectors at right angles.
    spacing_mm
        Between rows and between columns (0028,0030), or ``None``.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 Image Position and Orientation (Patient).
    """

    frame_of_reference_uid: str
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...] | None = None

    @property
    def normal(self) -> tuple[float, float, float]:
        """Unit vector along which slices are stacked: row times column."""
        x, y, z, u, v, w = self.orientation
        return y * w - z * v, z * u - x * w, x * v - y * u


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance.

    Parameters
    ----------
    sop_instance_uid, sop_class_uid, instance_number, rows, columns
        As in the header; ``rows`` and ``columns`` are 0 where there are none.
    number_of_frames
        1 for a plain image, 0 for what is no image.
    image_type, view_position
        (0008,0008) and (0018,5101), in capitals.
    modality, body_part, description
        Modality (0008,0060), Body Part Examined (0018,0015) and Series Description (0008,103E), but
        only where they differ from what the series says; else empty.
    region_codes, view_codes
        Code values of Anatomic Region Sequence (0008,2218) and View Code Sequence (0054,0220).
    protocol_name
        Protocol Name (0018,1030).
    presentation_intent
        Presentation Intent Type (0008,0068), in capitals.
    samples_per_pixel
        1 for greyscale, 3 for colour (0028,0002).
    burned_in_annotation, quality_control
        Whether words are part of the picture (0028,0301), and whether it shows a phantom
        (0028,0300).
    acquired
        When: ``YYYYMMDD``, or ``YYYYMMDDHHMMSS.ffffff``, so that text order is time order; empty
        where the header does not say. Of the acquisition, else of the content.
    acquisition_number, irradiation_event_uids
        Which acquisition and which exposure it is (0020,0012), (0008,3010).
    kernel
        Convolution Kernel (0018,1210), in capitals.
    plane
        Where a slice lies, or ``None`` where the header does not say, or says what cannot be.
    rejects
        SOP Instance UIDs that this object, a key object selection, declares rejected.

    References
    ----------
    DICOM PS3.3 C.7.6.1, C.7.6.2, C.8.1.1, C.8.11; PS3.16 CID 7010 Key Object Selection Document
    Title.
    """

    sop_instance_uid: str
    sop_class_uid: str
    instance_number: int | None
    rows: int
    columns: int
    number_of_frames: int
    image_type: tuple[str, ...]
    view_position: str
    modality: str = ""
    body_part: str = ""
    description: str = ""
    region_codes: tuple[str, ...] = ()
    view_codes: tuple[str, ...] = ()
    protocol_name: str = ""
    presentation_intent: str = ""
    samples_per_pixel: int = 1
    burned_in_annotation: bool = False
    quality_control: bool = False
    acquired: str = ""
    acquisition_number: int | None = None
    irradiation_event_uids: tuple[str, ...] = ()
    kernel: str = ""
    plane: Plane | None = None
    rejects: tuple[str, ...] = ()


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
