"""Only a trusted EHR's own fresh token opens CDS Hooks, once."""

import base64
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from serving import TickingClock
from studies import ISSUED

from cds_server.adapters.https_key_source import HttpsKeySource
from cds_server.adapters.sql_replay_guard import SqlReplayGuard
from cds_server.adapters.sql_schema import open_engine
from cds_server.errors import KeysUnavailable
from cds_server.network import CdsClient
from cds_server.oauth.client_token import ClientTokens, Refused, Trusted

ISSUER, JWKS = "https://ehr.example.org", "https://ehr.example.org/jwks.json"
AUDIENCE = "https://radcds.example.org/cds-services/radcds-patient-view"
CLIENT = CdsClient(ISSUER, JWKS)
EC = ECKey.generate_key("P-384", {"kid": "ec-1"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec-1"})


class Keys:
    """The EHR's published keys, which a test can rotate."""

    def __init__(self, *keys: Any) -> None:
        self.published = list(keys)
        self.asked_fresh = 0

    def keys(self, jwks_url: str, *, fresh: bool) -> bytes:
        assert jwks_url == JWKS
        self.asked_fresh += fresh
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.published]}).encode()


class Door:
    """A check with everything it needs."""

    def __init__(self, folder: Path, client: CdsClient = CLIENT) -> None:
        self.keys = Keys(EC, RSA)
        self.clock = TickingClock(step=timedelta())
        guard = SqlReplayGuard(open_engine(folder / "radcds.sqlite"), self.clock)
        self.tokens = ClientTokens([client], keys=self.keys, guard=guard, clock=self.clock)

    def opens(self, token: str) -> Trusted | Refused:
        return self.tokens.check(f"Bearer {token}", AUDIENCE)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def token(
    key: Any = EC, alg: str = "ES384", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    now = int(ISSUED.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    head = {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, claims, key, algorithms=[alg])


DEEP = base64.urlsafe_b64encode(b"[" * 11_000).decode().rstrip("=")


def now(seconds: float) -> int:
    return int((ISSUED + timedelta(seconds=seconds)).timestamp())


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES384"), (RSA, "RS384")])
def test_a_trusted_client_is_let_in(door: Door, key: Any, alg: str) -> None:
    assert door.opens(token(key, alg)) == Trusted(CLIENT)
    assert door.opens(token(key, alg, {"jku": JWKS}, aud=["other", AUDIENCE])) == Trusted(CLIENT)


@pytest.mark.parametrize(
    "make",
    [
        lambda: token(iss="https://evil.example.org"),
        lambda: token(iss=None),
        lambda: token(aud="https://radcds.example.org/cds-services"),
        lambda: token(aud=AUDIENCE + "/"),
        lambda: token(aud=None),
        lambda: token(exp=now(-61)),
        lambda: token(exp=None),
        lambda: token(exp="soon"),
        lambda: token(exp=True),
        lambda: token(exp=10**18),
        lambda: token(iat=None),
        lambda: token(iat=now(120), exp=now(300)),
        lambda: token(iat=now(-10), exp=now(3600 * 24)),
        lambda: token(jti=None),
        lambda: token(jti=""),
        lambda: token(jti="x" * 300),
        lambda: token(jti=7),
        lambda: token(STRANGER),
        lambda: token(header={"kid": None}),
        lambda: token(header={"kid": "nobody"}),
        lambda: token(header={"typ": "JOSE"}),
        lambda: token(header={"jku": "https://evil.example.org/jwks.json"}),
        lambda: token(header={"jwk": STRANGER.as_dict(private=False)}),
        lambda: token(header={"x5u": "https://evil.example.org"}),
        lambda: token(RSA, "RS256"),
        lambda: token(OctKey.import_key(b"k" * 64, {"kid": "ec-1"}), "HS384"),
        lambda: ".".join(["eyJhbGciOiJub25lIn0", token().split(".")[1], ""]),
        lambda: token()[:-4] + "AAAA",
        lambda: "not.a.token",
        lambda: "x" * 20_000,
        lambda: "",
        lambda: "a.b",
        lambda: f"{DEEP}.{DEEP}.AAAA",
        lambda: token(header={"x5c": ["AAAA"]}),
    ],
)
def test_any_other_token_is_refused(door: Door, make: Callable[[], str]) -> None:
    assert isinstance(door.opens(make()), Refused)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic dXNlcjpwYXNz", "bearer  "])
def test_no_token_is_refused(door: Door, header: str | None) -> None:
    assert isinstance(door.tokens.check(header, AUDIENCE), Refused)


def test_a_payload_under_the_signature_of_another_is_refused(door: Door) -> None:
    head, _, signature = token().split(".")
    assert isinstance(door.opens(".".join([head, token().split(".")[1], signature])), Refused)


def test_a_token_is_good_once_even_after_it_expired_within_the_leeway(door: Door) -> None:
    used = token()
    assert door.opens(used) == Trusted(CLIENT)
    assert door.opens(used) == Refused("token was used before")
    door.clock.time += timedelta(seconds=300 + 59)
    assert door.opens(used) == Refused("token was used before")
    door.clock.time += timedelta(seconds=2)
    assert door.opens(used) == Refused("expired")


def test_a_refused_token_does_not_use_up_its_jti(door: Door) -> None:
    assert isinstance(door.opens(token(STRANGER, jti="shared")), Refused)
    assert door.opens(token(jti="shared")) == Trusted(CLIENT)


def test_a_new_key_is_found_without_a_restart_and_an_old_one_is_gone(door: Door) -> None:
    rotated = ECKey.generate_key("P-384", {"kid": "ec-2"})
    door.keys.published = [rotated]
    assert door.opens(token(rotated)) == Trusted(CLIENT)
    assert isinstance(door.opens(token(EC)), Refused)


def test_a_tenant_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    door = Door(tmp_path, replace(CLIENT, tenants=frozenset({"trust-a"})))
    assert isinstance(door.opens(token(tenant="trust-b")), Refused)
    assert isinstance(door.opens(token()), Refused)
    assert isinstance(door.opens(token(tenant="trust-a")), Trusted)


def test_an_odd_audience_is_accepted_only_where_it_is_configured(tmp_path: Path) -> None:
    door = Door(tmp_path, replace(CLIENT, audience="sand_man"))
    assert isinstance(door.opens(token(aud="sand_man")), Trusted)
    assert isinstance(door.opens(token()), Refused)


TAKE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cds_server.adapters.sql_replay_guard import SqlReplayGuard
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.system_clock import SystemClock
guard = SqlReplayGuard(open_engine(Path(sys.argv[1])), SystemClock())
print(sum(guard.take("iss", f"jti-{n}", datetime(2999, 1, 1, tzinfo=UTC)) for n in range(200)))
"""


def test_two_workers_take_each_token_once_between_them(tmp_path: Path) -> None:
    path = tmp_path / "radcds.sqlite"
    workers = [
        subprocess.Popen([sys.executable, "-c", TAKE, path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    taken = [int(worker.communicate()[0]) for worker in workers]
    assert sum(taken) == 200


def served(*answers: httpx.Response | Exception) -> tuple[HttpsKeySource, list[str]]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        given = answers[min(len(asked), len(answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    return HttpsKeySource(httpx.MockTransport(answer)), asked


def test_keys_are_fetched_once_and_kept() -> None:
    source, asked = served(httpx.Response(200, content=b'{"keys": []}'))
    for _ in range(5):
        assert source.keys(JWKS, fresh=False) == b'{"keys": []}'
    assert asked == [JWKS]


def test_a_flood_of_unknown_keys_asks_the_key_server_no_more_than_once() -> None:
    source, asked = served(httpx.Response(200, content=b'{"keys": []}'))
    for _ in range(50):
        source.keys(JWKS, fresh=True)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": "http://169.254.169.254/"}),
        httpx.Response(500),
        httpx.Response(200, content=b"x" * 300_000),
        httpx.ConnectTimeout("late"),
    ],
)
def test_a_key_server_that_misbehaves_gives_no_keys(answer: httpx.Response | Exception) -> None:
    source, asked = served(answer)
    with pytest.raises(KeysUnavailable):
        source.keys(JWKS, fresh=False)
    assert asked == [JWKS]
    with pytest.raises(KeysUnavailable, match="a moment ago"):
        source.keys(JWKS, fresh=False)
