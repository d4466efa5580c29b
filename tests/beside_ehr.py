"""radcds beside the strict mock EHR, both on loopback, each with a port of its own."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving import Serving
from studies import STUDY_UID, chest_instance

from cds_server.adapters.https_key_source import HttpsKeySource
from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.adapters.sql_replay_guard import SqlReplayGuard
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.system_clock import SystemClock
from cds_server.network import (
    CdsClient,
    Centre,
    Ehr,
    Network,
    Role,
    SmartRegistration,
    SystemActions,
)
from cds_server.oauth.client_token import ClientTokens
from mock_ehr.local_server import LocalServer
from mock_ehr.records import imaging_study, patient, practitioner, service_request
from mock_ehr.registration import AppRegistration
from mock_ehr.server import MockEhr

SYSTEM = "urn:oid:2.999.7"
"""How the EHR names the numbers that the archive issues as ``Example Trust``."""
SCOPES = frozenset(
    {
        *("openid", "fhirUser", "launch", "launch/patient", "online_access"),
        *("launch/imagingstudy", "launch/diagnosticreport", "user/Practitioner.r"),
        *("patient/Patient.r", "patient/ImagingStudy.r", "patient/DiagnosticReport.r"),
        *("system/Patient.r", "system/ImagingStudy.rs"),
    }
)
READER, NURSE = "Practitioner/radiologist-1", "Practitioner/nurse"


def records() -> list[dict[str, Any]]:
    """Two patients, one of whom has the studies, and the people who look after them."""
    known = [("urn:oid:2.999.8", "900"), (SYSTEM, "MRN 123456")]
    return [
        patient("p1", family="TEST", given="Patient", birth_date="1970-01-01", identifiers=known),
        patient(
            "p2",
            family="TEST",
            given="Other",
            birth_date="1980-02-02",
            identifiers=[(SYSTEM, "MRN 999")],
        ),
        practitioner("radiologist-1", family="READER", given="Test"),
        practitioner("nurse", family="NURSE", given="Test"),
        imaging_study(
            "s0",
            patient_id="p1",
            study_instance_uid=f"{STUDY_UID}.0",
            started="2026-11-20T09:12:00Z",
        ),
        service_request("r0", patient_id="p1", authored="2026-11-19", accession="R0"),
    ]


class Beside:
    """An EHR and radcds that trust each other."""

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        more: Sequence[dict[str, Any]] = (),
        **ehr: Any,
    ) -> None:
        self.radcds, self.office = LocalServer(), LocalServer()
        base = self.radcds.base_url
        self.address = self.office.base_url.replace("127.0.0.1", host)
        app = AppRegistration(
            "radcds",
            f"{base}/launch",
            (f"{base}/callback",),
            f"{base}/.well-known/jwks.json",
            SCOPES,
            base,
        )
        self.records = [*records(), *more]
        self.ehr = MockEhr(self.address, app, self.records)
        trusted = Ehr(
            **{
                "name": "Test EHR",
                "fhir_base_url": self.ehr.fhir_base_url,
                "cds": CdsClient(self.ehr.cds_issuer, f"{self.address}/cds-jwks.json"),
                "smart": SmartRegistration("radcds", roles={READER: Role.RADIOLOGIST}),
                "patient_systems": {SYSTEM: "Example Trust"},
                "frame_ancestors": (self.address,),
                "system_actions": SystemActions.NONE,
                **ehr,
            }
        )
        clock = SystemClock()
        guard = SqlReplayGuard(open_engine(folder / "tokens.sqlite"), clock)
        self.tokens = ClientTokens([trusted.cds], keys=HttpsKeySource(), guard=guard, clock=clock)
        self.network = Network(
            centres=(
                Centre("north", "North Hospital", frozenset({"NORTH"})),
                Centre("south", "South Hospital", frozenset({"SOUTH"})),
            ),
            ehrs=(trusted,),
        )
        instances = [
            chest_instance(
                StudyInstanceUID=f"{STUDY_UID}.{number}", SOPInstanceUID=f"{STUDY_UID}.{number}.9"
            )
            for number in range(4)
        ]
        self.serving = Serving(
            folder,
            tokens=self.tokens,
            network=self.network,
            base_url=base,
            archive=InMemoryArchive(instances),
            local="",
            clock=clock,
        )
        self.datasets = instances

    def add(self, name: str, number: int = 0, **study: Any) -> str:
        """Store one study of patient p1."""
        return self.serving.add(name, number, self.datasets[number], **study)

    def launch_url(self, patient_id: str = "p1", user: str = READER, **context: Any) -> str:
        """Give the address with which the EHR opens radcds."""
        return self.ehr.launch_url(self.ehr.new_launch(patient=patient_id, user=user, **context))

    def recorded(self) -> Sequence[str]:
        """Give the subtype of each event in the trail."""
        return [json.loads(each)["subtype"][0]["code"] for each in self.serving.trail.recorded]


@contextmanager
def beside_ehr(folder: Path, **options: Any) -> Iterator[Beside]:
    """Run both until the block ends."""
    both = Beside(folder, **options)
    both.office.start(both.ehr.app)
    both.radcds.start(both.serving.app)
    try:
        yield both
    finally:
        both.radcds.stop()
        both.office.stop()
        both.ehr.close()


__all__ = ["NURSE", "READER", "SYSTEM", "Beside", "beside_ehr"]
