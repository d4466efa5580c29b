"""A real browser for tests, and an accessibility judge."""

from pathlib import Path
from shutil import which

from playwright.sync_api import ConsoleMessage, Page

AXE = Path(__file__).parent.parent / ".cache/judges/node_modules/axe-core/axe.min.js"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Find the browser."""
    found = which("chromium")
    assert found, "the browser is missing: run scripts/install_system.sh chromium"
    return found


def violations(page: Page) -> list[str]:
    """Ask axe; it is evaluated from outside, past the page's own policy."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{v['id']}: {[n['target'] for n in v['nodes']]}" for v in found["violations"]]


def told(page: Page) -> list[str]:
    """Collect what the browser complains of from now on; remarks of its software GPU aside."""
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "GL Driver Message" not in message.text:
            problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    return problems
