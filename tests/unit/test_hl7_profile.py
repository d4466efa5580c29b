"""The page on HL7 v2 says what the code sends and reads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fhir_mappers.hl7_dialect import Hl7Version
from fhir_mappers.hl7_inbound.orders import ACTIONS
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.hl7_inbound.reported import STATUSES
from fhir_mappers.hl7_validation import validate
from scripts import hl7_profile as made

PAGE = (made.ROOT / made.PAGE).read_text(encoding="utf-8")


def test_what_was_written_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    differing = made.main(["--check"])
    assert differing == 0, capsys.readouterr().out


def test_a_page_that_differs_is_named_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(made, "ROOT", tmp_path)
    (tmp_path / made.PAGE).parent.mkdir(parents=True)
    assert made.main(["--check"]) == 1
    assert "differs" in capsys.readouterr().out
    assert not (tmp_path / made.PAGE).exists()
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


@pytest.mark.parametrize("seed", ["1", "2"])
def test_it_is_the_same_in_every_process(seed: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.hl7_profile", "--check"],
        cwd=made.ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_message_of_the_page_is_valid() -> None:
    messages = re.findall(r"```hl7\n(.*?)```", PAGE, re.DOTALL)
    assert len(messages) == 13
    for message in messages:
        assert validate(message.replace("\n", "\r").encode()) == []


def test_every_field_of_every_message_is_listed() -> None:
    for version in Hl7Version:
        for message in made.sent(version).values():
            for segment in read_message(message).segments:
                for number, value in enumerate(segment.fields, start=1):
                    assert not value or f"|{segment.name}-{number}|" in PAGE


def test_every_code_that_is_understood_is_listed() -> None:
    read = PAGE.partition("## Read")[2].partition("## Answers")[0]
    listed = set(re.findall(r"\b[A-Z]{1,2}\b", read))
    assert set(ACTIONS) | set(STATUSES) <= listed


def test_an_example_that_breaks_a_rule_is_not_written() -> None:
    with pytest.raises(ValueError, match="not valid: OBX"):
        made.assert_valid(made.sent(Hl7Version.V2_4)["confirmed"].replace(b"||F|", b"||Z|"))
