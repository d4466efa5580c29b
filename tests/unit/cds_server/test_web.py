"""The web service: what it answers, what it refuses, and that every look is recorded."""

import dataclasses
import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydicom.dataset import Dataset
from serving import Serving
from studies import ISSUED, STUDY_UID, chest_instance, chest_study

from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.errors import ArchiveUnreachable
from cds_server.inbox import InboundMessage
from cds_server.network import CdsClient, Ehr, Network, Role
from cds_server.oauth.client_token import ClientTokens, Refused, Trusted
from cds_server.outbox import DeliveryState
from cds_server.ports import FhirQuery, FhirReach
from cds_server.web.doors import Keys
from cds_server.web.doors import install as install_doors
from cds_server.web.requests import MOST_BODY_BYTES
from fhir_mappers.report_context import DisplayMode
from fhir_mappers.study import PersonName
from smart_app.routes import ROUTES as REAL

HOOK = "/cds-services/radcds-patient-view"
OURS = {"Origin": "https://radcds.example.org"}
PATIENT = chest_study().patient


def instance_of_study(number: int) -> Dataset:
    """Give the DX instance of a study that ``Serving.add`` stores."""
    return chest_instance(StudyInstanceUID=f"{STUDY_UID}.{number}")


# What opens it, which permission it needs, what the audit trail says of it.
TABLE = """
GET  /                                                     open
GET  /studies/<uuid:result_id>                             open
GET  /static/<name>                                        open
GET  /livez                                                open
GET  /readyz                                               open
GET  /.well-known/jwks.json                                open
GET  /fhir/metadata                                        open
GET  /fhir/.well-known/smart-configuration                 open
GET  /launch                                               open
GET  /callback                                             open    -                 110122
POST /callback                                             open    -                 110122
GET  /sign-in                                              open
POST /sign-in                                              open    -                 110122
GET  /sign-in/<int:number>                                 open
POST /app/<handle>/sign-out                                session session:end       110123
GET  /app/<handle>/worklist                                session study:read        search
GET  /app/<handle>/worklist/lines                          session study:read        search
GET  /app/<handle>/studies/<uuid:result_id>                session study:read        read
GET  /app/<handle>/studies/<uuid:result_id>/images         session image:read        read
GET  /app/<handle>/studies/<uuid:result_id>/images/<int:number> session image:read   read-once
GET  /app/<handle>/studies/<uuid:result_id>/artefacts/<name> session study:read      read
POST /app/<handle>/studies/<uuid:result_id>/verdict        session verdict:write     create
POST /app/<handle>/studies/<uuid:result_id>/break-glass    session study:break-glass 110127
GET  /app/<handle>/operations                              session operations:read   search
POST /app/<handle>/operations/deliveries                   session operations:act    component
POST /app/<handle>/operations/inbox                        session operations:act    component
POST /app/<handle>/operations/destinations                 session operations:act    component
GET  /app/<handle>/operations/messages/<uuid:publication_id>/<destination> session message:read read
POST /pacs/events                                          pacs
GET  /metrics                                              metrics
GET  /cds-services                                         cds     cds:call
POST /cds-services/<service_id>                            cds     cds:call          search
POST /cds-services/<service_id>/feedback                   cds     cds:call          create
GET  /fhir/<resource_type>/<resource_id>                   bearer  fhir:read         search
GET  /fhir/<resource_type>                                 bearer  fhir:read         search
POST /fhir/<resource_type>/_search                         bearer  fhir:read         search
"""
ROUTES = [tuple((*line.split(), "-", "-")[:5]) for line in TABLE.strip().splitlines()]
RECORDED = [row for row in ROUTES if row[4] != "-" and row[2] != "open"]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path, archive=InMemoryArchive([instance_of_study(0)]))


def call(**changes: Any) -> dict[str, Any]:
    context = {"userId": "Practitioner/example", "patientId": "MRN 123456"}
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": context,
        **changes,
    }


def test_every_route_is_in_the_table(serving: Serving) -> None:
    found = {
        (method, rule.rule)
        for rule in serving.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert found == {(method, path) for method, path, *_ in ROUTES}
    table = {(each.method, each.path): each for each in REAL}
    for method, path, door, permission, audit in ROUTES:
        route = table[method, path]
        said = (route.door.value, route.permission.value or "-", route.audit or "-")
        assert said == (door, permission, audit), path


def test_an_application_does_not_start_with_a_route_that_is_not_in_the_table(
    serving: Serving,
) -> None:
    serving.app.add_url_rule("/back-door", "back_door", lambda: "patients")
    with pytest.raises(RuntimeError, match="back-door"):
        install_doors(
            serving.app,
            REAL,
            Keys(None, None, serving.local, serving.sessions),  # type: ignore[arg-type]
            network=Network(),
            gate=serving.access.gate,
        )


FORMS = {
    "verdict": {"agreement": "agree", "radpeer": "1"},
    "break-glass": {"reason": "covering"},
    "sign-out": {"nothing": ""},
    "deliveries": {"destination": "fhir"},
    "destinations": {"destination": "fhir", "action": "pause"},
    "inbox": {"message": "1"},
}


def _fail_a_message(serving: Serving) -> None:
    inbox = serving.store.inbox
    came = InboundMessage(("RIS", "RAD"), "1", "ORM^O01", ISSUED, b"MSH|of PATIENT")
    inbox.keep(came, audit_events=[])
    inbox.fail(1, "it names no study", at=ISSUED)


def asked(serving: Serving, method: str, path: str) -> tuple[str, dict[str, Any]]:
    """Give the address and the body of a good request for a route."""
    identifier = serving.add("flagged")
    base = serving.sign_in()
    found = serving.repository.search(FhirQuery("DiagnosticReport"), FhirReach())
    resource = json.loads(found.resources[0])["id"]
    url = (
        path.replace("/app/<handle>", base)
        .replace("<uuid:result_id>", identifier)
        .replace("artefacts/<name>", "artefacts/card.json")
        .replace("<int:number>", "0")
        .replace("<service_id>", "radcds-patient-view")
        .replace("<resource_type>", "DiagnosticReport")
        .replace("<resource_id>", resource)
        .replace("<uuid:publication_id>/<destination>", f"{identifier}/fhir")
    )
    body: dict[str, Any] = {}
    if path.endswith("/feedback"):
        card = serving.client.post(HOOK, json=call()).json["cards"][0]["uuid"]
        said = {"card": card, "outcome": "overridden", "outcomeTimestamp": "2026-11-24T10:00:00Z"}
        body = {"json": {"feedback": [said]}}
    elif "cds-services" in path and method == "POST":
        body = {"json": call()}
    elif form := FORMS.get(path.rpartition("/")[2]):
        serving.store.outbox.settle(identifier, "fhir", DeliveryState.PARKED, at=ISSUED)
        body = {"data": {**form, "publication": identifier}, "headers": OURS}
        _fail_a_message(serving)
    elif path.endswith("/images/<int:number>"):
        assert serving.client.get(url.removesuffix("/0")).status_code == 200
    elif "/messages/" in path:
        serving.store.outbox.keep_message(identifier, "fhir", b"a message of PATIENT")
    return url, body


@pytest.mark.parametrize(("method", "path", "door", "permission", "audit"), RECORDED)
def test_what_shows_patient_data_is_recorded_first(
    serving: Serving, method: str, path: str, door: str, permission: str, audit: str
) -> None:
    del door, permission
    url, body = asked(serving, method, path)
    before = len(serving.trail.recorded)
    answer = serving.client.open(url, method=method, **body)
    assert answer.status_code in {200, 303}, answer.text
    recorded = [json.loads(each)["subtype"][0]["code"] for each in serving.trail.recorded[before:]]
    assert recorded[:1] == ([] if audit == "read-once" else [audit])


@pytest.mark.parametrize(
    ("method", "path", "door", "permission", "audit"),
    [row for row in RECORDED if row[4] != "read-once"],
)
def test_no_audit_no_data(
    serving: Serving, method: str, path: str, door: str, permission: str, audit: str
) -> None:
    del door, permission, audit
    url, body = asked(serving, method, path)
    serving.trail.broken = True
    answer = serving.client.open(url, method=method, **body)
    assert answer.status_code == 503
    assert "PATIENT" not in answer.text


@pytest.mark.parametrize(("method", "path", "door", "permission", "audit"), ROUTES)
def test_nothing_of_a_patient_without_a_key(
    serving: Serving, method: str, path: str, door: str, permission: str, audit: str
) -> None:
    del permission, audit
    url, body = asked(serving, method, path) if door != "open" else (path, {})
    before = len(serving.trail.recorded)
    stranger = serving.app.test_client()
    given = {**body, "headers": {**body.get("headers", {}), "Authorization": ""}}
    answer = stranger.open(url, method=method, **given)
    if door == "open":
        assert b"PATIENT" not in answer.data
        return
    assert answer.status_code == 401
    assert answer.data == b"" or "PATIENT" not in answer.text
    assert len(serving.trail.recorded) == before


@pytest.mark.parametrize("path", [row[1] for row in ROUTES if row[2] == "session"])
def test_no_session_opens_another(serving: Serving, path: str) -> None:
    method = next(row[0] for row in ROUTES if row[1] == path)
    url, body = asked(serving, method, path)
    own = url.split("/")[2]
    other = serving.sign_in().split("/")[2]
    stranger = serving.app.test_client()
    secret = serving.client.get_cookie(f"__Host-radcds-{other}").value  # type: ignore[union-attr]
    stranger.set_cookie(f"__Host-radcds-{own}", secret)
    given = {**body, "headers": {**body.get("headers", {}), "Authorization": ""}}
    assert stranger.open(url, method=method, **given).status_code == 401


def test_without_an_audit_trail_nothing_of_a_patient_is_answered(serving: Serving) -> None:
    serving.add("urgent")
    serving.trail.broken = True
    answer = serving.client.post(HOOK, json=call())
    assert answer.status_code == 503
    assert answer.json["resourceType"] == "OperationOutcome"
    assert "cards" not in answer.json


def test_cards_come_from_stored_results_the_most_urgent_first(serving: Serving) -> None:
    for number, name in enumerate(("normal", "urgent", "not_analysed")):
        serving.add(name, number)
    cards = serving.client.post(HOOK, json=call()).json["cards"]
    assert [card["indicator"] for card in cards] == ["critical", "info", "info"]
    assert all(len(card["summary"]) < 140 for card in cards)


def test_a_patient_is_found_by_a_prefetched_identifier(serving: Serving) -> None:
    serving.add("flagged")
    patient = {"resourceType": "Patient", "id": "ehr-7", "identifier": [{"value": "MRN 123456"}]}
    context = {"userId": "Practitioner/1", "patientId": "ehr-7"}
    found = serving.client.post(HOOK, json=call(context=context, prefetch={"patient": patient}))
    assert len(found.json["cards"]) == 1
    other = {**patient, "id": "ehr-8"}
    mixed = serving.client.post(HOOK, json=call(context=context, prefetch={"patient": other}))
    assert mixed.status_code == 400


def test_an_unknown_patient_has_no_cards(serving: Serving) -> None:
    context = {"userId": "Practitioner/1", "patientId": "nobody"}
    assert serving.client.post(HOOK, json=call(context=context)).json == {"cards": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (call(hook="order-sign"), "hook"),
        (call(prefetch=[]), "prefetch"),
        (call(prefetch={"patient": "Patient/1"}), "prefetch.patient"),
        (call(prefetch={"patient": {"resourceType": "Observation"}}), "prefetch.patient"),
        (call(fhirAuthorization={"access_token": "x"}), "fhirServer"),
        (call(fhirServer="https://x", fhirAuthorization=[]), "fhirAuthorization"),
        (
            call(
                fhirServer="https://x",
                fhirAuthorization={"access_token": "a\r\nb", "token_type": "Bearer"},
            ),
            "access_token",
        ),
        (call(hookInstance="1"), "hookInstance"),
        (call(context=None), "context"),
        (call(context={"userId": "x"}), "patientId"),
        (call(context={"userId": "", "patientId": "x"}), "userId"),
        ([], "object"),
    ],
)
def test_a_call_that_breaks_the_rules_is_told_why(serving: Serving, body: Any, says: str) -> None:
    answer = serving.client.post(HOOK, json=body)
    assert answer.status_code == 400
    assert says in answer.json["issue"][0]["diagnostics"]


def test_a_crash_is_a_500_in_words_and_never_an_empty_card_list(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.add("urgent")

    def crash(_: str) -> None:
        msg = "secret MRN 123456"
        raise RuntimeError(msg)

    monkeypatch.setattr(serving.store, "entries_of_patient", crash)
    answer = serving.client.post(HOOK, json=call())
    assert answer.status_code == 500
    assert b"cards" not in answer.data
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data


def chunked(serving: Serving, body: bytes) -> Any:
    return serving.client.post(
        HOOK,
        data=body,
        headers={"Transfer-Encoding": "chunked"},
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )


def test_a_chunked_body_is_read_whole_or_refused_and_never_cut(serving: Serving) -> None:
    serving.add("flagged")
    assert len(chunked(serving, json.dumps(call()).encode()).json["cards"]) == 1
    padded = json.dumps(call(extension={"org.example.padding": "x" * MOST_BODY_BYTES})).encode()
    assert chunked(serving, padded).status_code == 413


def test_a_body_of_12_megabytes_is_refused(serving: Serving) -> None:
    answer = serving.client.post(HOOK, data=b"{" + b" " * 12 * 1024 * 1024 + b"}")
    assert answer.status_code == 413


def test_only_listed_origins_are_answered(tmp_path: Path) -> None:
    origins = ("https://ehr.example.org",)
    ehr = Ehr("EHR", "https://ehr.example.org/fhir", cors_origins=origins)
    serving = Serving(tmp_path, network=Network(ehrs=(ehr,)))
    allowed = serving.client.get("/cds-services", headers={"Origin": "https://ehr.example.org"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://ehr.example.org"
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    preflight = serving.client.options(HOOK, headers={"Origin": "https://ehr.example.org"})
    assert preflight.status_code == 200
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for origin in ("https://evil.example.org", "null", "https://ehr.example.org.evil.org", "*"):
        refused = serving.client.get("/cds-services", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in refused.headers
        assert refused.headers["Vary"] == "Origin"


def test_the_capability_statement_is_valid_r4(serving: Serving) -> None:
    answer = serving.client.get("/fhir/metadata")
    get_fhir_model_class("CapabilityStatement").model_validate_json(answer.data)
    assert answer.json["fhirVersion"] == "4.0.1"
    assert answer.content_type == "application/fhir+json"


def test_resources_are_read_and_found(serving: Serving) -> None:
    serving.add("flagged")
    for parameters in (
        {"patient": "MRN 123456"},
        {"status": "preliminary"},
        {"identifier": "ACC1001"},
        {},
    ):
        found = serving.client.get("/fhir/DiagnosticReport", query_string=parameters)
        assert found.json["total"] == 1, parameters
        get_fhir_model_class("Bundle").model_validate_json(found.data)
    posted = serving.client.post("/fhir/DiagnosticReport/_search", data={"patient": "nobody"})
    itself = "https://radcds.example.org/fhir/DiagnosticReport?patient=nobody"
    assert posted.json == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
        "link": [{"relation": "self", "url": itself}],
    }
    (entry,) = serving.client.get("/fhir/ImagingStudy").json["entry"]
    read = serving.client.get(f"/fhir/ImagingStudy/{entry['resource']['id']}")
    assert read.json == entry["resource"]
    by_uid = {"identifier": f"urn:dicom:uid|urn:oid:{STUDY_UID}.0"}
    assert serving.client.get("/fhir/ImagingStudy", query_string=by_uid).json["total"] == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/fhir/DiagnosticReport?colour=red", 400),
        ("/fhir/Patient", 404),
        ("/fhir/DiagnosticReport/nothing", 404),
        ("/cds-services/other", 405),
        ("/fhir/metadata/x/y", 404),
    ],
)
def test_what_is_not_supported_is_never_ignored(serving: Serving, path: str, status: int) -> None:
    answer = serving.client.get(path)
    assert answer.status_code == status
    assert answer.json["resourceType"] == "OperationOutcome"
    get_fhir_model_class("OperationOutcome").model_validate_json(answer.data)


def test_readiness_names_what_is_wrong(serving: Serving) -> None:
    assert serving.client.get("/readyz").status_code == 200
    serving.checks["archive"] = "the archive does not answer"
    answer = serving.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["archive"] == "the archive does not answer"
    assert serving.client.get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/cds-services", "/fhir/metadata", "/livez"])
def test_every_answer_is_hardened(serving: Serving, path: str) -> None:
    headers = serving.client.get(path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_worklist_says_every_state_in_words(serving: Serving) -> None:
    base = serving.sign_in()
    assert "No study matches" in serving.client.get(f"{base}/worklist").text
    for number, name in enumerate(("urgent", "flagged", "normal", "not_analysed", "failed")):
        serving.add(name, number)
    serving.queue()
    page = serving.client.get(f"{base}/worklist").text
    page = page[page.index("<tbody>") :]
    words = ["Urgent", "Flagged", "Not analysed", "Processing failed", "No finding above threshold"]
    for word in [*words, "Waiting for analysis", "That does not mean no finding"]:
        assert word in page
    assert page.index("Urgent") < page.index("Flagged") < page.index("No finding above threshold")


@pytest.mark.parametrize("name", ["urgent", "normal", "not_analysed", "failed"])
def test_the_study_page_shows_findings_model_and_disclaimer(serving: Serving, name: str) -> None:
    identifier = serving.add(name)
    page = serving.client.get(f"{serving.sign_in()}/studies/{identifier}").text
    assert "AI output, not a diagnosis." in page
    assert "not for clinical use" in page
    analysed = name in {"urgent", "normal"}
    assert ("overlay.png" in page) is analysed
    assert ("Findings" in page) is analysed
    assert "normal chest" not in page.lower()
    for words in ("PATIENT TEST", "1970-01-01", "MRN 123456", "ACC1001", "DX CHEST Chest PA"):
        assert words in page


def test_a_triage_only_site_shows_no_overlay(tmp_path: Path) -> None:
    serving = Serving(
        tmp_path, DisplayMode.TRIAGE_ONLY, archive=InMemoryArchive([instance_of_study(0)])
    )
    identifier = serving.add("urgent")
    study = f"{serving.sign_in()}/studies/{identifier}"
    page = serving.client.get(study).text
    assert "overlay.png" not in page
    assert "no location is shown" in page
    for name in ("overlay.png", "secondary-capture.dcm"):
        assert serving.client.get(f"{study}/artefacts/{name}").status_code == 404
    assert serving.client.get(f"{study}/images").json["overlay"] is None


def test_a_site_that_has_become_triage_only_gives_no_location_that_it_drew_before(
    tmp_path: Path,
) -> None:
    serving = Serving(tmp_path)
    identifier = serving.add("urgent")
    study = f"{serving.sign_in()}/studies/{identifier}"
    media = [
        json.loads(each)
        for kind in ("Media", "Binary")
        for each in serving.repository.search(FhirQuery(kind), FhirReach()).resources
    ]
    assert media
    gate = serving.access.gate
    gate.site = dataclasses.replace(gate.site, display_mode=DisplayMode.TRIAGE_ONLY)
    for name in serving.store.artefacts(identifier).files():
        status = serving.client.get(f"{study}/artefacts/{name}").status_code
        assert status == (200 if name == "card.json" else 404), name
    for each in media:
        kind = each["resourceType"]
        assert serving.client.get(f"/fhir/{kind}/{each['id']}").status_code == 404
        assert serving.client.get(f"/fhir/{kind}").json["total"] == 0


def test_an_archive_that_is_away_is_told_as_that_and_not_as_a_defect(tmp_path: Path) -> None:
    class Away(InMemoryArchive):
        def metadata(self, study_instance_uid: str) -> Any:
            assert study_instance_uid
            msg = "the archive does not answer"
            raise ArchiveUnreachable(msg)

    serving = Serving(tmp_path, archive=Away([instance_of_study(0)]))
    study = f"{serving.sign_in()}/studies/{serving.add('urgent')}"
    answer = serving.client.get(f"{study}/images")
    assert answer.status_code == 503
    assert "archive does not answer" in answer.text


def test_artefacts_are_served_as_they_were_stored(serving: Serving) -> None:
    identifier = serving.add("flagged")
    study = f"{serving.sign_in()}/studies/{identifier}"
    for name in ("bundle.json", "oru.hl7", "card.json", "overlay.png", "secondary-capture.dcm"):
        answer = serving.client.get(f"{study}/artefacts/{name}")
        assert answer.data == serving.store.artefact(identifier, name)
    assert serving.client.get(f"{study}/artefacts/../../x").status_code == 404


@pytest.mark.parametrize("compresses", [0, 1])
def test_pixels_arrive_as_they_are_also_where_they_are_compressed_on_the_way(
    tmp_path: Path, compresses: int
) -> None:
    instance = instance_of_study(0)
    archive = InMemoryArchive([instance])
    serving = Serving(tmp_path, archive=archive, compresses=bool(compresses))
    images = f"{serving.sign_in()}/studies/{serving.add('urgent')}/images"
    assert serving.client.get(f"{images}/0").status_code == 403
    assert serving.client.get(images).json["images"][0]["analysed"]
    answer = serving.client.get(f"{images}/0", headers={"Accept-Encoding": "gzip"})
    assert (answer.headers.get("Content-Encoding") == "gzip") is bool(compresses)
    pixels = gzip.decompress(answer.data) if compresses else answer.data
    assert pixels == instance.PixelData
    assert json.loads(answer.headers["X-Radcds-Shown"])["window"] == {"center": 2048, "width": 4096}
    plain = serving.client.get(f"{images}/0", headers={"Accept-Encoding": "identity"})
    assert plain.data == instance.PixelData


def test_an_unknown_study_is_a_page_in_words(serving: Serving) -> None:
    answer = serving.client.get(f"{serving.sign_in()}/studies/{uuid.uuid4()}")
    assert answer.status_code == 404
    assert "no study is known" in answer.text
    assert answer.content_type.startswith("text/html")


def test_markup_in_a_name_stays_text(serving: Serving) -> None:
    evil = PersonName("<script>alert(1)</script>", "[x](javascript:1) \u202egnp.exe \U0001d54f")
    identifier = serving.add("urgent", patient=dataclasses.replace(PATIENT, name=evil))
    base = serving.sign_in()
    for path in (f"{base}/worklist", f"{base}/studies/{identifier}", "/studies/<script>x</script>"):
        assert "<script>alert" not in serving.client.get(path).text


NETWORK = Network(
    ehrs=(
        Ehr(
            "EHR",
            "https://ehr/fhir",
            cds=CdsClient("https://ehr", "https://ehr/jwks"),
            patient_systems={"urn:oid:2.999.7": "Example Trust"},
        ),
    )
)


class Untrusting(ClientTokens):
    """Trusts one word."""

    def __init__(self) -> None:
        self.audiences: list[str] = []

    def check(self, authorization: str | None, audience: str) -> Trusted | Refused:
        self.audiences.append(audience)
        good = authorization == "Bearer good"
        return Trusted(CdsClient("https://ehr", "https://ehr/jwks")) if good else Refused("no")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/cds-services"), ("POST", HOOK), ("POST", "/cds-services/other")]
)
def test_an_untrusted_call_gets_a_bare_401_whatever_it_asks(
    tmp_path: Path, method: str, path: str
) -> None:
    tokens = Untrusting()
    serving = Serving(tmp_path, tokens=tokens, network=NETWORK)
    serving.add("urgent")
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer bad"}):
        answer = serving.client.open(path, method=method, json=call(), headers=headers)
        assert (answer.status_code, answer.data) == (401, b"")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert set(tokens.audiences) == {f"https://radcds.example.org{path}"}
    assert serving.trail.recorded == []


def test_a_trusted_call_is_answered_and_audited_with_its_client(tmp_path: Path) -> None:
    serving = Serving(tmp_path, tokens=Untrusting(), network=NETWORK)
    serving.add("urgent")
    patient = {
        "resourceType": "Patient",
        "id": "ehr-7",
        "identifier": [{"system": "urn:oid:2.999.7", "value": "MRN 123456"}],
    }
    body = call(
        context={"userId": "Practitioner/example", "patientId": "ehr-7"},
        prefetch={"patient": patient, "studies": None},
    )
    answer = serving.client.post(HOOK, json=body, headers={"Authorization": "Bearer good"})
    assert len(answer.json["cards"]) == 1
    who = [a["who"]["identifier"]["value"] for a in json.loads(serving.trail.recorded[0])["agent"]]
    assert "https://ehr" in who
    assert "Practitioner/example" in who


def test_what_a_model_says_in_shadow_is_shown_to_no_reader_and_no_ehr(tmp_path: Path) -> None:
    serving = Serving(tmp_path, archive=InMemoryArchive([instance_of_study(0)]))
    identifier = serving.add("urgent", shadow=True)
    serving.add("flagged", 1)
    base = serving.sign_in(Role.RADIOLOGIST)
    worklist = serving.client.get(f"{base}/worklist").text
    lines = worklist[worklist.index("<tbody>") :]
    assert "Read in shadow" in lines
    assert "URGENT" not in worklist
    assert lines.index("FLAGGED") < lines.index("Read in shadow")
    page = serving.client.get(f"{base}/studies/{identifier}").text
    assert "recorded and not shown" in page
    for said in ("URGENT", "Findings", "0.97", "overlay.png", "cxr-test"):
        assert said not in page
    images = serving.client.get(f"{base}/studies/{identifier}/images").json
    assert images["overlay"] is None
    assert serving.client.get(f"{base}/studies/{identifier}/artefacts/card.json").status_code == 404
    cards = serving.client.post(HOOK, json=call()).json["cards"]
    assert [card["indicator"] for card in cards] == ["warning"]
    operator = serving.sign_in()
    assert "In shadow: URGENT" in serving.client.get(f"{operator}/studies/{identifier}").text
