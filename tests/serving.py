"""A web application over stand-ins, for tests."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from flask.testing import FlaskClient
from joserfc.jwk import ECKey, RSAKey
from pydicom.dataset import Dataset
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_image, chest_instance, chest_study
from studies import site as example_site

from ai_engine.result import TriageResult
from cds_server.access import Access
from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.https_key_source import HttpsKeySource
from cds_server.adapters.in_memory import (
    InMemoryArchive,
    InMemoryAuditTrail,
    InMemoryFeedbackStore,
    InMemoryResultStore,
    InMemorySessionStore,
)
from cds_server.adapters.in_memory_amendments import InMemoryAmendmentStore
from cds_server.adapters.in_process_decoder import InProcessDecoder
from cds_server.adapters.sql_arrival_store import SqlArrivalStore
from cds_server.adapters.sql_component_store import SqlComponentStore
from cds_server.adapters.sql_fhir_repository import SqlFhirRepository
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.token_file import TokenFile
from cds_server.app import create_app
from cds_server.gate import Gate, Stores
from cds_server.hooks.answers import HookAnswers
from cds_server.hooks.card_access import CardAccess
from cds_server.network import Network, Role
from cds_server.oauth.access_tokens import AccessTokens
from cds_server.oauth.client_token import ClientTokens
from cds_server.oauth.signing_keys import KeyRing
from cds_server.oauth.smart_client import SmartClient
from cds_server.operations import Operations
from cds_server.operations_access import OperationsAccess
from cds_server.ports import Clock, StoredResult
from cds_server.sessions import Limits, Person, Sessions
from cds_server.study_images import ArchiveImages
from cds_server.viewer import PatientScope
from cds_server.watch import Watched
from cds_server.web.doors import Keys, cookie_name
from cds_server.web.metrics import metrics
from cds_server.web.pacs_events import pacs_events
from cds_server.worklist import Placing
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import DisplayMode, ReportContext, ReportSet
from fhir_mappers.report_set import report_set
from fhir_mappers.study import Study
from smart_app.launching import Launching
from smart_app.operations import operations
from smart_app.pages import StudyPages, pages
from smart_app.rendering import error_page
from smart_app.routes import ROUTES
from smart_app.sign_in import WaysIn, sign_in

PACS = Watched(3.0, frozenset({"CR", "DX", "CT"}), timedelta(seconds=10))
TOKEN = "the token that radcds serve printed"  # noqa: S105 - of tests
SIGNING = {
    "ES384": ECKey.generate_key("P-384"),
    "RS384": RSAKey.generate_key(2048),
}


class OneToken:
    """The local token of tests."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token

    @property
    def available(self) -> bool:
        return bool(self.token)

    def opens(self, token: str) -> bool:
        return bool(self.token) and token == self.token


class LocalClient(FlaskClient):
    """Whoever started the server: shows the local token, unless a test shows something else."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        headers = dict(kwargs.pop("headers", None) or {})
        headers.setdefault("Authorization", f"Bearer {TOKEN}")
        if headers["Authorization"] == "":
            del headers["Authorization"]
        return super().open(*args, headers=headers, **kwargs)


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

    def __init__(
        self,
        folder: Path,
        mode: DisplayMode = DisplayMode.OVERLAY,
        tokens: ClientTokens | None = None,
        *,
        network: Network | None = None,
        base_url: str = "https://radcds.example.org",
        transport: httpx.BaseTransport | None = None,
        archive: InMemoryArchive | None = None,
        local: str = TOKEN,
        clock: Clock | None = None,
        compresses: bool = False,
    ) -> None:
        self.compresses = compresses
        network = network or Network()
        self.clock = clock or TickingClock()
        self.trail = InMemoryAuditTrail()
        self.store = InMemoryResultStore(self.trail, Placing(network))
        self.feedback = InMemoryFeedbackStore(self.store)
        self.amendments = InMemoryAmendmentStore(self.store, self.feedback)
        self.session_store = InMemorySessionStore(self.trail)
        engine = open_engine(folder / "radcds.sqlite")
        self.repository = SqlFhirRepository(engine)
        self.arrivals = SqlArrivalStore(engine)
        self.archive = archive or InMemoryArchive()
        self.site = dataclasses.replace(example_site(mode), base_url=base_url)
        self.checks = {"database": "ok"}
        self.local = OneToken(local)
        gate = Gate(
            Stores(
                self.store,
                self.store,
                self.repository,
                self.feedback,
                self.session_store,
                self.amendments,
            ),
            trail=self.trail,
            site=self.site,
            clock=self.clock,
        )
        self.access = Access(gate)
        self.operations = Operations(SqlComponentStore(engine), site=self.site, clock=self.clock)
        self.pacs_token = folder / "pacs-token"
        self.metrics_token = folder / "metrics-token"
        self._build(network, tokens, transport)
        self.client: FlaskClient = self.app.test_client()

    def _build(
        self,
        network: Network,
        tokens: ClientTokens | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        http = BoundedHttp(transport)
        ring = KeyRing(SIGNING)
        jwks_url = f"{self.site.base_url}/.well-known/jwks.json"
        smart = {
            ehr.fhir_base_url: SmartClient(
                ehr,
                http=http,
                keys=ring,
                jwks_url=jwks_url,
                redirect_uri=f"{self.site.base_url}/callback",
                clock=self.clock,
            )
            for ehr in network.ehrs
            if ehr.smart
        }
        self.sessions = Sessions(
            self.session_store, smart=smart, site=self.site, limits=Limits(), clock=self.clock
        )
        access_tokens = AccessTokens(
            network.token_issuers,
            http=http,
            keys_source=HttpsKeySource(transport),
            keys=ring,
            jwks_url=jwks_url,
            clock=self.clock,
        )
        ways = WaysIn(
            launching=Launching(
                network=network,
                smart=smart,
                http=http,
                sessions=self.sessions,
                store=self.session_store,
                access=self.access,
                clock=self.clock,
            ),
            sessions=self.sessions,
            access=self.access,
            network=network,
            local=self.local,
            keys=ring,
            session_longest_s=3600,
        )
        shown = StudyPages(
            self.access,
            images=ArchiveImages(self.archive, InProcessDecoder(), timezone="UTC"),
            network=network,
            clock=self.clock,
            images_open_for=timedelta(minutes=15),
            compresses=self.compresses,
        )
        self.app = create_app(
            gate=self.access.gate,
            answers=HookAnswers(
                CardAccess(self.access.gate), http=http, smart=smart, clock=self.clock
            ),
            routes=ROUTES,
            keys=Keys(
                tokens,
                access_tokens,
                self.local,
                self.sessions,
                TokenFile(self.pacs_token),
                TokenFile(self.metrics_token),
            ),
            network=network,
            readiness=lambda: self.checks,
            programs=[
                pacs_events(self.arrivals, watched=PACS, clock=self.clock),
                metrics(
                    self.arrivals,
                    self.store.outbox,
                    self.store.inbox,
                    self.operations,
                    self.clock,
                ),
            ],
            pages=[
                sign_in(ways),
                pages(shown),
                operations(
                    OperationsAccess(
                        self.access.gate,
                        self.operations,
                        self.arrivals,
                        self.store.outbox,
                        self.store.inbox,
                    ),
                    shown.around,
                ),
            ],
            page_of=error_page,
            software_version="0.1.0",
        )
        self.app.test_client_class = LocalClient

    def sign_in(
        self,
        role: Role = Role.OPERATOR,
        *,
        centres: Sequence[str] = (),
        patient: PatientScope | None = None,
        client: FlaskClient | None = None,
        user: str = "Practitioner/1",
    ) -> str:
        """Sign a person in and give the address below which the session's pages are."""
        person = Person(user, "Dr Test", role, frozenset(centres), patient)
        begun, secret = self.sessions.begin(person, address="127.0.0.1", ehr=None, tokens=None)
        (client or self.client).set_cookie(
            cookie_name(begun.handle), secret, domain="localhost", secure=False
        )
        return f"/app/{begun.handle}"

    def add(
        self,
        name: str,
        number: int = 0,
        dataset: Dataset | None = None,
        *,
        shadow: bool = False,
        **study: Any,
    ) -> str:
        """Store one study with the named outcome and give its id."""
        uid = f"{STUDY_UID}.{number}"
        outcome = OUTCOMES[name]
        identifier = result_id(uid, MODEL.sha256)
        context = ReportContext(identifier, self.site, MODEL, ISSUED, "0.1.0", {"status": "demo"})
        analysed = isinstance(outcome, TriageResult)
        noticed = chest_study(study_instance_uid=uid, **study)
        source = copy.deepcopy(dataset or chest_instance())
        source.StudyInstanceUID = uid
        artefacts = _published(noticed, name, context, source if analysed else None)
        self.store.notice(identifier, uid, ISSUED + timedelta(minutes=number))
        self.store.save(
            StoredResult(
                identifier,
                noticed,
                outcome,
                ISSUED,
                {"infer": 0.02},
                str(source.SOPInstanceUID),
                shadow,
            ),
            artefacts,
            audit_events=[],
            destinations=("fhir",),
        )
        self.repository.transaction(artefacts.bundle)
        return identifier

    def queue(self, number: int = 99) -> str:
        """Notice a study that is not read yet."""
        identifier = result_id(f"{STUDY_UID}.{number}", MODEL.sha256)
        uid = f"{STUDY_UID}.{number}"
        self.store.notice(identifier, uid, ISSUED + timedelta(minutes=number))
        return identifier


_PUBLISHED: dict[str, ReportSet] = {}


def _published(
    study: Study, name: str, context: ReportContext, source: Dataset | None
) -> ReportSet:
    """Make a report set; the same is made once in a run, for the function is pure."""
    key = repr((study, name, context, source.to_json() if source else ""))
    if key not in _PUBLISHED:
        _PUBLISHED[key] = report_set(
            study,
            OUTCOMES[name],
            context=context,
            source=source,
            image=chest_image() if source else None,
        )
    return _PUBLISHED[key]
