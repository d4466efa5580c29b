"""A SMART launch over HTTP between radcds and a strict EHR: who gets in, and who does not."""

import dataclasses
import html
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from logging import INFO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urljoin, urlsplit

import httpx
import pytest
from beside_ehr import NURSE, READER, SCOPES, Beside, beside_ehr
from serving import TOKEN
from standing_clock import StandingClock
from structlog.testing import capture_logs
from studies import chest_study
from studies import site as example_site

from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_schema import open_engine
from cds_server.adapters.sql_session_store import SqlSessionStore
from cds_server.errors import PeerUnavailable
from cds_server.network import Ehr, Network, Role, SmartRegistration
from cds_server.session import Session
from cds_server.sessions import Limits, Person, Sessions
from fhir_mappers.study import PersonName
from mock_ehr.ledger import FAULTS
from mock_ehr.records import Resource, diagnostic_report
from mock_ehr.signing_keys import SigningKeys

PATIENT = chest_study().patient
OTHER = dataclasses.replace(PATIENT, patient_id="MRN 999", name=PersonName("TEST", "SECOND"))
OF_A_PATIENT = ("PATIENT TEST", "SECOND", "MRN 123456", "MRN 999", "1970-01-01", "ACC1001")
SIGN_IN, SIGN_OUT = "110122", "110123"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
IN_A_TAB = {"Sec-Fetch-Dest": "document"}
THIRD = Ehr(
    "Third EHR",
    "https://third.example.org/fhir",
    smart=SmartRegistration("radcds"),
    frame_ancestors=("https://third.example.org",),
)


@cache
def keys() -> SigningKeys:
    """The EHR's keys: making them takes longer than a launch."""
    return SigningKeys()


class MovingClock:
    """The time, which a test moves forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC) + self.ahead

    def seconds(self) -> float:
        return self.now().timestamp()


class Browser:
    """One browser: its cookies are kept, and its redirects followed, by hand."""

    def __init__(self, base: str, *, keeps_cookies: bool = True) -> None:
        self.base = base
        self.keeps_cookies = keeps_cookies
        self.cookies: dict[str, str] = {}
        self.given: list[str] = []
        self.seen: list[httpx.Response] = []

    def ask(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        own = url.startswith(("/", f"{self.base}/"))
        sent = dict(headers or {})
        if own and self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        address = f"{self.base}{url}" if own and url.startswith("/") else url
        answer = httpx.request(method, address, headers=sent, timeout=10, trust_env=False, **more)
        if own:
            self.seen.append(answer)
            for each in answer.headers.get_list("set-cookie"):
                self.given.append(each)
                self._keep(each)
        return answer

    def _keep(self, given: str) -> None:
        name, _, value = given.partition(";")[0].partition("=")
        if not self.keeps_cookies:
            return
        self.cookies.pop(name, None)
        if "Max-Age=0" not in given:
            self.cookies[name] = value

    def post(self, url: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        return self.ask(url, "POST", {"Origin": self.base, **headers}, data=dict(form))

    def follow(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            answer = self.ask(urljoin(str(answer.url), answer.headers["location"]))
        return answer

    def launch(self, url: str) -> httpx.Response:
        return self.follow(self.ask(url, headers=IN_A_TAB))

    def stops_at_callback(self, url: str) -> str:
        """Go as far as the address with the EHR's answer."""
        answer = self.ask(url, headers=IN_A_TAB)
        while answer.is_redirect:
            url = urljoin(str(answer.url), answer.headers["location"])
            if url.startswith(f"{self.base}/callback"):
                return url
            answer = self.ask(url)
        return answer.text

    def chooses(self, url: str, **choice: str) -> httpx.Response:
        """Sign in standalone: the EHR asks the person who they are, and whether to allow it."""
        page = self.launch(url)
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
        form = {name: html.unescape(value) for name, value in hidden}
        address = str(page.url).partition("?")[0]
        return self.follow(self.ask(address, "POST", data={**form, "decision": "allow", **choice}))

    @property
    def handles(self) -> list[str]:
        prefix = "__Host-radcds-"
        names = [each for each in self.cookies if not each.startswith(f"{prefix}launch-")]
        return [each.removeprefix(prefix) for each in names]


class World(Beside):
    """Both servers, the clock of both, and whatever left radcds."""

    clock: MovingClock
    logs: list[Any]
    asked: list[str]
    broken: list[str]
    browsers: list[Browser]

    def browser(self, *, keeps_cookies: bool = True) -> Browser:
        made = Browser(self.radcds.base_url, keeps_cookies=keeps_cookies)
        self.browsers.append(made)
        return made

    @property
    def ledger(self) -> Any:
        return self.ehr._office.ledger

    def nobody_is_signed_in(self) -> bool:
        return SIGN_IN not in self.recorded() and not self.serving.session_store.sessions

    def secrets(self) -> set[str]:
        ledger = self.ledger
        return {*ledger.access, *ledger.refresh, *ledger.spent, *ledger.codes}


@contextmanager
def world_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[World]:
    clock = MovingClock()
    monkeypatch.setattr("beside_ehr.SystemClock", lambda: clock)
    monkeypatch.setattr("beside_ehr.Beside", World)
    monkeypatch.setattr("mock_ehr.server.SigningKeys", keys)
    with capture_logs() as logs, beside_ehr(folder, **options) as both:
        assert isinstance(both, World)
        both.clock, both.logs, both.asked, both.broken, both.browsers = clock, logs, [], [], []
        both.ledger.clock = clock.seconds

        def watched(environ: Any, start: Any) -> Any:
            both.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            return both.ehr.app(environ, start)

        both.office._server.app = watched
        yield both
        assert both.ehr.violations == both.broken


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    """Whatever a test does: no token leaves radcds, in a page, a cookie, a log or an audit leaf."""
    with caplog.at_level(INFO), world_of(tmp_path, monkeypatch) as both:
        yield both
        answers = [answer for browser in both.browsers for answer in browser.seen]
        told = [f"{answer.headers} {answer.text}" for answer in answers]
        own_log = [each.getMessage() for each in caplog.records if each.name != "httpx"]
        left = "\n".join(
            [*told, repr(both.logs), *own_log, *(map(bytes.decode, both.serving.trail.recorded))]
        )
        for secret in both.secrets():
            assert secret not in left


def detailed(leaf: bytes) -> dict[str, Any]:
    return json.loads(leaf)  # type: ignore[no-any-return]


def says_nothing_of_a_patient(answer: httpx.Response) -> bool:
    return not any(word in answer.text for word in OF_A_PATIENT)


def is_a_page_in_words(answer: httpx.Response) -> bool:
    readable = answer.headers["content-type"] == "text/html; charset=utf-8"
    return readable and "<h1>" in answer.text and "Traceback" not in answer.text


def ancestors(answer: httpx.Response) -> str:
    return answer.headers["content-security-policy"].rpartition("frame-ancestors ")[2]


# --- Getting in


def test_a_launch_signs_the_reader_in_for_the_patient_who_is_open(world: World) -> None:
    study = world.add("urgent")
    browser = world.browser()
    page = browser.launch(world.launch_url())
    (handle,) = browser.handles
    assert page.status_code == 200
    assert str(page.url) == f"{world.radcds.base_url}/app/{handle}/worklist"
    assert study in page.text
    assert "Test READER" in page.text
    assert world.recorded()[:2] == [SIGN_IN, "search"]
    leaf = detailed(world.serving.trail.recorded[0])
    who = [agent["who"]["identifier"]["value"] for agent in leaf["agent"]]
    assert READER in who
    assert world.ehr.fhir_base_url in who
    assert {"type": "patient-context", "valueString": "Patient/p1"} in leaf["entity"][0]["detail"]


def test_a_launch_asks_for_no_more_than_it_needs_and_proves_possession(world: World) -> None:
    answer = world.browser().ask(world.launch_url(), headers=IN_A_TAB)
    asked = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert asked["aud"] == world.ehr.fhir_base_url
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{world.radcds.base_url}/callback"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    scopes = asked["scope"].split()
    assert {"launch", "openid", "fhirUser", "patient/Patient.r"} <= set(scopes)
    assert not any("*" in scope or scope.endswith((".c", ".u", ".d")) for scope in scopes)


def test_the_study_of_the_card_is_opened(world: World) -> None:
    studies = [world.add(name, number) for number, name in enumerate(("urgent", "flagged"))]
    for study in studies:
        page = world.browser().launch(world.launch_url(app_context=study))
        assert page.status_code == 200
        assert page.url.path.endswith(f"/studies/{study}")


@pytest.mark.parametrize("context", ["ImagingStudy/s0", "DiagnosticReport/d0"])
def test_the_study_in_the_context_of_the_launch_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str
) -> None:
    report: Resource = diagnostic_report("d0", patient_id="p1", effective="2026", conclusion="-")
    report["imagingStudy"] = [{"reference": "ImagingStudy/s0"}, {"display": "on paper"}]
    with world_of(tmp_path, monkeypatch, more=[report]) as world:
        study = world.add("flagged")
        world.add("urgent", 1)
        launched = world.launch_url(fhir_context=[{"reference": context}])
        page = world.browser().launch(launched)
        assert page.url.path.endswith(f"/studies/{study}")


NO_STUDIES_HERE = [
    "ImagingStudy/../Patient/p2",
    "ImagingStudy/s0/_history/1",
    "ImagingStudy/s0?patient=p2",
    "https://elsewhere.example.org/fhir/ImagingStudy/s0",
    7,
    None,
]


def test_a_report_that_refers_to_no_study_of_this_ehr_opens_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report: Resource = diagnostic_report("d0", patient_id="p1", effective="2026", conclusion="-")
    with world_of(tmp_path, monkeypatch, more=[report]) as world:
        world.add("flagged")
        for reference in NO_STUDIES_HERE:
            report["imagingStudy"] = [{"reference": reference}, "nonsense"]
            launched = world.launch_url(fhir_context=[{"reference": "DiagnosticReport/d0"}])
            page = world.browser().launch(launched)
            assert page.status_code == 200, reference
            assert page.url.path.endswith("/worklist")
        assert [each for each in world.asked if "ImagingStudy" in each] == []


def test_a_launch_never_opens_what_is_not_of_its_patient(world: World) -> None:
    others = world.add("urgent", 1, patient=OTHER)
    for context in (others, "https://evil.example.org", "//evil.example.org", "../../", "0"):
        page = world.browser().launch(world.launch_url(app_context=context))
        assert page.status_code == 200, context
        assert page.url.path.endswith("/worklist")
        assert str(page.url).startswith(world.radcds.base_url)
        assert says_nothing_of_a_patient(page)


def test_a_study_that_the_ehr_ascribes_to_the_wrong_patient_is_not_opened(world: World) -> None:
    world.add("urgent", 0, patient=OTHER)
    launched = world.launch_url(fhir_context=[{"reference": "ImagingStudy/s0"}])
    page = world.browser().launch(launched)
    assert page.url.path.endswith("/worklist")
    assert says_nothing_of_a_patient(page)


def test_a_radiologist_signs_in_without_a_patient_and_sees_the_worklist(world: World) -> None:
    studies = [world.add("urgent", 0), world.add("flagged", 1, patient=OTHER)]
    page = world.browser().chooses("/sign-in/0", chosen_user=READER)
    assert page.status_code == 200
    assert page.url.path.endswith("/worklist")
    assert all(study in page.text for study in studies)


def test_a_radiologist_chooses_a_patient_and_sees_that_patient_alone(world: World) -> None:
    own, other = world.add("urgent", 0), world.add("flagged", 1, patient=OTHER)
    page = world.browser().chooses(
        "/sign-in/0?patient=choose", chosen_user=READER, chosen_patient="p2"
    )
    assert page.status_code == 200
    assert other in page.text
    assert own not in page.text


def test_a_study_asked_for_before_signing_in_is_opened_afterwards(world: World) -> None:
    study = world.add("urgent")
    browser = world.browser()
    choice = browser.follow(browser.ask(f"/studies/{study}"))
    (way, *_) = re.findall(r'href="(/sign-in/0[^"]*)"', choice.text)
    page = browser.chooses(html.unescape(way), chosen_user=READER)
    assert page.url.path.endswith(f"/studies/{study}")
    assert browser.follow(browser.ask(f"/studies/{study}")).url == page.url


def test_a_nurse_without_a_patient_is_told_to_open_one(world: World) -> None:
    world.add("urgent")
    page = world.browser().chooses("/sign-in/0", chosen_user=NURSE)
    assert page.status_code == 403
    assert "Open radcds from the record of a patient" in page.text
    assert is_a_page_in_words(page)
    assert world.nobody_is_signed_in()


def test_a_nurse_with_a_patient_sees_that_patient(world: World) -> None:
    own, other = world.add("urgent", 0), world.add("flagged", 1, patient=OTHER)
    page = world.browser().launch(world.launch_url(user=NURSE))
    assert own in page.text
    assert other not in page.text


@pytest.mark.parametrize("user", ["Patient/p1", "RelatedPerson/r1"])
def test_patients_and_their_relatives_are_not_let_in(world: World, user: str) -> None:
    world.add("urgent")
    page = world.browser().launch(world.launch_url(user=user))
    assert page.status_code == 403
    assert "for clinical staff" in page.text
    assert world.nobody_is_signed_in()


def test_somebody_whom_the_ehr_does_not_call_staff_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``fhirUser``, a patient at a portal and a nurse look alike."""
    monkeypatch.setattr("beside_ehr.SCOPES", SCOPES - {"fhirUser", "user/Practitioner.r"})
    with world_of(tmp_path, monkeypatch) as world:
        world.add("urgent")
        page = world.browser().launch(world.launch_url())
        assert page.status_code == 403
        assert is_a_page_in_words(page)
        assert world.nobody_is_signed_in()


def test_where_nobody_else_has_a_role_a_stranger_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = SmartRegistration("radcds", roles={READER: Role.RADIOLOGIST}, default_role=None)
    with world_of(tmp_path, monkeypatch, smart=known) as world:
        assert world.browser().launch(world.launch_url(user=READER)).status_code == 200
        page = world.browser().launch(world.launch_url(user=NURSE))
        assert page.status_code == 403
        assert "has no role in radcds" in page.text


# --- Which EHR


def test_an_ehr_that_is_not_registered_is_not_asked_anything(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        iss = f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"
        page = world.browser().ask(f"/launch?{urlencode({'iss': iss, 'launch': 'x'})}")
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert page.status_code == 403
    assert "not registered with radcds" in page.text
    assert is_a_page_in_words(page)
    assert iss not in page.text
    assert ancestors(page) == "'none'"
    assert world.asked == []
    assert world.serving.session_store.launches == {}
    assert world.browsers[0].given == []


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_trailing_slash_makes_no_other_ehr(world: World, slash: str) -> None:
    launch = world.ehr.new_launch(patient="p1", user=READER)
    query = urlencode({"iss": f"{world.ehr.fhir_base_url}{slash}", "launch": launch})
    assert world.browser().launch(f"/launch?{query}").status_code == 200


TRICKS: list[Callable[[str], str]] = [
    lambda base: base[:0],
    lambda base: f"{base}/../fhir",
    lambda base: f"{base}/Patient",
    lambda base: f"{base}?x=1",
    lambda base: f"{base}#x",
    lambda base: base.removesuffix("/fhir"),
    lambda base: base.replace("/fhir", "/FHIR"),
    lambda base: base.replace("/fhir", "//fhir"),
    lambda base: base.replace("/fhir", "/%66hir"),
    lambda base: base.replace("http://", "http://user:password@"),
    lambda base: base.replace("http://127.0.0.1", "http://127.0.0.1:1@127.0.0.1"),
    lambda base: base.replace("http://127.0.0.1", "http://127.0.0.1.evil.example.org"),
    lambda base: base.replace("127.0.0.1", "127.1"),
    lambda base: base.replace("127.0.0.1", "localhost"),
    lambda base: re.sub(r":\d+/", ":1/", base),
    lambda base: base.replace("http://", "https://"),
    lambda base: base.replace("http://", "HTTP://"),
    lambda base: base.replace("http://", "//"),
    lambda base: f" {base}",
    lambda base: f"{base} ",
    lambda base: f"{base}\x00",
    lambda base: f"{base}\r\nX: y",
    lambda base: f"{base}\\",
]


def test_no_trick_with_the_address_makes_a_stranger_an_ehr(world: World) -> None:
    for trick in TRICKS:
        iss = trick(world.ehr.fhir_base_url)
        page = world.browser().ask(f"/launch?{urlencode({'iss': iss, 'launch': 'x'})}")
        assert page.status_code == 403, iss
        assert is_a_page_in_words(page)
    assert world.asked == []


def test_there_is_no_way_in_for_an_ehr_that_is_not_there(world: World) -> None:
    assert world.browser().ask("/sign-in/1").status_code == 404
    assert world.browser().ask("/sign-in/99999999999999999999").status_code == 404
    assert world.browser().ask("/sign-in/-1").status_code == 404


# --- Which browser, and when


def test_an_answer_is_good_for_one_sign_in(world: World) -> None:
    browser = world.browser()
    callback = browser.stops_at_callback(world.launch_url())
    kept = dict(browser.cookies)
    assert browser.ask(callback).status_code == 303
    browser.cookies.update(kept)
    again = browser.ask(callback)
    assert again.status_code == 403
    assert "used already" in again.text
    assert is_a_page_in_words(again)
    assert world.recorded().count(SIGN_IN) == 1


def test_a_state_that_radcds_did_not_give_signs_nobody_in(world: World) -> None:
    browser = world.browser()
    page = browser.ask("/callback?state=made-up&code=x")
    assert page.status_code == 200
    assert "Signing in" in page.text
    told = browser.post("/callback", {"state": "made-up", "code": "x", "binder": "y"})
    assert told.status_code == 403
    assert "not begun in this window" in told.json()["says"]
    assert world.nobody_is_signed_in()
    assert world.asked == []


@pytest.mark.parametrize("answer", [{}, {"state": ""}, {"code": "x"}, {"state": "\ud800"}])
def test_an_answer_without_a_state_signs_nobody_in(world: World, answer: dict[str, str]) -> None:
    query = "&".join(f"{k}={quote(v, errors='surrogatepass')}" for k, v in answer.items())
    assert world.browser().ask(f"/callback?{query}").status_code == 200
    headers = {"Origin": world.radcds.base_url, **FORM}
    told = world.browser().ask("/callback", "POST", headers, content=f"{query}&binder=x")
    assert told.status_code == 403


def test_a_sign_in_begun_in_one_browser_does_not_end_in_another(world: World) -> None:
    """Else an attacker could sign a radiologist in as somebody else."""
    attacker, victim = world.browser(), world.browser()
    callback = attacker.stops_at_callback(world.launch_url())
    page = victim.ask(callback)
    assert page.status_code == 200
    assert says_nothing_of_a_patient(page)
    victim.stops_at_callback(world.launch_url())
    state = parse_qs(urlsplit(callback).query)["state"][0]
    (own,) = victim.cookies.values()
    victim.cookies = {f"__Host-radcds-launch-{state[:16]}": own}
    refused = victim.ask(callback)
    assert refused.status_code == 403
    assert "not begun in this window" in refused.text
    assert world.nobody_is_signed_in()
    assert attacker.ask(callback).status_code == 403


def test_a_code_of_another_sign_in_is_refused(world: World) -> None:
    """A code that an attacker puts into a good answer proves nothing: PKCE, RFC 7636."""
    browser = world.browser()
    first = dict(parse_qsl(urlsplit(browser.stops_at_callback(world.launch_url("p1"))).query))
    other = dict(parse_qsl(urlsplit(browser.stops_at_callback(world.launch_url("p2"))).query))
    page = browser.ask(f"/callback?{urlencode({**first, 'code': other['code']})}")
    assert page.status_code == 403
    assert "refused access (invalid_grant)" in page.text
    assert world.nobody_is_signed_in()
    world.broken = list(world.ehr.violations)
    assert [rule for rule in world.broken if "code_verifier" not in rule] == []


@pytest.mark.parametrize(("minutes", "status"), [(9.9, 303), (10, 403), (60, 403)])
def test_a_sign_in_that_took_longer_than_ten_minutes_is_refused(
    world: World, minutes: float, status: int
) -> None:
    browser = world.browser()
    callback = browser.stops_at_callback(world.launch_url())
    world.ledger.codes = {
        value: dataclasses.replace(code, expires=code.expires + 7200)
        for value, code in world.ledger.codes.items()
    }
    world.clock.ahead += timedelta(minutes=minutes)
    answer = browser.ask(callback)
    assert answer.status_code == status
    if status == 403:
        assert "took too long" in answer.text
        assert world.nobody_is_signed_in()


@pytest.mark.parametrize("iss", [None, "", "https://evil.example.org", "the FHIR endpoint"])
def test_an_answer_of_another_authorisation_server_is_refused(
    world: World, iss: str | None
) -> None:
    """RFC 9207: ``iss`` is the authorisation server's name, not the FHIR endpoint's."""
    browser = world.browser()
    answer = dict(parse_qsl(urlsplit(browser.stops_at_callback(world.launch_url())).query))
    del answer["iss"]
    if iss is not None:
        answer["iss"] = world.ehr.fhir_base_url if iss.startswith("the") else iss
    page = browser.ask(f"/callback?{urlencode(answer)}")
    assert page.status_code == 403
    assert "does not come from Test EHR" in page.text
    assert "POST /token" not in world.asked
    assert world.nobody_is_signed_in()


def test_a_person_who_does_not_allow_it_is_told_how_to_go_on(world: World) -> None:
    page = world.browser().chooses("/sign-in/0", chosen_user=READER, decision="deny")
    assert page.status_code == 403
    assert "did not let you in" in page.text
    assert "Open radcds from the EHR again" in page.text
    assert world.nobody_is_signed_in()


# --- What an EHR may do wrong

REFUSED = {
    "wrong-nonce": (403, "it answers another sign-in"),
    "wrong-iss-parameter": (403, "does not come from Test EHR"),
    "id-token-other-audience": (403, "does not say credibly who signed in"),
    "id-token-unsigned": (403, "does not say credibly who signed in"),
    "no-id-token": (403, "does not say who signed in"),
    "fewer-scopes": (403, "grant patient/Patient.r"),
    "token-500": (502, "Another server is needed"),
    "slow-token": (502, "does not answer in time"),
    "fhir-500": (502, "answered 500"),
}
HARMLESS = {"foreign-next-link": "hooks", "refresh-fails": "later", "wrong-state": "on its own"}


def test_every_fault_of_the_ehr_is_tried() -> None:
    assert REFUSED.keys() | HARMLESS.keys() == FAULTS


@pytest.mark.parametrize("keeps_cookies", [1, 0])
@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_a_launch_that_the_ehr_spoils_is_a_page_in_words_and_no_session(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str, keeps_cookies: int
) -> None:
    world.add("urgent")
    monkeypatch.setattr("mock_ehr.token_endpoint.SLOW_SECONDS", 0.2)
    for smart in world.serving.sessions._smart.values():
        smart.configuration()
        if fault == "slow-token":
            monkeypatch.setattr(smart._http, "_timeout_s", 0.1)  # type: ignore[attr-defined]
    world.ehr.faults.add(fault)
    status, says = REFUSED[fault]
    browser = world.browser(keeps_cookies=bool(keeps_cookies))
    if keeps_cookies:
        answer = browser.launch(world.launch_url())
        assert is_a_page_in_words(answer)
        assert says in html.unescape(answer.text)
        assert ancestors(answer) == world.address
    else:
        answer = in_a_frame(browser, world.launch_url())
        assert says in answer.json()["says"]
    assert answer.status_code == status
    assert says_nothing_of_a_patient(answer)
    assert browser.handles == []
    assert world.nobody_is_signed_in()
    assert SIGN_OUT not in world.recorded()


def test_a_spoilt_state_signs_nobody_in(world: World) -> None:
    world.ehr.faults.add("wrong-state")
    browser = world.browser()
    page = browser.launch(world.launch_url())
    assert page.status_code == 200
    assert says_nothing_of_a_patient(page)
    answer = dict(parse_qsl(page.url.query.decode()))
    for binder in browser.cookies.values():
        told = browser.post("/callback", {**answer, "binder": binder})
        assert told.status_code == 403
    assert world.nobody_is_signed_in()
    assert "POST /token" not in world.asked


def test_a_slow_ehr_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mock_ehr.token_endpoint.SLOW_SECONDS", 0.1)
    world.ehr.faults.add("slow-token")
    assert world.browser().launch(world.launch_url()).status_code == 200


def test_an_ehr_that_is_down_is_named_and_no_launch_is_kept(world: World) -> None:
    launched = world.launch_url()
    world.office.stop()
    page = world.browser().ask(launched)
    assert page.status_code == 502
    assert is_a_page_in_words(page)
    assert ancestors(page) == world.address
    assert world.serving.session_store.launches == {}


@pytest.mark.parametrize(
    "missing",
    [
        {"patient/ImagingStudy.r"},
        {"patient/ImagingStudy.r", "patient/DiagnosticReport.r", "user/Practitioner.r"},
        {"online_access"},
    ],
)
@pytest.mark.parametrize("context", ["ImagingStudy/s0", "DiagnosticReport/d0"])
def test_fewer_scopes_mean_fewer_comforts_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: set[str], context: str
) -> None:
    assert missing <= SCOPES
    monkeypatch.setattr("beside_ehr.SCOPES", SCOPES - missing)
    report: Resource = diagnostic_report("d0", patient_id="p1", effective="2026", conclusion="-")
    report["imagingStudy"] = [{"reference": "ImagingStudy/s0"}]
    with world_of(tmp_path, monkeypatch, more=[report]) as world:
        study = world.add("urgent")
        page = world.browser().launch(world.launch_url(fhir_context=[{"reference": context}]))
        assert page.status_code == 200
        assert study in page.text
        opened = page.url.path.endswith(f"/studies/{study}")
        assert opened is ("patient/ImagingStudy.r" not in missing)


def test_without_leave_to_read_the_patient_nothing_can_be_matched_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beside_ehr.SCOPES", SCOPES - {"patient/Patient.r"})
    with world_of(tmp_path, monkeypatch) as world:
        world.add("urgent")
        page = world.browser().launch(world.launch_url())
        assert page.status_code == 403
        assert "grant patient/Patient.r" in page.text
        assert world.nobody_is_signed_in()


def test_an_ehr_that_answers_with_another_patient_is_not_believed(world: World) -> None:
    world.add("urgent")
    (first,) = (each for each in world.records if each["id"] == "p1")
    browser = world.browser()
    callback = browser.stops_at_callback(world.launch_url())
    read = world.ehr.store.read
    world.ehr.store.read = lambda kind, ident, grant: {  # type: ignore[method-assign]
        **read(kind, ident, grant),
        **({"id": "p2"} if kind == "Patient" else {}),
    }
    assert first["id"] == "p1"
    page = browser.ask(callback)
    assert page.status_code == 403
    assert "another patient than the one that is open" in page.text
    assert world.nobody_is_signed_in()


# --- Cookies and frames


def test_every_cookie_is_kept_from_scripts_other_sites_and_other_frames(world: World) -> None:
    browser = world.browser()
    browser.launch(world.launch_url())
    (handle,) = browser.handles
    browser.post(f"/app/{handle}/sign-out", {})
    assert len(browser.given) == 4
    for given in browser.given:
        name, *attributes = given.split("; ")
        assert name.startswith("__Host-radcds-")
        said = {each.partition("=")[0]: each.partition("=")[2] for each in attributes}
        assert said.keys() - {"Expires", "Max-Age"} == {
            "Secure",
            "HttpOnly",
            "SameSite",
            "Partitioned",
            "Path",
        }
        assert (said["SameSite"], said["Path"]) == ("None", "/")
    longest = [int(re.findall(r"Max-Age=(\d+)", given)[0]) for given in browser.given]
    assert sorted(longest) == [0, 0, 600, 3600]
    assert browser.cookies == {}


def test_only_the_ehr_of_the_session_may_frame_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_third(**values: Any) -> Network:
        return Network(**{**values, "ehrs": (*values["ehrs"], THIRD)})

    monkeypatch.setattr("beside_ehr.Network", with_third)
    with world_of(tmp_path, monkeypatch) as world:
        study = world.add("urgent")
        browser = world.browser()
        launched = world.launch_url()
        assert ancestors(browser.ask(launched)) == world.address
        page = browser.launch(launched)
        assert ancestors(page) == world.address
        base = str(page.url).removesuffix("/worklist")
        missing = "00000000-0000-4000-8000-000000000000"
        for path in ("worklist", f"studies/{study}", f"studies/{missing}", "worklist?state=odd"):
            assert ancestors(browser.ask(f"{base}/{path}")) == world.address
        for path in ("/sign-in", "/livez", "/static/radcds.css", "/nothing", "/fhir/metadata"):
            assert ancestors(browser.ask(path)) == "'none'"
        # Before the state is taken nobody knows whose launch it is; the page holds nothing.
        back = world.browser().ask("/callback?state=x&code=y")
        assert ancestors(back).split() == [world.address, "https://third.example.org"]
        assert ancestors(world.browser().ask("/launch?iss=https://evil.example.org")) == "'none'"


def test_a_local_session_is_framed_by_nobody(world: World) -> None:
    world.serving.local.token = TOKEN
    browser = world.browser()
    page = browser.follow(browser.post("/sign-in", {"token": TOKEN}))
    assert page.status_code == 200
    assert ancestors(page) == "'none'"


def test_the_page_that_brings_the_secret_can_be_shown_in_the_frame(world: World) -> None:
    browser = world.browser(keeps_cookies=False)
    told = in_a_frame(browser, world.launch_url()).json()
    shell = browser.ask(told["location"])
    assert shell.status_code == 401
    assert "data-shell" in shell.text
    assert ancestors(shell) == world.address


def in_a_frame(browser: Browser, url: str) -> httpx.Response:
    """Launch as ``launch.js`` does where a frame keeps no cookie."""
    page = browser.ask(url, headers={"Sec-Fetch-Dest": "iframe"})
    kept = dict(re.findall(r'data-(address|state|binder)="([^"]*)"', page.text))
    answer = browser.ask(html.unescape(kept["address"]))
    back = urljoin(str(answer.url), answer.headers["location"])
    page = browser.ask(back)
    assert page.status_code == 200
    assert 'id="returning"' in page.text
    assert says_nothing_of_a_patient(page)
    answered = dict(parse_qsl(urlsplit(back).query))
    return browser.post("/callback", {**answered, "binder": html.unescape(kept["binder"])})


def test_a_frame_without_cookies_gets_its_secret_by_script(world: World) -> None:
    study = world.add("urgent")
    browser = world.browser(keeps_cookies=False)
    told = in_a_frame(browser, world.launch_url(app_context=study))
    assert told.status_code == 200
    assert told.headers["content-type"] == "application/json"
    value = told.json()
    assert value.keys() == {"handle", "secret", "location"}
    assert value["location"] == f"/app/{value['handle']}/studies/{study}"
    assert told.headers.get("set-cookie") is None
    shell = browser.ask(value["location"])
    assert shell.status_code == 401
    assert says_nothing_of_a_patient(shell)
    shown = browser.ask(value["location"], headers=by_header(value))
    assert shown.status_code == 200
    assert "PATIENT TEST" in shown.text
    wrong = browser.ask(value["location"], headers={"Authorization": "Session wrong"})
    assert wrong.status_code == 401
    ended = browser.ask(f"/app/{value['handle']}/sign-out", "POST", headers=by_header(value))
    assert ended.status_code == 200
    assert browser.ask(value["location"], headers=by_header(value)).status_code == 401


def by_header(told: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Session {told['secret']}"}


@pytest.mark.parametrize("binder", ["", "x", "\ud800", "é" * 43])
def test_the_answer_alone_signs_nobody_in(world: World, binder: str) -> None:
    """Whoever reads the address of the answer still lacks what the window kept."""
    browser = world.browser(keeps_cookies=False)
    answer = parse_qsl(urlsplit(browser.stops_at_callback(world.launch_url())).query)
    sent = "&".join(
        f"{k}={quote(v, errors='surrogatepass')}" for k, v in [*answer, ("binder", binder)]
    )
    headers = {"Origin": world.radcds.base_url, **FORM}
    told = browser.ask("/callback", "POST", headers, content=sent)
    assert told.status_code == 403
    assert "not begun in this window" in told.json()["says"]
    assert world.nobody_is_signed_in()


FOREIGN: list[dict[str, str]] = [
    {},
    {"Origin": "null"},
    {"Origin": "https://evil.example.org"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:1"},
]


def test_another_site_completes_no_sign_in(world: World) -> None:
    browser = world.browser(keeps_cookies=False)
    page = browser.ask(world.launch_url())
    (state,) = re.findall(r'data-state="([^"]*)"', page.text)
    (binder,) = re.findall(r'data-binder="([^"]*)"', page.text)
    for headers in FOREIGN:
        sent = {"state": state, "code": "x", "binder": binder}
        told = browser.ask("/callback", "POST", headers, data=sent)
        assert told.status_code == 403
        assert told.json() == {"says": "The request came from another site."}
        assert world.serving.session_store.launches.keys() == {state}
        page = browser.ask("/sign-in", "POST", headers, data={"token": TOKEN})
        assert page.status_code == 403
    assert world.nobody_is_signed_in()


def test_another_site_sends_no_form_of_a_session(world: World) -> None:
    study = world.add("urgent")
    browser = world.browser()
    browser.launch(world.launch_url())
    (handle,) = browser.handles
    forms = {
        "sign-out": {},
        f"studies/{study}/verdict": {"agreement": "agree", "radpeer": "1"},
        f"studies/{study}/break-glass": {"reason": "covering"},
    }
    before = len(world.serving.trail.recorded)
    for headers, (path, form) in product(FOREIGN, forms.items()):
        answer = browser.ask(f"/app/{handle}/{path}", "POST", headers, data=form)
        assert answer.status_code == 403
        assert "another site" in answer.text
    assert len(world.serving.trail.recorded) == before
    assert browser.ask(f"/app/{handle}/worklist").status_code == 200


ELSEWHERE = ["https://evil.example.org", "//evil.example.org", "/\\evil.example.org", "javascript:"]


@pytest.mark.parametrize("target", [*ELSEWHERE, f"//evil.example.org/{'a' * 18}", "-" * 36])
def test_radcds_sends_nobody_to_another_site(world: World, target: str) -> None:
    world.serving.local.token = TOKEN
    launch = world.ehr.new_launch(patient="p1", user=READER, app_context=target)
    more = dict.fromkeys(("next", "redirect_uri", "study", "location", "return_to"), target)
    asked = urlencode({"iss": world.ehr.fhir_base_url, "launch": launch, **more})
    browser = world.browser()
    browser.launch(f"/launch?{asked}")
    browser.ask(f"/sign-in?{urlencode(more)}")
    browser.ask(f"/sign-in/0?{urlencode(more)}")
    browser.post("/sign-in", {"token": TOKEN, **more})
    browser.ask(f"/?{urlencode(more)}", headers={"X-Forwarded-Host": "evil.example.org"})
    browser.ask(f"/studies/{quote(target, safe='')}")
    browser.ask(f"/{quote(target, safe='/')}")
    sent = [each.headers["location"] for each in browser.seen if each.is_redirect]
    assert len(sent) >= 5
    for location in sent:
        whole = urljoin(f"{world.radcds.base_url}/", location)
        assert whole.startswith((f"{world.radcds.base_url}/", f"{world.address}/authorize?"))
    assert all("refresh" not in each.headers for each in browser.seen)


def test_two_patients_in_one_browser_never_mix(world: World) -> None:
    studies = {"p1": world.add("urgent", 0), "p2": world.add("flagged", 1, patient=OTHER)}
    browser = world.browser()
    callbacks = {who: browser.stops_at_callback(world.launch_url(who)) for who in studies}
    assert len(browser.cookies) == 2
    homes = {}
    for who in ("p2", "p1"):
        answer = browser.ask(callbacks[who])
        homes[who] = answer.headers["location"].removesuffix("/worklist")
    assert len(browser.handles) == 2
    for who, other in (("p1", "p2"), ("p2", "p1"), ("p1", "p2")):
        page = browser.ask(f"{homes[who]}/worklist")
        assert studies[who] in page.text
        assert studies[other] not in page.text
        assert browser.ask(f"{homes[who]}/studies/{studies[who]}").status_code == 200
        for path in ("", "/images", "/artefacts/card.json", "/artefacts/bundle.json"):
            refused = browser.ask(f"{homes[who]}/studies/{studies[other]}{path}")
            assert refused.status_code == 403
            assert says_nothing_of_a_patient(refused)
    # The address that names no session finds the one that may open the study.
    for who, study in studies.items():
        assert str(browser.follow(browser.ask(f"/studies/{study}")).url).endswith(
            f"{homes[who]}/studies/{study}"
        )
    browser.post(f"{homes['p1']}/sign-out", {})
    assert browser.ask(f"{homes['p1']}/worklist").status_code == 401
    assert browser.ask(f"{homes['p2']}/worklist").status_code == 200


def test_the_secret_of_one_session_opens_no_other(world: World) -> None:
    browser = world.browser()
    browser.launch(world.launch_url("p1"))
    browser.launch(world.launch_url("p2"))
    first, second = browser.handles
    name = "__Host-radcds-{}".format
    browser.cookies[name(first)] = browser.cookies[name(second)]
    assert browser.ask(f"/app/{first}/worklist").status_code == 401
    assert browser.ask(f"/app/{second}/worklist").status_code == 200


# --- Staying signed in


def renewals(world: World) -> int:
    return world.asked.count("POST /token") - 1


def test_tokens_are_renewed_once_and_the_old_one_is_not_used_again(world: World) -> None:
    browser = world.browser()
    home = str(browser.launch(world.launch_url()).url)
    for minutes, expected in ((4, 0), (1, 1), (0, 1), (4, 1), (1, 2)):
        world.clock.ahead += timedelta(minutes=minutes)
        assert browser.ask(home).status_code == 200
        assert renewals(world) == expected


def test_two_requests_at_once_renew_once_and_the_session_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EHR that sees a refresh token twice revokes all: RFC 9700 section 4.14.2."""
    store = SqlSessionStore(open_engine(tmp_path / "sessions.sqlite"))
    monkeypatch.setattr("serving.InMemorySessionStore", lambda _: store)
    with world_of(tmp_path, monkeypatch) as world:
        browser = world.browser()
        home = str(browser.launch(world.launch_url()).url)
        for _ in range(3):
            before = renewals(world)
            world.clock.ahead += timedelta(minutes=5)
            barrier, statuses = threading.Barrier(4), []

            def look(barrier: threading.Barrier = barrier, statuses: list[int] = statuses) -> None:
                barrier.wait()
                statuses.append(browser.ask(home).status_code)

            threads = [threading.Thread(target=look) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert statuses == [200] * 4
            assert renewals(world) == before + 1


def test_an_ehr_that_renews_no_more_ends_the_session(world: World) -> None:
    browser = world.browser()
    home = str(browser.launch(world.launch_url()).url)
    world.ehr.faults.add("refresh-fails")
    assert browser.ask(home).status_code == 200
    world.clock.ahead += timedelta(minutes=5)
    for _ in range(2):
        page = browser.ask(home)
        assert page.status_code == 401
        assert is_a_page_in_words(page)
    assert "The EHR has ended your session" in browser.seen[-2].text
    assert world.recorded().count(SIGN_OUT) == 1
    why = detailed(world.serving.trail.recorded[-1])["entity"][0]["detail"]
    assert {"type": "why", "valueString": "the EHR ended it"} in why


def test_an_ehr_that_is_silent_is_asked_again_later(world: World) -> None:
    browser = world.browser()
    home = str(browser.launch(world.launch_url()).url)
    world.ehr.faults.add("token-500")
    world.clock.ahead += timedelta(minutes=5)
    assert browser.ask(home).status_code == 200
    world.ehr.faults.clear()
    world.clock.ahead += timedelta(seconds=61)
    assert browser.ask(home).status_code == 200
    assert renewals(world) == 2


def test_a_renewal_for_another_patient_ends_the_session(world: World) -> None:
    """The record went on to the next patient: nothing of the one before may stay open."""
    world.add("urgent")
    browser = world.browser()
    home = str(browser.launch(world.launch_url()).url)
    ((value, grant),) = world.ledger.refresh.items()
    moved = dataclasses.replace(grant.context, patient="p2")
    world.ledger.refresh[value] = dataclasses.replace(grant, context=moved)
    world.clock.ahead += timedelta(minutes=5)
    page = browser.ask(home)
    assert page.status_code == 401
    assert says_nothing_of_a_patient(page)
    assert world.recorded().count(SIGN_OUT) == 1


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([15], "because it was not used"),
        ([14, 14, 15], "because it was not used"),
        ([10, 10, 10], "longest time"),
    ],
)
def test_a_session_ends_by_itself_and_its_cookie_is_worth_nothing(
    world: World, steps: list[int], says: str
) -> None:
    if "longest" in says:
        world.serving.sessions._limits = Limits(absolute=timedelta(minutes=30))
    study = world.add("urgent")
    browser = world.browser()
    home = str(browser.launch(world.launch_url()).url)
    for minutes in steps[:-1]:
        world.clock.ahead += timedelta(minutes=minutes)
        assert browser.ask(home).status_code == 200
    world.clock.ahead += timedelta(minutes=steps[-1])
    ended = browser.ask(home)
    assert ended.status_code == 401
    assert says in ended.text
    assert says_nothing_of_a_patient(ended)
    (handle,) = browser.handles
    for path in ("worklist", f"studies/{study}", f"studies/{study}/images"):
        assert browser.ask(f"/app/{handle}/{path}").status_code == 401
    assert browser.post(f"/app/{handle}/sign-out", {}).status_code == 401
    assert world.recorded().count(SIGN_OUT) == 1


def test_signed_out_is_signed_out_and_both_ends_are_recorded(world: World) -> None:
    browser = world.browser()
    home = str(browser.launch(world.launch_url()).url)
    kept, (handle,) = dict(browser.cookies), browser.handles
    page = browser.post(f"/app/{handle}/sign-out", {})
    assert page.status_code == 200
    assert "You are signed out" in page.text
    assert browser.cookies == {}
    browser.cookies = kept
    assert browser.ask(home).status_code == 401
    assert browser.ask("/").headers["location"] == "/sign-in"
    leaves = [detailed(each) for each in world.serving.trail.recorded]
    ends = [each for each in leaves if each["subtype"][0]["code"] in {SIGN_IN, SIGN_OUT}]
    assert [each["subtype"][0]["code"] for each in ends] == [SIGN_IN, SIGN_OUT]
    for each in ends:
        assert each["outcome"] == "0"
        assert READER in json.dumps(each)
        assert handle not in json.dumps(each)


def test_without_an_audit_trail_nobody_signs_in(world: World) -> None:
    browser = world.browser()
    callback = browser.stops_at_callback(world.launch_url())
    world.serving.trail.broken = True
    page = browser.ask(callback)
    assert page.status_code == 503
    assert browser.handles == []
    assert world.serving.session_store.sessions == {}


def test_the_published_keys_are_public(world: World) -> None:
    answer = world.browser().ask("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["content-type"] == "application/json"
    keys = answer.json()["keys"]
    assert {key["kty"] for key in keys} == {"EC", "RSA"}
    assert len({key["kid"] for key in keys}) == len(keys)
    for key in keys:
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
        assert key.keys() <= {"kty", "kid", "use", "alg", "key_ops", "crv", "x", "y", "n", "e"}


# --- Renewing, in the order in which processes come


class Renewing:
    """A client that counts renewals, and answers as a test says."""

    def __init__(self) -> None:
        self.used: list[str] = []
        self.silent = False

    def refresh(self, refresh_token: str) -> Any:
        self.used.append(refresh_token)
        if self.silent:
            msg = "the EHR does not answer"
            raise PeerUnavailable(msg)
        number = len(self.used)
        return tokens(f"access-{number}", f"refresh-{number}")


@dataclasses.dataclass
class Tokens:
    """What the sessions need of a token response."""

    access_token: str
    refresh_token: str
    expires_in_s: int = 300
    scopes: frozenset[str] = frozenset()
    patient: str | None = None
    need_patient_banner: bool = True


def tokens(access: str, refresh: str) -> Any:
    return Tokens(access, refresh)


class Overtaken(SqlSessionStore):
    """A store that once gives a session as it was before another process renewed it."""

    stale: Session | None = None

    def session(self, handle: str) -> Session | None:
        stale, self.stale = self.stale, None
        return stale or super().session(handle)


def test_a_request_that_was_overtaken_renews_nothing(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "radcds.sqlite")
    store, clock, client = Overtaken(engine), StandingClock(), Renewing()
    ehr = Ehr("EHR", "https://ehr.example.org/fhir", smart=SmartRegistration("radcds"))
    sessions = Sessions(
        store,
        smart={ehr.fhir_base_url: client},  # type: ignore[dict-item]
        site=example_site(),
        limits=Limits(),
        clock=clock,
    )
    person = Person(READER, "Test READER", Role.RADIOLOGIST)
    begun, secret = sessions.begin(
        person, address="127.0.0.1", ehr=ehr, tokens=tokens("access-0", "refresh-0")
    )
    clock.time += timedelta(minutes=5)
    before = store.session(begun.handle)
    assert isinstance(sessions.check(begun.handle, secret, "127.0.0.1"), Session)
    store.stale = before
    assert isinstance(sessions.check(begun.handle, secret, "127.0.0.1"), Session)
    assert client.used == ["refresh-0"]
    clock.time += timedelta(minutes=5)
    assert isinstance(sessions.check(begun.handle, secret, "127.0.0.1"), Session)
    assert client.used == ["refresh-0", "refresh-1"]
    assert len(SqlAuditTrail(engine).events()) == 1
