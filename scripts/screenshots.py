"""Make the pictures of the documentation from the demonstration: ``python scripts/screenshots.py``.

Needs the development environment (``make test`` installs it) and Chromium.
"""

import tempfile
from pathlib import Path
from shutil import which

from playwright.sync_api import Frame, Page, sync_playwright

from cds_server.config import Settings
from cds_server.demo import Shown, demonstration

IMAGES = Path(__file__).parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def main() -> None:
    """Run the demonstration and photograph it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        demonstration(Path(folder), Settings(), port=0, ehr_port=0, progress=lambda *_: None) as (
            _,
            shown,
        ),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        _in_the_ehr(page, shown)
        _by_itself(page, shown)
        browser.close()


def _in_the_ehr(page: Page, shown: Shown) -> None:
    page.goto(shown.ehr)
    page.get_by_role("link").filter(has_text="RG1").first.click()
    page.screenshot(path=IMAGES / "ehr-card.png")
    page.get_by_role("link", name="Open in radcds").first.click()
    frame = _app(page)
    frame.locator(".stage").first.press("h")
    frame.wait_for_selector("button[data-do=overlay][aria-pressed=true]")
    page.screenshot(path=IMAGES / "ehr-viewer.png")


def _by_itself(page: Page, shown: Shown) -> None:
    base = shown.radcds.partition("/studies")[0]
    page.goto(f"{base}/sign-in")
    page.get_by_label("Access token").fill(shown.token)
    page.get_by_role("button", name="Sign in with the token").click()
    page.wait_for_selector("tbody")
    page.screenshot(path=IMAGES / "worklist.png")
    page.get_by_role("link", name="Operations").click()
    page.wait_for_url("**/operations")
    page.screenshot(path=IMAGES / "operations.png")
    page.go_back()
    page.set_viewport_size({"width": 1600, "height": 900})
    page.locator("tbody a").first.click()
    page.wait_for_selector("body[data-first-image]")
    page.screenshot(path=IMAGES / "viewer.png")


def _app(page: Page) -> Frame:
    """Wait for the app in the EHR's frame.

    Raises
    ------
    TimeoutError
        If it does not come.
    """
    for _ in range(100):
        for frame in page.frames:
            if "/app/" in frame.url:
                frame.wait_for_selector("body[data-first-image]")
                return frame
        page.wait_for_timeout(100)
    msg = "the app did not open"
    raise TimeoutError(msg)


if __name__ == "__main__":
    main()
