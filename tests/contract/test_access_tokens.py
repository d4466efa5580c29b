"""Only an access token that a trusted issuer made for this server opens it."""

# ruff: noqa: S105 - no secret here is one
import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from standing_clock import StandingClock
from structlog.testing import capture_logs
from studies import ISSUED

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.https_key_source import HttpsKeySource
from cds_server.errors import InvalidSettings
from cds_server.network import TokenIssuer
from cds_server.oauth.access_tokens import AccessGrant, AccessTokens
from cds_server.oauth.signing_keys import KeyRing

ISSUER, OPAQUE_ISSUER = "https://login.example.org", "https://opaque.example.org"
AUDIENCE, JWKS_URL = "https://radcds.example.org/fhir", "https://radcds.example.org/jwks.json"
SIGNED = TokenIssuer(
    ISSUER, AUDIENCE, jwks_url=f"{ISSUER}/certs", centres=frozenset({"north", "south"})
)
OPAQUE = TokenIssuer(
    OPAQUE_ISSUER, AUDIENCE, introspection_url=f"{OPAQUE_ISSUER}/introspect", client_id="radcds"
)
RING = KeyRing({"ES384": ECKey.generate_key("P-384"), "RS384": RSAKey.generate_key(2048)})
EC = ECKey.generate_key("P-384", {"kid": "ec"})
EC256 = ECKey.generate_key("P-256", {"kid": "ec256"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec"})
TOKEN = "2YotnFZFEjr1zCsicMWpAA"


def now(seconds: float = 0) -> int:
    return int((ISSUED + timedelta(seconds=seconds)).timestamp())


def token(
    key: Any = EC, alg: str = "ES384", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    claims = {
        "iss": ISSUER,
        "sub": "u1",
        "aud": AUDIENCE,
        "client_id": "viewer",
        "iat": now(),
        "exp": now(300),
        "scope": "patient/ImagingStudy.rs launch",
        "patient": "p-1",
        "fhirUser": "Practitioner/77",
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    head = {"alg": alg, "kid": key.kid, "typ": "at+jwt", **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, claims, key, algorithms=[alg], default_type=None)


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Door:
    """A check, with the issuers behind it."""

    def __init__(self, *issuers: TokenIssuer) -> None:
        self.asked: list[httpx.Request] = []
        self.told: Any = {
            "active": True,
            "client_id": "viewer",
            "sub": "u1",
            "exp": now(3600),
            "token_type": "Bearer",
            "scope": "user/ImagingStudy.rs",
        }
        self.given: httpx.Response | Exception | None = None
        self.published: list[Any] = [EC, EC256, RSA]
        self.clock = StandingClock()
        transport = httpx.MockTransport(self.answer)
        self.tokens = AccessTokens(
            issuers or (SIGNED, OPAQUE),
            http=BoundedHttp(transport),
            keys_source=HttpsKeySource(transport),
            keys=RING,
            jwks_url=JWKS_URL,
            clock=self.clock,
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if isinstance(self.given, Exception):
            raise self.given
        if self.given is not None:
            return self.given
        if request.method == "GET":
            return httpx.Response(
                200, json={"keys": [key.as_dict(private=False) for key in self.published]}
            )
        return httpx.Response(200, json=self.told)

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.asked[-1].content.decode(), strict_parsing=True))


@pytest.fixture
def door() -> Door:
    return Door()


# --- JSON Web Tokens


@pytest.mark.parametrize(
    ("key", "alg"), [(EC, "ES384"), (EC256, "ES256"), (RSA, "RS256"), (RSA, "RS384")]
)
@pytest.mark.parametrize("kind", ["at+jwt", "application/at+jwt", "JWT", "AT+JWT"])
def test_a_good_token_grants_what_it_says(door: Door, key: Any, alg: str, kind: str) -> None:
    assert door.tokens.check(token(key, alg, {"typ": kind})) == AccessGrant(
        issuer=ISSUER,
        subject="u1",
        client_id="viewer",
        scopes=frozenset({"patient/ImagingStudy.rs", "launch"}),
        patient="p-1",
        fhir_user="Practitioner/77",
        centres=frozenset({"north", "south"}),
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scope": ["a", "b c"]}, {"scopes": frozenset("abc")}),
        ({"scope": None}, {"scopes": frozenset()}),
        ({"aud": ["other", AUDIENCE]}, {}),
        ({"client_id": None, "azp": "spa"}, {"client_id": "spa"}),
        ({"client_id": None}, {"client_id": "u1"}),
        ({"sub": None}, {"subject": "viewer"}),
        ({"patient": None, "fhirUser": None}, {"patient": None, "fhir_user": None}),
        ({"patient": ""}, {"patient": None}),
        ({"typ": "Bearer"}, {}),
        ({"nbf": now(59), "iat": now(59)}, {}),
        ({"exp": now(-59)}, {}),
    ],
)
def test_claims_are_read_as_issuers_send_them(
    door: Door, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    grant = door.tokens.check(token(**changes))
    assert grant is not None
    for name, value in expected.items():
        assert getattr(grant, name) == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: token(iss="https://evil.example.org"),
        lambda: token(iss=f"{ISSUER}/"),
        lambda: token(iss=None),
        lambda: token(iss=[ISSUER]),
        lambda: token(aud="https://radcds.example.org"),
        lambda: token(aud=f"{AUDIENCE}/"),
        lambda: token(aud=None),
        lambda: token(aud={"x": AUDIENCE}),
        lambda: token(exp=now(-61)),
        lambda: token(exp=None),
        lambda: token(exp="soon"),
        lambda: token(exp=True),
        lambda: token(exp=10**18),
        lambda: token(exp=-(10**18)),
        lambda: token(nbf=now(61)),
        lambda: token(nbf="x"),
        lambda: token(iat=now(61)),
        lambda: token(scope={"a": 1}),
        lambda: token(scope=["a", 1]),
        lambda: token(patient=["p-1"]),
        lambda: token(patient="Patient/p-1"),
        lambda: token(patient="*"),
        lambda: token(sub=7),
        lambda: token(sub=None, client_id=None),
        lambda: token(sub="x" * 3000),
        lambda: token(cnf={"jkt": "x"}),
        lambda: token(nonce="n"),
        lambda: token(typ="Refresh"),
        lambda: token(typ="ID"),
        lambda: token(header={"typ": None}),
        lambda: token(header={"typ": "JOSE"}),
        lambda: token(header={"typ": "logout+jwt"}),
        lambda: token(header={"kid": "nobody"}),
        lambda: token(header={"kid": "rsa"}),
        lambda: token(header={"jwk": STRANGER.as_dict(private=False)}),
        lambda: token(header={"x5u": "https://evil.example.org"}),
        lambda: token(STRANGER),
        lambda: token(RSA, "PS256"),
        lambda: token(RSA, "RS512"),
        lambda: token(OctKey.import_key(b"k" * 64, {"kid": "ec"}), "HS384"),
        lambda: ".".join([encoded(b'{"alg":"none","typ":"at+jwt"}'), token().split(".")[1], ""]),
        lambda: ".".join([token().split(".")[0], token(sub="u2").split(".")[1], "AAAA"]),
        lambda: token()[:-4] + "AAAA",
        lambda: token() + "=",
        lambda: token().replace(".", ".\n", 1),
        lambda: f"{encoded(b'[' * 9000)}.e30.AAAA",
        lambda: f"e30.{encoded(b'[' * 9000)}.AAAA",
        lambda: f"e30.{encoded(b'{} {}')}.AAAA",
        lambda: "..",
        lambda: "é.é.é",
        lambda: "a.b.c.d.e" * 4000,
        lambda: "",
    ],
)
def test_any_other_token_is_refused_and_not_logged(make: Callable[[], str]) -> None:
    door, made = Door(SIGNED), make()
    with capture_logs() as lines:
        assert door.tokens.check(made) is None
    assert [line["event"] for line in lines] == ["token.refused"]
    shown = json.dumps(lines)
    assert not made or made not in shown
    for hidden in (part for part in made.split(".") if len(part) > 8):
        assert hidden not in shown
    assert "evil" not in shown


def test_a_public_key_is_no_secret(door: Door) -> None:
    content = f"{encoded(json.dumps({'alg': 'HS256', 'kid': 'rsa', 'typ': 'JWT'}).encode())}."
    content += token().split(".")[1]
    signature = hmac.digest(RSA.as_pem(private=False), content.encode(), "sha256")
    assert door.tokens.check(f"{content}.{encoded(signature)}") is None


def test_the_keys_of_one_issuer_sign_for_no_other() -> None:
    other = replace(SIGNED, issuer="https://other.example.org", jwks_url="https://other/certs")
    door = Door(SIGNED, other)
    door.tokens.check(token())
    assert [str(request.url) for request in door.asked] == [f"{ISSUER}/certs"]
    door.tokens.check(token(iss="https://other.example.org"))
    assert str(door.asked[-1].url) == "https://other/certs"


def test_a_new_key_is_found_without_a_restart(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    assert door.tokens.check(token())
    rotated = ECKey.generate_key("P-384", {"kid": "ec-2"})
    door.published = [rotated]
    assert door.tokens.check(token(rotated)) is None  # asked a moment ago
    monkeypatch.setattr("cds_server.oauth.published_keys._LEAST_BETWEEN_S", 0)
    assert door.tokens.check(token(rotated))
    assert door.tokens.check(token()) is None


@pytest.mark.parametrize(
    "given",
    [
        httpx.Response(500),
        httpx.Response(404, json={"keys": [EC.as_dict(private=False)]}),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json={"keys": "none"}),
        httpx.Response(200, content=b'{"keys":' + b"[" * 100_000),
        httpx.ReadTimeout("late"),
    ],
)
def test_without_keys_no_token_is_good(door: Door, given: httpx.Response | Exception) -> None:
    door.given = given
    assert door.tokens.check(token()) is None


# --- opaque tokens


def test_an_opaque_token_is_looked_up_with_an_assertion(door: Door) -> None:
    grant = door.tokens.check(TOKEN)
    assert grant == AccessGrant(
        issuer=OPAQUE_ISSUER,
        subject="u1",
        client_id="viewer",
        scopes=frozenset({"user/ImagingStudy.rs"}),
        patient=None,
        fhir_user=None,
        centres=frozenset(),
    )
    form = door.form()
    assertion = form.pop("client_assertion")
    assert form == {
        "token": TOKEN,
        "token_type_hint": "access_token",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    published = KeySet.import_key_set(json.loads(json.dumps(RING.public_jwks())))
    claims = jwt.decode(assertion, published, algorithms=["ES384"]).claims
    assert (claims["iss"], claims["aud"]) == ("radcds", f"{OPAQUE_ISSUER}/introspect")


def test_the_token_endpoint_is_the_audience_where_it_is_known() -> None:
    door = Door(replace(OPAQUE, token_endpoint=f"{OPAQUE_ISSUER}/token"))
    assert door.tokens.check(TOKEN)
    assertion = door.form()["client_assertion"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(assertion + "=" * (-len(assertion) % 4)))
    assert claims["aud"] == f"{OPAQUE_ISSUER}/token"


def test_an_answer_is_kept_for_half_a_minute_and_per_token(door: Door) -> None:
    for _ in range(3):
        assert door.tokens.check(TOKEN)
    assert len(door.asked) == 1
    assert door.tokens.check(TOKEN + "x")
    assert len(door.asked) == 2
    door.told["active"] = False
    door.clock.time += timedelta(seconds=29)
    assert door.tokens.check(TOKEN)
    door.clock.time += timedelta(seconds=1)
    assert door.tokens.check(TOKEN) is None
    assert len(door.asked) == 3


def test_a_kept_answer_does_not_outlive_the_token(door: Door) -> None:
    door.told["exp"] = now(-55)
    assert door.tokens.check(TOKEN)
    door.clock.time += timedelta(seconds=6)
    assert door.tokens.check(TOKEN) is None
    assert len(door.asked) == 1


def test_what_is_kept_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds_server.oauth.introspection._MOST_KEPT", 10)
    for number in range(25):
        assert door.tokens.check(f"{TOKEN}{number}")
    introspection = door.tokens._introspection
    assert introspection
    assert len(introspection._looked) <= 10


@pytest.mark.parametrize(
    "change",
    [
        {"active": False},
        {"active": "true"},
        {"active": None},
        {"exp": None},
        {"exp": now(-61)},
        {"nbf": now(61)},
        {"aud": "https://elsewhere.example.org"},
        {"aud": None},
        {"iss": "https://evil.example.org"},
        {"token_type": "refresh_token"},
        {"token_type": "DPoP"},
        {"token_type": ["Bearer"]},
        {"cnf": {"x5t#S256": "x"}},
        {"sub": None, "client_id": None},
        {"patient": "*"},
    ],
)
def test_a_token_that_its_issuer_does_not_stand_for_is_refused(
    door: Door, change: dict[str, Any]
) -> None:
    door.told.update(change)
    with capture_logs() as lines:
        assert door.tokens.check(TOKEN) is None
    assert TOKEN not in json.dumps(lines)


@pytest.mark.parametrize(
    "change",
    [
        {"aud": [AUDIENCE]},
        {"iss": OPAQUE_ISSUER},
        {"token_type": "bearer"},
        {"sub": None},
        {"patient": "p-1"},
    ],
)
def test_what_an_issuer_adds_is_understood(door: Door, change: dict[str, Any]) -> None:
    door.told.update(change)
    assert door.tokens.check(TOKEN)


@pytest.mark.parametrize(
    "given",
    [
        httpx.Response(401, json={"error": "invalid_client"}),
        httpx.Response(302, headers={"Location": "http://169.254.169.254/"}),
        httpx.Response(200, content=b"active"),
        httpx.Response(200, json=[{"active": True}]),
        httpx.Response(200, content=b" " * 5_000_000),
        httpx.ConnectError("refused"),
    ],
)
def test_an_issuer_that_does_not_answer_well_lets_nobody_in(
    door: Door, given: httpx.Response | Exception
) -> None:
    door.given = given
    with capture_logs() as lines:
        assert door.tokens.check(TOKEN) is None
    assert TOKEN not in json.dumps(lines)
    assert len(door.asked) == 1


@pytest.mark.parametrize("odd", ["\ud800", "é" * 20, "two words", "line\nbreak", "nul\0"])
def test_what_cannot_be_a_token_is_shown_to_nobody(door: Door, odd: str) -> None:
    assert door.tokens.check(odd) is None
    assert not door.asked


def test_an_opaque_token_is_shown_to_nobody_where_no_issuer_makes_them() -> None:
    door = Door(SIGNED)
    assert door.tokens.check(TOKEN) is None
    assert not door.asked


def test_the_example_of_smart_is_understood(door: Door) -> None:
    door.told = {
        "active": True,
        "client_id": "07a89bd2-52ce-4576-8b85-71698efa8328",
        "scope": "patient/*.read openid fhirUser",
        "sub": "c91dfe96-731d-4e66-b4f9-01f8f8a4b7b2",
        "patient": "456",
        "fhirUser": "https://ehr.example.org/fhir/Patient/123",
        "exp": now(3600),
    }
    grant = door.tokens.check(TOKEN)
    assert grant is not None
    assert (grant.patient, grant.fhir_user) == ("456", "https://ehr.example.org/fhir/Patient/123")


def test_a_long_lived_token_of_unknown_kind_may_be_a_refresh_token(door: Door) -> None:
    del door.told["token_type"]
    assert door.tokens.check(TOKEN)
    door.told["exp"] = now(3601)
    assert door.tokens.check(f"{TOKEN}1") is None
    door.told["typ"] = "Bearer"
    assert door.tokens.check(f"{TOKEN}2")
    door.told["typ"] = "Refresh"
    assert door.tokens.check(f"{TOKEN}3") is None
    del door.told["typ"]
    door.told["aud"] = AUDIENCE
    assert door.tokens.check(f"{TOKEN}4")


def test_a_signed_token_of_an_issuer_without_keys_is_looked_up() -> None:
    door = Door(OPAQUE)
    signed = token(iss=OPAQUE_ISSUER)
    assert door.tokens.check(signed)
    assert door.form()["token"] == signed


def test_a_signed_token_of_a_stranger_is_shown_to_nobody(door: Door) -> None:
    assert door.tokens.check(token(iss="https://evil.example.org")) is None
    assert not door.asked


@pytest.mark.parametrize(
    "issuers",
    [
        [SIGNED, SIGNED],
        [TokenIssuer(ISSUER, AUDIENCE)],
        [OPAQUE, replace(OPAQUE, issuer="https://second.example.org")],
    ],
)
def test_issuers_that_cannot_work_are_refused(issuers: list[TokenIssuer]) -> None:
    with pytest.raises(InvalidSettings):
        Door(*issuers)
