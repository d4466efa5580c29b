"""Work taken from a UPS-RS worklist by a real worker, and given back with results in a PACS."""

from datetime import UTC, datetime
from pathlib import Path

from beside_pacs import file_of, results_of, wait_for, worker
from orthanc import free_ports
from pydicom.dataset import Dataset
from strict_pacs import strict_pacs
from studies import STUDY_UID
from ups_server import Server, Worklist, serving, value, values

WORK = "1.2.826.0.1.3680043.8.498.99.1"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def request(study: str) -> Dataset:
    """What a requester creates."""
    dataset, reference, given = Dataset(), Dataset(), Dataset()
    dataset.ProcedureStepState = "SCHEDULED"
    dataset.ScheduledProcedureStepPriority = "HIGH"
    dataset.ScheduledProcedureStepStartDateTime = "20261120085900+0000"
    dataset.InputReadinessState = "READY"
    dataset.PatientName, dataset.PatientID = "TEST^PATIENT", "MRN 123456"
    dataset.WorklistLabel = "AI"
    dataset.ScheduledStationNameCodeSequence = [code("RADCDS", "99RADCDS", "radcds")]
    dataset.ScheduledWorkitemCodeSequence = [code("CXR-1", "99NORTH", "Chest triage")]
    given.TypeOfInstances = "DICOM"
    given.StudyInstanceUID, given.SeriesInstanceUID = study, f"{study}.1"
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    reference.ReferencedSOPInstanceUID = f"{study}.1.1"
    given.ReferencedSOPSequence = [reference]
    dataset.InputInformationSequence = [given]
    return dataset


def schedule(server: Server, study: str) -> None:
    server.worklist.create(WORK, request(study).to_json_dict())


def settings(server: Server) -> dict[str, str]:
    return {"RADCDS_WORKITEMS": server.url, "RADCDS_WATCH_MODALITIES": "MR"}


def test_work_is_claimed_performed_and_completed_with_the_objects_that_are_in_the_pacs(
    tmp_path: Path,
) -> None:
    study = f"{STUDY_UID}.1"
    (port,) = free_ports(1)
    with strict_pacs(port) as pacs, serving(Worklist(now=datetime.now(UTC))) as server:
        pacs.add(file_of(1))
        schedule(server, study)
        with worker(port, tmp_path / "data", **settings(server)) as seen:
            wait_for(lambda: server.worklist.state(WORK) == "COMPLETED")
        (step,) = values(
            server.worklist.items[WORK], "UnifiedProcedureStepPerformedProcedureSequence"
        )
        given = {
            value(reference, "ReferencedSOPInstanceUID")
            for series in values(step, "OutputInformationSequence")
            for reference in values(series, "ReferencedSOPSequence")
        }
        own = {each.instance for each in pacs.kept.values()} - {f"{study}.1.1"}
        assert given == own
        assert results_of(pacs, 1)["SR"] == 2
        assert seen.trail.verify() > 0


def test_a_worker_that_is_killed_after_its_claim_goes_on_with_the_work(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    data = tmp_path / "data"
    with serving(Worklist(now=datetime.now(UTC))) as server:
        schedule(server, f"{STUDY_UID}.1")
        with worker(port, data, killed=True, **settings(server)):
            wait_for(lambda: server.worklist.state(WORK) == "IN PROGRESS")
        with strict_pacs(port) as pacs:
            pacs.add(file_of(1))
            with worker(port, data, **settings(server)):
                wait_for(lambda: server.worklist.state(WORK) == "COMPLETED")
        assert server.worklist.history[WORK] == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
