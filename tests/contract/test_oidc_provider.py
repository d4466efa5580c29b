"""A strict authorisation server of somebody else accepts what radcds sends, and is understood."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey
from oidc_peer import oidc_provider

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.https_key_source import HttpsKeySource
from cds_server.adapters.system_clock import SystemClock
from cds_server.network import Ehr, SmartRegistration, TokenIssuer
from cds_server.oauth.access_tokens import AccessTokens
from cds_server.oauth.client_assertion import assertion_form, client_assertion
from cds_server.oauth.signing_keys import KeyRing
from cds_server.oauth.smart_client import LaunchRefused, RefusedByEhr, SmartClient

AUDIENCE, REDIRECT = "https://radcds.example.org/fhir", "https://radcds.example.org/callback"
JWKS_URL = "https://radcds.example.org/jwks.json"
RING = KeyRing({"ES384": ECKey.generate_key("P-384"), "RS384": RSAKey.generate_key(3072)})
STRANGER = KeyRing({"ES384": ECKey.generate_key("P-384")})
SCOPES = ["system/ImagingStudy.rs"]
CLIENTS = ["es384-jwt", "rs384-jwt", "es384-opaque", "rs384-opaque"]


@dataclass(frozen=True)
class Peer:
    """The running authorisation server."""

    issuer: str

    def client(self, name: str, keys: KeyRing = RING) -> SmartClient:
        registration = SmartRegistration(name, name[:5].upper())
        return SmartClient(
            Ehr("Peer", f"{self.issuer}/fhir", smart=registration),
            http=BoundedHttp(),
            keys=keys,
            jwks_url=JWKS_URL,
            redirect_uri=REDIRECT,
            clock=SystemClock(),
        )

    def tokens(self, *, introspecting: bool, audience: str = AUDIENCE) -> AccessTokens:
        issuer = TokenIssuer(
            self.issuer,
            audience,
            jwks_url=f"{self.issuer}/jwks",
            introspection_url=f"{self.issuer}/token/introspection" if introspecting else None,
            client_id="es384-opaque",
        )
        return AccessTokens(
            [issuer],
            http=BoundedHttp(),
            keys_source=HttpsKeySource(),
            keys=RING,
            jwks_url=JWKS_URL,
            clock=SystemClock(),
        )

    def assertion(self, client_id: str = "es384-jwt", **changes: str) -> str:
        return client_assertion(
            RING,
            algorithm=changes.get("algorithm", "ES384"),
            client_id=client_id,
            token_url=changes.get("token_url", f"{self.issuer}/token"),
            jwks_url=JWKS_URL,
            clock=SystemClock(),
        )

    def ask(self, assertion: str) -> tuple[int, str]:
        form = {"grant_type": "client_credentials", "scope": SCOPES[0], **assertion_form(assertion)}
        answer = BoundedHttp().post_form(f"{self.issuer}/token", form)
        return answer.status, str(json.loads(answer.content).get("error", ""))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    asked = {"jwks": RING.public_jwks(), "audience": AUDIENCE, "redirect_uri": REDIRECT}
    with oidc_provider(**asked) as issuer:
        yield Peer(issuer)


# --- this server for itself


@pytest.mark.parametrize("name", CLIENTS)
def test_it_gets_a_token_with_each_algorithm(peer: Peer, name: str) -> None:
    client = peer.client(name)
    token = client.backend_token(SCOPES)
    assert (token.count(".") == 2) == name.endswith("jwt")
    assert client.backend_token(SCOPES) == token


def test_a_replayed_assertion_is_refused(peer: Peer) -> None:
    used = peer.assertion()
    assert peer.ask(used) == (200, "")
    assert peer.ask(used) == (401, "invalid_client")
    assert peer.ask(peer.assertion()) == (200, "")


def test_an_assertion_for_another_server_or_client_is_refused(peer: Peer) -> None:
    refused = (401, "invalid_client")
    assert peer.ask(peer.assertion(token_url="https://elsewhere.example.org/token")) == refused  # noqa: S106
    assert peer.ask(peer.assertion("nobody")) == refused
    assert peer.ask(peer.assertion("rs384-jwt", algorithm="ES384")) == refused


def test_a_key_that_is_not_registered_is_refused(peer: Peer) -> None:
    with pytest.raises(RefusedByEhr, match=r"Peer refused access \(invalid_client\)\."):
        peer.client("es384-jwt", STRANGER).backend_token(SCOPES)


def test_a_scope_that_is_not_registered_is_not_granted(peer: Peer) -> None:
    with pytest.raises(LaunchRefused):
        peer.client("es384-jwt").backend_token(["system/Patient.cruds"])


# --- this server as a resource server


@pytest.mark.parametrize("name", CLIENTS)
def test_its_access_tokens_open_this_server(peer: Peer, name: str) -> None:
    token = peer.client(name).backend_token(SCOPES)
    grant = peer.tokens(introspecting=True).check(token)
    assert grant is not None
    assert (grant.issuer, grant.client_id, grant.subject) == (peer.issuer, name, name)
    assert grant.scopes == {"system/ImagingStudy.rs"}
    assert grant.patient is None


@pytest.mark.parametrize("name", ["es384-jwt", "es384-opaque"])
def test_its_tokens_for_another_server_do_not(peer: Peer, name: str) -> None:
    token = peer.client(name).backend_token(SCOPES)
    other = peer.tokens(introspecting=True, audience="https://other.example.org")
    assert other.check(token) is None


def test_a_signed_token_needs_no_introspection_and_an_opaque_one_does(peer: Peer) -> None:
    without = peer.tokens(introspecting=False)
    assert without.check(peer.client("es384-jwt").backend_token(SCOPES))
    assert without.check(peer.client("es384-opaque").backend_token(SCOPES)) is None


def test_a_revoked_token_is_not_active(peer: Peer) -> None:
    token = peer.client("es384-opaque").backend_token(SCOPES)
    revocation = f"{peer.issuer}/token/revocation"
    form = {"token": token, **assertion_form(peer.assertion("es384-opaque"))}
    assert BoundedHttp().post_form(revocation, form).status == 200
    assert peer.tokens(introspecting=True).check(token) is None


def test_a_token_that_nobody_issued_opens_nothing(peer: Peer) -> None:
    assert peer.tokens(introspecting=True).check(secrets.token_urlsafe(32)) is None


# --- a person


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has come back from the authorisation server."""

    client: SmartClient
    verifier: str
    nonce: str
    answered: dict[str, str]


def signed_in(peer: Peer, name: str = "es384-jwt") -> SignIn:
    client, verifier, nonce = peer.client(name), secrets.token_urlsafe(48), secrets.token_hex(16)
    url = client.authorization_request(
        "st4te",
        launch=None,
        scopes=["openid", "fhirUser", "user/ImagingStudy.rs"],
        verifier=verifier,
        nonce=nonce,
    )
    with httpx.Client(trust_env=False) as browser:
        answer = browser.get(url)
        while not (location := answer.headers["location"]).startswith(REDIRECT):
            answer = browser.get(str(httpx.URL(peer.issuer).join(location)))
    return SignIn(client, verifier, nonce, dict(parse_qsl(urlsplit(location).query)))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_person_signs_in(peer: Peer, name: str) -> None:
    done = signed_in(peer, name)
    assert done.answered["state"] == "st4te"
    done.client.check_response_issuer(done.answered["iss"])
    told = done.client.exchange(done.answered["code"], done.verifier, done.nonce)
    assert told.identity is not None
    assert (told.identity.issuer, told.identity.subject) == (peer.issuer, "dr-who")
    assert told.identity.fhir_user == "Practitioner/77"
    assert "user/ImagingStudy.rs" in told.scopes
    grant = peer.tokens(introspecting=True).check(told.access_token)
    assert grant is not None
    assert (grant.subject, grant.client_id) == ("dr-who", name)
    assert grant.scopes == {"user/ImagingStudy.rs"}


def test_a_code_is_good_once_and_only_with_its_verifier(peer: Peer) -> None:
    done = signed_in(peer)
    with pytest.raises(RefusedByEhr) as refused:
        done.client.exchange(done.answered["code"], "w" * 64, done.nonce)
    assert refused.value.code == "invalid_grant"
    done = signed_in(peer)
    assert done.client.exchange(done.answered["code"], done.verifier, done.nonce)
    with pytest.raises(RefusedByEhr) as refused:
        done.client.exchange(done.answered["code"], done.verifier, done.nonce)
    assert refused.value.code == "invalid_grant"


def test_the_sign_in_of_another_is_refused(peer: Peer) -> None:
    done = signed_in(peer)
    with pytest.raises(LaunchRefused, match="another sign-in"):
        done.client.exchange(done.answered["code"], done.verifier, "another nonce")


def test_refresh_tokens_rotate(peer: Peer) -> None:
    done = signed_in(peer)
    first = done.client.exchange(done.answered["code"], done.verifier, done.nonce)
    assert first.refresh_token
    second = done.client.refresh(first.refresh_token)
    assert second.refresh_token not in {None, first.refresh_token}
    assert second.access_token != first.access_token
    with pytest.raises(RefusedByEhr) as refused:
        done.client.refresh(first.refresh_token)
    assert refused.value.code == "invalid_grant"


def test_a_refresh_token_is_no_access_token(peer: Peer) -> None:
    done = signed_in(peer, "es384-opaque")
    told = done.client.exchange(done.answered["code"], done.verifier, done.nonce)
    tokens = peer.tokens(introspecting=True)
    assert told.refresh_token
    assert tokens.check(told.access_token)
    assert tokens.check(told.refresh_token) is None


def test_an_id_token_is_no_access_token(peer: Peer) -> None:
    done = signed_in(peer)
    told = done.client.exchange(done.answered["code"], done.verifier, done.nonce)
    assert told.id_token
    assert peer.tokens(introspecting=True).check(told.id_token) is None
    assert peer.tokens(introspecting=False, audience="es384-jwt").check(told.id_token) is None


def test_the_request_is_what_the_server_understands(peer: Peer) -> None:
    url = peer.client("es384-jwt").authorization_request(
        "s", launch="l", scopes=["openid"], verifier="v" * 43, nonce="n"
    )
    assert parse_qs(urlsplit(url).query)["aud"] == [f"{peer.issuer}/fhir"]
