"""The example of the how-to is run as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_predictions import predictions

pytestmark = pytest.mark.torch
pytest.importorskip("matplotlib", reason="needs the [torch] extra")
pytest.importorskip("sklearn", reason="needs the [torch] extra")

PAGE = Path(__file__).parents[2] / "docs/how-to/evaluate-a-model.md"


def test_the_example_writes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    held_out, tuning = predictions(40), predictions(40, seed=2, first_person=1000)
    given = {
        "images": held_out.images,
        "findings": held_out.findings,
        "probabilities": held_out.probabilities,
        "brightness": held_out.brightness,
        "tuning_images": tuning.images,
        "tuning_probabilities": tuning.probabilities,
    }
    example = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    exec(example, given)  # noqa: S102 - the page's own example
    page = (tmp_path / "evaluation/report.html").read_text(encoding="utf-8")
    assert "Evaluation of cxr-ours 1.0.0" in page
    assert "St Elsewhere" in page


MEASURE = """
import sys
from ai_engine.evaluation import abstention, evaluate, randomisation, report, saliency_quality
unwanted = ("torch", "sklearn", "matplotlib", "monai", "jinja2")
print([name for name in unwanted if name in sys.modules])
"""


def test_measuring_loads_nothing_that_only_fitting_and_drawing_need() -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False
    )
    assert measured.stdout.strip() == "[]", measured.stderr
