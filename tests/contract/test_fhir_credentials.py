"""A FHIR server sees who this server is, by a token that is asked for once and renewed in time."""

import base64
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from standing_clock import StandingClock

from cds_server.adapters.azure_fhir_credentials import AzureFhirCredentials
from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.fhir_credentials import KeptToken, SmartBackendCredentials
from cds_server.errors import DestinationUnavailable, InvalidSettings
from cds_server.oauth.signing_keys import KeyRing

BASE = "https://fhir.example.org/r4"
TOKEN_URL = "https://login.example.org/token"  # noqa: S105 - an address
JWKS_URL = "https://radcds.example.org/.well-known/jwks.json"
KEYS = KeyRing({"ES384": ECKey.generate_key("P-384"), "RS384": RSAKey.generate_key(2048)})


class Login:
    """An authorisation server that keeps to RFC 7523; ``says`` and ``named`` spoil it."""

    def __init__(self, clock: StandingClock) -> None:
        self.clock = clock
        self.asked: list[httpx.Request] = []
        self.given = 0
        self.says: httpx.Response | None = None
        self.more: dict[str, object] = {}
        self.named: object = {"token_endpoint": TOKEN_URL}
        self.jtis: set[str] = set()

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if str(request.url) == f"{BASE}/.well-known/smart-configuration":
            return httpx.Response(200, json=self.named)
        assert str(request.url) == TOKEN_URL, "a secret went elsewhere"
        return self.says or self._token(request)

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = {name: value[0] for name, value in parse_qs(request.content.decode()).items()}
        assert form["grant_type"] == "client_credentials"
        assert form["client_assertion_type"].endswith(":jwt-bearer")
        algorithm = json.loads(_part(form["client_assertion"]))["alg"]
        key = KEYS.private(algorithm)
        read = jwt.decode(form["client_assertion"], key, algorithms=[algorithm])
        assert read.header["kid"] == key.kid
        assert read.header["jku"] == JWKS_URL
        claims = read.claims
        assert (claims["iss"], claims["sub"], claims["aud"]) == ("radcds", "radcds", TOKEN_URL)
        assert 0 < claims["exp"] - self.clock.now().timestamp() <= 300
        assert claims["jti"] not in self.jtis, "an assertion is used once"
        self.jtis.add(claims["jti"])
        self.given += 1
        body = {"access_token": f"token-{self.given}", "token_type": "bearer", "expires_in": 900}
        return httpx.Response(200, json={**body, "scope": form["scope"], **self.more})


def _part(assertion: str) -> bytes:
    head = assertion.split(".", maxsplit=1)[0]
    return base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def login(clock: StandingClock) -> Login:
    return Login(clock)


def smart(login: Login, **changes: Any) -> SmartBackendCredentials:
    settings = {
        "client_id": "radcds",
        "scopes": ["system/*.rs", "system/*.cu"],
        "http": BoundedHttp(httpx.MockTransport(login.handle)),
        "keys": KEYS,
        "jwks_url": JWKS_URL,
        "clock": login.clock,
        **changes,
    }
    return SmartBackendCredentials(BASE + "/", **settings)


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_token_is_asked_for_with_proof_of_who_asks(login: Login, algorithm: str) -> None:
    assert smart(login, algorithm=algorithm).authorization() == "Bearer token-1"
    assert [str(each.url) for each in login.asked] == [
        f"{BASE}/.well-known/smart-configuration",
        TOKEN_URL,
    ]
    assert b"scope=system%2F%2A.cu+system%2F%2A.rs" in login.asked[1].content


def test_a_token_endpoint_that_is_set_is_not_asked_for(login: Login) -> None:
    assert smart(login, token_url=TOKEN_URL).authorization() == "Bearer token-1"
    assert [str(each.url) for each in login.asked] == [TOKEN_URL]


def test_a_token_is_kept_until_shortly_before_it_expires(
    login: Login, clock: StandingClock
) -> None:
    credentials = smart(login)
    assert credentials.authorization() == "Bearer token-1"
    clock.time += timedelta(seconds=839)
    assert credentials.authorization() == "Bearer token-1"
    clock.time += timedelta(seconds=1)
    assert credentials.authorization() == "Bearer token-2"
    credentials.refresh()
    assert credentials.authorization() == "Bearer token-3"


def test_a_token_of_half_a_minute_is_kept_for_most_of_it(
    login: Login, clock: StandingClock
) -> None:
    login.more = {"expires_in": 30}
    credentials = smart(login)
    credentials.authorization()
    clock.time += timedelta(seconds=23)
    assert credentials.authorization() == "Bearer token-1"
    clock.time += timedelta(seconds=1)
    assert credentials.authorization() == "Bearer token-2"


def test_threads_share_one_token(clock: StandingClock) -> None:
    fetched: list[int] = []
    start = threading.Barrier(8)

    def fetch() -> tuple[str, Any]:
        fetched.append(1)
        return "token", clock.now() + timedelta(hours=1)

    kept = KeptToken(fetch, clock)

    def ask(_: int) -> str:
        start.wait()
        return kept.authorization()

    with ThreadPoolExecutor(8) as workers:
        assert set(workers.map(ask, range(8))) == {"Bearer token"}
    assert len(fetched) == 1


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (httpx.Response(400, json={"error": "invalid_client"}), "invalid_client"),
        (httpx.Response(401, json={"error_description": "secret"}), "status 401"),
        (httpx.Response(302, headers={"Location": "http://192.0.2.1/secret"}), "status 302"),
        (httpx.Response(503, text="secret"), "status 503"),
        (httpx.Response(429), "status 429"),
        (httpx.Response(200, text="secret"), "usable token"),
        (httpx.Response(200, json={"access_token": "secret"}), "token_type"),
        (
            httpx.Response(
                200,
                json={"access_token": "secret\r\nX: 1", "token_type": "bearer", "scope": "a"},
            ),
            "access_token",
        ),
    ],
)
def test_no_token_is_said_and_tried_again(login: Login, says: httpx.Response, why: str) -> None:
    credentials = smart(login)
    login.says = says
    with pytest.raises(DestinationUnavailable, match=rf"no access token.*{why}") as failed:
        credentials.authorization()
    assert "secret" not in str(failed.value)
    login.says = None
    assert credentials.authorization() == "Bearer token-1"


@pytest.mark.parametrize(
    "named",
    [
        {},
        [],
        {"token_endpoint": "http://login.example.org/token"},
        {"token_endpoint": "https://user:secret@login.example.org/token"},
        {"token_endpoint": "file:///etc/passwd"},
        {"token_endpoint": ["https://login.example.org/token"]},
    ],
)
def test_proof_is_not_sent_to_an_unsafe_address(login: Login, named: object) -> None:
    login.named = named
    with pytest.raises(DestinationUnavailable, match="no access token") as failed:
        smart(login).authorization()
    assert len(login.asked) == 1
    assert "secret" not in str(failed.value)


def test_a_token_endpoint_in_the_clear_is_refused_at_once(login: Login) -> None:
    with pytest.raises(InvalidSettings, match="https"):
        smart(login, token_url="http://login.example.org/token")  # noqa: S106 - an address


def test_a_missing_key_concerns_the_destination(login: Login) -> None:
    with pytest.raises(DestinationUnavailable, match="no signing key for RS384"):
        smart(login, keys=KeyRing({}), algorithm="RS384").authorization()


# --- Azure


class Entra:
    """Where tokens come from: ``token-1`` first, each an hour long."""

    def __init__(self, clock: StandingClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, ...]] = []
        self.fails: Exception | None = None

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        if self.fails:
            raise self.fails
        self.asked.append(scopes)
        expires = self.clock.now() + timedelta(hours=1)
        return AccessToken(f"token-{len(self.asked)}", int(expires.timestamp()))


AZURE = "https://ws-fhir.fhir.azurehealthcareapis.com"


@pytest.mark.parametrize("url", [AZURE, f"{AZURE}/"])
def test_azure_is_asked_for_the_service_itself(clock: StandingClock, url: str) -> None:
    entra = Entra(clock)
    credentials = AzureFhirCredentials(url, clock=clock, credential=entra)
    assert credentials.authorization() == "Bearer token-1"
    clock.time += timedelta(minutes=58)
    assert credentials.authorization() == "Bearer token-1"
    clock.time += timedelta(minutes=1)
    assert credentials.authorization() == "Bearer token-2"
    assert entra.asked == [(f"{AZURE}/.default",)] * 2


@pytest.mark.parametrize("url", ["http://x.example.org", f"{AZURE}/fhir", "https://", "x"])
def test_an_address_that_is_not_of_azure_is_refused(clock: StandingClock, url: str) -> None:
    with pytest.raises(InvalidSettings, match="azurehealthcareapis"):
        AzureFhirCredentials(url, clock=clock, credential=Entra(clock))


@pytest.mark.parametrize(
    "fault",
    [
        ClientAuthenticationError("tenant 1234 refused client-secret"),
        CredentialUnavailableError("no client-secret found"),
    ],
)
def test_no_token_of_azure_is_said_without_its_words(
    clock: StandingClock, fault: Exception
) -> None:
    entra = Entra(clock)
    entra.fails = fault
    credentials = AzureFhirCredentials(AZURE, clock=clock, credential=entra)
    with pytest.raises(DestinationUnavailable, match=type(fault).__name__) as failed:
        credentials.authorization()
    assert "secret" not in str(failed.value)
    assert failed.value.__context__ is None


def test_the_kind_of_a_token_is_in_no_error(login: Login) -> None:
    told: Mapping[str, object] = {"access_token": "x", "token_type": "secret", "scope": "a"}
    login.says = httpx.Response(200, json=dict(told))
    with pytest.raises(DestinationUnavailable) as failed:
        smart(login).authorization()
    assert "secret" not in str(failed.value)
