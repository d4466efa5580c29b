"""How one destination wants its HL7 v2 messages.

References
----------
HL7 v2.3.1, v2.4, v2.5.1 ch. 2 (MSH; tables 0104, 0155, 0211), ch. 4 (TQ, TQ1), ch. 7 (OBR, OBX).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from fhir_mappers.er7 import LONGEST_OBX_5
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.report_context import Site

LARGEST_OVERLAY_BYTES = 70_000
"""A JPEG of this size stays below the 99,999 characters of OBX-5 in Base64."""
OLDER_LARGEST_OVERLAY_BYTES = 49_000
"""The same for the 65,536 characters of OBX-5 before version 2.5."""
OLDER_LONGEST_OBX_5 = 65_536
"""Characters that OBX-5 may have before version 2.5."""
_LONGEST_NAME = 180


class Hl7Version(StrEnum):
    """MSH-12: the versions that are written."""

    V2_3_1 = "2.3.1"
    V2_4 = "2.4"
    V2_5_1 = "2.5.1"


class CharacterSet(StrEnum):
    """MSH-18: the character sets that are written, as table 0211 names them."""

    UTF_8 = "UNICODE UTF-8"
    LATIN_1 = "8859/1"
    ASCII = "ASCII"

    @property
    def codec(self) -> str:
        """Python's name for it."""
        return {"UNICODE UTF-8": "utf-8", "8859/1": "iso8859-1", "ASCII": "ascii"}[self.value]


class AcknowledgementMode(StrEnum):
    """Whether MSH-15 and MSH-16 are empty (original) or ask for both answers (enhanced)."""

    ORIGINAL = "original"
    ENHANCED = "enhanced"


class PriorityField(StrEnum):
    """Where the priority stands, for a RIS to sort on."""

    TQ1_9 = "TQ1-9"
    OBR_27_6 = "OBR-27.6"
    OBR_5 = "OBR-5"


@dataclass(frozen=True, slots=True)
class Hl7Dialect:
    """What one destination is sent.

    Parameters
    ----------
    sender, receiver
        Application and facility: MSH-3 and MSH-4, MSH-5 and MSH-6; printable ASCII.
    version
        Which version of HL7.
    character_set
        Text that it lacks is written with letters of it, and an NTE says so; an identifier is
        never changed: then there is no message.
    overlay_max_bytes
        Largest overlay as JPEG, in bytes: a larger one is made smaller until it fits; 0 leaves it
        out. ``None`` is as much as OBX-5 of the version holds.
    link
        Whether a link to the study in this server's viewer goes along.
    acknowledgement
        Original or enhanced mode.
    priority
        Where the priority stands. ``None`` is TQ1-9, before version 2.5 OBR-27.6.

    Raises
    ------
    InvalidMessage
        If the version does not have what is asked for.
    """

    sender: tuple[str, str]
    receiver: tuple[str, str]
    version: Hl7Version = Hl7Version.V2_5_1
    character_set: CharacterSet = CharacterSet.UTF_8
    overlay_max_bytes: int | None = None
    link: bool = False
    acknowledgement: AcknowledgementMode = AcknowledgementMode.ENHANCED
    priority: PriorityField | None = None

    def __post_init__(self) -> None:
        """Refuse what no message could keep.

        Raises
        ------
        InvalidMessage
            If the version does not have what is asked for.
        """
        if self.priority is PriorityField.TQ1_9 and not self.since_2_5:
            msg = f"TQ1 exists since HL7 2.5; for {self.version} choose OBR-27.6 or OBR-5"
            raise InvalidMessage(msg)
        if not 0 <= self.overlay_bytes <= self._overlay_limit:
            msg = f"HL7 {self.version} holds an overlay of 0 to {self._overlay_limit:,} bytes"
            raise InvalidMessage(msg)
        for name in (*self.sender, *self.receiver):
            plain = name.isascii() and (name.isprintable() or not name)
            if not plain or len(name) > _LONGEST_NAME:
                msg = f"MSH-3 to MSH-6 are printable ASCII of at most {_LONGEST_NAME} characters"
                raise InvalidMessage(msg)

    @classmethod
    def of(cls, site: Site) -> Self:
        """Give what a site sends where a destination says nothing else."""
        return cls((site.hl7_application, site.hl7_facility), site.hl7_receiver)

    @property
    def since_2_5(self) -> bool:
        """Whether the version has SFT, TQ1, CWE in OBX-5 and the ERR segment with ERL."""
        return self.version is Hl7Version.V2_5_1

    @property
    def since_2_4(self) -> bool:
        """Whether the version has OBX-18 and OBX-19."""
        return self.version is not Hl7Version.V2_3_1

    @property
    def coded_type(self) -> str:
        """OBX-2 of a coded value."""
        return "CWE" if self.since_2_5 else "CE"

    @property
    def longest_obx_5(self) -> int:
        """Characters that OBX-5 may have."""
        return LONGEST_OBX_5 if self.since_2_5 else OLDER_LONGEST_OBX_5

    @property
    def overlay_bytes(self) -> int:
        """Largest overlay that is sent."""
        chosen = self.overlay_max_bytes
        return self._overlay_limit if chosen is None else chosen

    @property
    def priority_field(self) -> PriorityField:
        """Where the priority stands."""
        by_version = PriorityField.TQ1_9 if self.since_2_5 else PriorityField.OBR_27_6
        return self.priority or by_version

    @property
    def _overlay_limit(self) -> int:
        return LARGEST_OVERLAY_BYTES if self.since_2_5 else OLDER_LARGEST_OVERLAY_BYTES
