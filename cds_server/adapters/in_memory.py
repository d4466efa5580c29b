"""Stand-ins that keep everything in memory. They pass the contract tests of the real adapters.

For tests only: ``bootstrap`` builds none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydicom.dataset import Dataset

from cds_server.errors import AuditUnavailable, ResultNotFound, StudyNotFound
from cds_server.ports import FileProblem, StoredResult, StudyEntry, StudyState
from fhir_mappers.report_context import ReportSet


@dataclass
class InMemoryArchive:
    """An archive of datasets that a test made."""

    instances: list[Dataset] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)

    def study_uids(self) -> Sequence[str]:
        """List the studies, sorted."""
        return sorted({str(each.StudyInstanceUID) for each in self.instances})

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance.

        Raises
        ------
        StudyNotFound
            If there is no such study.
        """
        found = [
            {tag: value for tag, value in each.to_json_dict().items() if tag != "7FE00010"}
            for each in self.instances
            if each.StudyInstanceUID == study_instance_uid
        ]
        if not found:
            msg = "there is no such study"
            raise StudyNotFound(msg)
        return found

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> Dataset:
        """Give one instance.

        Raises
        ------
        StudyNotFound
            If there is no such instance.
        """
        wanted = (study_instance_uid, series_instance_uid, sop_instance_uid)
        for each in self.instances:
            if (each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID) == wanted:
                return each
        msg = "there is no such instance"
        raise StudyNotFound(msg)


@dataclass
class InMemoryAuditTrail:
    """A trail that a test can read, and break."""

    recorded: list[bytes] = field(default_factory=list)
    broken: bool = False

    def record(self, events: Sequence[bytes]) -> None:
        """Append events.

        Raises
        ------
        AuditUnavailable
            If a test broke the trail.
        """
        if self.broken:
            msg = "the audit trail cannot be written (broken by the test)"
            raise AuditUnavailable(msg)
        self.recorded.extend(events)

    def events(self, study_instance_uid: str | None = None) -> Sequence[bytes]:
        """Give the events of one study, or all."""
        if study_instance_uid is None:
            return list(self.recorded)
        needle = f'"urn:oid:{study_instance_uid}"'.encode()
        return [event for event in self.recorded if needle in event]

    def verify(self) -> int:
        """Count the events."""
        return len(self.recorded)


@dataclass
class InMemoryResultStore:
    """A result store whose audit leaves go to the given trail."""

    trail: InMemoryAuditTrail = field(default_factory=InMemoryAuditTrail)
    lines: dict[str, StudyEntry] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sets: dict[str, ReportSet] = field(default_factory=dict)

    def notice(self, result_id: str, study_instance_uid: str, noticed_at: datetime) -> bool:
        """Remember a study."""
        if result_id in self.lines:
            return False
        self.lines[result_id] = StudyEntry(
            result_id, study_instance_uid, noticed_at, StudyState.QUEUED, None, {}
        )
        return True

    def save(
        self,
        stored: StoredResult,
        artefacts: ReportSet,
        *,
        original_png: bytes | None,
        audit_events: Sequence[bytes],
        destinations: Sequence[str],
    ) -> None:
        """Store a result, unless there is one."""
        if stored.result_id in self.sets:
            return
        self.trail.record(audit_events)
        self.sets[stored.result_id] = artefacts
        original = {"original.png": original_png} if original_png else {}
        self.files[stored.result_id] = artefacts.files() | original
        self.lines[stored.result_id] = replace(
            self.lines[stored.result_id],
            result=stored,
            state=StudyState.READ if destinations else StudyState.PUBLISHED,
            delivered=dict.fromkeys(destinations, False),
        )

    def mark_delivered(self, result_id: str, destination: str) -> None:
        """Note an acknowledgement."""
        line = self.lines[result_id]
        delivered = {**line.delivered, destination: True}
        state = StudyState.PUBLISHED if all(delivered.values()) else StudyState.READ
        self.lines[result_id] = replace(line, delivered=delivered, state=state)

    def entry(self, result_id: str) -> StudyEntry:
        """Give one line.

        Raises
        ------
        ResultNotFound
            If nothing is known.
        """
        if result_id not in self.lines:
            msg = "no study is known under this identifier"
            raise ResultNotFound(msg)
        return self.lines[result_id]

    def entries(self) -> Sequence[StudyEntry]:
        """Give every study, the most urgent first."""
        return sorted(self.lines.values(), key=lambda line: (line.rank, line.noticed_at))

    def entries_of_patient(self, patient_id: str) -> Sequence[StudyEntry]:
        """Give the studies of one patient, latest first."""
        own = [
            line
            for line in self.lines.values()
            if line.result and line.result.study.patient.patient_id == patient_id
        ]
        return sorted(own, key=lambda line: line.noticed_at, reverse=True)

    def artefact(self, result_id: str, name: str) -> bytes:
        """Give one artefact.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        if name not in self.files.get(result_id, {}):
            msg = "this study has no such artefact"
            raise ResultNotFound(msg)
        return self.files[result_id][name]

    def artefacts(self, result_id: str) -> ReportSet:
        """Give the report set.

        Raises
        ------
        ResultNotFound
            If there is none.
        """
        if result_id not in self.sets:
            msg = "no result is stored under this identifier"
            raise ResultNotFound(msg)
        return self.sets[result_id]
