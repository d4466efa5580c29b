"""What the story needs of the world, as protocols. Adapters implement them, one technology each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from ai_engine.image import Image
from ai_engine.result import ModelIdentity, NotAnalysed, Outcome, Priority, Reason
from fhir_mappers.report_context import Recall, ReportSet, SignOff
from fhir_mappers.selection import Exclusion
from fhir_mappers.study import Study


class StudyState(StrEnum):
    """Where a study stands."""

    QUEUED = "queued"
    FETCHING = "fetching"
    ANALYSING = "analysing"
    READ = "read"
    PUBLISHED = "published"


# What was not analysed stands before "normal": somebody has to look.
_WORKLIST_ORDER = (Priority.URGENT, Priority.FLAGGED, None, Priority.NORMAL)
TAKEN_BACK_RANK = _WORKLIST_ORDER.index(None)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One study's result as it is kept.

    Parameters
    ----------
    result_id
        Opaque, the same for the same study and model: UUIDv5. Never holds an identifier of a
        patient.
    study
        The study as the archive described it when it was read.
    outcome
        What the engine said.
    stored_at
        When, with an offset. Every artefact takes its times from here.
    seconds
        How long reading took, by step: ``fetch``, ``decode``, ``infer``, ``report``.
    shown_instance_uid
        SOP Instance UID of the image that the result rests on, or empty.
    shadow
        Whether the model ran in shadow: its result is recorded, sent to nobody, and changes no
        order.
    chosen
        What was read: the sha256 of each file by its SOP Instance UID; empty where it could not be
        fetched.
    exclusions
        What was not read, and why.
    notes
        What else is to be known of the choice of images, such as gaps between slices.
    signed, recall
        Of an amendment that is delivered: what it says. Not kept with the result.
    """

    result_id: str
    study: Study
    outcome: Outcome
    stored_at: datetime
    seconds: Mapping[str, float]
    shown_instance_uid: str = ""
    shadow: bool = False
    chosen: Mapping[str, str] = field(default_factory=dict)
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()
    signed: SignOff | None = None
    recall: Recall | None = None

    @property
    def unread(self) -> int:
        """How many images should have been read and could not be, where others were."""
        if not self.shown_instance_uid:
            return 0
        return sum(
            isinstance(each.reason, Reason) and each.sop_instance_uid in self.chosen
            for each in self.exclusions
        )


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """One line of the worklist: a study that was noticed, with its result once there is one.

    Parameters
    ----------
    result_id, study_instance_uid, noticed_at, state
        Which study under which model, since when, and where it stands.
    result
        ``None`` until it is read.
    delivered
        Says of each destination whether it acknowledged; empty until there is a result.
    due
        When it has to be read by a person.
    centre
        Id of the centre whose study it is, or empty: none claims it, or it is not read yet.
    closed_at
        When a reader gave a verdict, or ``None``.
    superseded
        Whether the same study was read again: by a later model version, or with later images.
    withheld
        Whether the viewer may not see what the AI said: the model ran in shadow, or was recalled.
    recalled
        Whether the result was taken back: its model version was recalled.
    """

    result_id: str
    study_instance_uid: str
    noticed_at: datetime
    state: StudyState
    result: StoredResult | None
    delivered: Mapping[str, bool]
    due: datetime
    centre: str = ""
    closed_at: datetime | None = None
    superseded: bool = False
    withheld: bool = False
    recalled: bool = False

    @property
    def shadow(self) -> bool:
        """Whether the model ran in shadow."""
        return self.result is not None and self.result.shadow

    @property
    def late(self) -> bool:
        """Whether the AI's result came after a reader had closed the study."""
        return bool(self.closed_at and self.result and self.closed_at < self.result.stored_at)

    @property
    def rank(self) -> int:
        """Position in a worklist: urgent, flagged, not analysed, normal, queued.

        A result in shadow gives none: the study stands as if the AI had not read it. One that was
        taken back is as good as not analysed: somebody has to look.
        """
        if self.result is None or self.result.shadow:
            return len(_WORKLIST_ORDER)
        if self.recalled:
            return TAKEN_BACK_RANK
        outcome = self.result.outcome
        return _WORKLIST_ORDER.index(None if isinstance(outcome, NotAnalysed) else outcome.priority)


class ResultStore(Protocol):
    """Durable record of studies and results. Every write carries its audit events with it."""

    def notice(self, result_id: str, study_instance_uid: str, noticed_at: datetime) -> bool:
        """Remember that a study arrived; ``False`` if it was known already."""
        ...

    def save(
        self,
        stored: StoredResult,
        artefacts: ReportSet,
        *,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
        order_key: str = "",
    ) -> None:
        """Store result, artefacts, audit leaves and one pending delivery per destination.

        All in one transaction. Deliveries of the same ``order_key`` go in order; without one, the
        result has its own. A repeat with the same ``result_id`` changes nothing: the first
        result stands, and no second leaf is written.

        Raises
        ------
        AuditUnavailable
            If the trail refuses the events; then nothing is stored.
        """
        ...

    def progress(self, result_id: str, state: StudyState) -> None:
        """Note that a study is being fetched or analysed; no more than a word for whoever waits."""
        ...

    def entry(self, result_id: str) -> StudyEntry:
        """Give the worklist line of one study.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        """
        ...

    def study_of(self, result_id: str) -> str:
        """Give the Study Instance UID of a result.

        Raises
        ------
        ResultNotFound
            If nothing is known under that identifier.
        """
        ...

    def entries(self) -> Sequence[StudyEntry]:
        """Give every study: urgent first, then flagged, not analysed, normal, still queued."""
        ...

    def entries_of_patient(self, patient_id: str) -> Sequence[StudyEntry]:
        """Give the studies of one patient, latest first."""
        ...

    def entries_of_study(self, study_instance_uid: str) -> Sequence[StudyEntry]:
        """Give every result of one study, latest first."""
        ...

    def artefact(self, result_id: str, name: str) -> bytes:
        """Give the stored bytes of an artefact by its file name, such as ``bundle.json``.

        Of a result that was signed or taken back, as it was published last.

        ``original.png`` is the analysed image without the overlay.

        Raises
        ------
        ResultNotFound
            If there is no such result or artefact.
        """
        ...

    def artefact_of_each(self, name: str, result_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Give the stored bytes of one artefact of each result that has it, by result."""
        ...

    def artefacts(self, publication_id: str) -> ReportSet:
        """Give the report set of a publication, byte for byte; a result is one under its own id.

        Raises
        ------
        ResultNotFound
            If there is no such result.
        """
        ...


class AuditTrail(Protocol):
    """Append-only record of who did what to which study. No audit, no data."""

    def record(self, events: Sequence[bytes]) -> None:
        """Append FHIR AuditEvents, as the exact bytes to keep; durable when it returns.

        Raises
        ------
        AuditUnavailable
            If they cannot be made durable.
        """
        ...

    def events(self, study_instance_uid: str | None = None) -> Sequence[bytes]:
        """Give the recorded events, oldest first, of one study or of all."""
        ...

    def verify(self) -> int:
        """Check the whole trail and give the number of its events.

        Raises
        ------
        AuditUnavailable
            If any event was altered, removed or inserted; names the first bad one.
        """
        ...


@dataclass(frozen=True, slots=True)
class FhirQuery:
    """A search of one page.

    Parameters
    ----------
    resource_type
        Such as ``DiagnosticReport``.
    parameters
        Pairs of name and value; all have to match. A value lists alternatives after commas, with
        the escapes of FHIR.
    count
        Most resources in the page; 0 asks for their number alone.
    after
        Id of the resource that the page begins after; empty for the first page.
    """

    resource_type: str
    parameters: tuple[tuple[str, str], ...] = ()
    count: int = 50
    after: str = ""


@dataclass(frozen=True, slots=True)
class FhirReach:
    """Which resources may be seen: of the results that both parameters admit.

    A resource whose result is not known is seen only where nothing is limited.

    Parameters
    ----------
    centres
        Ids of the centres; empty means all. A result that is still awaited is of every centre.
    results
        Ids of the results; ``None`` means any.
    """

    centres: frozenset[str] = frozenset()
    results: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class FhirPage:
    """A page of what a search found.

    Parameters
    ----------
    resources
        Their exact bytes, in the order of their ids.
    total
        How many there are in all pages, within reach.
    last
        Id of the last one here, where more follow; else empty.
    """

    resources: Sequence[bytes]
    total: int
    last: str = ""


class FhirRepository(Protocol):
    """The embedded FHIR store behind ``/fhir``: the resources that radcds authors."""

    def transaction(self, bundle: bytes) -> None:
        """Put every entry of a transaction Bundle under its own id, all or none; repeatable.

        Raises
        ------
        DeliveryRefused
            If the Bundle is not a transaction of PUT entries.
        """
        ...

    def read(self, resource_type: str, resource_id: str) -> bytes:
        """Give the exact stored bytes of one resource.

        Raises
        ------
        ResultNotFound
            If there is no such resource.
        """
        ...

    def search(self, query: FhirQuery, reach: FhirReach) -> FhirPage:
        """Give a page of the resources that match every parameter and are within reach.

        Parameters are ``_id``, ``identifier``, ``patient`` and ``status``. What is out of reach is
        neither given nor counted, and leaves no page short. The centre of a result is what the
        result store says of it, at the time of the search.

        Raises
        ------
        UnknownSearchParameter
            If a parameter is none of these, or its value is not understood; it names it.
        """
        ...

    def result_of(self, resource_type: str, resource_id: str) -> str | None:
        """Give the result that a resource belongs to, or ``None`` where that is not known."""
        ...


class Destination(Protocol):
    """Somewhere a result is delivered to. Delivering twice leaves one result there."""

    @property
    def name(self) -> str:
        """Short name, such as ``fhir`` or ``folder``: names the queue and the log line."""
        ...

    @property
    def at_once(self) -> int:
        """How many results may be handed over at once."""
        ...

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        """Hand over the result.

        Raises
        ------
        DeliveryRefused
            If it will never be accepted.
        DestinationUnavailable
            If the receiver is away: nothing else would arrive either.
        DeliveryFailed
            If it may be accepted later.
        """
        ...


@runtime_checkable
class ReportFeed(Protocol):
    """A destination that gets one message a result: composed once, kept, and sent as those bytes.

    What is sent again is sent byte for byte as before, so that a receiver can tell a repeat.
    """

    @property
    def name(self) -> str:
        """Short name, as of any destination."""
        ...

    @property
    def at_once(self) -> int:
        """How many messages may be under way at once."""
        ...

    def probe(self) -> str:
        """Ask whether the receiver is there, without telling it anything, and say what it is.

        Raises
        ------
        DestinationUnavailable
            If it is not, or is not who it has to be.
        """
        ...

    def compose(self, result: StoredResult, artefacts: ReportSet) -> bytes:
        """Give the message, checked; asked once a result, before its first attempt.

        Raises
        ------
        DeliveryRefused
            If there can be none, such as one that the receiver's standard does not allow.
        DeliveryFailed
            If what it needs to know cannot be had now.
        """
        ...

    def send(self, message: bytes) -> None:
        """Send a message; it is accepted when this returns.

        Raises
        ------
        DeliveryRefused
            If the receiver will never accept it: HL7 ``AR`` and ``CR``, HTTP 4xx.
        DestinationUnavailable
            If the receiver is away or overloaded: nothing else would arrive either.
        DeliveryFailed
            If this message may be accepted later: HL7 ``AE`` and ``CE``.
        """
        ...


AnyDestination = Destination | ReportFeed


class Reader(Protocol):
    """The engine behind a seam: in process, or in a process of its own."""

    @property
    def model(self) -> ModelIdentity:
        """The model that reads."""
        ...

    @property
    def model_card(self) -> dict[str, object]:
        """The model's card."""
        ...

    @property
    def modalities(self) -> frozenset[str]:
        """Modalities that the model reads (0008,0060), such as ``CR``."""
        ...

    def read(self, images: Sequence[Image]) -> Outcome:
        """Read the images of one study."""
        ...


class KeySource(Protocol):
    """Where public keys come from."""

    def keys(self, jwks_url: str, *, fresh: bool) -> bytes:
        """Give a JSON Web Key Set; ``fresh`` asks again instead of what was kept.

        Raises
        ------
        KeysUnavailable
            If it cannot be had.
        """
        ...


class ReplayGuard(Protocol):
    """Remembers which tokens were used, across all processes."""

    def take(self, issuer: str, jti: str, until: datetime) -> bool:
        """Take a token's ``jti``; ``False`` if it was taken before. Kept until the given time.

        Raises
        ------
        AuditUnavailable
            If it cannot be remembered: then the call must be refused.
        """
        ...


class LocalToken(Protocol):
    """The token of whoever started the server on this machine."""

    @property
    def available(self) -> bool:
        """Whether there is one."""
        ...

    def opens(self, token: str) -> bool:
        """Say whether it is the one; compared in constant time. Never true where there is none."""
        ...


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """Give the time with an offset."""
        ...
