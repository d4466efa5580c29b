"""Every destination keeps the same promises: a repeat changes nothing, a failure is said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_image, chest_instance, chest_study
from studies import context as report_context

from cds_server.adapters.dicom_folder_destination import DicomFolderDestination
from cds_server.adapters.fhir_destination import FhirDestination
from cds_server.adapters.folder_destination import FolderDestination
from cds_server.adapters.hl7_folder_destination import Hl7FolderDestination
from cds_server.adapters.in_memory import InMemoryAuditTrail
from cds_server.adapters.sql_fhir_repository import SqlFhirRepository
from cds_server.adapters.sql_schema import open_engine
from cds_server.errors import DeliveryFailed, DeliveryRefused
from cds_server.ports import Destination, FhirQuery, FhirReach, StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet
from fhir_mappers.report_set import report_set

Built = tuple[Destination, Callable[[], object]]


def result(uid: str = STUDY_UID) -> StoredResult:
    return StoredResult(
        result_id(STUDY_UID, MODEL.sha256),
        chest_study(study_instance_uid=uid),
        OUTCOMES["flagged"],
        ISSUED,
        {},
    )


def artefacts() -> ReportSet:
    return report_set(
        chest_study(),
        OUTCOMES["flagged"],
        context=report_context(),
        source=chest_instance(),
        image=chest_image(),
    )


@pytest.fixture(params=["fhir", "folder", "hl7", "dicom"])
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    """A destination, and what stands there."""
    out = tmp_path / "out"

    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    if request.param == "fhir":
        repository = SqlFhirRepository(open_engine(tmp_path / "radcds.sqlite"))
        everything = FhirQuery("DiagnosticReport"), FhirReach()
        return FhirDestination(repository), lambda: repository.search(*everything).resources
    if request.param == "folder":
        return FolderDestination(out, InMemoryAuditTrail()), files
    if request.param == "hl7":
        return Hl7FolderDestination(out), files
    return DicomFolderDestination(out), files


def test_a_result_arrives_and_a_repeat_changes_nothing(built: Built) -> None:
    destination, there = built
    assert not there()
    destination.deliver(result(), artefacts())
    first = there()
    assert first
    destination.deliver(result(), artefacts())
    assert there() == first


def test_every_destination_has_a_name_of_its_own(built: Built) -> None:
    assert built[0].name.isalnum()


@pytest.mark.parametrize("uid", ["../evil", "1.2/../../x", "", "1" * 65, "1..2"])
def test_a_uid_never_becomes_a_path_outside(tmp_path: Path, uid: str) -> None:
    destination = FolderDestination(tmp_path / "out", InMemoryAuditTrail())
    with pytest.raises(DeliveryRefused, match="nothing is written"):
        destination.deliver(result(uid), artefacts())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    for destination in (
        FolderDestination(tmp_path / "out", InMemoryAuditTrail()),
        Hl7FolderDestination(tmp_path / "out"),
        DicomFolderDestination(tmp_path / "out"),
    ):
        with pytest.raises(DeliveryFailed, match="cannot be written"):
            destination.deliver(result(), artefacts())


def test_what_an_earlier_outcome_left_is_removed(tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path, InMemoryAuditTrail())
    destination.deliver(result(), artefacts())
    assert (tmp_path / STUDY_UID / "overlay.png").exists()
    without = replace(artefacts(), overlay_png=None, dicom={})
    destination.deliver(result(), without)
    assert not (tmp_path / STUDY_UID / "overlay.png").exists()


@pytest.mark.parametrize(
    "bundle",
    [
        b"not json",
        b"[]",
        b'{"resourceType":"Bundle","type":"batch","entry":[]}',
        b"""{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":
        "Device","id":"1"},"request":{"method":"DELETE","url":"Device/1"}}]}""",
    ],
)
def test_the_fhir_store_refuses_what_is_not_a_transaction_of_puts(
    tmp_path: Path, bundle: bytes
) -> None:
    repository = SqlFhirRepository(open_engine(tmp_path / "radcds.sqlite"))
    with pytest.raises(DeliveryRefused):
        repository.transaction(bundle)
