"""A web application over stand-ins, for tests."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from flask.testing import FlaskClient
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_image, chest_instance, chest_study
from studies import site as example_site

from ai_engine.result import TriageResult
from cds_server.access import Access
from cds_server.adapters.in_memory import InMemoryAuditTrail, InMemoryResultStore
from cds_server.adapters.sql_fhir_repository import SqlFhirRepository
from cds_server.adapters.sql_schema import open_engine
from cds_server.app import create_app
from cds_server.ports import StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import DisplayMode, ReportContext
from fhir_mappers.report_set import report_set
from smart_app.pages import error_page, pages


@dataclass
class TickingClock:
    """A clock that moves on by a second at each look."""

    time: datetime = ISSUED
    step: timedelta = field(default=timedelta(seconds=1))

    def now(self) -> datetime:
        self.time += self.step
        return self.time


class Serving:
    """An application with one study per outcome."""

    def __init__(self, folder: Path, mode: DisplayMode = DisplayMode.OVERLAY) -> None:
        self.trail = InMemoryAuditTrail()
        self.store = InMemoryResultStore(self.trail)
        self.repository = SqlFhirRepository(open_engine(folder / "radcds.sqlite"))
        self.site = example_site(mode)
        self.checks = {"database": "ok"}
        access = Access(
            store=self.store,
            repository=self.repository,
            trail=self.trail,
            site=self.site,
            clock=TickingClock(),
        )
        self.app = create_app(
            access=access,
            readiness=lambda: self.checks,
            pages=[pages(access)],
            page_of=error_page,
            software_version="0.1.0",
            cors_origins=("https://ehr.example.org",),
        )
        self.client: FlaskClient = self.app.test_client()

    def add(self, name: str, number: int = 0) -> str:
        """Store one study with the named outcome and give its id."""
        uid = f"{STUDY_UID}.{number}"
        outcome = OUTCOMES[name]
        identifier = result_id(uid, MODEL.sha256)
        context = ReportContext(identifier, self.site, MODEL, ISSUED, "0.1.0", {"status": "demo"})
        analysed = isinstance(outcome, TriageResult)
        study = chest_study(study_instance_uid=uid)
        artefacts = report_set(
            study,
            outcome,
            context=context,
            source=chest_instance() if analysed else None,
            image=chest_image() if analysed else None,
        )
        self.store.notice(identifier, uid, ISSUED + timedelta(minutes=number))
        self.store.save(
            StoredResult(identifier, study, outcome, ISSUED, {"infer": 0.02}),
            artefacts,
            original_png=b"\x89PNG",
            audit_events=[],
            destinations=("fhir",),
        )
        self.repository.transaction(artefacts.bundle)
        return identifier

    def queue(self, number: int = 99) -> str:
        """Notice a study that is not read yet."""
        identifier = result_id(f"{STUDY_UID}.{number}", MODEL.sha256)
        self.store.notice(identifier, f"{STUDY_UID}.{number}", ISSUED)
        return identifier
