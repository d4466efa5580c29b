"""The server's own keys, and what it signs with them."""

# ruff: noqa: S105 - no secret here is one
import base64
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from standing_clock import StandingClock
from studies import ISSUED

from cds_server.adapters.key_files import KeyFiles
from cds_server.errors import InvalidSettings
from cds_server.oauth.client_assertion import assertion_form, client_assertion
from cds_server.oauth.signing_keys import KeyRing

TOKEN_URL = "https://ehr.example.org/token"
JWKS_URL = "https://radcds.example.org/.well-known/jwks.json"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k", "oth"}
RING = KeyRing({"ES384": ECKey.generate_key("P-384"), "RS384": RSAKey.generate_key(2048)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "smart"
    KeyFiles(made).public_jwks()
    return made


def assertion(algorithm: str = "ES384") -> str:
    return client_assertion(
        RING,
        algorithm=algorithm,
        client_id="radcds",
        token_url=TOKEN_URL,
        jwks_url=JWKS_URL,
        clock=StandingClock(),
    )


def segment(token: str, number: int) -> dict[str, Any]:
    part = token.split(".")[number]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_an_assertion_says_what_smart_asks_for(algorithm: str) -> None:
    token = assertion(algorithm)
    assert segment(token, 0) == {
        "alg": algorithm,
        "kid": RING.private(algorithm).kid,
        "typ": "JWT",
        "jku": JWKS_URL,
    }
    claims = segment(token, 1)
    issued = int(ISSUED.timestamp())
    assert claims["iss"] == claims["sub"] == "radcds"
    assert claims["aud"] == TOKEN_URL
    assert (claims["iat"], claims["exp"]) == (issued, issued + 240)
    assert claims.keys() == {"iss", "sub", "aud", "iat", "exp", "jti"}


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_it_verifies_with_the_published_keys(algorithm: str) -> None:
    published = KeySet.import_key_set(json.loads(json.dumps(RING.public_jwks())))
    assert jwt.decode(assertion(algorithm), published, algorithms=[algorithm])


def test_every_assertion_has_an_identifier_of_its_own() -> None:
    assert len({segment(assertion(), 1)["jti"] for _ in range(50)}) == 50


def test_the_form_holds_no_client_id() -> None:
    assert assertion_form("signed") == {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "signed",
    }


def test_an_algorithm_without_a_key_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="HS384"):
        assertion("HS384")


def test_no_private_member_is_published(folder: Path) -> None:
    for keys in (RING, KeyFiles(folder)):
        published = keys.public_jwks()["keys"]
        assert isinstance(published, list)
        assert [key["alg"] for key in published] == ["ES384", "RS384"]
        for key in published:
            assert not PRIVATE & key.keys()
            assert key["use"] == "sig"
            assert {"kty", "kid"} <= key.keys()


def test_the_key_id_is_the_thumbprint_of_rfc_7638(folder: Path) -> None:
    published = KeyFiles(folder).public_jwks()["keys"]
    assert isinstance(published, list)
    for key in published:
        required = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[key["kty"]]
        canonical = json.dumps({name: key[name] for name in required}, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).digest()
        assert key["kid"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_only_this_user_may_read_the_files(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == ["smart-es384.jwk", "smart-rs384.jwk"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_keys_are_strong_and_stay(folder: Path) -> None:
    first, second = KeyFiles(folder), KeyFiles(folder)
    assert first.public_jwks() == second.public_jwks()
    elliptic, rsa = first.private("ES384"), first.private("RS384")
    assert isinstance(elliptic, ECKey)
    assert elliptic.curve_name == "P-384"
    assert isinstance(rsa, RSAKey)
    assert rsa.private_key is not None
    assert rsa.private_key.key_size == 3072


def published_by(folder: Path) -> object:
    return KeyFiles(folder).public_jwks()


def test_processes_that_begin_at_once_end_with_the_same_keys(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        published = pool.map(published_by, [tmp_path / "keys"] * 4)
    assert all(each == published[0] for each in published)
    assert len(list((tmp_path / "keys").iterdir())) == 2


def test_the_loser_of_a_race_takes_the_key_of_the_winner(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / path.name).chmod(0o600)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    assert KeyFiles(tmp_path).public_jwks() == KeyFiles(folder).public_jwks()
    assert len(list(tmp_path.iterdir())) == 2


def weak() -> bytes:
    key = RSAKey.generate_key(2048)
    key.ensure_kid()
    return json.dumps(key.as_dict(private=True)).encode()


def curve(name: Any, *, private: bool = True, kid: str | None = None) -> bytes:
    key = ECKey.generate_key(name)
    key.ensure_kid()
    held = key.as_dict(private=private)
    return json.dumps({**held, "kid": kid or held["kid"]}).encode()


DAMAGED = [
    ("smart-es384.jwk", b""),
    ("smart-es384.jwk", b"{}"),
    ("smart-es384.jwk", b"[" * 20_000),
    ("smart-es384.jwk", b"\xff\xfe"),
    ("smart-es384.jwk", curve("P-256")),
    ("smart-es384.jwk", curve("P-384", private=False)),
    ("smart-es384.jwk", curve("P-384", kid="mine")),
    ("smart-es384.jwk", curve("P-384").replace(b'"y": "', b'"y": "AA')),
    ("smart-es384.jwk", curve("P-384")[:-40]),
    ("smart-rs384.jwk", weak()),
    ("smart-rs384.jwk", curve("P-384")),
]


@pytest.mark.parametrize(("name", "content"), DAMAGED)
def test_a_damaged_file_is_refused_and_not_replaced(
    folder: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / path.name).chmod(0o600)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSettings, match=name):
        KeyFiles(tmp_path).private("ES384")
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    made = tmp_path / "smart-es384.jwk"
    made.write_bytes(curve("P-384"))
    made.chmod(mode)
    with pytest.raises(InvalidSettings, match=r"smart-es384\.jwk"):
        KeyFiles(tmp_path).private("ES384")


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(curve("P-384"))
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "smart-es384.jwk").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidSettings, match=r"smart-es384\.jwk"):
        KeyFiles(tmp_path).private("ES384")


def test_a_folder_into_which_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(InvalidSettings, match="chmod 700"):
        KeyFiles(tmp_path).private("ES384")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="cannot be made"):
        KeyFiles(tmp_path / "file" / "keys").private("ES384")
