"""The whole journey in a real browser: the EHR's card, the launch, the viewer, the verdict.

The strict mock EHR notes every rule that radcds breaks; the audit trail has to tell the journey.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beside_ehr import READER, Beside, beside_ehr
from browsing import FLAGS, chromium, told, violations
from playwright.sync_api import Browser, Frame, Page


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Beside]:
    with beside_ehr(tmp_path) as both:
        both.add("urgent", 0)
        yield both
        assert both.ehr.violations == []


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def framed(page: Page, both: Beside) -> Frame:
    """Wait for the app in the EHR's frame, its first image drawn."""
    page.wait_for_selector("iframe")
    for _ in range(100):
        for frame in page.frames:
            if frame.url.startswith(f"{both.radcds.base_url}/app/"):
                frame.wait_for_selector("body[data-first-image]")
                return frame
        page.wait_for_timeout(100)
    raise AssertionError([frame.url for frame in page.frames])


def test_from_the_card_to_a_verdict_that_stands_in_the_trail(both: Beside, page: Page) -> None:
    problems = told(page)
    page.goto(f"{both.address}/chart/p1")
    assert "URGENT" in page.locator("main").inner_text()
    page.get_by_role("link", name="Open in radcds").first.click()
    frame = framed(page, both)
    assert "PATIENT TEST" in frame.locator(".banner").inner_text()
    assert "URGENT" in frame.locator(".result").inner_text()
    frame.locator(".stage").first.press("h")
    frame.wait_for_selector("button[data-do=overlay][aria-pressed=true]")
    frame.get_by_text("Disagree, or give another score").click()
    frame.get_by_label("I disagree").check()
    frame.get_by_label("2b", exact=False).check()
    frame.get_by_label("Reason", exact=False).select_option("false-positive")
    frame.get_by_role("textbox", name="Comment").fill("A fold of skin.")
    frame.get_by_role("button", name="Record my reading").click()
    frame.wait_for_selector(".verdicts")
    assert "Disagreed" in frame.locator(".verdicts").inner_text()
    assert "A fold of skin." in frame.locator(".verdicts").inner_text()
    (verdict,) = both.serving.feedback.given
    assert (verdict.user, verdict.radpeer, verdict.reason) == (READER, "2b", "false-positive")
    story = both.recorded()
    for step in ("search", "read", "110122", "create"):
        assert step in story
    last = [json.loads(each) for each in both.serving.trail.recorded]
    created = next(each for each in last if each["subtype"][0]["code"] == "create")
    assert created["agent"][-1]["who"]["identifier"]["value"] == READER
    assert "A fold of skin" not in json.dumps(last)
    assert problems == []


def test_two_charts_in_one_browser_never_mix_their_patients(both: Beside, browser: Browser) -> None:
    patient = both.serving.store.entries()[0].result
    assert patient is not None
    context = browser.new_context()
    context.set_default_timeout(15_000)
    first, second = context.new_page(), context.new_page()
    first.goto(both.launch_url("p1"))
    second.goto(both.launch_url("p2"))
    assert "PATIENT TEST" in first.locator("tbody").inner_text()
    assert "No study matches" in second.locator("tbody").inner_text()
    first.reload()
    second.reload()
    assert "PATIENT TEST" in first.locator("tbody").inner_text()
    assert "PATIENT TEST" not in second.content()
    link = first.locator("tbody a").get_attribute("href")
    assert link is not None
    base = second.url.removesuffix("/worklist")
    answer = second.goto(f"{base}/studies/{link.rsplit('/', 1)[1]}")
    assert answer is not None
    assert answer.status == 403
    assert "PATIENT TEST" not in second.content()
    assert violations(second) == []
    context.close()


def test_the_keyboard_alone_suffices(both: Beside, page: Page) -> None:
    page.goto(both.launch_url("p1"))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-first-image]")
    page.keyboard.press("h")
    page.wait_for_selector("button[data-do=overlay][aria-pressed=true]")
    walk = ["v", "ArrowDown", "Tab", "ArrowDown", "Tab", "ArrowDown", "Tab", "Tab", "Enter"]
    for key in walk:
        page.keyboard.press(key)
    page.wait_for_selector(".verdicts")
    (verdict,) = both.serving.feedback.given
    assert (verdict.agreement, verdict.radpeer) == ("disagree", "2a")
    assert verdict.reason == "false-positive"


def test_the_journey_works_without_webgl(both: Beside, browser: Browser) -> None:
    flags = [*FLAGS, "--disable-3d-apis"]
    plain = browser.browser_type.launch(executable_path=chromium(), args=flags)
    page = plain.new_page()
    page.set_default_timeout(15_000)
    problems = told(page)
    page.goto(f"{both.address}/chart/p1")
    page.get_by_role("link", name="Open in radcds").first.click()
    frame = framed(page, both)
    frame.locator(".stage").first.press("h")
    frame.wait_for_selector("button[data-do=overlay][aria-pressed=true]")
    assert frame.evaluate("document.createElement('canvas').getContext('webgl2')") is None
    frame.get_by_role("button", name="Agree, mark as read").click()
    frame.wait_for_selector(".verdicts")
    assert problems == []
    plain.close()


def test_a_frame_that_keeps_no_cookie_is_no_obstacle(both: Beside, page: Page) -> None:
    served = both.serving.app.wsgi_app

    def without_cookies(environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("HTTP_COOKIE", None)
        return served(environ, start_response)

    both.serving.app.wsgi_app = without_cookies  # type: ignore[method-assign]
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
    page.goto(f"{both.address}/chart/p1")
    page.get_by_role("link", name="Open in radcds").first.click()
    frame = framed(page, both)
    assert ("POST", f"{both.radcds.base_url}/callback") in asked
    assert "PATIENT TEST" in frame.locator(".banner").inner_text()
    frame.get_by_role("button", name="Agree, mark as read").click()
    frame.wait_for_selector(".verdicts")
    assert len(both.serving.feedback.given) == 1


def test_an_ehr_of_another_site_shows_the_app_in_its_frame(tmp_path: Path, page: Page) -> None:
    with beside_ehr(tmp_path, host="localhost") as both:
        both.add("flagged", 0)
        problems = told(page)
        page.goto(f"{both.address}/chart/p1")
        page.get_by_role("link", name="Open in radcds").first.click()
        frame = framed(page, both)
        frame.get_by_role("button", name="Agree, mark as read").click()
        frame.wait_for_selector(".verdicts")
        assert problems == []
        assert both.ehr.violations == []


@pytest.mark.parametrize("fault", ["wrong-nonce", "token-500", "fewer-scopes", "wrong-state"])
def test_a_launch_that_fails_says_so_in_words(both: Beside, page: Page, fault: str) -> None:
    both.ehr.faults.add(fault)
    page.goto(both.launch_url("p1"))
    page.wait_for_selector("main h1")
    words = page.locator("main").inner_text()
    assert len(words) > 40
    assert "PATIENT TEST" not in page.content()
    assert "Traceback" not in page.content()
    assert both.serving.session_store.sessions == {} or fault == "fewer-scopes"


def test_the_pages_of_a_launch_are_accessible_and_say_what_is_wrong(
    both: Beside, page: Page
) -> None:
    base = both.radcds.base_url
    page.goto(f"{base}/callback?state=unknown&code=x")
    page.wait_for_selector("[role=status].problem")
    assert "not begun in this window" in page.locator("main").inner_text()
    assert violations(page) == []
    page.goto(f"{base}/launch?iss=https://evil.example.org/fhir&launch=x")
    assert "not registered with radcds" in page.locator("main").inner_text()
    assert "evil.example.org" not in page.content()
    assert violations(page) == []
    page.goto(f"{base}/sign-in")
    assert "Sign in with Test EHR" in page.locator("main").inner_text()
    assert violations(page) == []
