"""What is published, by whom and in which bytes: the values around a report set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from ai_engine.result import ModelIdentity

DICOM_FILES = (
    "secondary-capture.dcm",
    "presentation-state.dcm",
    "saliency.dcm",
    "report.dcm",
    "key-object.dcm",
    "root-result.dcm",
)
"""Names of the DICOM objects of a result; each stands after those that it refers to."""


class DisplayMode(StrEnum):
    """What a site may show. ``TRIAGE_ONLY`` strips every location from every channel."""

    TRIAGE_ONLY = "triage_only"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class Site:
    """Who runs this server, as it appears in what it publishes.

    Parameters
    ----------
    name
        Organisation, such as ``Example Radiology Network``.
    base_url
        Public base address of this server without a trailing slash; links and identifiers use it.
    hl7_application, hl7_facility
        MSH-3 and MSH-4; MSH-5 and MSH-6 come from ``hl7_receiver``.
    hl7_receiver
        Receiving application and facility (MSH-5, MSH-6).
    accession_issuer
        Namespace of accession numbers and, where the study names none, of patient identifiers.
    timezone
        IANA zone of studies that carry no offset, such as ``Europe/London``.
    display_mode
        What the site may show.
    silent_when_normal
        Whether a CDS card is left out when no finding is above its threshold.
    """

    name: str
    base_url: str
    hl7_application: str
    hl7_facility: str
    hl7_receiver: tuple[str, str]
    accession_issuer: str
    timezone: str
    display_mode: DisplayMode = DisplayMode.OVERLAY
    silent_when_normal: bool = False


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The earlier result of the same study that a result supersedes.

    Parameters
    ----------
    result_id
        Of the earlier result.
    report
        Its DICOM report as a Part 10 file, or ``None`` where it had none.
    """

    result_id: str
    report: bytes | None


class Verdict(StrEnum):
    """What a radiologist said of the AI's result."""

    CONFIRMED = "confirmed"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class SignOff:
    """A radiologist's word on the AI's result: what was preliminary is final, or amended.

    Parameters
    ----------
    number
        1, and one more each time the same result is signed again.
    verdict
        Whether the result stands; a corrected one says in ``statement`` what is true instead.
    at
        When, with an offset.
    radiologist
        Name of the person, as it is published.
    identifier
        Namespace and value of the person's identifier; the namespace may be empty.
    statement
        The radiologist's own words; may be empty where the result was confirmed.
    """

    number: int
    verdict: Verdict
    at: datetime
    radiologist: str
    identifier: tuple[str, str]
    statement: str = ""


@dataclass(frozen=True, slots=True)
class Recall:
    """Why results of a model version are taken back.

    Parameters
    ----------
    reason
        For people, without patient data, such as ``The model reads images of detector X wrongly.``
    at
        When, with an offset; fixed once, so that bytes repeat.
    """

    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What a report set needs beside study and outcome; fixed once, so that bytes repeat.

    Parameters
    ----------
    result_id
        Of ``identifiers.result_id``; every other identifier is derived from it.
    site
        Who publishes.
    model
        The model that read, or would have read had the study been in scope.
    issued
        When the result was stored, with an offset. Never the time of rendering.
    software_version
        Version of radcds.
    model_card
        Card of that model as a JSON object.
    began
        When the analysis began; ``None`` where that is not known apart from ``issued``.
    predecessor
        The result that this one supersedes, or ``None``.
    unread
        How many images should have been read and could not be, where others were.
    signed
        The latest sign-off of the result, or ``None``: the AI alone is never final.
    """

    result_id: str
    site: Site
    model: ModelIdentity
    issued: datetime
    software_version: str
    model_card: dict[str, object]
    began: datetime | None = None
    predecessor: Predecessor | None = None
    unread: int = 0
    signed: SignOff | None = None


@dataclass(frozen=True, slots=True)
class ReportSet:
    """The exact bytes that are published, stored and hashed; never serialised again.

    Parameters
    ----------
    bundle
        FHIR R4 transaction Bundle, JSON, UTF-8.
    oru
        HL7 v2.5.1 ORU^R01, UTF-8, segments ended by CR.
    card
        CDS Hooks response ``{"cards": [...]}``, JSON, UTF-8.
    overlay_png
        Image with the saliency overlay, or ``None``: not analysed, or a ``triage_only`` site.
    dicom
        DICOM Part 10 files by their names, such as ``report.dcm``, in the order in which they are
        stored; none where nothing is known of the study.
    original_png
        The analysed image without the overlay: kept beside the others, and sent to nobody.
    """

    bundle: bytes
    oru: bytes
    card: bytes
    overlay_png: bytes | None = None
    dicom: Mapping[str, bytes] = field(default_factory=dict)
    original_png: bytes | None = None

    def files(self) -> dict[str, bytes]:
        """Give the artefacts by the file name under which they are written."""
        named = {
            "bundle.json": self.bundle,
            "oru.hl7": self.oru,
            "card.json": self.card,
            "overlay.png": self.overlay_png,
            **self.dicom,
        }
        return {name: content for name, content in named.items() if content is not None}

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> Self:
        """Put the artefacts that ``files`` gave together again.

        Raises
        ------
        KeyError
            If one that every report set has is missing.
        """
        return cls(
            bundle=files["bundle.json"],
            oru=files["oru.hl7"],
            card=files["card.json"],
            overlay_png=files.get("overlay.png"),
            dicom={name: files[name] for name in DICOM_FILES if name in files},
            original_png=files.get("original.png"),
        )
