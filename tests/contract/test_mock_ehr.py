"""The mock EHR is a judge: it lets the right flow through, and refuses each wrong step."""

import base64
import hashlib
import re
import secrets
import uuid
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from flask import Flask, Response, request
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from mock_ehr.__main__ import main
from mock_ehr.cds_client import filled
from mock_ehr.cds_rules import discovery_violations, response_violations
from mock_ehr.ledger import FAULTS
from mock_ehr.local_server import LocalServer
from mock_ehr.markdown import rendered
from mock_ehr.records import demo_records, diagnostic_report, imaging_study
from mock_ehr.registration import AppRegistration
from mock_ehr.scopes import granted, well_formed
from mock_ehr.server import MockEhr

EHR, APP = "https://ehr.test", "https://app.test"
SCOPES = "openid fhirUser launch online_access patient/Patient.rs patient/ImagingStudy.rs"
BACKEND = "system/ImagingStudy.rs"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CARD = {
    "uuid": str(uuid.uuid4()),
    "summary": "A study waits.",
    "indicator": "critical",
    "detail": "**URGENT\\.**\n\n| finding | value |\n|---|---|\n| \\<b\\> | 0.97 |\n\n<script>",
    "source": {"label": "App"},
    "overrideReasons": [{"code": "seen", "system": "https://app.test/r", "display": "Seen"}],
    "links": [
        {
            "label": "Open it",
            "url": f"{APP}/launch",
            "type": "smart",
            "appContext": "study-7",
        },
        {"label": "Guideline", "url": "https://guideline.test/", "type": "absolute"},
        {"label": "Elsewhere", "url": "https://elsewhere.test/launch", "type": "smart"},
    ],
}


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: each for key, each in value.items() if key != name}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def __call__(self) -> float:
        return self.time


class ScriptedApp:
    """A SMART client and CDS service that does as a test says."""

    def __init__(self) -> None:
        self.key: Any = ECKey.generate_key("P-384", {"kid": "app-1"})
        self.private = False
        self.asked: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.answer: tuple[int, Any] = (200, {"cards": [CARD]})
        self.prefetch: dict[str, Any] = {
            "patient": "Patient/{{context.patientId}}",
            "studies": "ImagingStudy?patient={{context.patientId}}&_sort=-started&_count=5",
            "encounter": "Encounter/{{context.encounterId}}",
            "user": "ServiceRequest?patient=Patient/{{context.patientId}}&status=completed",
        }
        self.flask = Flask("scripted_app")
        self.flask.add_url_rule("/jwks.json", view_func=self._keys)
        self.flask.add_url_rule("/cds-services", view_func=self._discovery)
        self.flask.add_url_rule("/cds-services/<name>", view_func=self._service, methods=["POST"])
        self.flask.add_url_rule(
            "/cds-services/<name>/feedback", "feedback", self._feedback, methods=["POST"]
        )

    def _keys(self) -> dict[str, Any]:
        return {"keys": [self.key.as_dict(private=self.private)]}

    def _discovery(self) -> dict[str, Any]:
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        service = {"hook": "patient-view", "id": "view", "description": "Says what waits."}
        return {"services": [{**service, "prefetch": self.prefetch}]}

    def _service(self, name: str) -> Response:
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        self.asked.append(orjson.loads(request.data))
        status, body = self.answer if name == "view" else (404, {})
        return Response(orjson.dumps(body), status=status, content_type="application/json")

    def _feedback(self, name: str) -> tuple[str, int]:
        self.asked.append({"name": name, **orjson.loads(request.data)})
        return "", 204


class World:
    """The EHR and the app, each reached by the other without a network."""

    def __init__(self) -> None:
        self.clock, self.app = Clock(), ScriptedApp()
        registration = AppRegistration(
            client_id="app",
            launch_url=f"{APP}/launch",
            redirect_uris=(f"{APP}/callback",),
            jwks_url=f"{APP}/jwks.json",
            scopes=frozenset({*SCOPES.split(), BACKEND, "launch/patient", "user/Practitioner.r"}),
            cds_base_url=APP,
        )
        records = [
            *demo_records([("urn:oid:1.2.3", "IMAGES-1")]),
            *(
                imaging_study(
                    f"study-{number}",
                    patient_id="test-1",
                    study_instance_uid=f"1.2.3.{number}",
                    started=f"2026-01-{number + 1:02}T09:00:00Z",
                )
                for number in range(7)
            ),
            diagnostic_report(
                "other", patient_id="test-2", effective="2026-01-01", conclusion="Other."
            ),
        ]
        self.out = httpx.Client(transport=httpx.WSGITransport(app=self.app.flask), base_url=APP)
        self.ehr = MockEhr(EHR, registration, records, http=self.out, clock=self.clock)
        self.http = httpx.Client(transport=httpx.WSGITransport(app=self.ehr.app), base_url=EHR)
        self.verifier = secrets.token_urlsafe(48)

    def close(self) -> None:
        self.http.close()
        self.out.close()
        self.ehr.close()

    def authorize(self, method: str = "GET", **changes: Any) -> httpx.Response:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        given = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": f"{APP}/callback",
            "scope": SCOPES,
            "state": secrets.token_urlsafe(24),
            "aud": f"{EHR}/fhir",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "nonce": "a-nonce",
            **changes,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if method == "POST":
            return self.http.post("/authorize", data=given)
        return self.http.get("/authorize", params=given)

    def launched(self, **changes: Any) -> dict[str, str]:
        """Give what an EHR launch sends back."""
        return sent_back(self.authorize(launch=self.ehr.new_launch(patient="test-1"), **changes))

    def assertion(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        now = int(self.clock())
        claims = {
            "iss": "app",
            "sub": "app",
            "aud": f"{EHR}/token",
            "iat": now,
            "exp": now + 300,
            "jti": str(uuid.uuid4()),
            **changes,
        }
        alg = "ES384" if self.app.key.key_type == "EC" else "RS384"
        head = {"alg": alg, "kid": "app-1", "typ": "JWT", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        claims = {name: value for name, value in claims.items() if value is not None}
        key = self.app.key
        return jwt.encode(head, claims, key, algorithms=[head["alg"]], default_type=None)

    def token(self, **changes: Any) -> httpx.Response:
        form = {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
            **changes,
        }
        return self.http.post("/token", data=form)

    def exchange(self, code: str, **changes: Any) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{APP}/callback",
            "code_verifier": self.verifier,
            **changes,
        }
        return self.token(**form)

    def tokens(self, **changes: Any) -> dict[str, Any]:
        """Give the answer of a whole good flow."""
        answer = self.exchange(self.launched(**changes)["code"])
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def fhir(self, path: str, token: str | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.get(path if path.startswith("http") else f"/fhir/{path}", headers=headers)


def sent_back(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 303, answer.text
    location = urlsplit(answer.headers["Location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == f"{APP}/callback"
    return {name: values[0] for name, values in parse_qs(location.query).items()}


def told(world: World) -> str:
    return "\n".join(world.ehr.violations)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


# The authorisation server


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_launch_from_the_ehr_gives_tokens_and_breaks_no_rule(world: World, method: str) -> None:
    launch = world.ehr.new_launch(
        patient="Patient/test-1",
        encounter="Encounter/encounter-test-1",
        fhir_context=[{"reference": "ImagingStudy/study-1"}],
        app_context="study-7",
    )
    back = sent_back(world.authorize(method, launch=launch, state="s" * 22))
    assert (back["iss"], back["state"]) == (EHR, "s" * 22)
    answer = world.exchange(back["code"])
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "Bearer"  # noqa: S105
    assert body["expires_in"] == 300
    assert body["scope"] == SCOPES
    assert body["patient"] == "test-1"
    assert body["encounter"] == "encounter-test-1"
    assert body["fhirContext"] == [{"reference": "ImagingStudy/study-1"}]
    assert body["appContext"] == "study-7"
    assert body["need_patient_banner"] is True
    assert world.fhir("Patient/test-1", body["access_token"]).json()["id"] == "test-1"
    assert world.ehr.violations == []


def test_the_id_token_names_the_person_and_is_signed_with_the_published_key(world: World) -> None:
    published = world.http.get("/.well-known/openid-configuration").json()
    keys = KeySet.import_key_set(world.http.get(published["jwks_uri"]).json())
    assert not any("d" in key.as_dict() for key in keys)
    claims = jwt.decode(world.tokens()["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["iss"] == published["issuer"] == EHR
    assert (claims["aud"], claims["nonce"]) == ("app", "a-nonce")
    assert claims["fhirUser"] == f"{EHR}/fhir/Practitioner/radiologist-1"


def test_the_configuration_is_a_smart_one(world: World) -> None:
    published = world.http.get("/fhir/.well-known/smart-configuration").json()
    assert published["code_challenge_methods_supported"] == ["S256"]
    assert published["token_endpoint"] == f"{EHR}/token"
    assert published["authorization_response_iss_parameter_supported"] is True
    assert {"launch-ehr", "launch-standalone", "permission-v2", "authorize-post"} <= set(
        published["capabilities"]
    )
    statement = world.http.get("/fhir/metadata").json()
    uris = statement["rest"][0]["security"]["extension"][0]["extension"]
    assert {"url": "token", "valueUri": f"{EHR}/token"} in uris
    assert world.ehr.violations == []


def test_a_standalone_launch_asks_the_person(world: World) -> None:
    asked: dict[str, Any] = {"scope": "openid fhirUser launch/patient patient/Patient.rs"}
    page = world.authorize(**asked)
    assert page.status_code == 200
    assert 'for="chosen_user"' in page.text
    assert 'for="chosen_patient"' in page.text
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text)
    form = {name: unescape(value) for name, value in hidden}
    form |= {"chosen_user": "Practitioner/clinician-1", "chosen_patient": "test-2"}
    denied = sent_back(world.http.post("/authorize", data={**form, "decision": "deny"}))
    assert denied["error"] == "access_denied"
    back = sent_back(world.http.post("/authorize", data={**form, "decision": "allow"}))
    body = world.exchange(back["code"]).json()
    assert body["patient"] == "test-2"
    assert "refresh_token" not in body
    assert world.ehr.violations == []


def test_a_standalone_launch_without_the_patient_scope_asks_for_no_patient(world: World) -> None:
    page = world.authorize(scope="openid fhirUser user/Practitioner.r")
    assert "chosen_user" in page.text
    assert "chosen_patient" not in page.text


@pytest.mark.parametrize(
    "changes",
    [{"client_id": "another"}, {"redirect_uri": f"{APP}/callback/"}, {"redirect_uri": None}],
)
def test_nothing_is_sent_to_an_address_that_is_not_registered(
    world: World, changes: dict[str, Any]
) -> None:
    answer = world.authorize(launch=world.ehr.new_launch(patient="test-1"), **changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert len(world.ehr.violations) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"aud": f"{APP}/fhir"}, "invalid_request"),
        ({"state": "s" * 21}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"nonce": None}, "invalid_request"),
        ({"launch": "unknown"}, "invalid_request"),
        ({"launch": None}, "invalid_scope"),
        ({"scope": "launch patient/ImagingStudy.read"}, "invalid_scope"),
        ({"scope": "launch patient/ImagingStudy.sr"}, "invalid_scope"),
        ({"scope": "launch system/ImagingStudy.rs"}, "invalid_scope"),
        ({"scope": "launch fhirUser"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": ["launch", "launch"]}, "invalid_request"),
    ],
)
def test_a_wrong_authorisation_request_is_sent_back(
    world: World, changes: dict[str, Any], error: str
) -> None:
    changes = {"launch": world.ehr.new_launch(patient="test-1"), **changes}
    back = sent_back(world.authorize(**changes))
    assert back["error"] == error
    assert "code" not in back
    assert world.ehr.violations == [back["error_description"]]


def test_a_launch_ends_after_an_hour_and_needs_a_known_patient(world: World) -> None:
    launch = world.ehr.new_launch(patient="test-1")
    world.clock.time += 3600
    assert sent_back(world.authorize(launch=launch))["error"] == "invalid_request"
    with pytest.raises(ValueError, match="no Patient/nobody"):
        world.ehr.new_launch(patient="nobody")


def test_a_code_is_good_once_and_its_replay_revokes_the_tokens(world: World) -> None:
    code = world.launched()["code"]
    body = world.exchange(code).json()
    assert world.exchange(code).json()["error"] == "invalid_grant"
    assert world.fhir("Patient/test-1", body["access_token"]).status_code == 401
    refreshed = world.token(grant_type="refresh_token", refresh_token=body["refresh_token"])
    assert refreshed.json()["error"] == "invalid_grant"
    assert "a code was issued here and is used once" in told(world)


def test_a_code_lives_for_a_minute(world: World) -> None:
    code = world.launched()["code"]
    world.clock.time += 60
    assert world.exchange(code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"code_verifier": secrets.token_urlsafe(48)}, "RFC 7636"),
        ({"code_verifier": ""}, "RFC 7636"),
        ({"redirect_uri": f"{APP}/other"}, "redirect_uri"),
        ({"client_id": "app"}, "leaves client_id out"),
        ({"client_secret": "s"}, "no client_secret"),
        ({"client_assertion_type": "other"}, "client_assertion_type"),
        ({"client_assertion": "no.jwt"}, "signed JSON Web Token"),
        ({"grant_type": "password"}, "grant_type"),
    ],
)
def test_a_wrong_token_request_is_refused(world: World, changes: dict[str, Any], rule: str) -> None:
    answer = world.exchange(world.launched()["code"], **changes)
    assert answer.status_code in {400, 401}
    assert "access_token" not in answer.json()
    assert rule in told(world)


def test_a_token_request_is_a_form_without_basic_authentication(world: World) -> None:
    assert world.http.post("/token", json={}).status_code == 400
    assert world.http.post("/token", data={"a": "b"}, auth=("app", "x")).status_code == 400
    assert world.http.post("/token", data={"a": ["b", "c"]}).status_code == 400
    assert len(world.ehr.violations) == 3


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"iss": "another"}, "iss and sub"),
        ({"sub": "another"}, "iss and sub"),
        ({"aud": f"{EHR}/fhir"}, "aud of an assertion"),
        ({"aud": None}, "aud of an assertion"),
        ({"exp": 1_790_000_000}, "has not passed"),
        ({"exp": None}, "has not passed"),
        ({"exp": 1_790_000_301}, "at most five minutes"),
        ({"jti": None}, "has a jti"),
        ({"header": {"kid": "app-2"}}, "exactly one published key"),
        ({"header": {"kid": None}}, "names its kid"),
        ({"header": {"typ": None}}, "typ of an assertion"),
        ({"header": {"jku": "https://elsewhere.test/jwks.json"}}, "jku of an assertion"),
    ],
)
def test_a_wrong_assertion_authenticates_nobody(
    world: World, changes: dict[str, Any], rule: str
) -> None:
    answer = world.token(
        grant_type="client_credentials", scope=BACKEND, client_assertion=world.assertion(**changes)
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert rule in told(world)


def test_an_assertion_is_good_once(world: World) -> None:
    form = {"grant_type": "client_credentials", "scope": BACKEND}
    assertion = world.assertion(header={"jku": f"{APP}/jwks.json"})
    assert world.token(**form, client_assertion=assertion).status_code == 200
    assert world.token(**form, client_assertion=assertion).status_code == 401
    assert "jti of an assertion is used once" in told(world)


def test_an_assertion_is_verified_with_the_published_key(world: World) -> None:
    assertion = world.assertion()
    world.app.key = ECKey.generate_key("P-384", {"kid": "app-1"})
    form = {"grant_type": "client_credentials", "scope": BACKEND}
    assert world.token(**form, client_assertion=assertion).status_code == 401
    world.app.key = RSAKey.generate_key(2048, {"kid": "app-1"})
    assert world.token(**form, client_assertion=world.assertion()).status_code == 200
    world.app.private = True
    assert world.token(**form, client_assertion=world.assertion()).status_code == 401
    assert "public keys only" in told(world)


def test_a_weak_algorithm_or_keys_that_cannot_be_fetched_authenticate_nobody(
    world: World,
) -> None:
    form = {"grant_type": "client_credentials", "scope": BACKEND}
    world.app.key = RSAKey.generate_key(2048, {"kid": "app-1"})
    weak = world.assertion(header={"alg": "RS256"})
    assert world.token(**form, client_assertion=weak).status_code == 401
    world.app.flask.view_functions["_keys"] = lambda: ("", 404)
    assert world.token(**form, client_assertion=world.assertion()).status_code == 401
    assert "alg of an assertion" in told(world)
    assert "can be fetched" in told(world)


def test_the_use_of_an_old_refresh_token_ends_all_of_its_family(world: World) -> None:
    first = world.tokens()
    second = world.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["patient"] == "test-1"
    assert world.fhir("Patient/test-1", second["access_token"]).status_code == 200
    reused = world.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert reused.json()["error"] == "invalid_grant"
    assert world.fhir("Patient/test-1", second["access_token"]).status_code == 401
    last = world.token(grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert last.json()["error"] == "invalid_grant"


def test_a_refresh_asks_for_no_more_than_was_granted(world: World) -> None:
    token = world.tokens()["refresh_token"]
    wider = world.token(grant_type="refresh_token", refresh_token=token, scope="user/Patient.rs")
    assert wider.json()["error"] == "invalid_scope"


def test_a_scope_that_is_not_registered_is_not_granted(world: World) -> None:
    body = world.tokens(scope="launch patient/Patient.r patient/Task.rs offline_access")
    assert body["scope"] == "launch patient/Patient.r"
    assert not {"refresh_token", "id_token"} & set(body)


def test_a_program_gets_system_scopes_for_itself(world: World) -> None:
    form = {"grant_type": "client_credentials"}
    body = world.token(**form, scope=f"{BACKEND} system/Patient.rs").json()
    assert body["scope"] == BACKEND
    assert not {"refresh_token", "patient", "id_token"} & set(body)
    found = world.fhir("ImagingStudy?patient=test-1", body["access_token"]).json()
    assert found["total"] == 7
    assert world.ehr.violations == []
    for scope in ("patient/Patient.rs", "", "system/Task.rs"):
        assert world.token(**form, scope=scope).json()["error"] == "invalid_scope"


def test_introspection_tells_an_authenticated_client_what_a_token_is(world: World) -> None:
    token = world.tokens()["access_token"]
    form = {"client_assertion_type": ASSERTION_TYPE, "token": token}
    assert world.http.post("/introspect", data=form).status_code == 401

    def ask() -> dict[str, Any]:
        asked = {**form, "client_assertion": world.assertion()}
        return dict(world.http.post("/introspect", data=asked).json())

    body = ask()
    assert (body["active"], body["client_id"], body["scope"]) == (True, "app", SCOPES)
    assert body["exp"] - body["iat"] == 300
    assert body["patient"] == "test-1"
    world.clock.time += 300
    assert ask() == {"active": False}


@pytest.mark.parametrize("scope", ["patient/*.cruds", "user/Task.rs", "launch/imagingstudy"])
def test_scopes_of_version_2_are_well_formed(scope: str) -> None:
    assert well_formed(scope)


@pytest.mark.parametrize(
    "scope", ["patient/*.*", "user/Task.", "Patient/Task.rs", "patient/task.r"]
)
def test_other_scopes_are_not(scope: str) -> None:
    assert not well_formed(scope)


def test_a_wide_registration_covers_narrow_scopes() -> None:
    asked = ["patient/Task.r", "patient/Task.rs?status=requested", "user/Task.r", "patient/Task.c"]
    assert granted(asked, ["patient/*.rs"]) == tuple(asked[:2])


# Faults


@pytest.mark.parametrize(
    ("fault", "name", "value"),
    [("wrong-state", "state", "s" * 22), ("wrong-iss-parameter", "iss", EHR)],
)
def test_a_fault_spoils_what_is_sent_back(world: World, fault: str, name: str, value: str) -> None:
    assert world.launched(state="s" * 22)[name] == value
    world.ehr.faults.add(fault)
    assert world.launched(state="s" * 22)[name] != value


@pytest.mark.parametrize(
    ("fault", "claim", "value"),
    [("wrong-nonce", "nonce", "a-nonce"), ("id-token-other-audience", "aud", "app")],
)
def test_a_fault_spoils_the_id_token(world: World, fault: str, claim: str, value: str) -> None:
    world.ehr.faults.add(fault)
    keys = KeySet.import_key_set(world.http.get("/jwks.json").json())
    claims = jwt.decode(world.tokens()["id_token"], keys, algorithms=["RS256"]).claims
    assert claims[claim] != value


def test_a_fault_leaves_the_id_token_unsigned_or_out(world: World) -> None:
    world.ehr.faults.add("id-token-unsigned")
    header, _, signature = world.tokens()["id_token"].split(".")
    assert b"none" in base64.urlsafe_b64decode(header + "==")
    assert not signature
    world.ehr.faults.add("no-id-token")
    assert "id_token" not in world.tokens()


def test_a_fault_grants_less_fails_the_refresh_or_the_token_endpoint(world: World) -> None:
    refresh = world.tokens()["refresh_token"]
    world.ehr.faults.add("fewer-scopes")
    assert world.tokens()["scope"] == "openid fhirUser launch"
    world.ehr.faults.add("refresh-fails")
    failed = world.token(grant_type="refresh_token", refresh_token=refresh)
    assert failed.json()["error"] == "invalid_grant"
    world.ehr.faults.add("token-500")
    assert world.token().status_code == 500
    assert world.ehr.violations == []


def test_a_fault_makes_the_token_endpoint_slow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("mock_ehr.token_endpoint.time.sleep", slept.append)
    world.ehr.faults.add("slow-token")
    world.tokens()
    assert slept == [2.0]


def test_a_fault_breaks_the_fhir_api_or_sends_its_reader_elsewhere(world: World) -> None:
    token = world.tokens()["access_token"]
    world.ehr.faults.add("foreign-next-link")
    bundle = world.fhir("ImagingStudy?_count=2", token).json()
    assert not bundle["link"][1]["url"].startswith(EHR)
    world.ehr.faults.add("fhir-500")
    answer = world.fhir("Patient/test-1", token)
    assert answer.status_code == 500
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_fault_that_does_not_exist_is_no_fault(world: World) -> None:
    assert len(FAULTS) == 12
    for switch in (world.ehr.faults.add, lambda name: world.ehr.faults.update([name])):
        with pytest.raises(ValueError, match="no such fault"):
            switch("wrong-spelling")
    world.ehr.faults.update(FAULTS)
    assert world.ehr.faults == FAULTS


# The FHIR API


def test_records_need_a_token_of_this_server_that_is_in_force(world: World) -> None:
    token = world.tokens()["access_token"]
    for wrong in (None, "made-up"):
        answer = world.fhir("Patient/test-1", wrong)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["resourceType"] == "OperationOutcome"
    assert len(world.ehr.violations) == 2
    world.clock.time += 300
    assert world.fhir("Patient/test-1", token).status_code == 401
    assert len(world.ehr.violations) == 2


def test_a_token_of_one_patient_shows_no_other(world: World) -> None:
    token = world.tokens()["access_token"]
    answer = world.fhir("Patient/test-2", token)
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["code"] == "forbidden"
    assert "compartment" in told(world)
    assert world.fhir("Patient", token).json()["total"] == 1
    assert world.fhir("ImagingStudy?patient=test-2", token).json()["total"] == 0
    assert world.fhir("DiagnosticReport", token).status_code == 403
    assert world.fhir("DiagnosticReport/other", token).status_code == 403


def test_the_person_of_fhir_user_can_be_read(world: World) -> None:
    token = world.tokens()["access_token"]
    assert world.fhir("Practitioner/radiologist-1", token).status_code == 200
    assert world.fhir("Practitioner/clinician-1", token).status_code == 403


def test_a_search_comes_in_pages(world: World) -> None:
    token = world.tokens()["access_token"]
    path, seen = "ImagingStudy?patient=Patient/test-1&_sort=-started&_count=3", []
    for size in (3, 3, 1):
        bundle = world.fhir(path, token).json()
        assert bundle["total"] == 7
        assert len(bundle["entry"]) == size
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        path = next((each["url"] for each in bundle["link"] if each["relation"] == "next"), "")
    assert path == ""
    assert seen == [f"study-{number}" for number in range(6, -1, -1)]
    assert world.ehr.violations == []


def test_a_page_is_no_larger_than_the_server_likes_and_no_more_open_than_the_search(
    world: World,
) -> None:
    world.ehr.store.largest_page = 2
    token = world.tokens()["access_token"]
    bundle = world.fhir("ImagingStudy?_count=50", token).json()
    assert len(bundle["entry"]) == 2
    other = sent_back(world.authorize(launch=world.ehr.new_launch(patient="test-2")))
    stranger = world.exchange(other["code"]).json()["access_token"]
    assert "entry" not in world.fhir(bundle["link"][1]["url"], stranger).json()
    assert world.fhir("ImagingStudy?_page=made-up", token).status_code == 404


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("ImagingStudy?_id=study-1,study-2", 2),
        ("ImagingStudy?identifier=urn:oid:1.2.3.4", 1),
        ("ImagingStudy?identifier=urn:dicom:uid|urn:oid:1.2.3.4", 1),
        ("ImagingStudy?identifier=other|urn:oid:1.2.3.4", 0),
        ("ImagingStudy?status=available&started=ge2026-01-06", 2),
        ("ImagingStudy?subject=https://ehr.test/fhir/Patient/test-1&_count=0", 7),
        ("Patient?identifier=urn:oid:1.2.3|IMAGES-1", 1),
    ],
)
def test_a_search_finds_what_it_names(world: World, query: str, total: int) -> None:
    assert world.fhir(query, world.tokens()["access_token"]).json()["total"] == total
    assert world.ehr.violations == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("ImagingStudy?modality=DX", 400),
        ("ImagingStudy?_count=many", 400),
        ("ImagingStudy?_sort=description", 400),
        ("ImagingStudy?status=", 400),
        ("ImagingStudy?access_token=x", 400),
        ("Observation", 404),
        ("ImagingStudy/none", 404),
        ("a/b/c", 404),
    ],
)
def test_what_the_server_does_not_offer_is_an_outcome(world: World, path: str, status: int) -> None:
    answer = world.fhir(path, world.tokens()["access_token"])
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_narrowed_scope_opens_what_it_names(world: World) -> None:
    asked = "launch patient/ImagingStudy.rs?status=cancelled"
    token = world.tokens(scope=asked)["access_token"]
    assert world.fhir("ImagingStudy", token).json()["total"] == 0


# The CDS Hooks client

CONTEXT = {"userId": "Practitioner/radiologist-1", "patientId": "test-1"}


def test_a_hook_is_called_with_prefetch_and_a_token_for_the_patient(world: World) -> None:
    world.app.answer = (200, {"cards": [{**CARD, "links": CARD["links"][:2]}]})
    answer = world.ehr.call_hook("view", "patient-view", CONTEXT)
    assert answer.json()["cards"][0]["uuid"] == CARD["uuid"]
    asked = world.app.asked[0]
    assert uuid.UUID(asked["hookInstance"])
    assert (asked["hook"], asked["context"]) == ("patient-view", CONTEXT)
    assert asked["fhirServer"] == f"{EHR}/fhir"
    assert set(asked["prefetch"]) == {"patient", "studies", "user"}
    assert asked["prefetch"]["patient"]["id"] == "test-1"
    assert len(asked["prefetch"]["studies"]["entry"]) == 5
    assert asked["prefetch"]["studies"]["link"][1]["relation"] == "next"
    authorization = asked["fhirAuthorization"]
    assert (authorization["subject"], authorization["patient"]) == ("app", "test-1")
    token = authorization["access_token"]
    rest = world.fhir(asked["prefetch"]["studies"]["link"][1]["url"], token).json()
    assert len(rest["entry"]) == 2
    assert world.ehr.violations == []
    assert world.fhir("Patient/test-2", token).status_code == 403


def test_a_call_may_leave_prefetch_out_and_name_an_unknown_service(world: World) -> None:
    world.ehr.call_hook("view", "patient-view", CONTEXT, prefetch=False)
    assert "prefetch" not in world.app.asked[0]
    assert world.ehr.call_hook("none", "patient-view", CONTEXT).status_code == 404


def test_a_prefetch_that_found_nobody_is_null_and_a_wrong_one_is_noted(world: World) -> None:
    world.app.prefetch = {
        "patient": "Patient/{{context.patientId}}",
        "other": "Observation?patient={{context.patientId}}",
    }
    world.ehr.call_hook("view", "patient-view", {**CONTEXT, "patientId": "nobody"})
    assert world.app.asked[0]["prefetch"] == {"patient": None}
    assert "Prefetch template other" in told(world)


def test_each_call_carries_a_fresh_token_for_its_own_address(world: World) -> None:
    world.ehr.call_hook("view", "patient-view", CONTEXT)
    keys = KeySet.import_key_set(world.http.get("/cds-jwks.json").json())
    decoded = [jwt.decode(each, keys, algorithms=["ES384"]) for each in world.app.tokens]
    assert [each.claims["aud"] for each in decoded] == [
        f"{APP}/cds-services",
        f"{APP}/cds-services/view",
    ]
    assert len({each.claims["jti"] for each in decoded}) == 2
    assert decoded[0].header["jku"] == f"{EHR}/cds-jwks.json"
    assert decoded[0].claims["iss"] == world.ehr.cds_issuer
    changed = jwt.decode(world.ehr.cds_token("a", jti=None, tenant="t"), keys, algorithms=["ES384"])
    assert "jti" not in changed.claims
    assert changed.claims["tenant"] == "t"


def test_feedback_is_sent_and_kept(world: World) -> None:
    entry = {"card": CARD["uuid"], "outcome": "overridden"}
    assert world.ehr.send_feedback("view", [entry]).status_code == 204
    assert world.app.asked == [{"name": "view", "feedback": [entry]}]
    assert world.ehr.feedback == [{"feedback": [entry]}]


def test_templates_are_filled_with_what_is_known() -> None:
    assert filled("Practitioner/{{userPractitionerId}}", CONTEXT) == "Practitioner/radiologist-1"
    assert filled("Patient/{{userPatientId}}", CONTEXT) is None


ACTION = {"type": "create", "description": "d", "resource": {"resourceType": "Task"}}
SUGGESTION = {"label": "Do it", "uuid": str(uuid.uuid4()), "actions": [ACTION]}
SUGGESTING = {**CARD, "suggestions": [SUGGESTION], "selectionBehavior": "any"}


@pytest.mark.parametrize(
    "body",
    [
        {"cards": []},
        {"cards": [CARD]},
        {"cards": [SUGGESTING], "systemActions": [ACTION], "extension": {"org.x": 1}},
        {"cards": [{**CARD, "summary": "s" * 139}]},
    ],
)
def test_a_right_answer_breaks_no_rule(body: Any) -> None:
    assert response_violations(body) == []


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("no JSON", "an object"),
        ({}, "cards is required"),
        ({"cards": None}, "neither null nor empty"),
        ({"cards": [], "systemActions": []}, "neither null nor empty"),
        ({"cards": [], "messages": "x"}, "no field of CDS Hooks"),
        ({"cards": ["card"]}, "an object"),
        ({"cards": [CARD, CARD]}, "uuid of its own"),
        ({"cards": [{**CARD, "summary": "s" * 140}]}, "less than 140"),
        ({"cards": [{**CARD, "indicator": "urgent"}]}, "info, warning or critical"),
        ({"cards": [{**CARD, "detail": ""}]}, "neither null nor empty"),
        ({"cards": [{**CARD, "links": None}]}, "neither null nor empty"),
        ({"cards": [{**CARD, "uuid": "7"}]}, "is a UUID"),
        ({"cards": [without(CARD, "uuid")]}, "uuid is required"),
        ({"cards": [{**CARD, "source": {"url": "https://x.test"}}]}, "label is required"),
        ({"cards": [{**CARD, "source": {"label": "l", "topic": {"code": "c"}}}]}, "system"),
        ({"cards": [{**CARD, "overrideReasons": [{"code": "c"}]}]}, "display is required"),
        ({"cards": [{**CARD, "links": [{**CARD["links"][0], "type": "app"}]}]}, "or smart"),
        ({"cards": [{**CARD, "links": [{**CARD["links"][0], "type": "absolute"}]}]}, "smart only"),
        ({"cards": [{**CARD, "links": [{**CARD["links"][0], "url": "/launch"}]}]}, "absolute add"),
        (
            {"cards": [{**CARD, "links": [{**CARD["links"][0], "autoLaunchable": True}]}]},
            "no field",
        ),
        ({"cards": [without(SUGGESTING, "selectionBehavior")]}, "selectionBehavior"),
        ({"cards": [{**SUGGESTING, "suggestions": [{"label": "l"}]}]}, "uuid is required"),
        (
            {
                "cards": [
                    {
                        **SUGGESTING,
                        "selectionBehavior": "at-most-one",
                        "suggestions": [{**SUGGESTION, "isRecommended": True}] * 2,
                    }
                ]
            },
            "at most one",
        ),
        ({"cards": [], "systemActions": [{**ACTION, "type": "patch"}]}, "create, update or delete"),
        ({"cards": [], "systemActions": [{**ACTION, "type": "update"}]}, "has its id"),
        ({"cards": [], "systemActions": [{**ACTION, "type": "delete"}]}, "Type/id"),
        ({"cards": [], "systemActions": [without(ACTION, "resource")]}, "whole FHIR resource"),
        ({"cards": [], "systemActions": [without(ACTION, "description")]}, "description"),
    ],
)
def test_a_wrong_answer_breaks_a_rule(body: Any, rule: str) -> None:
    assert rule in "\n".join(response_violations(body))


SERVICE = {"hook": "patient-view", "id": "view", "description": "d"}


@pytest.mark.parametrize(
    ("services", "rule"),
    [
        ([without(SERVICE, "description")], "description is required"),
        ([{**SERVICE, "title": None}], "neither null nor empty"),
        ([SERVICE, SERVICE], "one id serves one hook once"),
        ([{**SERVICE, "prefetch": {"a": "Patient/{{context.a.b}}"}}], "no prefetch token"),
        ([{**SERVICE, "prefetch": {"a": "/Patient/1"}}], "below the FHIR endpoint"),
        ([{**SERVICE, "prefetch": {"a": 1}}], "is a string"),
    ],
)
def test_a_wrong_discovery_breaks_a_rule(services: Any, rule: str) -> None:
    assert rule in "\n".join(discovery_violations({"services": services}))
    assert discovery_violations({"services": [SERVICE]}) == []


def test_an_answer_is_judged_when_it_comes(world: World) -> None:
    world.app.answer = (200, {"cards": [{**CARD, "indicator": "urgent"}]})
    world.ehr.call_hook("view", "patient-view", CONTEXT)
    assert "info, warning or critical" in told(world)
    assert world.http.get("/violations").json() == world.ehr.violations


@pytest.mark.parametrize(
    "discovery",
    [
        {"services": [{"id": 7}, "x", {"id": "view", "hook": "patient-view", "prefetch": None}]},
        {"services": {}},
        [],
    ],
)
def test_a_discovery_that_is_none_is_judged_and_survived(world: World, discovery: Any) -> None:
    world.app.flask.view_functions["_discovery"] = lambda: Response(
        orjson.dumps(discovery), content_type="text/plain"
    )
    assert world.ehr.call_hook("view", "patient-view", CONTEXT).status_code == 200
    assert "prefetch" not in world.app.asked[0]
    assert "an answer is application/json" in told(world)
    assert world.http.get("/chart/test-1").status_code == 200


def test_a_card_that_lacks_parts_is_shown_all_the_same(world: World) -> None:
    broken = {"indicator": "urgent", "overrideReasons": [{"code": "c"}], "suggestions": [{}, 1]}
    world.app.answer = (200, {"cards": [broken, "x"]})
    assert "A card without a summary" in world.http.get("/chart/test-1").text


# The pages


def test_a_newcomer_goes_from_the_patient_to_the_card_to_the_app(world: World) -> None:
    assert 'href="/chart/test-1"' in world.http.get("/").text
    chart = world.http.get("/chart/test-1").text
    assert "TEST, Alder" in chart
    assert "Critical" in chart
    assert "<strong>URGENT.</strong>" in chart
    assert "<td>&lt;b&gt;</td>" in chart
    assert "<script>" not in chart
    assert 'href="https://guideline.test/" target="_blank"' in chart
    assert "elsewhere.test" not in chart
    found = re.search(r'href="(/open/[^"]+)"', chart)
    assert found
    page = world.http.get(found[1])
    assert f"frame-src 'self' {APP}" in page.headers["Content-Security-Policy"]
    source = re.search(r'<iframe src="([^"]+)" title="[^"]+"', page.text)
    assert source
    query = parse_qs(urlsplit(unescape(source[1])).query)
    assert query["iss"] == [world.ehr.fhir_base_url]
    back = sent_back(world.authorize(launch=query["launch"][0]))
    assert world.exchange(back["code"]).json()["appContext"] == "study-7"
    assert world.ehr.violations == []


def test_an_override_is_told_to_the_service(world: World) -> None:
    reason = CARD["overrideReasons"][0]  # type: ignore[index]
    form = {"service": "view", "card": CARD["uuid"], "outcome": "overridden", **reason}
    answer = world.http.post("/chart/test-1/feedback", data=form)
    assert answer.headers["Location"] == "/chart/test-1"
    sent = world.ehr.feedback[0]["feedback"][0]
    assert sent["overrideReason"] == {"reason": reason}
    assert sent["outcomeTimestamp"].endswith("Z")
    assert "Overridden: Seen. The service was told." in world.http.get("/chart/test-1").text


def test_a_suggestion_can_be_accepted(world: World) -> None:
    world.app.answer = (200, {"cards": [SUGGESTING]})
    assert "Accept: Do it" in world.http.get("/chart/test-1").text
    form = {"service": "view", "card": CARD["uuid"], "outcome": "accepted", "suggestion": "s"}
    world.http.post("/chart/test-1/feedback", data=form)
    assert world.ehr.feedback[0]["feedback"][0]["acceptedSuggestions"] == [{"id": "s"}]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, {}), "answered with error 500"),
        ((412, {}), "answered with error 412"),
        ((200, []), "an answer that is no answer"),
    ],
)
def test_a_service_that_fails_is_told_in_words(
    world: World, answer: tuple[int, Any], words: str
) -> None:
    world.app.answer = answer
    chart = world.http.get("/chart/test-1").text
    assert words in chart
    assert "This does not mean that there is no finding." in chart
    assert "has no card for this patient" not in chart


def test_a_service_without_cards_is_told_apart_from_one_that_fails(world: World) -> None:
    world.app.answer = (200, {"cards": []})
    chart = world.http.get("/chart/test-1").text
    assert "answered, and has no card for this patient" in chart
    assert 'role="alert"' not in chart


def test_the_app_can_be_opened_for_one_imaging_study(world: World) -> None:
    opened = world.http.post("/chart/test-1/launch", data={"study": "study-3"})
    launch = opened.headers["Location"].removeprefix("/open/")
    back = sent_back(world.authorize(launch=launch))
    body = world.exchange(back["code"]).json()
    assert body["fhirContext"] == [{"reference": "ImagingStudy/study-3"}]
    assert body["encounter"] == "encounter-test-1"
    assert world.http.get("/open/unknown").status_code == 404
    assert world.http.get("/chart/nobody").status_code == 404


def test_markdown_has_no_markup_of_its_own() -> None:
    assert rendered("a \\*\\*b\\*\\* **c") == "<p>a **b** **c</p>"
    assert rendered("[x](javascript:y)\n<i>") == "<p>[x](javascript:y)<br>&lt;i&gt;</p>"
    assert "<td>a|b</td>" in rendered("| h | i |\n|:---|---|\n| a\\|b | **c** |")


# Served


def test_it_serves_over_http_on_a_port_of_its_own() -> None:
    app, app_server, server = ScriptedApp(), LocalServer(), LocalServer()
    base = app_server.base_url
    registration = AppRegistration(
        "app", f"{base}/launch", (f"{base}/cb",), f"{base}/jwks.json", frozenset(), base
    )
    app.answer = (200, {"cards": []})
    app_server.start(app.flask)
    with MockEhr(server.base_url, registration, demo_records()) as ehr:
        server.start(ehr.app)
        answer = ehr.call_hook("view", "patient-view", CONTEXT)
        assert answer.json() == {"cards": []}
        asked = app.asked[0]
        authorization = {"Authorization": f"Bearer {asked['fhirAuthorization']['access_token']}"}
        read = httpx.get(f"{asked['fhirServer']}/Patient/test-1", headers=authorization)
        assert read.json() == asked["prefetch"]["patient"]
        app_server.stop()
        chart = httpx.get(f"{server.base_url}/chart/test-1").text
        assert "could not be reached" in chart
        server.stop()
    assert ehr.violations == []


def test_the_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--records" in capsys.readouterr().out
