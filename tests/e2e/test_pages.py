"""The pages in a real browser, signed in with the local token: readable, usable, accessible."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from browsing import told, violations
from playwright.sync_api import Browser, Page
from serving import TOKEN, Serving
from studies import ISSUED, STUDY_UID, chest_instance
from werkzeug.serving import make_server

from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.inbox import InboundMessage
from cds_server.outbox import DeliveryState


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Serve one study of each outcome; give the base address and the urgent study."""
    archive = InMemoryArchive([chest_instance(StudyInstanceUID=f"{STUDY_UID}.0")])
    server = make_server("127.0.0.1", 0, lambda *_: [b""], threaded=True)
    base = f"http://127.0.0.1:{server.port}"
    serving = Serving(tmp_path_factory.mktemp("e2e"), archive=archive, base_url=base)
    urgent = serving.add("urgent", 0)
    for number, name in enumerate(("flagged", "normal", "not_analysed", "failed"), start=1):
        serving.add(name, number)
    serving.queue()
    _trouble(serving, urgent)
    server.app = serving.app
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield base, urgent
    server.shutdown()
    thread.join()
    server.server_close()


def _trouble(serving: Serving, result: str) -> None:
    """Let one part fail, one work again, one study wait, one delivery be tried, one given up."""
    away = "The archive https://pacs.example.org/dicom-web does not answer (connection refused)."
    serving.operations.note("archive", away)
    serving.operations.note("work list", "The work list does not answer.")
    serving.operations.note("work list")
    serving.arrivals.told(STUDY_UID, ISSUED)
    given_up = "saliency.dcm: the archive refuses it: 0x0122, SOP class not supported"
    outbox = serving.store.outbox
    outbox.add(outbox.delivery(result, "fhir").publication, ["pacs"])
    outbox.settle(result, "pacs", DeliveryState.PARKED, says=given_up, at=ISSUED)
    busy = "status 503, the server is busy"
    outbox.fail(replace(outbox.delivery(result, "fhir"), says=busy, since=ISSUED))
    outbox.keep_message(result, "pacs", b"a message")
    came = InboundMessage(("RIS", "RAD"), "1", "ORM^O01", ISSUED, b"MSH")
    serving.store.inbox.keep(came, audit_events=[])
    serving.store.inbox.fail(1, "the order names no study", at=ISSUED)


@pytest.fixture
def page(browser: Browser, address: tuple[str, str]) -> Iterator[Page]:
    """A browser window, signed in with the token."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    page = context.new_page()
    page.goto(f"{address[0]}/")
    page.get_by_label("Access token").fill(TOKEN)
    page.get_by_role("button", name="Sign in with the token").click()
    page.wait_for_url("**/worklist")
    yield page
    context.close()


@pytest.mark.parametrize("width", [1280, 800])
def test_the_worklist_is_readable_and_accessible(page: Page, width: int) -> None:
    problems = told(page)
    page.set_viewport_size({"width": width, "height": 900})
    page.reload()
    badges = page.locator("tbody .badge").all_inner_texts()
    assert [badge.split("\n")[0].strip()[:1] for badge in badges] == ["▲", "◆", "—", "✕", "○", "…"]
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []


@pytest.mark.parametrize("width", [1280, 800])
def test_the_study_page_is_readable_and_accessible(
    address: tuple[str, str], page: Page, width: int
) -> None:
    problems = told(page)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address[0]}/studies/{address[1]}")
    page.wait_for_selector("body[data-first-image]")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []


@pytest.mark.parametrize("width", [1280, 800])
def test_operators_see_what_fails_and_what_waits_and_why(page: Page, width: int) -> None:
    problems = told(page)
    page.set_viewport_size({"width": width, "height": 900})
    page.get_by_role("link", name="Operations").click()
    page.wait_for_url("**/operations")
    shown = page.locator("main").inner_text()
    for words in (
        "1 study has arrived",
        "connection refused",
        "Works again",
        "given up",
        "0x0122",
        "names no study",
    ):
        assert words in shown
    assert "PATIENT" not in shown
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []


def test_the_overlay_is_off_until_asked_for_by_key_and_by_button(
    address: tuple[str, str], page: Page
) -> None:
    page.goto(f"{address[0]}/studies/{address[1]}")
    page.wait_for_selector("body[data-first-image]")
    pressed = "button[data-do=overlay][aria-pressed={}]"
    page.wait_for_selector(pressed.format("false"))
    page.keyboard.press("h")
    page.wait_for_selector(pressed.format("true"))
    page.locator("button[data-do=overlay]").click()
    page.wait_for_selector(pressed.format("false"))


def test_a_study_is_opened_from_the_worklist(page: Page) -> None:
    page.locator("tbody a").first.click()
    assert "AI output, not a diagnosis." in page.locator("footer").inner_text()
    assert "URGENT" in page.locator(".result").inner_text()
    assert "PATIENT TEST" in page.locator(".banner").inner_text()


def test_a_wrong_token_is_refused_in_words_and_nobody_is_signed_in(
    address: tuple[str, str], browser: Browser
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address[0]}/sign-in")
    page.get_by_label("Access token").fill("wrong")
    page.get_by_role("button", name="Sign in with the token").click()
    assert "opens nothing here" in page.get_by_role("alert").inner_text()
    assert violations(page) == []
    assert context.cookies() == []
    context.close()


def test_signed_out_means_signed_out(page: Page) -> None:
    worklist = page.url
    page.get_by_role("button", name="Sign out").click()
    assert "You are signed out" in page.locator("main").inner_text()
    answer = page.goto(worklist)
    assert answer is not None
    assert answer.status == 401
    assert "PATIENT" not in page.content()
