"""What is published, by whom and in which bytes: the values around a report set."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ai_engine.result import ModelIdentity


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
    """

    result_id: str
    site: Site
    model: ModelIdentity
    issued: datetime
    software_version: str
    model_card: dict[str, object]


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
    secondary_capture
        DICOM Part 10 file of the overlay, or ``None`` likewise.
    """

    bundle: bytes
    oru: bytes
    card: bytes
    overlay_png: bytes | None = None
    secondary_capture: bytes | None = None

    def files(self) -> dict[str, bytes]:
        """Give the artefacts by the file name under which they are written."""
        named = {
            "bundle.json": self.bundle,
            "oru.hl7": self.oru,
            "card.json": self.card,
            "overlay.png": self.overlay_png,
            "secondary-capture.dcm": self.secondary_capture,
        }
        return {name: content for name, content in named.items() if content is not None}
