"""Settings: one frozen value, read once from a TOML file and the environment.

Each setting ``name`` is the TOML key ``name`` and the variable ``RADCDS_NAME``; the environment
wins. ``RADCDS_CONFIG`` names the file. An unknown name is refused, so that a misspelt safeguard is
never silently off.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cds_server.errors import InvalidSettings
from cds_server.network import is_protected
from cds_server.watch import Watched
from cds_server.worklist import Targets
from fhir_mappers.report_context import DisplayMode, Site

_PREFIX = "RADCDS_"
# Named alike but no setting: the file itself, and the folder of training data.
_NO_SETTING = frozenset({"config", "data", "update_golden"})


class Environment(StrEnum):
    """What the server is used for. Only ``development`` accepts in-memory parts."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class ArchiveAuth(StrEnum):
    """How this server signs in to a PACS."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    AZURE = "azure"


class Precision(StrEnum):
    """Arithmetic of the inference runtime, always set explicitly."""

    F32 = "f32"
    F16 = "f16"


def _setting(default: Any, meaning: str) -> Any:  # noqa: ANN401 - the type is the field's own
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a site can set. ``docs/reference/settings.md`` is compared with this in a test."""

    environment: Environment = _setting(
        Environment.PRODUCTION, "`production`, or `development`, which accepts in-memory parts"
    )
    data_dir: Path = _setting(
        Path("radcds-data"), "Folder of the databases: results, audit trail, workflow state"
    )
    archive: str = _setting(
        "", "Where images come from: a folder of DICOM files, or the `https://` address of a PACS"
    )
    archive_auth: ArchiveAuth = _setting(
        ArchiveAuth.NONE, "How to sign in to the PACS: `none`, `basic`, `bearer` or `azure`"
    )
    archive_credentials: Path | None = _setting(
        None, "File with `user:password` for `basic`, with the token for `bearer`"
    )
    archive_timeout_s: float = _setting(20.0, "Seconds to wait for an answer of the PACS")
    archive_largest_mb: int = _setting(512, "Megabytes of the largest object that is fetched")
    watch_days: float = _setting(
        3.0, "Days back, by Study Date, that the PACS is watched for new studies; 0 is without end"
    )
    watch_modalities: str = _setting(
        "CR DX CT", "Studies of the PACS that hold none of these modalities are passed over"
    )
    settle_s: float = _setting(
        10.0, "Seconds of quiet before a CT of the PACS is read; radiographs never wait"
    )
    pacs_events_token: Path | None = _setting(
        None, "File with the token (32 characters or more) that a PACS shows with its events"
    )
    metrics_token: Path | None = _setting(
        None, "File with the token (32 characters or more) that Prometheus shows at `/metrics`"
    )
    decoder_memory_mb: int = _setting(768, "Megabytes that opening one image may take")
    decoder_timeout_s: float = _setting(20.0, "Seconds that opening one image may take")
    poll_interval_s: float = _setting(5.0, "Seconds between two looks for new studies")
    output: Path | None = _setting(
        None, "Folder that gets one subfolder of artefacts per study; none by default"
    )
    oru_folder: Path | None = _setting(None, "Folder that gets each ORU message as a file")
    destinations: Path | None = _setting(
        None, "TOML file of the HL7 and FHIR receivers of results, and of the orders that come in"
    )
    delivery_attempts: int = _setting(
        30, "Failures of its own after which a delivery is parked; an outage counts as none"
    )
    result_archive: str = _setting(
        "",
        "What gets the DICOM result objects: the `https://` address of a PACS, or a folder that a "
        "PACS imports",
    )
    result_archive_auth: ArchiveAuth = _setting(
        ArchiveAuth.NONE, "How to sign in there, where it is another address than `archive`"
    )
    result_archive_credentials: Path | None = _setting(None, "Its file of credentials")
    workitems: str = _setting(
        "", "Address of a UPS-RS worklist from which work is taken; none by default"
    )
    workitems_auth: ArchiveAuth = _setting(ArchiveAuth.NONE, "How to sign in to that worklist")
    workitems_credentials: Path | None = _setting(None, "Its file of credentials")
    workitem_station: str = _setting(
        "RADCDS", "Code of the Scheduled Station Name of the work that is taken"
    )
    workitem_station_scheme: str = _setting("99RADCDS", "Coding scheme of that code")
    model: Path | None = _setting(None, "Model bundle to use instead of the one that ships")
    model_publishers: Path | None = _setting(
        None, "JSON file, name → public key: whose models are run beside those that ship"
    )
    precision: Precision = _setting(
        Precision.F32, "Arithmetic of inference: `f32` (reference) or `f16`"
    )
    threads: int = _setting(2, "Threads of the inference runtime")
    web_workers: int = _setting(2, "Processes of the web service, each of 8 threads")
    site_name: str = _setting("radcds evaluation site", "Organisation named in what is published")
    base_url: str = _setting(
        "http://127.0.0.1:8080", "Public address of this server; links and identifiers use it"
    )
    timezone: str = _setting("UTC", "IANA zone of studies that carry no offset")
    accession_issuer: str = _setting(
        "urn:radcds:accession", "Namespace of accession numbers, and of patient ids without issuer"
    )
    hl7_application: str = _setting("RADCDS", "MSH-3, sending application")
    hl7_facility: str = _setting("RADIOLOGY", "MSH-4, sending facility")
    hl7_receiving_application: str = _setting("RIS", "MSH-5, receiving application")
    hl7_receiving_facility: str = _setting("RADIOLOGY", "MSH-6, receiving facility")
    display_mode: DisplayMode = _setting(
        DisplayMode.OVERLAY, "`overlay`, or `triage_only`: no location in any channel"
    )
    shadow: bool = _setting(
        False,  # noqa: FBT003 - a default, not a call
        "In shadow: results are recorded, sent to nobody, shown to operators and auditors",
    )
    silent_when_normal: bool = _setting(
        False,  # noqa: FBT003 - a default, not a call
        "Leave out the CDS card when no finding is above its threshold",
    )
    network: Path | None = _setting(
        None, "TOML file of the network: its centres, the EHRs and token issuers that it trusts"
    )
    session_idle_min: float = _setting(15.0, "Minutes without use after which a session ends")
    session_longest_h: float = _setting(8.0, "Hours after which a session ends in any case")
    target_urgent_min: float = _setting(60.0, "Minutes within which an urgent study is to be read")
    target_flagged_min: float = _setting(240.0, "Minutes within which a flagged one is")
    target_not_analysed_min: float = _setting(
        720.0, "Minutes within which one that the AI did not analyse is"
    )
    target_routine_min: float = _setting(1440.0, "Minutes within which any other study is")
    worklist_days: float = _setting(
        14.0,
        "Days past its target after which a study leaves the open worklist for All",
    )
    compress_images: bool = _setting(
        False,  # noqa: FBT003 - a default, not a call
        "Compress the viewer's pixels: pays on links below 200 Mbit/s",
    )
    ohif_url: str = _setting(
        "", "Address of an OHIF viewer on the same PACS, offered as a link; none by default"
    )

    @property
    def site(self) -> Site:
        """The part of the settings that is published."""
        return Site(
            name=self.site_name,
            base_url=self.base_url.rstrip("/"),
            hl7_application=self.hl7_application,
            hl7_facility=self.hl7_facility,
            hl7_receiver=(self.hl7_receiving_application, self.hl7_receiving_facility),
            accession_issuer=self.accession_issuer,
            timezone=self.timezone,
            display_mode=self.display_mode,
            silent_when_normal=self.silent_when_normal,
        )

    @property
    def watched(self) -> Watched:
        """Which studies are noticed: of a PACS, a part; of a folder, all at once."""
        if not is_address(self.archive):
            return Watched()
        return Watched(
            self.watch_days or None,
            frozenset(self.watch_modalities.upper().replace(",", " ").split()),
            timedelta(seconds=self.settle_s),
        )

    @property
    def targets(self) -> Targets:
        """Within how many minutes each class of studies is to be read."""
        return Targets(
            self.target_urgent_min,
            self.target_flagged_min,
            self.target_not_analysed_min,
            self.target_routine_min,
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build settings from names and values, strings or TOML values.

        Raises
        ------
        InvalidSettings
            If a name is unknown or a value does not fit; it names the setting and what fits.
        """
        known = {each.name: each for each in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            msg = f"unknown setting {unknown[0]!r}; the settings are: {', '.join(sorted(known))}"
            raise InvalidSettings(msg)
        parsed: dict[str, Any] = {
            name: _parsed(name, known[name].type, value) for name, value in values.items()
        }
        settings = cls(**parsed)
        settings._check()
        return settings

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Build settings from ``RADCDS_…`` variables and the file that ``RADCDS_CONFIG`` names.

        Raises
        ------
        InvalidSettings
            If the file cannot be read, or a setting is unknown or malformed.
        """
        variables = os.environ if environment is None else environment  # noqa: TID251 - the one place
        values: dict[str, object] = {}
        if file := variables.get(f"{_PREFIX}CONFIG"):
            try:
                values.update(tomllib.loads(Path(file).read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                msg = f"RADCDS_CONFIG: {file} cannot be read as TOML ({error})"
                raise InvalidSettings(msg) from error
        for variable, value in variables.items():
            name = variable.removeprefix(_PREFIX).lower()
            if variable.startswith(_PREFIX) and name not in _NO_SETTING:
                values[name] = value
        return cls.from_mapping(values)

    def _check(self) -> None:
        for name in (
            "archive_timeout_s",
            "archive_largest_mb",
            "decoder_memory_mb",
            "decoder_timeout_s",
            "poll_interval_s",
            "delivery_attempts",
            "threads",
            "web_workers",
            "session_idle_min",
            "session_longest_h",
            "target_urgent_min",
            "target_flagged_min",
            "target_not_analysed_min",
            "target_routine_min",
            "worklist_days",
        ):
            if not 0 < getattr(self, name) < math.inf:
                msg = f"{name} must be above zero"
                raise InvalidSettings(msg)
        if not (math.isfinite(self.watch_days) and math.isfinite(self.settle_s)):
            msg = "watch_days and settle_s must be numbers"
            raise InvalidSettings(msg)
        if min(self.watch_days, self.settle_s) < 0:
            msg = "watch_days and settle_s must not be below zero"
            raise InvalidSettings(msg)
        self._check_addresses()
        self._check_archives()
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            msg = f"timezone: {self.timezone!r} is no IANA zone; write one such as Europe/London"
            raise InvalidSettings(msg) from error

    def _check_addresses(self) -> None:
        """Refuse addresses to which patient data or secrets would travel in clear text.

        Raises
        ------
        InvalidSettings
            If one is neither https, nor http on this machine.
        """
        for name in ("base_url", "ohif_url", "workitems", "archive", "result_archive"):
            value = getattr(self, name)
            if name != "base_url" and not value:
                continue
            if name.endswith("archive") and not is_address(value):
                continue
            try:
                if not is_protected(value) or urlsplit(value).query:
                    msg = f"{name}: {value} must be https; http is for this machine alone"
                    raise InvalidSettings(msg)
            except ValueError as error:
                msg = f"{name} must be an address such as https://radcds.example.org"
                raise InvalidSettings(msg) from error

    def _check_archives(self) -> None:
        """Refuse a way of signing in that lacks its credentials, or could not be used.

        Raises
        ------
        InvalidSettings
            If a file is missing, or credentials are for a folder.
        """
        if self.workitems and not is_address(self.result_archive):
            msg = "workitems: set result_archive to the PACS in which the results are to be found"
            raise InvalidSettings(msg)
        if self.result_archive == self.archive and self.result_archive_auth is not ArchiveAuth.NONE:
            msg = "result_archive_auth: result_archive is archive; archive_auth counts for both"
            raise InvalidSettings(msg)
        for name in ("archive", "result_archive", "workitems"):
            auth, file = getattr(self, f"{name}_auth"), getattr(self, f"{name}_credentials")
            if auth is not ArchiveAuth.NONE and not is_address(getattr(self, name)):
                msg = f"{name}_auth: {auth} is for the address of a PACS, and {name} is none"
                raise InvalidSettings(msg)
            if auth in {ArchiveAuth.BASIC, ArchiveAuth.BEARER} and file is None:
                msg = f"{name}_credentials: {auth} needs the file of its credentials"
                raise InvalidSettings(msg)


def is_address(archive: str) -> bool:
    """Say whether an archive is behind an address, and not a folder."""
    return archive.startswith(("http://", "https://"))


def _parsed(name: str, kind: object, value: object) -> object:
    """Turn the text of a variable, or a TOML value, into the field's type.

    Raises
    ------
    InvalidSettings
        If it does not fit.
    """
    try:
        return _converted(kind, value)
    except (ValueError, TypeError) as error:
        msg = f"{name}: {value!r} does not fit ({error})"
        raise InvalidSettings(msg) from error


def _converted(kind: object, value: object) -> object:
    if kind is bool:
        return _truth(value)
    if kind == Path | None:
        return Path(str(value)) if value else None
    if kind in {int, float}:
        return float(str(value)) if kind is float else int(str(value))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        choices = [member.value for member in kind]
        if value not in choices:
            msg = f"choose one of {', '.join(choices)}"
            raise ValueError(msg)
        return kind(str(value))
    if kind is Path:
        return Path(str(value))
    return str(value)


def _truth(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    word = str(value).lower()
    if word not in words:
        msg = "write true or false"
        raise ValueError(msg)
    return words[word]
