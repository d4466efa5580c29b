"""What is said about conformance is whole, and names tests that there are."""

import ast
import json
import tomllib
from functools import cache
from pathlib import Path

import pytest
from fhir.resources.R4B import get_fhir_model_class

from mock_ehr.cds_rules import discovery_violations
from scripts import conformance

ROOT = conformance.ROOT
ROWS = conformance.rows()
LINKED = sorted({test for row in ROWS for test in row.tests})


@cache
def functions(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_every_shall_and_should_has_an_answer() -> None:
    assert len([row for row in ROWS if row.binding]) > 190
    asked = [row for row in ROWS if row.conformance.startswith(("SHALL", "SHOULD"))]
    assert [(row.standard, row.id) for row in asked if not row.answered] == []
    assert {row.standard for row in ROWS} == set(conformance.STANDARDS)


def test_a_row_is_shown_or_does_not_apply_and_not_both() -> None:
    for row in ROWS:
        assert not (row.reason and (row.tests or row.missing)), (row.standard, row.id)


def test_no_answer_is_of_an_unknown_row_or_kind() -> None:
    known = {(row.standard, row.id) for row in ROWS}
    assert len(known) == len(ROWS)
    answers = tomllib.loads((ROOT / conformance.REQUIREMENTS).read_text(encoding="utf-8"))
    for standard, entries in answers.items():
        for number, entry in entries.items():
            assert (standard, number) in known
            assert set(entry) <= {"tests", "missing", "reason"}
            assert all(entry.values())


@pytest.mark.parametrize("linked", LINKED)
def test_every_test_that_is_named_exists_and_is_meant_to_pass(linked: str) -> None:
    path, _, name = linked.partition("::")
    assert name.startswith("test_")
    found = functions(path)[name]
    marks = " ".join(ast.unparse(each) for each in found.decorator_list)
    assert "xfail" not in marks
    assert "skip" not in marks


def test_what_was_written_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    differing = conformance.main(["--check"])
    assert differing == 0, capsys.readouterr().out


def test_a_file_that_differs_is_named_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = conformance.documents()
    monkeypatch.setattr(conformance, "documents", lambda: made)
    monkeypatch.setattr(conformance, "ROOT", tmp_path)
    for path in made:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    assert conformance.main(["--check"]) == 1
    assert capsys.readouterr().out.count("differs") == len(made)
    assert not list(tmp_path.rglob("*.md"))
    assert conformance.main([]) == 0
    assert conformance.main(["--check"]) == 0
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")} == set(made)


def published(name: str) -> bytes:
    return (ROOT / conformance.FOLDER / name).read_bytes()


def test_the_capability_statement_is_valid_r4() -> None:
    get_fhir_model_class("CapabilityStatement").model_validate_json(
        published("capability-statement.json")
    )


def test_the_discovery_document_keeps_the_rules_of_cds_hooks() -> None:
    discovery = json.loads(published("cds-services.json"))
    assert discovery["services"]
    assert discovery_violations(discovery) == []


def test_the_smart_configuration_has_what_smart_requires() -> None:
    told = json.loads(published("smart-configuration.json"))
    required = {"token_endpoint", "grant_types_supported", "capabilities"}
    assert required | {"code_challenge_methods_supported"} <= set(told)
    assert told["code_challenge_methods_supported"] == ["S256"]
