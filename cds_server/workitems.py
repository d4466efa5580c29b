"""The story of a workitem: taken from a worklist, read, told about, completed or canceled.

::

    SCHEDULED ─► claim ─► IN PROGRESS ─► notice the study ─► read and delivered ─► COMPLETED
                (audit)                        │                             (audit, with outputs)
                                               └─► cannot be, broken, too late ─► CANCELED
                                                                            (audit, with the reason)

Nothing is kept here. Which workitems are ours, the worklist says: it takes changes of a workitem in
progress only from whoever knows its Transaction UID, and ours derives from a secret of this
installation. Which result belongs to it, the study says. So a worker that is killed at any point
and started again goes on where it was, and a repeat tells the same.

References
----------
IHE RAD AI Workflow for Imaging (AIW-I) 1.1, Task Performer, pull workflow; DICOM PS3.4 Annex CC.
"""

import itertools
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from pydicom.sr.coding import Code

from ai_engine.result import NotAnalysed, Reason
from cds_server.errors import AuditUnavailable, CdsServerError, PeerUnavailable, ResultNotFound
from cds_server.ports import AuditTrail, Clock, StoredResult, StudyEntry, StudyState
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.dicom_json import Attributes
from fhir_mappers.report_context import ReportSet, Site
from fhir_mappers.workitem import (
    EQUIPMENT_FAILURE,
    INCORRECT_ENTRY_SELECTED,
    OBJECT_TYPES_NOT_SUPPORTED,
    OBJECTS_INCORRECTLY_FORMATTED,
    RESOURCE_INADEQUATE,
    UNSPECIFIED_REASON,
    Asked,
    Discontinued,
    InvalidWorkitem,
    Stage,
    State,
    Wanted,
    Workitem,
    workitem,
)
from fhir_mappers.workitem_changes import (
    COMPUTER_AIDED_DETECTION,
    Changes,
    Performed,
    discontinued,
    output_instances,
    performed,
    progress,
)

_ACTOR, _WORKLIST = "radcds", "worklist"
_MOST_SILENCES, _MOST_TRIES = 2, 100
_ASKED_AGAIN = timedelta(hours=1)


class WorkitemRefused(CdsServerError):
    """The worklist refuses a change: the workitem is another's, or not in that state."""


class WorkitemUnusable(CdsServerError):
    """A workitem is gone, or what the worklist gives is none."""


class WorkitemSource(Protocol):
    """A worklist that holds workitems."""

    def search(self, state: State, wanted: Wanted) -> Sequence[Attributes]:
        """List workitems in a state; some may not be wanted: a worklist need not match every key.

        Raises
        ------
        PeerUnavailable
            If it does not answer, or not as it must.
        """
        ...

    def workitem(self, workitem_uid: str) -> Attributes:
        """Give one workitem.

        Raises
        ------
        WorkitemUnusable
            If there is none, or what comes cannot be read.
        PeerUnavailable
            If the worklist does not answer.
        """
        ...

    def update(self, workitem_uid: str, changes: Changes, transaction_uid: str) -> None:
        """Change a workitem that was claimed under this Transaction UID.

        Raises
        ------
        WorkitemRefused
            If it was claimed under another, or is not in progress.
        WorkitemUnusable
            If there is none.
        PeerUnavailable
            If the worklist does not answer; the change may have been made.
        """
        ...

    def change_state(self, workitem_uid: str, state: State, transaction_uid: str) -> None:
        """Claim, complete or cancel a workitem; completing it twice is no error.

        Raises
        ------
        WorkitemRefused
            If its state, its Transaction UID or what it says does not allow that.
        WorkitemUnusable
            If there is none.
        PeerUnavailable
            If the worklist does not answer; the change may have been made.
        """
        ...


@dataclass(frozen=True, slots=True)
class Readings:
    """What reads the studies, as this story sees it.

    Parameters
    ----------
    notice
        Queues a study and gives the id of its result; noticing it again changes nothing.
    entry
        Gives how far a result is.
    artefacts
        Gives what a stored result consists of.
    """

    notice: Callable[[str], str]
    entry: Callable[[str], StudyEntry]
    artefacts: Callable[[str], ReportSet]


@dataclass(frozen=True, slots=True)
class Station:
    """Who performs.

    Parameters
    ----------
    name
        Performed station name code.
    installation
        Secret of this installation, the same for ever: claims derive from it.
    stored_by
        Name of the destination that stores results in the PACS.
    retrieved_from
        DICOMweb address under which they are then found, without a trailing slash.
    """

    name: Code
    installation: uuid.UUID
    stored_by: str
    retrieved_from: str

    def transaction_uid(self, workitem_uid: str) -> str:
        """Give the Transaction UID (0008,1195) of our claim, the same each time.

        References
        ----------
        DICOM PS3.5 B.2 UUID derived UID.
        """
        return f"2.25.{uuid.uuid5(self.installation, workitem_uid).int}"


class Step(StrEnum):
    """What happened to a workitem."""

    CLAIMED = "claimed"
    COMPLETED = "completed"
    CANCELED = "canceled"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that a look did or met.

    Parameters
    ----------
    step
        What.
    workitem_uid
        To which; empty where the worklist as a whole is meant.
    says
        In words without patient data; may be empty.
    """

    step: Step
    workitem_uid: str
    says: str = ""


class Performer:
    """Performs the workitems of a worklist, a step further at each look.

    Parameters
    ----------
    source
        The worklist.
    readings
        What reads the studies.
    wanted
        Which workitems are taken.
    station
        Who performs.
    trail
        The audit trail; no workitem is claimed, completed or canceled unless it recorded that.
    site
        Whose server this is.
    clock
        What time it is.
    at_once
        Most workitems in progress here; the others are left for other performers.
    patience
        After which a workitem that is not done is canceled, counted from its latest change.
    """

    def __init__(  # noqa: PLR0913 - every collaborator of the story, by name
        self,
        source: WorkitemSource,
        *,
        readings: Readings,
        wanted: Wanted,
        station: Station,
        trail: AuditTrail,
        site: Site,
        clock: Clock,
        at_once: int = 4,
        patience: timedelta = timedelta(days=1),
    ) -> None:
        self._source = source
        self._readings = readings
        self._wanted = wanted
        self._station = station
        self._trail = trail
        self._site = site
        self._clock = clock
        self._at_once = at_once
        self._patience = patience
        # What this process has seen; all of it is found again after a restart.
        self._ours: set[str] = set()
        self._of_others: dict[str, datetime] = {}
        self._put_back: set[str] = set()

    def look(self) -> Sequence[Happening]:
        """Go on with what is in progress, then claim what is scheduled, the most urgent first.

        What fails is tried again at the next look, after what did not fail.

        Returns
        -------
        Sequence[Happening]
            What there is to log.
        """
        happened: list[Happening] = []
        try:
            in_progress = self._listed(State.IN_PROGRESS, happened)
            self._ours.intersection_update(in_progress)
            self._forget_others(in_progress)
            self._each(in_progress, self._go_on, happened)
            if self._has_room():
                scheduled = self._listed(State.SCHEDULED, happened)
                self._put_back.intersection_update({*in_progress, *scheduled})
                while_room = itertools.takewhile(lambda _: self._has_room(), scheduled)
                self._each(itertools.islice(while_room, _MOST_TRIES), self._claim, happened)
        except (PeerUnavailable, AuditUnavailable) as error:
            happened.append(Happening(Step.TROUBLE, "", str(error)))
        return happened

    def _forget_others(self, in_progress: Sequence[str]) -> None:
        """Forget what is in progress no more; what is, ask about again after a while."""
        since = self._clock.now() - _ASKED_AGAIN
        self._of_others = {
            uid: asked
            for uid, asked in self._of_others.items()
            if uid in in_progress and asked > since
        }

    def _has_room(self) -> bool:
        return len(self._ours) < self._at_once

    def _listed(self, state: State, happened: list[Happening]) -> Sequence[str]:
        """Give the UIDs of the workitems in a state, in the order of work."""
        found: dict[str, Workitem] = {}
        for attributes in self._source.search(state, self._wanted):
            try:
                item = workitem(attributes, timezone=self._site.timezone)
            except InvalidWorkitem as error:
                happened.append(Happening(Step.TROUBLE, "", str(error)))
            else:
                if item.may_be_ready or state is not State.SCHEDULED:
                    found[item.uid] = item
        return sorted(found, key=lambda uid: (uid in self._put_back, found[uid].urgency))

    def _each(
        self,
        workitem_uids: Iterable[str],
        act: Callable[[str, list[Happening]], bool],
        happened: list[Happening],
    ) -> None:
        """Act on each workitem; one that fails is put behind the others at the next look.

        A worklist that has twice given no answer is left alone until then.
        """
        silences = 0
        for uid in workitem_uids:
            says = ""
            try:
                if act(uid, happened):
                    self._put_back.discard(uid)
                    continue
            except WorkitemRefused as error:
                # Once is as it should be: another was faster, or it was canceled meanwhile.
                says = str(error) if uid in self._put_back else ""
            except (InvalidWorkitem, ResultNotFound, WorkitemUnusable) as error:
                says = str(error)
            except PeerUnavailable as error:
                says = str(error)
                silences += 1
            self._put_back.add(uid)
            if says:
                happened.append(Happening(Step.TROUBLE, uid, says))
            if silences == _MOST_SILENCES:
                return

    # ── 1. It is claimed ─────────────────────────────────────────────────────────────────────────

    def _claim(self, uid: str, happened: list[Happening]) -> bool:
        """Claim a scheduled workitem and begin; ``False`` if it is none to take."""
        item = self._read(uid)
        if item.state is not State.SCHEDULED or not item.ready or not self._wanted.includes(item):
            return False
        self._record(item, State.IN_PROGRESS)
        self._source.change_state(uid, State.IN_PROGRESS, self._station.transaction_uid(uid))
        self._ours.add(uid)
        happened.append(Happening(Step.CLAIMED, uid))
        self._advance(item, happened)
        return True

    def _go_on(self, uid: str, happened: list[Happening]) -> bool:
        """Go on with a workitem in progress, if it is ours."""
        if uid in self._of_others:
            return True
        item = self._read(uid)
        if not self._wanted.includes(item):
            self._of_others[uid] = self._clock.now()
        elif item.state is State.IN_PROGRESS and (uid in self._ours or self._proves_ours(item)):
            self._advance(item, happened)
        return True

    def _proves_ours(self, item: Workitem) -> bool:
        """Say whether we claimed it before a restart: tell the worklist again what it shows."""
        shown = (
            discontinued(item.discontinued, self._clock.now(), item.shown)
            if item.discontinued
            else progress(item.shown or Stage.ACCEPTED)
        )
        try:
            self._update(item, shown)
        except WorkitemRefused:
            self._of_others[item.uid] = self._clock.now()
            return False
        self._ours.add(item.uid)
        return True

    def _read(self, uid: str) -> Workitem:
        """Give a workitem.

        Raises
        ------
        WorkitemUnusable
            If the worklist gives another one.
        """
        item = workitem(self._source.workitem(uid), timezone=self._site.timezone)
        if item.uid != uid:
            msg = "the worklist answers with another workitem"
            raise WorkitemUnusable(msg)
        return item

    # ── 2. It is performed ───────────────────────────────────────────────────────────────────────

    def _advance(self, item: Workitem, happened: list[Happening]) -> None:
        """Take a workitem of ours as far as it goes now."""
        now = self._clock.now()
        match self._verdict(item, now):
            case Performed() as done:
                self._end(item, State.COMPLETED, performed(done))
                happened.append(Happening(Step.COMPLETED, item.uid, done.comment))
            case Discontinued() as why:
                self._end(item, State.CANCELED, discontinued(why, now))
                # The words of a requester may name a patient.
                says = "as its worklist asks" if why is item.discontinued else why.words
                happened.append(Happening(Step.CANCELED, item.uid, says))
            case Stage() as stage:
                if stage is not item.shown:
                    self._update(item, progress(stage))

    def _verdict(self, item: Workitem, now: datetime) -> Performed | Discontinued | Stage:
        """Say what a workitem of ours has come to."""
        if isinstance(item.asked, Discontinued):
            return item.asked
        if item.discontinued and item.shown is None:
            return item.discontinued
        result_id = self._readings.notice(item.asked.study_instance_uid)
        entry = self._readings.entry(result_id)
        if item.discontinued and entry.state is StudyState.QUEUED:
            return item.discontinued
        since = [entry.noticed_at, *([item.modified] if item.modified else [])]
        if entry.result is None:
            if now - max(since) > self._patience:
                return Discontinued(RESOURCE_INADEQUATE, "The study was not read in time.")
            return Stage.ACCEPTED if entry.state is StudyState.QUEUED else Stage.READING
        late = now - max(*since, entry.result.stored_at) > self._patience
        return _refusal(item, entry, entry.result) or self._delivered(
            item, entry, entry.result, late=late
        )

    def _delivered(
        self, item: Workitem, entry: StudyEntry, result: StoredResult, *, late: bool
    ) -> Performed | Discontinued | Stage:
        """Say what a workitem has come to whose study was read, or declined on purpose."""
        if self._station.stored_by not in entry.delivered:
            return _without_output(result)
        if entry.state is not StudyState.PUBLISHED:
            words = "The results could not be delivered to every destination in time."
            return Discontinued(RESOURCE_INADEQUATE, words) if late else Stage.DELIVERING
        outputs = output_instances(self._readings.artefacts(entry.result_id).dicom)
        if not outputs:
            return _without_output(result)
        return Performed(
            station=self._station.name,
            code=next(iter(item.codes), COMPUTER_AIDED_DETECTION),
            began=result.stored_at - timedelta(seconds=sum(result.seconds.values())),
            ended=result.stored_at,
            outputs=outputs,
            retrieved_from=self._station.retrieved_from,
            comment=_comment(item, result),
        )

    # ── 3. It is ended ───────────────────────────────────────────────────────────────────────────

    def _update(self, item: Workitem, changes: Changes) -> None:
        self._source.update(item.uid, changes, self._station.transaction_uid(item.uid))

    def _end(self, item: Workitem, state: State, changes: Changes) -> None:
        """Tell the worklist all there is to tell, then complete or cancel the workitem."""
        self._record(item, state)
        self._update(item, changes)
        self._source.change_state(item.uid, state, self._station.transaction_uid(item.uid))
        self._ours.discard(item.uid)

    def _record(self, item: Workitem, state: State) -> None:
        """Record what the worklist is about to be told of a study."""
        asked = item.asked if isinstance(item.asked, Asked) else None
        fact = AuditFact(
            kind=AuditKind.DELIVER,
            recorded=self._clock.now(),
            user=_ACTOR,
            address=self._site.base_url,
            study_instance_uid=asked.study_instance_uid if asked else None,
            detail={"destination": _WORKLIST, "workitem": item.uid, "workitem-state": state.value},
        )
        self._trail.record([audit_event(fact, self._site)])


def _refusal(item: Workitem, entry: StudyEntry, result: StoredResult) -> Discontinued | None:
    """Say why a result is none that the worklist may have, or ``None``."""
    if entry.shadow or entry.withheld:
        return Discontinued(UNSPECIFIED_REASON, "The model is on trial; its results are not given.")
    if entry.recalled:
        return Discontinued(UNSPECIFIED_REASON, "The model was recalled; its result was withdrawn.")
    if _of_another_patient(item, result):
        words = "The patient of the workitem is not the patient of the study."
        return Discontinued(INCORRECT_ENTRY_SELECTED, words)
    if isinstance(result.outcome, NotAnalysed) and result.outcome.reason.is_failure:
        return _without_output(result)
    return None


def _of_another_patient(item: Workitem, result: StoredResult) -> bool:
    """Say whether both name a patient, and not the same one; other issuers give other numbers."""
    patient = result.study.patient
    if item.issuer and patient.issuer and item.issuer != patient.issuer:
        return False
    return bool(item.patient_id and patient.patient_id and item.patient_id != patient.patient_id)


def _without_output(result: StoredResult) -> Discontinued:
    """Say why there is nothing to give."""
    if isinstance(result.outcome, NotAnalysed):
        outcome = result.outcome
        reason = EQUIPMENT_FAILURE if outcome.reason.is_failure else OBJECT_TYPES_NOT_SUPPORTED
        if outcome.reason is Reason.UNREADABLE:
            reason = OBJECTS_INCORRECTLY_FORMATTED
        return Discontinued(reason, f"Not analysed ({outcome.reason}): {outcome.detail}")
    return Discontinued(RESOURCE_INADEQUATE, "The results of the study are not stored in the PACS.")


def _comment(item: Workitem, result: StoredResult) -> str:
    """Say what the requester would not expect, or nothing."""
    if isinstance(result.outcome, NotAnalysed):
        return f"Not analysed ({result.outcome.reason}): {result.outcome.detail}"
    listed = item.asked.instances if isinstance(item.asked, Asked) else frozenset()
    if listed and result.shown_instance_uid not in listed:
        return "The result rests on an image of the study that the workitem does not list."
    return ""
