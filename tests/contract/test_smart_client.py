"""A SMART launch goes on only with the EHR that was asked, and with what it said in full."""

# ruff: noqa: S105, S106 - no secret here is one
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from standing_clock import StandingClock
from studies import ISSUED

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.errors import InvalidSettings, PeerUnavailable
from cds_server.network import Ehr, SmartRegistration
from cds_server.oauth.signing_keys import KeyRing
from cds_server.oauth.smart_client import LaunchRefused, RefusedByEhr, SmartClient
from cds_server.oauth.token_response import Identity, TokenResponse

BASE, ISSUER = "https://ehr.example.org/fhir", "https://login.example.org/realms/trust"
JWKS_URL, REDIRECT = "https://radcds.example.org/jwks.json", "https://radcds.example.org/callback"
RING = KeyRing({"ES384": ECKey.generate_key("P-384"), "RS384": RSAKey.generate_key(2048)})
EC = ECKey.generate_key("P-384", {"kid": "ec"})
EC256 = ECKey.generate_key("P-256", {"kid": "ec256"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
SHORT = generate_private_key(65537, 1024)  # noqa: S505 - to be refused
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})
VERIFIER, NONCE, SECRET = "v" * 43, "n-0S6_WzA2Mj", "opaque-Access.token"
EHR = Ehr("Example Hospital", BASE, smart=SmartRegistration("radcds"))


def id_token(
    key: Any = RSA, alg: str = "RS256", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    now = int(ISSUED.timestamp())
    claims = {
        "iss": ISSUER,
        "sub": "u1",
        "aud": "radcds",
        "iat": now,
        "exp": now + 300,
        "nonce": NONCE,
        "fhirUser": f"{BASE}/Practitioner/77",
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    head = {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, claims, key, algorithms=[alg])


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Make a token that the library would not make."""
    content = f"{encoded(json.dumps(header).encode())}.{id_token().split('.')[1]}"
    return f"{content}.{encoded(sign(content.encode()))}"


def public_key_as_secret() -> str:
    pem = RSA.as_pem(private=False)
    return by_hand(
        {"alg": "HS256", "kid": "rsa"}, lambda content: hmac.digest(pem, content, "sha256")
    )


def too_short() -> str:
    """Sign with a published key that can be broken."""
    return by_hand(
        {"alg": "RS256", "kid": "short"},
        lambda content: SHORT.sign(content, padding.PKCS1v15(), hashes.SHA256()),
    )


def signed_rs256(content: bytes) -> bytes:
    return RSA.get_op_key("sign").sign(content, padding.PKCS1v15(), hashes.SHA256())


class HospitalEhr:
    """An EHR with its authorisation server, which a test can spoil."""

    def __init__(self) -> None:
        self.configuration: Any = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "code_challenge_methods_supported": ["S256"],
        }
        self.discovery: Any = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/certs"}
        self.published: list[Any] = [
            {"kty": "OKP", "crv": "X448", "x": "AAAA", "kid": "new"},
            {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "odd"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"},
            {
                "kty": "RSA",
                "n": encoded(SHORT.public_key().public_numbers().n.to_bytes(128)),
                "e": "AQAB",
                "kid": "short",
            },
            "no key",
            *(key.as_dict(private=False) for key in (RSA, EC, EC256)),
        ]
        self.token: Any = {
            "access_token": SECRET,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "openid fhirUser launch patient/ImagingStudy.rs",
        }
        self.given: dict[str, httpx.Response | Exception] = {}
        self.asked: list[httpx.Request] = []
        self.takes_s = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        time.sleep(self.takes_s)
        url = str(request.url)
        given = self.given.get(url)
        if isinstance(given, Exception):
            raise given
        if given is not None:
            return given
        answers = {
            f"{BASE}/.well-known/smart-configuration": self.configuration,
            f"{ISSUER}/.well-known/openid-configuration": self.discovery,
            f"{ISSUER}/certs": {"keys": self.published},
            f"{ISSUER}/token": self.token,
        }
        return httpx.Response(200, json=answers[url])

    def urls(self) -> list[str]:
        return [str(request.url) for request in self.asked]

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.asked[-1].content.decode(), strict_parsing=True))


class Launch:
    """A client and the EHR that it launches from."""

    def __init__(self, ehr: Ehr = EHR) -> None:
        self.peer = HospitalEhr()
        self.clock = StandingClock()
        self.client = SmartClient(
            ehr,
            http=BoundedHttp(httpx.MockTransport(self.peer)),
            keys=RING,
            jwks_url=JWKS_URL,
            redirect_uri=REDIRECT,
            clock=self.clock,
        )

    def exchange(self, nonce: str | None = NONCE, **told: Any) -> TokenResponse:
        self.peer.token = {**self.peer.token, **told}
        return self.client.exchange("c0de", VERIFIER, nonce)


@pytest.fixture
def launch() -> Launch:
    return Launch()


def test_an_ehr_without_a_registration_has_no_client() -> None:
    with pytest.raises(InvalidSettings, match="Example Hospital"):
        Launch(replace(EHR, smart=None))


# --- configuration


def test_the_configuration_is_asked_for_once_an_hour(launch: Launch) -> None:
    for _ in range(3):
        assert launch.client.configuration().token_endpoint == f"{ISSUER}/token"
    assert launch.peer.urls() == [f"{BASE}/.well-known/smart-configuration"]
    assert launch.peer.asked[0].headers["accept"] == "application/json"
    launch.clock.time += timedelta(hours=1)
    launch.client.configuration()
    assert len(launch.peer.asked) == 2


def test_threads_that_ask_at_once_share_one_answer(launch: Launch) -> None:
    launch.peer.takes_s = 0.05
    threads = [threading.Thread(target=launch.client.configuration) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(launch.peer.asked) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"code_challenge_methods_supported": None},
        {"code_challenge_methods_supported": []},
        {"code_challenge_methods_supported": "S256"},
        {"code_challenge_methods_supported": ["plain"]},
        {"code_challenge_methods_supported": ["S256", "plain"]},
        {"authorization_endpoint": None},
        {"authorization_endpoint": 7},
        {"token_endpoint": None},
        {"token_endpoint": ""},
        {"token_endpoint": "http://login.example.org/token"},
        {"token_endpoint": "ftp://login.example.org/token"},
        {"token_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "https://user:pass@login.example.org/token"},
        {"token_endpoint": "https://login.example.org/token#x"},
        {"token_endpoint": "https://login.example.org:99999999/token"},
        {"token_endpoint": "https://[::1/token"},
        {"authorization_endpoint": "http://127.0.0.1.example.org/auth"},
        {"authorization_endpoint": "https://login.example.org/a b"},
    ],
)
def test_an_unsafe_configuration_is_refused_and_not_kept(
    launch: Launch, change: dict[str, Any]
) -> None:
    launch.peer.configuration.update(change)
    with pytest.raises(LaunchRefused, match="Example Hospital"):
        launch.client.configuration()
    launch.peer.configuration = HospitalEhr().configuration
    assert launch.client.configuration().issuer == ISSUER


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(302, headers={"Location": "http://169.254.169.254/"}),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b"[]"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, content=b"\xff\xff"),
        httpx.Response(200, content=b"1" * 5000),
    ],
)
def test_what_is_no_configuration_is_refused(launch: Launch, answer: httpx.Response) -> None:
    launch.peer.given[f"{BASE}/.well-known/smart-configuration"] = answer
    with pytest.raises(LaunchRefused, match="Example Hospital"):
        launch.client.configuration()
    assert len(launch.peer.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503),
        httpx.Response(429),
        httpx.Response(200, content=b" " * 5_000_000),
        httpx.ConnectTimeout("late"),
        httpx.ConnectError("refused"),
    ],
)
def test_an_ehr_that_fails_is_told_from_one_that_refuses(
    launch: Launch, answer: httpx.Response | Exception
) -> None:
    launch.peer.given[f"{BASE}/.well-known/smart-configuration"] = answer
    with pytest.raises(PeerUnavailable):
        launch.client.configuration()


def test_relative_endpoints_are_below_the_fhir_endpoint(launch: Launch) -> None:
    launch.peer.configuration.update(authorization_endpoint="auth", token_endpoint="/oauth/token")
    configuration = launch.client.configuration()
    assert configuration.authorization_endpoint == f"{BASE}/auth"
    assert configuration.token_endpoint == "https://ehr.example.org/oauth/token"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_an_ehr_on_this_machine_needs_no_tls(launch: Launch, host: str) -> None:
    launch.peer.configuration["token_endpoint"] = f"http://{host}:9000/token"
    assert launch.client.configuration().token_endpoint == f"http://{host}:9000/token"


# --- authorisation request and response


def requested(at: Launch, **changes: Any) -> dict[str, list[str]]:
    asked: dict[str, Any] = {
        "launch": "xyz 123",
        "scopes": ["openid", "fhirUser", "launch"],
        "verifier": VERIFIER,
        "nonce": NONCE,
        **changes,
    }
    url = urlsplit(at.client.authorization_request("st&te", **asked))
    assert (url.scheme, url.netloc, url.path) == (
        "https",
        "login.example.org",
        "/realms/trust/auth",
    )
    return parse_qs(url.query, strict_parsing=True)


def test_the_request_holds_what_smart_asks_for(launch: Launch) -> None:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
    assert requested(launch) == {
        "response_type": ["code"],
        "client_id": ["radcds"],
        "redirect_uri": [REDIRECT],
        "scope": ["openid fhirUser launch"],
        "state": ["st&te"],
        "aud": [BASE],
        "launch": ["xyz 123"],
        "nonce": [NONCE],
        "code_challenge": [challenge.rstrip(b"=").decode()],
        "code_challenge_method": ["S256"],
    }


def test_a_standalone_launch_holds_no_launch(launch: Launch) -> None:
    assert "launch" not in requested(launch, launch=None)


def test_without_openid_no_nonce_is_needed(launch: Launch) -> None:
    assert "nonce" not in requested(launch, scopes=["launch"], nonce=None)


def test_an_endpoint_with_a_query_keeps_it(launch: Launch) -> None:
    launch.peer.configuration["authorization_endpoint"] += "?tenant=a"
    assert requested(launch)["tenant"] == ["a"]


@pytest.mark.parametrize(
    "change",
    [{"verifier": "short"}, {"verifier": "v" * 129}, {"verifier": "ä" * 43}, {"nonce": ""}],
)
def test_an_unfit_secret_is_an_error_of_the_caller(launch: Launch, change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="verifier"):
        requested(launch, **change)


def test_the_response_names_the_issuer_and_not_the_fhir_endpoint(launch: Launch) -> None:
    launch.client.check_response_issuer(ISSUER)
    for other in (BASE, f"{ISSUER}/", "https://evil.example.org", ""):
        with pytest.raises(LaunchRefused, match="does not come from"):
            launch.client.check_response_issuer(other)


def test_the_issuer_may_be_missing_unless_it_was_announced(launch: Launch) -> None:
    launch.client.check_response_issuer(None)
    launch = Launch()
    launch.peer.configuration["authorization_response_iss_parameter_supported"] = True
    with pytest.raises(LaunchRefused):
        launch.client.check_response_issuer(None)
    launch.client.check_response_issuer(ISSUER)


def test_an_issuer_that_cannot_be_compared_is_refused(launch: Launch) -> None:
    del launch.peer.configuration["issuer"]
    with pytest.raises(LaunchRefused):
        launch.client.check_response_issuer(ISSUER)


# --- token response


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_code_is_exchanged_with_an_assertion_and_no_client_id(algorithm: str) -> None:
    launch = Launch(replace(EHR, smart=SmartRegistration("radcds", algorithm)))
    launch.exchange(None)
    form = launch.peer.form()
    assertion = form.pop("client_assertion")
    assert form == {
        "grant_type": "authorization_code",
        "code": "c0de",
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    published = KeySet.import_key_set(json.loads(json.dumps(RING.public_jwks())))
    read = jwt.decode(assertion, published, algorithms=[algorithm])
    assert read.claims["aud"] == f"{ISSUER}/token"
    assert read.header["jku"] == JWKS_URL


def test_the_whole_launch_context_is_read(launch: Launch) -> None:
    told = launch.exchange(
        patient="p-1",
        encounter="e.1",
        fhirContext=[
            {"reference": "ImagingStudy/123"},
            {"reference": f"{BASE}/DiagnosticReport/9", "role": "launch"},
            {"reference": "Observation/1", "role": "https://example.org/role"},
            {"reference": "https://elsewhere.example.org/ImagingStudy/1"},
            {"identifier": {"value": "x"}},
            {"reference": 7},
        ],
        need_patient_banner=False,
        intent="review",
        appContext='{"study":"1"}',
        tenant="t1",
        refresh_token="r1",
        id_token=id_token(),
    )
    assert told.access_token == SECRET
    assert told.expires_in_s == 300
    assert told.scopes == {"openid", "fhirUser", "launch", "patient/ImagingStudy.rs"}
    assert (told.patient, told.encounter) == ("p-1", "e.1")
    assert told.context == ("ImagingStudy/123", "DiagnosticReport/9")
    assert told.need_patient_banner is False
    assert (told.intent, told.app_context, told.tenant) == ("review", '{"study":"1"}', "t1")
    assert told.refresh_token == "r1"
    assert told.identity == Identity(ISSUER, "u1", "Practitioner/77")


def test_nothing_is_made_up_for_what_the_ehr_left_out(launch: Launch) -> None:
    told = launch.exchange(None, patient=None, intent="", fhirContext=None)
    assert (told.patient, told.encounter, told.context, told.identity) == (None, None, (), None)
    assert (told.intent, told.app_context, told.tenant, told.refresh_token) == (None,) * 4
    assert told.need_patient_banner is True


def test_no_secret_and_no_patient_is_shown_when_a_token_is_printed(launch: Launch) -> None:
    shown = repr(launch.exchange(patient="p-1", refresh_token="r1-secret", id_token=id_token()))
    for hidden in (SECRET, "p-1", "r1-secret", "eyJ", "u1"):
        assert hidden not in shown


def test_a_token_without_a_lifetime_is_taken_for_a_short_one(launch: Launch) -> None:
    assert launch.exchange(None, expires_in=None).expires_in_s == 300


@pytest.mark.parametrize("seconds", ["3600", 3600])
def test_a_lifetime_in_quotes_is_understood(launch: Launch, seconds: Any) -> None:
    assert launch.exchange(None, expires_in=seconds).expires_in_s == 3600


@pytest.mark.parametrize(
    "change",
    [
        {"token_type": None},
        {"token_type": "DPoP"},
        {"token_type": ["Bearer"]},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "line\r\nX-Evil: 1"},
        {"access_token": "ümlaut"},
        {"access_token": 7},
        {"access_token": "x" * 70_000},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": True},
        {"expires_in": "soon"},
        {"expires_in": 1e400},
        {"expires_in": 10**12},
        {"scope": None},
        {"scope": ["launch"]},
        {"patient": ["p-1", "p-2"]},
        {"patient": "Patient/p-1"},
        {"patient": "p-1\n"},
        {"patient": "../p-1"},
        {"patient": "x" * 65},
        {"encounter": 7},
        {"fhirContext": "ImagingStudy/123"},
        {"fhirContext": {"reference": "ImagingStudy/123"}},
        {"fhirContext": ["ImagingStudy/123"]},
        {"fhirContext": [{}] * 101},
        {"appContext": {"study": "1"}},
        {"refresh_token": 7},
        {"tenant": []},
    ],
)
def test_a_token_that_is_not_as_it_must_be_is_refused(
    launch: Launch, change: dict[str, Any]
) -> None:
    content = json.dumps({**launch.peer.token, **change}).encode()
    launch.peer.given[f"{ISSUER}/token"] = httpx.Response(200, content=content)
    with pytest.raises(LaunchRefused, match="Example Hospital") as refused:
        launch.client.exchange("c0de", VERIFIER, None)
    assert SECRET not in str(refused.value)
    assert "p-1" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "says", "code"),
    [
        (httpx.Response(400, json={"error": "invalid_grant"}), "invalid_grant", "invalid_grant"),
        (httpx.Response(401, json={"error": "invalid_client", "x": "y"}), "invalid_client", None),
        (httpx.Response(400, json={"error": "<b>Mr Smith</b>"}), "status 400", ""),
        (httpx.Response(400, json={"error": "x" * 41}), "status 400", ""),
        (httpx.Response(400, json={"error": {"a": 1}}), "status 400", ""),
        (httpx.Response(400, content=b"no json"), "status 400", ""),
        (httpx.Response(302, headers={"Location": "/x"}), "status 302", ""),
        (httpx.Response(204), "status 204", ""),
    ],
)
def test_a_refusal_is_told_without_the_servers_words(
    launch: Launch, answer: httpx.Response, says: str, code: str | None
) -> None:
    launch.peer.given[f"{ISSUER}/token"] = answer
    with pytest.raises(RefusedByEhr, match=says) as refused:
        launch.client.exchange("c0de", VERIFIER, NONCE)
    assert code is None or refused.value.code == code
    assert str(refused.value) == f"Example Hospital refused access ({says})."


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_token_endpoint_that_fails_refuses_nothing(launch: Launch, status: int) -> None:
    launch.peer.given[f"{ISSUER}/token"] = httpx.Response(status, json={"error": "server_error"})
    with pytest.raises(PeerUnavailable):
        launch.client.refresh("r1")


# --- who signed in


@pytest.mark.parametrize(
    ("key", "alg"), [(RSA, "RS256"), (RSA, "RS384"), (EC256, "ES256"), (EC, "ES384")]
)
def test_a_person_is_known_by_each_algorithm(launch: Launch, key: Any, alg: str) -> None:
    told = launch.exchange(id_token=id_token(key, alg))
    assert told.identity == Identity(ISSUER, "u1", "Practitioner/77")


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"fhirUser": "Practitioner/77"}, "Practitioner/77"),
        ({"fhirUser": f"{BASE}/PractitionerRole/a.b-1"}, "PractitionerRole/a.b-1"),
        ({"fhirUser": "https://hr.example.org/r4/Practitioner/1"}, None),
        ({"fhirUser": None, "profile": f"{BASE}/Practitioner/5"}, "Practitioner/5"),
        ({"fhirUser": None, "profile": "Practitioner/5"}, "Practitioner/5"),
        ({"profile": "Practitioner/5"}, "Practitioner/77"),
        ({"fhirUser": f"{BASE}x/Practitioner/77"}, None),
        ({"fhirUser": f"{BASE}/Practitioner/77/_history/1"}, None),
    ],
)
def test_the_user_is_a_reference_below_the_fhir_endpoint_or_a_whole_address(
    launch: Launch, claims: dict[str, Any], user: str | None
) -> None:
    identity = launch.exchange(id_token=id_token(**claims)).identity
    assert identity is not None
    assert identity.fhir_user == (user or claims["fhirUser"])


@pytest.mark.parametrize(
    "claims", [{"fhirUser": None}, {"fhirUser": None, "profile": "https://me.example.org/blog"}]
)
def test_a_user_without_a_reference_has_none(launch: Launch, claims: dict[str, Any]) -> None:
    identity = launch.exchange(id_token=id_token(**claims)).identity
    assert identity == Identity(ISSUER, "u1", None)


def now(seconds: float) -> int:
    return int((ISSUED + timedelta(seconds=seconds)).timestamp())


@pytest.mark.parametrize(
    "make",
    [
        lambda: id_token(iss="https://evil.example.org"),
        lambda: id_token(iss=f"{ISSUER}/"),
        lambda: id_token(iss=BASE),
        lambda: id_token(aud="another"),
        lambda: id_token(aud=None),
        lambda: id_token(aud=["another"]),
        lambda: id_token(aud=["radcds", "another"]),
        lambda: id_token(aud=["radcds", "another"], azp="another"),
        lambda: id_token(azp="another"),
        lambda: id_token(azp=["radcds"]),
        lambda: id_token(exp=now(-61)),
        lambda: id_token(exp=None),
        lambda: id_token(exp="tomorrow"),
        lambda: id_token(exp=True),
        lambda: id_token(exp=10**18),
        lambda: id_token(iat=None),
        lambda: id_token(iat=now(120)),
        lambda: id_token(nbf=now(120)),
        lambda: id_token(nonce=None),
        lambda: id_token(nonce="other"),
        lambda: id_token(nonce=""),
        lambda: id_token(nonce=[NONCE]),
        lambda: id_token(sub=None),
        lambda: id_token(sub=""),
        lambda: id_token(sub=7),
        lambda: id_token(fhirUser="Dr Who"),
        lambda: id_token(fhirUser="http://hr.example.org/Practitioner/1"),
        lambda: id_token(fhirUser=["Practitioner/77"]),
        lambda: id_token(fhirUser="x" * 3000),
        lambda: id_token(STRANGER),
        lambda: id_token(header={"kid": "nobody"}),
        lambda: id_token(header={"kid": "ec"}),
        lambda: id_token(header={"kid": "weak"}),
        lambda: id_token(header={"kid": "odd"}),
        lambda: id_token(header={"jwk": STRANGER.as_dict(private=False)}),
        lambda: id_token(header={"x5u": "https://evil.example.org"}),
        lambda: id_token(RSA, "PS256"),
        lambda: id_token(RSA, "RS512"),
        lambda: id_token(OctKey.import_key(b"k" * 64, {"kid": "rsa"}), "HS256"),
        public_key_as_secret,
        too_short,
        lambda: id_token(header={"jwk": RSA.as_dict(private=False)}),
        lambda: id_token(header={"x5u": "https://login.example.org/cert"}),
        lambda: by_hand({"alg": "none"}, lambda _: b""),
        lambda: by_hand({"alg": "none", "kid": "rsa"}, lambda _: b""),
        lambda: by_hand({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}, signed_rs256),
        lambda: by_hand({"alg": "RS256", "kid": "rsa", "b64": False}, signed_rs256),
        lambda: by_hand({"alg": ["RS256"], "kid": "rsa"}, signed_rs256),
        lambda: by_hand({"alg": "ES256", "kid": "ec"}, lambda _: bytes(64)),
        lambda: by_hand({"alg": "ES384", "kid": "ec"}, lambda _: bytes(96)),
        lambda: by_hand({"alg": "ES384", "kid": "odd"}, lambda _: bytes(96)),
        lambda: id_token()[:-4] + "AAAA",
        lambda: "a.b.c",
        lambda: "a.b",
        lambda: f"{encoded(b'[' * 9000)}.e30.AAAA",
        lambda: f"e30.{encoded(b'[' * 9000)}.AAAA",
    ],
)
def test_whoever_is_not_named_credibly_is_not_signed_in(
    launch: Launch, make: Callable[[], str]
) -> None:
    token = make()
    with pytest.raises(LaunchRefused, match="Example Hospital") as refused:
        launch.exchange(id_token=token)
    assert token not in str(refused.value)
    assert "evil" not in str(refused.value)


def test_no_depth_of_nesting_crashes_the_check(launch: Launch) -> None:
    for depth in (*range(1, 60), *range(300, 1000, 3)):
        nested = f'{{"alg":"RS256","kid":"rsa","x":{"[" * depth}{"]" * depth}}}'
        with pytest.raises(LaunchRefused):
            launch.exchange(id_token=f"{encoded(nested.encode())}.e30.AAAA")


def test_several_audiences_need_the_party_to_be_this_client(launch: Launch) -> None:
    assert launch.exchange(id_token=id_token(aud=["radcds", "another"], azp="radcds")).identity


def test_clocks_may_differ_by_a_minute(launch: Launch) -> None:
    token = id_token(iat=now(59), nbf=now(59), exp=now(-59))
    assert launch.exchange(id_token=token).identity


def test_a_header_that_nobody_knows_is_ignored(launch: Launch) -> None:
    token = by_hand({"alg": "RS256", "kid": "rsa", "pi.atm": "x", "x5t": "y" * 600}, signed_rs256)
    assert launch.exchange(id_token=token).identity


def test_a_token_without_a_key_id_may_be_signed_by_any_published_key(launch: Launch) -> None:
    assert launch.exchange(id_token=id_token(header={"kid": None})).identity
    assert launch.exchange(id_token=id_token(EC, "ES384", {"kid": None})).identity
    with pytest.raises(LaunchRefused):
        launch.exchange(id_token=id_token(STRANGER, header={"kid": None}))


def test_openid_without_an_id_token_is_refused(launch: Launch) -> None:
    with pytest.raises(LaunchRefused, match="who signed in"):
        launch.exchange()


def test_an_id_token_that_was_not_asked_for_is_refused(launch: Launch) -> None:
    with pytest.raises(LaunchRefused, match="who signed in"):
        launch.exchange(None, id_token=id_token())


def test_without_an_issuer_nobody_can_be_known(launch: Launch) -> None:
    del launch.peer.configuration["issuer"]
    with pytest.raises(LaunchRefused, match="who signed in"):
        launch.exchange(id_token=id_token())


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example.org"},
        {"issuer": f"{ISSUER}/"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://login.example.org/certs"},
    ],
)
def test_the_configuration_of_another_issuer_is_refused(
    launch: Launch, change: dict[str, Any]
) -> None:
    launch.peer.discovery.update(change)
    with pytest.raises(LaunchRefused, match="Example Hospital"):
        launch.exchange(id_token=id_token())


def test_an_issuer_in_the_clear_is_not_asked(launch: Launch) -> None:
    launch.peer.configuration["issuer"] = "http://login.example.org"
    with pytest.raises(LaunchRefused, match="no safe issuer"):
        launch.exchange(id_token=id_token())


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.ReadTimeout("late")])
def test_without_keys_nobody_signs_in(launch: Launch, answer: httpx.Response | Exception) -> None:
    launch.peer.given[f"{ISSUER}/certs"] = answer
    with pytest.raises(LaunchRefused, match="keys"):
        launch.exchange(id_token=id_token())


def test_issuer_and_keys_are_asked_for_once(launch: Launch) -> None:
    for _ in range(3):
        launch.exchange(id_token=id_token())
    assert launch.peer.urls().count(f"{ISSUER}/certs") == 1
    assert launch.peer.urls().count(f"{ISSUER}/.well-known/openid-configuration") == 1


# --- refresh and backend


def test_a_refresh_token_is_replaced(launch: Launch) -> None:
    launch.peer.token["refresh_token"] = "r2"
    assert launch.client.refresh("r1").refresh_token == "r2"
    form = launch.peer.form()
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "r1")
    assert "client_id" not in form


def test_a_refresh_token_stays_where_no_other_is_given(launch: Launch) -> None:
    assert launch.client.refresh("r1").refresh_token == "r1"


def test_a_refused_refresh_says_so(launch: Launch) -> None:
    answer = httpx.Response(400, json={"error": "invalid_grant"})
    launch.peer.given[f"{ISSUER}/token"] = answer
    with pytest.raises(RefusedByEhr) as refused:
        launch.client.refresh("r1")
    assert refused.value.code == "invalid_grant"


def test_a_backend_token_is_kept_until_shortly_before_its_end(launch: Launch) -> None:
    scopes = ["system/ImagingStudy.rs", "system/Patient.r"]
    assert launch.client.backend_token(scopes) == SECRET
    assert launch.peer.form()["grant_type"] == "client_credentials"
    assert launch.peer.form()["scope"] == "system/ImagingStudy.rs system/Patient.r"
    launch.peer.token["access_token"] = "second"
    launch.clock.time += timedelta(seconds=269)
    assert launch.client.backend_token(scopes[::-1]) == SECRET
    launch.clock.time += timedelta(seconds=1)
    assert launch.client.backend_token(scopes) == "second"
    launch.peer.token["access_token"] = "narrow"
    assert launch.client.backend_token(["system/Patient.r"]) == "narrow"


def test_a_refused_backend_token_is_not_kept(launch: Launch) -> None:
    launch.peer.given[f"{ISSUER}/token"] = httpx.Response(400, json={"error": "invalid_scope"})
    with pytest.raises(RefusedByEhr, match="invalid_scope"):
        launch.client.backend_token(["system/Patient.r"])
    launch.peer.given.clear()
    assert launch.client.backend_token(["system/Patient.r"]) == SECRET


def test_every_request_is_signed_anew(launch: Launch) -> None:
    for _ in range(3):
        launch.client.refresh("r1")
    sent = [dict(parse_qsl(request.content.decode())) for request in launch.peer.asked[1:]]
    assert len({form["client_assertion"].split(".")[1] for form in sent}) == 3
