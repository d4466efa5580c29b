"""FHIR clients of somebody else read our API over HTTP, with tokens of somebody else's server."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fhirclient.auth import FHIROAuth2Auth
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.capabilitystatement import CapabilityStatement
from fhirclient.models.device import Device
from fhirclient.models.diagnosticreport import DiagnosticReport
from fhirclient.models.fhirsearch import FHIRSearch
from fhirclient.models.imagingstudy import ImagingStudy
from fhirclient.models.media import Media
from fhirclient.models.observation import Observation
from fhirclient.models.provenance import Provenance
from fhirclient.server import FHIRPermissionDeniedException, FHIRUnauthorizedException
from judges import _MODULES
from oidc_peer import oidc_provider
from serving import SIGNING, Serving

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.system_clock import SystemClock
from cds_server.network import Ehr, Network, SmartRegistration, TokenIssuer
from cds_server.oauth.signing_keys import KeyRing
from cds_server.oauth.smart_client import SmartClient
from cds_server.ports import FhirQuery, FhirReach
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.study import Patient, PersonName
from mock_ehr.local_server import LocalServer

READER = Path(__file__).parent / "peers" / "fhirclient_reader.js"
RING = KeyRing(SIGNING)
SCOPES = ["system/*.rs", "system/Observation.rs"]
MODELS = (DiagnosticReport, ImagingStudy, Observation, Device, Media, Provenance)
OTHER = Patient("MRN 9", "Example Trust", PersonName("OTHER"), "1980-01-01", "M")


@dataclass
class Api:
    """The running server, and the authorisation server that it trusts."""

    serving: Serving
    base_url: str
    issuer: str

    def token(self, *scopes: str) -> str:
        """Get a token as a program does: by client credentials, with a signed assertion."""
        registration = SmartRegistration("es384-jwt", "ES384")
        client = SmartClient(
            Ehr("Peer", f"{self.issuer}/fhir", smart=registration),
            http=BoundedHttp(),
            keys=RING,
            jwks_url="https://reader.example.org/jwks.json",
            redirect_uri="https://reader.example.org/callback",
            clock=SystemClock(),
        )
        return client.backend_token(scopes)

    def stored(self, kind: str) -> list[dict[str, Any]]:
        """Give what is in the store, in order."""
        found = self.serving.repository.search(FhirQuery(kind, count=200), FhirReach())
        assert len(found.resources) == found.total
        return [json.loads(each) for each in found.resources]

    def patient(self) -> str:
        return f"{identifier_system(OTHER.issuer, self.serving.site)}|{OTHER.patient_id}"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    server = LocalServer()
    audience = f"{server.base_url}/fhir"
    asked = {
        "jwks": RING.public_jwks(),
        "audience": audience,
        "redirect_uri": "https://reader.example.org/callback",
        "scope": " ".join(SCOPES),
    }
    with oidc_provider(**asked) as issuer:
        trusted = TokenIssuer(issuer, audience, jwks_url=f"{issuer}/jwks")
        serving = Serving(
            tmp_path_factory.mktemp("api"),
            network=Network(token_issuers=(trusted,)),
            base_url=server.base_url,
            clock=SystemClock(),
        )
        for number, name in enumerate(("urgent", "flagged", "not_analysed", "failed")):
            serving.add(name, number)
        serving.add("normal", 4, patient=OTHER)
        server.start(serving.app)
        try:
            yield Api(serving, server.base_url, issuer)
        finally:
            server.stop()


# --- npm fhirclient


def read_by_npm(api: Api, token: str | None) -> dict[str, Any]:
    assert _MODULES.is_dir(), "the peers are not installed: run scripts/install_judges.sh"
    asked = {
        "serverUrl": f"{api.base_url}/fhir",
        "tokenResponse": {"access_token": token} if token else {},
        "patient": api.patient(),
    }
    done = subprocess.run(
        ["node", READER, _MODULES],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_npm_fhirclient_reads_everything_and_follows_every_reference(api: Api) -> None:
    told = read_by_npm(api, api.token("system/*.rs"))
    assert told["release"] == 4
    for kind in ("DiagnosticReport", "ImagingStudy", "Observation"):
        stored = api.stored(kind)
        assert len(stored) >= 5
        assert told[kind]["found"] == stored
        assert told[kind]["read"] == stored
        pages = told[kind]["pages"]
        assert [page["entry"][0]["resource"] for page in pages] == stored
        assert {len(page["entry"]) for page in pages} == {1}
        assert {page["total"] for page in pages} == {len(stored)}
    observations = {each["id"]: each for each in api.stored("Observation")}
    studies = {each["id"]: each for each in api.stored("ImagingStudy")}
    for report in api.stored("DiagnosticReport"):
        resolved = told["resolved"][report["id"]]
        named = [each["reference"].split("/")[1] for each in report["imagingStudy"]]
        assert resolved["imagingStudy"] == [studies[each] for each in named]
        named = [each["reference"].split("/")[1] for each in report.get("result", [])]
        assert resolved.get("result", []) == [observations[each] for each in named]
    assert told["ofPatient"]["total"] == 1


@pytest.mark.parametrize("token", [None, "bm90aGluZw", "e30.e30.e30"])
def test_npm_fhirclient_says_that_it_is_not_let_in(api: Api, token: str | None) -> None:
    refused = read_by_npm(api, token)["refused"]
    assert refused["status"] == 401
    assert refused["message"].startswith("401 UNAUTHORIZED")
    says = "expired" if token else "cannot be accessed directly"
    assert says in refused["message"]


def test_npm_fhirclient_is_told_what_its_scopes_do_not_reach(api: Api) -> None:
    refused = read_by_npm(api, api.token("system/Observation.rs"))["refused"]
    assert refused["status"] == 403
    assert "The scopes of this token do not reach this" in refused["message"]


# --- PyPI fhirclient


@pytest.fixture
def reader(api: Api) -> Iterator[FHIRClient]:
    settings = {"app_id": "reader", "api_base": f"{api.base_url}/fhir"}
    client = FHIRClient(settings=settings)
    client.server.session.trust_env = False
    yield client
    client.server.session.close()


def let_in(client: FHIRClient, token: str) -> FHIRClient:
    client.server.auth = FHIROAuth2Auth()
    client.server.auth.access_token = token
    return client


def pages(client: FHIRClient, kind: type, **parameters: str) -> list[Bundle]:
    return list(FHIRSearch(kind, parameters).perform_iter(client.server))


def test_pypi_fhirclient_reads_everything_and_follows_every_reference(
    api: Api, reader: FHIRClient
) -> None:
    server = let_in(reader, api.token("system/*.rs")).server
    for kind in MODELS:
        stored = api.stored(kind.resource_type)
        found = pages(reader, kind, _count="2")
        assert len(found) == -(-len(stored) // 2)
        assert {page.total for page in found} == {len(stored)}
        entries = [entry for page in found for entry in page.entry]
        assert [entry.resource.as_json() for entry in entries] == stored
        assert all(isinstance(entry.resource, kind) for entry in entries)
        for resource in stored:
            again = kind.read(resource["id"], server)
            assert again.as_json() == resource
            assert kind(resource, strict=True).as_json() == resource
    for report in FHIRSearch(DiagnosticReport, {}).perform_resources_iter(server):
        (study,) = (each.resolved(ImagingStudy) for each in report.imagingStudy)
        assert study.as_json() in api.stored("ImagingStudy")
        for each in report.result or []:
            assert each.resolved(Observation).id == each.reference.split("/")[1]
    (page,) = pages(reader, DiagnosticReport, patient=api.patient(), _summary="count")
    assert (page.total, page.entry) == (1, None)


def test_pypi_fhirclient_understands_the_capability_statement(api: Api, reader: FHIRClient) -> None:
    assert reader.prepare()
    statement = reader.server.capabilityStatement
    assert isinstance(statement, CapabilityStatement)
    assert statement.fhirVersion == "4.0.1"
    described = {each.type for each in statement.rest[0].resource}
    assert described >= {kind.resource_type for kind in MODELS}
    assert statement.implementation.url == f"{api.base_url}/fhir"


@pytest.mark.parametrize("token", [None, "bm90aGluZw", "e30.e30.e30"])
def test_pypi_fhirclient_says_that_it_is_not_let_in(reader: FHIRClient, token: str | None) -> None:
    if token:
        let_in(reader, token)
    for ask in (
        lambda: pages(reader, DiagnosticReport),
        lambda: DiagnosticReport.read("1", reader.server),
    ):
        with pytest.raises(FHIRUnauthorizedException) as refused:
            ask()
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"


def test_pypi_fhirclient_is_told_what_its_scopes_do_not_reach(api: Api, reader: FHIRClient) -> None:
    let_in(reader, api.token("system/Observation.rs"))
    assert pages(reader, Observation)
    with pytest.raises(FHIRPermissionDeniedException) as refused:
        pages(reader, DiagnosticReport)
    assert refused.value.response.json()["issue"][0]["code"] == "forbidden"
