"""The DICOM conformance statement says what the code does."""

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import UID, ImplicitVRLittleEndian, JPEG2000Lossless
from studies import OUTCOMES, chest_instance, chest_study, context

from fhir_mappers.air.access import code_of, walk
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.report_context import DICOM_FILES, DisplayMode
from scripts import dicom_conformance as made

PAGE = (made.ROOT / made.STATEMENT).read_text(encoding="utf-8")


def results(outcome: str, mode: DisplayMode) -> dict[str, bytes]:
    header = copy.deepcopy(chest_instance())
    del header.PixelData
    return dicom_results(
        chest_study(),
        OUTCOMES[outcome],
        header=header,
        picture=np.zeros((64, 64, 3), np.uint8),
        context=context(mode),
    )


def test_what_was_written_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    differing = made.main(["--check"])
    assert differing == 0, capsys.readouterr().out


def test_a_file_that_differs_is_named_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = made.documents()
    monkeypatch.setattr(made, "ROOT", tmp_path)
    for path in documents:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    assert made.main(["--check"]) == 1
    assert capsys.readouterr().out.count("differs") == len(documents)
    assert not list(tmp_path.rglob("*.md"))
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.md")} == set(documents)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_it_is_the_same_in_every_process(seed: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.dicom_conformance", "--check"],
        cwd=made.ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_object_of_a_result_is_listed_in_the_order_in_which_it_is_stored() -> None:
    assert tuple(part.name for part in made.PARTS) == DICOM_FILES
    for part in made.PARTS:
        assert f"| `{part.sop_class_uid}` | {part.modality} | {part.series_number} " in PAGE


@pytest.mark.parametrize("mode", DisplayMode)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_said_to_be_written_of_every_study_is(outcome: str, mode: DisplayMode) -> None:
    analysed = outcome in {"urgent", "flagged", "normal"}
    everything = analysed and mode is DisplayMode.OVERLAY
    assert set(results(outcome, mode)) == (set(DICOM_FILES) if everything else made.EVERYWHERE)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_code_that_is_written_is_listed_or_of_a_template(outcome: str) -> None:
    listed = {(value, scheme) for value, scheme, _ in made.written_codes()}
    templates = {
        (value, scheme)
        for scheme in ("DCM", "SCT")
        for named in concepts[scheme].values()
        for value in named
    }
    written = {
        (code.value, code.scheme)
        for content in results(outcome, DisplayMode.OVERLAY).values()
        for _, item in walk(pydicom.dcmread(io.BytesIO(content)))
        if (code := code_of(item)).value
    }
    assert written - listed - templates <= {("en", "RFC5646"), ("%", "UCUM")}
    assert len(written & listed) > 5


def test_the_requests_are_those_of_dicomweb() -> None:
    asked = dict(made.pacs_requests())
    assert len(asked) == 7
    assert asked["WADO-RS, instance"].headers["Accept"].endswith("transfer-syntax=*")
    assert asked["STOW-RS"].method == "POST"
    assert [question.method for _, question in made.worklist_requests()] == [
        "GET",
        "GET",
        "PUT",
        "POST",
    ]
    assert "2.25.1" not in PAGE.partition("## Network")[2].partition("## Objects")[0]


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        (ImplicitVRLittleEndian, "decoded"),
        (JPEG2000Lossless, "decoded"),
        (UID("1.2.840.10008.1.2.4.202"), "decoded"),
        (UID("1.2.840.10008.1.2.4.102"), "declined: `UNSUPPORTED_TRANSFER_SYNTAX`"),
        (UID("1.2.840.10008.1.2.4.93"), "declined: `UNSUPPORTED_TRANSFER_SYNTAX`"),
        (UID("1.2.3.4"), "declined: `UNSUPPORTED_TRANSFER_SYNTAX`"),
    ],
)
def test_what_is_said_of_a_transfer_syntax_is_what_becomes_of_an_image(
    syntax: UID, said: str
) -> None:
    assert made.fate(syntax) == said


def test_no_transfer_syntax_is_left_out() -> None:
    assert len(made.image_syntaxes()) > 30
    for syntax in made.image_syntaxes():
        assert f"| `{syntax}` | {made.fate(syntax)} |" in PAGE
