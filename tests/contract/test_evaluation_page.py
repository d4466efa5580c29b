"""The written report in a real browser: readable on a phone and on paper, and accessible."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import told, violations
from playwright.sync_api import Browser, Page
from synthetic_predictions import predictions

pytestmark = pytest.mark.torch
pytest.importorskip("matplotlib", reason="needs the [torch] extra")
pytest.importorskip("sklearn", reason="needs the [torch] extra")
from ai_engine.evaluation.evaluate import evaluate  # noqa: E402 - after the skip
from ai_engine.evaluation.finding_evaluation import EvaluationOptions  # noqa: E402
from ai_engine.evaluation.report import About  # noqa: E402
from ai_engine.evaluation.written_report import write_report  # noqa: E402


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = evaluate(
        predictions(),
        About("cxr-test", "1.0.0", "people who do not exist", "drawn by chance"),
        tuning=predictions(seed=2, first_person=1000),
        options=EvaluationOptions(resamplings=100),
    )
    return write_report(report, tmp_path_factory.mktemp("report"))[1]


@pytest.fixture
def page(browser: Browser, written: Path) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=True, viewport={"width": 1100, "height": 800})
    page = context.new_page()
    problems = told(page)
    page.goto(written.as_uri())
    yield page
    context.close()
    assert problems == []


def test_axe_finds_nothing_to_object_to(page: Page) -> None:
    assert violations(page) == []


def test_every_picture_is_drawn(page: Page) -> None:
    widths = page.eval_on_selector_all("img", "all => all.map(each => each.naturalWidth)")
    assert len(widths) >= 4
    assert min(widths) > 100


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_runs_out_of_the_page(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints(page: Page, tmp_path: Path) -> None:
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
