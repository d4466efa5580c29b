"""Each rule that SMART App Launch 2.2 has for an app, shown over HTTP between radcds and an EHR."""

import base64
import hashlib
import json
import re
import socket
import ssl
import threading
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from beside_ehr import READER, SCOPES, Beside, beside_ehr
from flask import request

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.errors import PeerUnavailable
from cds_server.network import Role, SmartRegistration

READS = ["patient/Patient.r", "patient/ImagingStudy.r", "patient/DiagnosticReport.r"]
WHO = ["openid", "fhirUser", "online_access", "user/Practitioner.r"]
SCOPE = re.compile(
    r"openid|fhirUser|online_access|launch(?:/[a-z]+)?"
    r"|(?:patient|user|system)/(?:\*|[A-Z][A-Za-z]+)\.c?r?u?d?s?(?:\?[^=&]+=[^=&]+(?:&[^=&]+=[^=&]+)*)?"
)
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass
class Seen:
    """A request that came to the EHR."""

    method: str
    path: str
    query: dict[str, list[str]]
    form: dict[str, str]
    headers: dict[str, str]


@dataclass
class Browser:
    """As much of a browser as a launch needs. It keeps secure cookies on loopback too."""

    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    def get(self, url: str) -> httpx.Response:
        kept = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Sec-Fetch-Dest": "document"} | ({"Cookie": kept} if kept else {})
        answer = httpx.get(url, headers=headers, timeout=30)
        for each in answer.headers.get_list("Set-Cookie"):
            name, _, value = each.partition(";")[0].partition("=")
            self.cookies[name] = value
            self.set_cookies.append(each)
        self.bodies.append(answer.text)
        return answer

    def asked(self, launch_url: str) -> dict[str, list[str]]:
        """Begin a launch and give the parameters of the authorisation request."""
        return parse_qs(urlsplit(self.get(launch_url).headers["Location"]).query)

    def answered(self, launch_url: str) -> str:
        """Begin a launch and give the address that the EHR sends the browser back to."""
        return str(self.get(self.get(launch_url).headers["Location"]).headers["Location"])

    def launched(self, launch_url: str) -> httpx.Response:
        return self.get(self.answered(launch_url))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Beside]:
    with beside_ehr(tmp_path) as both:
        yield both


def watched(both: Beside) -> list[Seen]:
    """Note every request to the EHR from now on."""
    seen: list[Seen] = []

    @both.ehr.app.before_request
    def watch() -> None:
        seen.append(
            Seen(
                request.method,
                request.path,
                dict(request.args.lists()),
                dict(request.form),
                dict(request.headers),
            )
        )

    return seen


def segment(token: str, number: int) -> dict[str, Any]:
    part = token.split(".")[number]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


# --- the authorisation request


def test_an_ehr_launch_asks_with_what_the_ehr_gave(both: Beside) -> None:
    launch = both.ehr.new_launch(patient="p1", user=READER)
    asked = Browser().asked(both.ehr.launch_url(launch))
    assert asked["launch"] == [launch]
    assert asked["aud"] == [both.ehr.fhir_base_url]
    assert asked["response_type"] == ["code"]
    assert asked["client_id"] == ["radcds"]
    assert not {"max_age", "auth_time"} & set(asked)


def test_the_addresses_to_register_never_change(both: Beside) -> None:
    base, registered = both.radcds.base_url, both.ehr._office.registration
    assert registered.launch_url == f"{base}/launch"
    urls = [both.launch_url("p1"), both.launch_url("p2"), f"{base}/sign-in/0?patient=choose"]
    asked = [Browser().asked(url)["redirect_uri"] for url in urls]
    assert asked == [list(registered.redirect_uris)] * 3 == [[f"{base}/callback"]] * 3


def test_every_request_has_a_state_that_nobody_guesses(both: Beside) -> None:
    url = both.launch_url()
    states = [Browser().asked(url)["state"][0] for _ in range(20)]
    assert len(set(states)) == 20
    for state in states:
        assert BASE64URL.fullmatch(state)
        assert len(state) * 6 >= 122
    assert max(len({state[at] for state in states}) for at in range(20)) > 5
    assert min(len({state[at] for state in states}) for at in range(20)) > 1


def test_every_request_is_protected_by_a_challenge_of_its_own(both: Beside) -> None:
    url = both.launch_url()
    asked = [Browser().asked(url) for _ in range(2)]
    assert [each["code_challenge_method"] for each in asked] == [["S256"]] * 2
    challenges = [each["code_challenge"][0] for each in asked]
    assert len(set(challenges)) == 2
    assert all(len(each) == 43 and BASE64URL.fullmatch(each) for each in challenges)


def test_an_ehr_launch_asks_for_reading_and_for_who_signs_in(both: Beside) -> None:
    scopes = Browser().asked(both.launch_url())["scope"][0].split(" ")
    assert sorted(scopes) == sorted([*WHO, *READS, "launch"])
    assert all(SCOPE.fullmatch(each) for each in scopes)
    assert all(set(each.split(".")[1]) <= set("rs") for each in scopes if "." in each)


def test_a_standalone_launch_asks_for_the_context_that_it_lacks(both: Beside) -> None:
    asked = Browser().asked(f"{both.radcds.base_url}/sign-in/0?patient=choose")
    assert "launch" not in asked
    scopes = asked["scope"][0].split(" ")
    context = ["launch/patient", "launch/imagingstudy", "launch/diagnosticreport"]
    assert sorted(scopes) == sorted([*WHO, *READS, *context])
    assert all(SCOPE.fullmatch(each) for each in scopes)
    without = Browser().asked(f"{both.radcds.base_url}/sign-in/0")["scope"][0].split(" ")
    assert sorted(without) == sorted(WHO)


# --- the answer to it


def altered(answered: str, **changes: str | None) -> str:
    """Give the address with other parameters; ``None`` leaves one out."""
    parts = urlsplit(answered)
    kept = {name: value[0] for name, value in parse_qs(parts.query).items()} | changes
    query = urlencode({name: value for name, value in kept.items() if value is not None})
    return parts._replace(query=query).geturl()


@pytest.mark.parametrize("state", ["x" * 43, "", None])
def test_an_answer_with_another_state_signs_nobody_in(both: Beside, state: str | None) -> None:
    seen, browser = watched(both), Browser()
    answered = browser.answered(both.launch_url())
    pending = set(browser.cookies)
    answer = browser.get(altered(answered, state=state))
    assert "Location" not in answer.headers
    assert set(browser.cookies) == pending
    assert [each.path for each in seen if each.path == "/token"] == []
    assert "110122" not in both.recorded()


def test_an_answer_in_another_browser_signs_nobody_in(both: Beside) -> None:
    seen = watched(both)
    answered = Browser().answered(both.launch_url())
    for other in (Browser(), Browser()):
        name = f"__Host-radcds-launch-{parse_qs(urlsplit(answered).query)['state'][0][:16]}"
        assert "Location" not in other.get(answered).headers
        other.cookies[name] = "a guess"
        assert "Location" not in other.get(answered).headers
        assert not any(each.startswith("/app/") for each in other.bodies)
    assert [each.path for each in seen if each.path == "/token"] == []
    assert "110122" not in both.recorded()


def test_an_answer_is_good_once_in_the_browser_that_began(both: Beside) -> None:
    browser = Browser()
    answered = browser.answered(both.launch_url())
    pending = dict(browser.cookies)
    assert browser.get(answered).headers["Location"].startswith("/app/")
    again = Browser(pending)
    assert again.get(answered).status_code == 403
    assert again.set_cookies == []
    assert both.recorded().count("110122") == 1


@pytest.mark.parametrize(
    "more",
    [
        {"redirect_uri": "https://evil.example.org/"},
        {"next": "https://evil.example.org/", "url": "//evil.example.org"},
        {"study": "//evil.example.org/aaaaaaaaaaaaaaaaaaaaaaa"},
    ],
)
def test_what_comes_back_is_forwarded_to_no_other_address(
    both: Beside, more: dict[str, str]
) -> None:
    browser = Browser()
    location = browser.get(altered(browser.answered(both.launch_url()), **more)).headers["Location"]
    assert re.fullmatch(r"/app/[0-9a-f]{24}/worklist", location)


@pytest.mark.parametrize("iss", ["https://evil.example.org/fhir", "", "javascript:alert(1)"])
def test_a_launch_from_a_stranger_leads_nowhere(both: Beside, iss: str) -> None:
    seen = watched(both)
    query = urlencode({"iss": iss, "launch": "x"})
    answer = Browser().get(f"{both.radcds.base_url}/launch?{query}")
    assert answer.status_code == 403
    assert "Location" not in answer.headers
    assert "evil" not in answer.text
    assert seen == []


EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "path",
    [
        f"/launch?iss={EVIL}&launch={EVIL}",
        f"/callback?state={EVIL}&code={EVIL}&error={EVIL}",
        f"/sign-in?study={EVIL}",
        f"/studies/{EVIL}",
        f"/app/{EVIL}/worklist",
    ],
)
def test_what_a_user_supplies_is_never_run(both: Beside, path: str) -> None:
    answer = Browser().get(f"{both.radcds.base_url}{path}")
    assert "alert(1)" not in answer.text
    policy = dict(
        each.strip().split(" ", 1) for each in answer.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"


# --- tokens


def test_no_token_reaches_the_browser(both: Beside) -> None:
    browser = Browser()
    both.add("urgent")
    home = browser.launched(both.launch_url()).headers["Location"]
    page = browser.get(f"{both.radcds.base_url}{home}")
    assert page.status_code == 200
    ledger = both.ehr._office.ledger
    tokens = [*ledger.access, *ledger.refresh]
    assert len(tokens) == 2
    for token in tokens:
        assert token not in "".join([*browser.set_cookies, *browser.bodies, *browser.cookies])
    for cookie in browser.set_cookies:
        assert cookie.startswith("__Host-radcds-")
        assert {"Secure", "HttpOnly"} <= set(cookie.split("; "))


def test_the_token_request_is_a_form_with_an_assertion(both: Beside) -> None:
    seen, browser = watched(both), Browser()
    location = browser.get(both.launch_url()).headers["Location"]
    asked = parse_qs(urlsplit(location).query)
    answered = str(browser.get(location).headers["Location"])
    browser.get(answered)
    (token,) = [each for each in seen if each.path == "/token"]
    assert token.method == "POST"
    assert token.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert token.query == {}
    assert "Authorization" not in token.headers
    assert set(token.form) == {
        *("grant_type", "code", "redirect_uri", "code_verifier"),
        *("client_assertion_type", "client_assertion"),
    }
    assert token.form["grant_type"] == "authorization_code"
    assert token.form["code"] == parse_qs(urlsplit(answered).query)["code"][0]
    assert token.form["redirect_uri"] == asked["redirect_uri"][0]
    digest = hashlib.sha256(token.form["code_verifier"].encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert asked["code_challenge"] == [challenge]
    assert both.ehr.violations == []


def test_records_are_read_with_the_token_as_bearer_and_nothing_else(both: Beside) -> None:
    seen = watched(both)
    Browser().launched(both.launch_url(fhir_context=[{"reference": "ImagingStudy/s0"}]))
    reads = [each for each in seen if re.match(r"/fhir/[A-Z]", each.path)]
    assert {each.path for each in reads} == {
        *("/fhir/Patient/p1", f"/fhir/{READER}", "/fhir/ImagingStudy/s0")
    }
    (token,) = both.ehr._office.ledger.access
    for each in reads:
        assert each.headers["Authorization"] == f"Bearer {token}"
        assert token not in str(each.query)
    assert both.ehr.violations == []


def test_the_person_is_read_from_the_fhir_endpoint(both: Beside) -> None:
    seen, browser = watched(both), Browser()
    home = browser.launched(both.launch_url()).headers["Location"]
    page = browser.get(f"{both.radcds.base_url}{home}")
    assert "Test READER" in page.text
    assert [each.path for each in seen].count(f"/fhir/{READER}") == 1


def test_less_than_was_asked_is_told_in_words(both: Beside) -> None:
    both.ehr.faults.add("fewer-scopes")
    browser = Browser()
    answer = browser.launched(both.launch_url())
    assert answer.status_code == 403
    assert "did not allow radcds to read the patient" in answer.text
    assert "110122" not in both.recorded()


def test_a_refresh_asks_for_no_scope(both: Beside) -> None:
    seen = watched(both)
    Browser().launched(both.launch_url())
    (used,) = both.ehr._office.ledger.refresh
    told = smart_client(both).refresh(used)
    assert told.refresh_token not in {None, used}
    form = [each for each in seen if each.path == "/token"][-1].form
    assert set(form) == {
        *("grant_type", "refresh_token", "client_assertion_type", "client_assertion")
    }
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", used)
    assert both.ehr.violations == []


def smart_client(both: Beside) -> Any:
    return both.serving.sessions._smart[both.ehr.fhir_base_url]


# --- the keys of the client


def test_the_registered_key_set_is_public_and_holds_bare_public_keys(both: Beside) -> None:
    url = both.ehr._office.registration.jwks_url
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "max-age" in answer.headers["Cache-Control"]
    keys = answer.json()["keys"]
    assert {(key["kty"], key["alg"]) for key in keys} == {("EC", "ES384"), ("RSA", "RS384")}
    assert len({key["kid"] for key in keys}) == len(keys)
    material = {"EC": {"crv", "x", "y"}, "RSA": {"n", "e"}}
    for key in keys:
        assert set(key) == {"kty", "kid", "use", "alg"} | material[key["kty"]]
        for name in material[key["kty"]] - {"crv"}:
            assert BASE64URL.fullmatch(key[name])


def test_an_assertion_names_the_registered_keys_and_client(both: Beside) -> None:
    seen = watched(both)
    Browser().launched(both.launch_url())
    (token,) = [each for each in seen if each.path == "/token"]
    header, claims = (segment(token.form["client_assertion"], number) for number in (0, 1))
    registered = both.ehr._office.registration
    published = {key["kid"]: key["alg"] for key in httpx.get(registered.jwks_url).json()["keys"]}
    assert header["jku"] == registered.jwks_url
    assert published[header["kid"]] == header["alg"]
    assert header["typ"] == "JWT"
    assert claims["iss"] == claims["sub"] == registered.client_id
    assert claims["aud"] == f"{both.address}/token"
    assert claims["exp"] - claims["iat"] <= 300
    assert uuid.UUID(claims["jti"])
    assert both.ehr.violations == []


# --- backend services


def test_the_server_gets_a_token_of_its_own_and_reads_with_it(tmp_path: Path) -> None:
    scopes = ("system/ImagingStudy.rs", "system/Patient.r")
    smart = SmartRegistration("radcds", default_role=Role.CLINICIAN, backend_scopes=scopes)
    with beside_ehr(tmp_path, smart=smart) as both:
        seen = watched(both)
        both.add("urgent")
        url = f"{both.radcds.base_url}/cds-services/radcds-patient-view"
        body = {
            "hook": "patient-view",
            "hookInstance": str(uuid.uuid4()),
            "context": {"userId": READER, "patientId": "p1"},
            "fhirServer": both.ehr.fhir_base_url,
        }
        bearer = {"Authorization": f"Bearer {both.ehr.cds_token(url)}"}
        assert len(httpx.post(url, json=body, headers=bearer).json()["cards"]) == 1
        (issued,) = both.ehr._office.ledger.access
        assert both.ehr.violations == []
    (discovery,) = [each for each in seen if each.path.endswith("smart-configuration")]
    assert (discovery.method, discovery.headers["Accept"]) == ("GET", "application/json")
    (token,) = [each for each in seen if each.path == "/token"]
    assert token.method == "POST"
    assert token.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assertion = token.form.pop("client_assertion")
    assert token.form == {
        "grant_type": "client_credentials",
        "scope": " ".join(scopes),
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert segment(assertion, 1)["iss"] == "radcds"
    reads = [each for each in seen if re.match(r"/fhir/[A-Z]", each.path)]
    assert len(reads) == 2
    assert {each.headers["Authorization"] for each in reads} == {f"Bearer {issued}"}


def test_the_server_takes_its_own_token_to_no_other_server(tmp_path: Path) -> None:
    smart = SmartRegistration("radcds", backend_scopes=("system/ImagingStudy.rs",))
    with beside_ehr(tmp_path, smart=smart) as both, socket.create_server(("127.0.0.1", 0)) as other:
        seen = watched(both)
        both.add("urgent")
        foreign = f"http://127.0.0.1:{other.getsockname()[1]}/fhir/ImagingStudy?page=2"
        bundle = {"resourceType": "Bundle", "type": "searchset"}
        paged = {**bundle, "link": [{"relation": "next", "url": foreign}]}
        patient = next(each for each in both.records if each["id"] == "p1")
        url = f"{both.radcds.base_url}/cds-services/radcds-patient-view"
        body = {
            "hook": "patient-view",
            "hookInstance": str(uuid.uuid4()),
            "context": {"userId": READER, "patientId": "p1"},
            "fhirServer": both.ehr.fhir_base_url,
            "prefetch": {"patient": patient, "studies": paged},
        }
        bearer = {"Authorization": f"Bearer {both.ehr.cds_token(url)}"}
        assert len(httpx.post(url, json=body, headers=bearer).json()["cards"]) == 1
        assert [each.path for each in seen].count("/token") == 1
        other.settimeout(0.2)
        with pytest.raises(TimeoutError):
            other.accept()


# --- TLS


def refusal_of(version: ssl.TLSVersion) -> str | None:
    """Say why a server that speaks at most one version of TLS was left at the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
    told: list[str | None] = []

    def serve() -> None:
        peer, _ = listener.accept()
        try:
            context.wrap_socket(peer, server_side=True)
        except ssl.SSLError as error:
            told.append(error.reason)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(PeerUnavailable):
            BoundedHttp().get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    return told[0]


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    assert refusal_of(ssl.TLSVersion.TLSv1_1) == "UNSUPPORTED_PROTOCOL"
    assert refusal_of(ssl.TLSVersion.TLSv1_2) != "UNSUPPORTED_PROTOCOL"


def test_what_is_registered_covers_what_is_asked(both: Beside) -> None:
    for url in (both.launch_url(), f"{both.radcds.base_url}/sign-in/0?patient=choose"):
        assert set(Browser().asked(url)["scope"][0].split(" ")) <= SCOPES
