"""The pages in a real browser: they load, they work by keyboard, and axe finds nothing to mend."""

import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import Page, sync_playwright
from serving import Serving
from werkzeug.serving import make_server

AXE = Path(__file__).parent.parent.parent / ".cache/judges/node_modules/axe-core/axe.min.js"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Serve one study of each outcome; give the base address and the urgent study."""
    serving = Serving(tmp_path_factory.mktemp("e2e"))
    urgent = serving.add("urgent", 0)
    for number, name in enumerate(("flagged", "normal", "not_analysed", "failed"), start=1):
        serving.add(name, number)
    serving.queue()
    server = make_server("127.0.0.1", 0, serving.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}", urgent
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    chromium = which("chromium")
    assert chromium, "the browser is missing: run scripts/install_system.sh chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        yield page
        browser.close()


def violations(page: Page) -> list[str]:
    """Ask axe; it is evaluated from outside, past the page's own policy."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{v['id']}: {[n['target'] for n in v['nodes']]}" for v in found["violations"]]


@pytest.mark.parametrize("width", [1280, 800])
def test_the_worklist_is_readable_and_accessible(
    address: tuple[str, str], browser_page: Page, width: int
) -> None:
    problems: list[str] = []
    browser_page.on("console", lambda message: problems.append(message.text))
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto(address[0])
    badges = browser_page.locator("tbody .badge").all_inner_texts()
    assert [badge.split("\n")[0].strip()[:1] for badge in badges] == ["▲", "◆", "—", "✕", "○", "…"]
    assert violations(browser_page) == []
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []


@pytest.mark.parametrize("width", [1280, 800])
def test_the_study_page_is_readable_and_accessible(
    address: tuple[str, str], browser_page: Page, width: int
) -> None:
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto(f"{address[0]}/studies/{address[1]}")
    assert violations(browser_page) == []
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    overlay = browser_page.locator("#overlay img")
    assert overlay.evaluate("image => image.naturalWidth") > 0


def test_the_overlay_is_hidden_and_shown_by_key_and_by_button(
    address: tuple[str, str], browser_page: Page
) -> None:
    browser_page.goto(f"{address[0]}/studies/{address[1]}")
    overlay = browser_page.locator("#overlay img")
    assert overlay.is_visible()
    browser_page.keyboard.press("o")
    assert overlay.is_hidden()
    assert "Show overlay" in browser_page.locator("#toggle").inner_text()
    browser_page.locator("#toggle").click()
    assert overlay.is_visible()


def test_a_study_is_opened_from_the_worklist(address: tuple[str, str], browser_page: Page) -> None:
    browser_page.goto(address[0])
    browser_page.locator("tbody a").first.click()
    assert "AI output, not a diagnosis." in browser_page.locator("footer").inner_text()
    assert "URGENT" in browser_page.locator(".verdict").inner_text()
