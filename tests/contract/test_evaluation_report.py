"""The page stands alone, can be read by ear, and lets no text become markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from synthetic_predictions import predictions

pytestmark = pytest.mark.torch
pytest.importorskip("matplotlib", reason="needs the [torch] extra")
pytest.importorskip("sklearn", reason="needs the [torch] extra")
from ai_engine.evaluation.estimate import Estimate, Rate  # noqa: E402 - after the skip
from ai_engine.evaluation.evaluate import SaliencyFigures, evaluate  # noqa: E402
from ai_engine.evaluation.finding_evaluation import EvaluationOptions  # noqa: E402
from ai_engine.evaluation.plain_words import in_plain_words, percent  # noqa: E402
from ai_engine.evaluation.pointing_game import Pointing  # noqa: E402
from ai_engine.evaluation.randomisation import (  # noqa: E402
    RandomisationResult,
    RandomisedBlock,
)
from ai_engine.evaluation.report import About, EvaluationReport  # noqa: E402
from ai_engine.evaluation.saliency_overlay import MappedImage  # noqa: E402
from ai_engine.evaluation.saliency_quality import Perturbation, SaliencyQuality  # noqa: E402
from ai_engine.evaluation.written_report import Example, write_report  # noqa: E402

HOSTILE = "<script>alert('x')</script> & \"co\""
ONE = Estimate(0.5, 0.4, 0.6)


def quality(gap: float, hit: float) -> SaliencyQuality:
    each = Perturbation(ONE, ONE, ONE)
    return SaliencyQuality(
        images=40,
        persons=30,
        map_rows=10,
        map_columns=10,
        model=each,
        random_maps=each,
        image_centre=each,
        model_minus_random=Estimate(gap, gap - 0.05, gap + 0.05),
        model_minus_centre=ONE,
        pointing=Pointing(
            hits=Rate(0.3, 0.2, 0.4, 12, 40),
            chance=0.09,
            image_centre=Rate(0.2, 0.1, 0.3, 8, 40),
            hits_minus_image_centre=Estimate(hit, hit - 0.05, hit + 0.05),
        ),
    )


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    about = About("cxr-test", "1.0.0", HOSTILE, HOSTILE, model_sha256="ab" * 32)
    randomised = RandomisationResult(40, (RandomisedBlock("head", ONE),), passes=False)
    return evaluate(
        predictions(),
        about,
        thresholds={"abnormal": 0.5},
        tuning=predictions(seed=2, first_person=1000),
        saliency=SaliencyFigures(quality(0.2, 0.1), randomised),
        options=EvaluationOptions(resamplings=100),
    )


@pytest.fixture(scope="module")
def page(report: EvaluationReport, tmp_path_factory: pytest.TempPathFactory) -> str:
    image = MappedImage(np.full((50, 50), 0.5, np.float32), np.eye(5, dtype=np.float32), HOSTILE)
    folder = tmp_path_factory.mktemp("report") / "new"
    figures, html = write_report(report, folder, examples=[Example(image, HOSTILE)])
    assert json.loads(figures.read_bytes()) == report.as_json()
    return Path(html).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Collect tags with their attributes, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def test_no_text_becomes_markup_and_no_script_runs(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not [a for _, a in Elements(page).found if any(key.startswith("on") for key in a)]


def test_the_page_needs_nothing_else(page: str) -> None:
    elements = Elements(page)
    assert elements.of("link", "iframe", "object") == []
    assert all(str(image["src"]).startswith("data:image/png") for image in elements.of("img"))
    assert all(str(link["href"]).startswith("#") for link in elements.of("a"))
    targets = {attributes.get("id") for _, attributes in elements.found}
    assert {str(link["href"])[1:] for link in elements.of("a")} <= targets


def test_the_page_can_be_read_by_ear(page: str) -> None:
    elements = Elements(page)
    assert elements.of("html") == [{"lang": "en"}]
    assert len(elements.of("img")) >= 6
    assert all(len(str(image["alt"])) > 20 for image in elements.of("img"))
    assert all(header.get("scope") in {"col", "row"} for header in elements.of("th"))
    assert len(elements.of("table")) == len(elements.of("caption"))
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_plain_words_come_before_any_table(page: str, report: EvaluationReport) -> None:
    lead = page.index('<p class="lead">')
    assert lead < page.index("<table")
    assert f"{report.images:,} images of {report.persons:,} people" in page[lead : lead + 400]


def test_small_shares_never_round_to_none_or_all() -> None:
    written = [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0, 2e-4, 0.9996, 1)]
    assert written == ["0.0 %", "under 0.1 %", "over 99.9 %", "100.0 %"]


@pytest.mark.parametrize(
    ("gap", "hit", "lost", "said"),
    [
        (0.2, 0.1, True, "show what the model looks at; the strongest cell lies on the finding"),
        (0.2, 0.0, True, "show what the model looks at; they could not be shown to point"),
        (0.0, 0.0, True, "do not show what the model looks at better than random maps"),
        (0.2, 0.1, False, "stay when the weights are lost, so they hardly explain the model"),
    ],
)
def test_what_is_said_of_maps_is_what_was_measured(
    report: EvaluationReport, gap: float, hit: float, *, lost: bool, said: str
) -> None:
    assert report.randomisation is not None
    other = replace(
        report,
        saliency=quality(gap, hit),
        randomisation=replace(report.randomisation, passes=lost),
    )
    words = " ".join(in_plain_words(other))
    assert said in words
    assert ("do not locate anything by them" in words) == (hit <= 0.05)
