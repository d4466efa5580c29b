"""What comes in by HL7 v2 does what it says: orders, changes of patients, reports.

Messages are taken in the order in which they came. One that cannot do what it says keeps no other
waiting. A worker that is killed at any point takes the message again: nothing happens twice.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cds_server.arrivals import ArrivalStore
from cds_server.errors import ArchiveError, CdsServerError, ResultNotFound
from cds_server.inbound_content import Content, content_of
from cds_server.inbox import Inbox, KeptMessage
from cds_server.known_patients import KnownPatients
from cds_server.operations import Operations
from cds_server.order_book import is_cancelled
from cds_server.ports import Clock, ResultStore
from fhir_mappers.hl7_inbound.hl7_message import UnreadableMessage
from fhir_mappers.hl7_inbound.patient_changes import PatientMerge
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.report_context import Site

INBOX = "inbox"
_AT_ONCE = 100
_FORGETS_EVERY = timedelta(hours=1)


class ContentRefused(CdsServerError):
    """A message cannot do what it says; the words hold no patient data."""


class Orders:
    """Lets what came in take effect.

    Parameters
    ----------
    inbox
        What came in.
    arrivals
        Told of studies that are to be looked at at once.
    results
        Says which studies were noticed already.
    in_archive
        Says whether the archive has a study: an order mostly comes before its images.
    patients
        Knows whose number became whose.
    operations
        Told how many messages failed.
    site, clock
        Whose server this is, and what time it is.
    own
        Sending applications and facilities of this server's own messages: a report of its own is
        no news.
    keep
        How long patient data stay in the inbox once a message is settled.
    """

    def __init__(  # noqa: PLR0913 - every collaborator, by name
        self,
        inbox: Inbox,
        *,
        arrivals: ArrivalStore,
        results: ResultStore,
        in_archive: Callable[[str], bool],
        patients: KnownPatients,
        operations: Operations,
        site: Site,
        clock: Clock,
        own: frozenset[tuple[str, str]] = frozenset(),
        keep: timedelta = timedelta(days=14),
    ) -> None:
        self._inbox = inbox
        self._arrivals = arrivals
        self._results = results
        self._in_archive = in_archive
        self._patients = patients
        self._operations = operations
        self._zone = ZoneInfo(site.timezone)
        self._clock = clock
        self._own = own | {(site.hl7_application, site.hl7_facility)}
        self._keep = keep
        self._forgets_at: datetime | None = None

    def look(self) -> int:
        """Take some messages that wait; give how many there were.

        Raises
        ------
        AuditUnavailable
            If what became of one cannot be kept.
        """
        waiting = self._inbox.waiting(limit=_AT_ONCE)
        for message in waiting:
            self._take(message)
        if waiting or self._forgets_at is None:
            self._operations.note(INBOX, self._trouble())
        self._forget()
        return len(waiting)

    def _take(self, message: KeptMessage) -> None:
        try:
            content = self._understood(message)
        except (UnreadableMessage, ContentRefused, ResultNotFound) as error:
            self._inbox.fail(message.sequence, str(error), at=self._clock.now())
            return
        for order in content.orders:
            if order.study_instance_uid and not is_cancelled(order):
                self._hasten(order.study_instance_uid)
        self._inbox.finish(message.sequence, content, at=self._clock.now())

    def _understood(self, message: KeptMessage) -> Content:
        """Read a message again, and see that it can do what it says.

        Raises
        ------
        ContentRefused
            If it would merge patients in a ring.
        """
        read = read_message(self._inbox.content(message.sequence))
        content = content_of(read, zone=self._zone)
        merges = [each for each in content.changes if isinstance(each, PatientMerge)]
        for number, merge in enumerate(merges):
            if self._patients.leads_back(merge, merges[:number]):
                msg = (
                    "MRG-1: the patient who stays was merged into the one who is retired before; "
                    "correct it where patients are registered"
                )
                raise ContentRefused(msg)
        if message.sender in self._own:
            return Content(content.orders, content.changes)
        return content

    def _hasten(self, study_instance_uid: str) -> None:
        """Have a study looked at at once that is there and that nobody noticed.

        An order before its images is no reason: the study is noticed when it comes, and is due as
        its orders say. Nor is one that is being read, or was.
        """
        if self._results.entries_of_study(study_instance_uid):
            return
        try:
            arrived = self._in_archive(study_instance_uid)
        except ArchiveError:
            return  # the watch finds it when the archive answers again
        if arrived:
            self._arrivals.told(study_instance_uid, self._clock.now())

    def _trouble(self) -> str:
        failed = self._inbox.backlog().failed
        return f"{failed} messages cannot do what they say; a person has to look" if failed else ""

    def _forget(self) -> None:
        """Drop patient data that are kept for long enough, now and then."""
        now = self._clock.now()
        if self._forgets_at is not None and now < self._forgets_at:
            return
        if self._inbox.forget(now - self._keep, limit=_AT_ONCE) < _AT_ONCE:
            self._forgets_at = now + _FORGETS_EVERY
