"""The demonstration: a real radiograph and a real head CT, from the archive to the EHR's screen."""

import http.client
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from cds_server.batch import BatchReport, Progress, batch_settings, read_batch
from cds_server.config import Settings
from cds_server.errors import InvalidSettings
from cds_server.ports import StudyEntry
from cds_server.serve import check_port, local_sign_in, processes
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.report_context import Site

_SAMPLES = ("RG1_UNCR.dcm", "693_UNCR.dcm")
_START_TIMEOUT_S = 30.0
_HOST = "127.0.0.1"
_READER = "radiologist-1"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demonstration serves.

    Parameters
    ----------
    ehr
        Address of the mock EHR: pick a patient, see the card, open radcds.
    radcds
        Address of radcds itself.
    token
        Signs in at radcds without the EHR.
    """

    ehr: str
    radcds: str
    token: str


@contextmanager
def demonstration(
    out: Path, settings: Settings, *, port: int, ehr_port: int, progress: Progress
) -> Iterator[tuple[BatchReport, Shown]]:
    """Read the samples, serve them beside a mock EHR until the block ends, and say where.

    Raises
    ------
    InvalidSettings
        If the sample images are not installed.
    PortInUse
        If something else listens on a port.
    """
    port, ehr_port = port or _free_port(), ehr_port or _free_port()
    for each in (port, ehr_port):
        check_port(_HOST, each)
    radcds, ehr = f"http://{_HOST}:{port}", f"http://{_HOST}:{ehr_port}"
    settings = replace(
        batch_settings(settings, out),
        archive=str(_archive(out)),
        network=_network_file(out, ehr),
        base_url=radcds,
        oru_folder=out / "oru-outbox",
        result_archive=str(out / "result-archive"),
    )
    report = read_batch([Path(settings.archive)], settings, progress=progress)
    records = out / "ehr-records.json"
    records.write_bytes(orjson.dumps(_records(report.studies, settings.site)))
    mock = ["-m", "mock_ehr", "--port", str(ehr_port), "--radcds", radcds]
    beside = {"EHR": [*mock, "--records", str(records)]}
    with (
        local_sign_in(settings, _HOST) as token,
        processes(settings, host=_HOST, port=port, worker=False, beside=beside),
    ):
        _wait_until_alive(port, "/livez")
        _wait_until_alive(ehr_port, "/")
        yield report, Shown(f"{ehr}/", f"{radcds}{_page(report.studies)}", token)


def artefact_paths(report: BatchReport, out: Path) -> Sequence[Path]:
    """List every file that was written for the studies of a report."""
    folders = [out / entry.study_instance_uid for entry in report.studies]
    return [path for folder in folders for path in sorted(folder.iterdir())]


def _archive(out: Path) -> Path:
    """Put the sample images where the server looks for them.

    Raises
    ------
    InvalidSettings
        If they are not installed.
    """
    folder = out / "archive"
    folder.mkdir(parents=True, exist_ok=True)
    for sample in _samples():
        shutil.copy(sample, folder)
    return folder


def _samples() -> Sequence[Path]:
    try:
        from pydicom.data import get_testdata_file  # noqa: PLC0415 - only the demo needs it
    except ImportError as error:
        msg = "the sample images are missing; pip install pydicom-data"
        raise InvalidSettings(msg) from error
    found = [get_testdata_file(name, download=False) for name in _SAMPLES]
    if not all(found):
        msg = "the sample images are missing; pip install pydicom-data"
        raise InvalidSettings(msg)
    return [Path(str(path)) for path in found]


def _network_file(out: Path, ehr: str) -> Path:
    """Write down that the mock EHR is trusted: the same file that a hospital writes."""
    path = out / "network.toml"
    path.write_text(
        f"""# The network of the demonstration: one EHR, which is a mock.
[[ehr]]
name = "Mock EHR"
fhir_base_url = "{ehr}/fhir"
frame_ancestors = ["{ehr}"]
cds = {{ issuer = "{ehr}", jwks_url = "{ehr}/cds-jwks.json" }}

[ehr.smart]
client_id = "radcds"
roles = {{ "Practitioner/{_READER}" = "radiologist" }}
""",
        encoding="utf-8",
    )
    return path


def _records(studies: Sequence[StudyEntry], site: Site) -> list[dict[str, Any]]:
    """Give the EHR's records of the people whose images were read."""
    records: list[dict[str, Any]] = [
        {
            "resourceType": "Practitioner",
            "id": _READER,
            "name": [{"family": "READER", "given": ["Demo"]}],
        }
    ]
    for number, entry in enumerate(studies, start=1):
        if entry.result is None:
            continue
        study = entry.result.study
        patient = study.patient
        given = {"given": [patient.name.given]} if patient.name.given else {}
        name = {"family": patient.name.family or "NO NAME", **given}
        identifier = {
            "system": identifier_system(patient.issuer, site),
            "value": patient.patient_id or "none",
        }
        born = {"birthDate": patient.birth_date} if patient.birth_date else {}
        subject = {"reference": f"Patient/p{number}"}
        started = {"started": study.started.isoformat()} if study.started else {}
        uid = f"urn:oid:{entry.study_instance_uid}"
        records += [
            {"resourceType": "Patient", "id": f"p{number}", "name": [name], **born}
            | {"identifier": [identifier]},
            {"resourceType": "ImagingStudy", "id": f"s{number}", "status": "available"}
            | {"identifier": [{"system": "urn:dicom:uid", "value": uid}], "subject": subject}
            | started,
        ]
    return records


def _page(studies: Sequence[StudyEntry]) -> str:
    """Give the page of the most urgent study."""
    return f"/studies/{studies[0].result_id}" if studies else "/"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_alive(port: int, path: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        connection = http.client.HTTPConnection(_HOST, port, timeout=1.0)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError as error:
            if time.monotonic() > deadline:
                msg = f"the service on port {port} did not start within {_START_TIMEOUT_S:.0f} s"
                raise InvalidSettings(msg) from error
        finally:
            connection.close()
        time.sleep(0.1)
