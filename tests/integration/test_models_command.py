"""`radcds models`: a site sees, checks, carries and installs models, and no damaged one."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import signed_models

from ai_engine.bundle import default_bundle_path

PROGRAM = str(Path(sys.executable).parent / "radcds")
SHIPPED = default_bundle_path().name


def radcds(folder: Path, *arguments: object, **named: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "models", *map(str, arguments)],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if "RADCDS" not in name},
            "COLUMNS": "200",
            **named,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def trusted(tmp_path: Path) -> dict[str, str]:
    publishers = signed_models.publishers_file(tmp_path / "publishers.json")
    return {"RADCDS_MODEL_PUBLISHERS": str(publishers)}


def test_a_model_is_carried_to_another_server_and_used_there(
    tmp_path: Path, trusted: dict[str, str]
) -> None:
    signed_models.copied(tmp_path / "theirs", version="2.0.0")
    done = radcds(tmp_path, "export", "theirs", "theirs.zip", **trusted)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "theirs.zip").read_bytes()
    assert radcds(tmp_path, "export", "theirs", "again.zip", **trusted).returncode == 0
    assert (tmp_path / "again.zip").read_bytes() == first

    done = radcds(tmp_path, "install", "theirs.zip", **trusted)
    assert done.returncode == 0, done.stderr
    named = done.stdout.partition("RADCDS_MODEL=")[2].strip()
    assert radcds(tmp_path, "install", "theirs.zip", **trusted).returncode == 0, "twice is once"

    rows = json.loads(radcds(tmp_path, "list", "--json", **trusted, RADCDS_MODEL=named).stdout)
    assert {row["model"]: row["in_use"] for row in rows} == {
        "cxr-lite0-2.0.0": True,
        SHIPPED: False,
    }
    done = radcds(tmp_path, "verify", **trusted, RADCDS_MODEL=named)
    assert "cxr-lite0 2.0.0, sha256 " in done.stdout
    assert "signed by test; every file is as signed" in done.stdout
    assert "its maps add up to its logits" in done.stdout


def test_the_card_is_printed_for_people_and_for_programs(tmp_path: Path) -> None:
    shown = radcds(tmp_path, "show").stdout
    assert shown.startswith("# Model card: cxr-lite0 1.0.1\n\n## Status\n\nResearch demonstration")
    assert "- Decision making role: None." in shown
    card = json.loads(radcds(tmp_path, "show", SHIPPED, "--json").stdout)
    assert card["name"] == "cxr-lite0"
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"


def test_a_damaged_model_is_told_in_the_list_and_by_the_exit_code(
    tmp_path: Path, trusted: dict[str, str]
) -> None:
    folder = signed_models.without_network(tmp_path / "radcds-data/models/broken-1")
    (folder / "LICENSE").write_bytes(b"mine")
    done = radcds(tmp_path, "list", **trusted)
    assert done.returncode == 1
    assert "broken-1" in done.stdout
    assert "LICENSE has a wrong sha256" in done.stdout
    assert SHIPPED in done.stdout


def test_a_graph_that_is_none_is_found_by_verify(tmp_path: Path, trusted: dict[str, str]) -> None:
    signed_models.without_network(tmp_path / "none")
    done = radcds(tmp_path, "verify", "none", **trusted)
    assert done.returncode == 3
    assert "cannot be compiled" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_installed_of_what_does_not_verify(
    tmp_path: Path, trusted: dict[str, str]
) -> None:
    signed_models.without_network(tmp_path / "theirs")
    assert radcds(tmp_path, "export", "theirs", "theirs.zip", **trusted).returncode == 0
    whole = (tmp_path / "theirs.zip").read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"Research demonstration")] ^= 1
    (tmp_path / "flipped.zip").write_bytes(flipped)
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "outside.zip", "w") as archive:
        archive.writestr("../outside", b"x")
    for source, says in (
        ("flipped.zip", "is no undamaged zip file"),
        ("half.zip", "is no undamaged zip file"),
        ("outside.zip", "it holds '../outside'"),
        ("none.zip", "does not exist"),
        ("publishers.json", "is no undamaged zip file"),
    ):
        done = radcds(tmp_path, "install", source, **trusted)
        assert done.returncode == 3, source
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert not list((tmp_path / "radcds-data/models").iterdir())
    assert not (tmp_path.parent / "outside").exists()


def test_an_untrusted_model_is_neither_exported_nor_installed(tmp_path: Path) -> None:
    signed_models.without_network(tmp_path / "theirs")
    for arguments in (("export", "theirs", "theirs.zip"), ("install", "theirs")):
        done = radcds(tmp_path, *arguments)
        assert done.returncode == 3
        assert "signed by 'test', who is not trusted here" in done.stderr
    assert not (tmp_path / "theirs.zip").exists()


def test_a_changed_model_of_the_same_version_is_not_installed(
    tmp_path: Path, trusted: dict[str, str]
) -> None:
    signed_models.without_network(tmp_path / "one")
    other = signed_models.without_network(tmp_path / "other")
    signed_models.changed(other, "LICENSE", b"another licence")
    assert radcds(tmp_path, "install", "one", **trusted).returncode == 0
    done = radcds(tmp_path, "install", "other", **trusted)
    assert done.returncode == 3
    assert "a changed model needs a new version" in done.stderr


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = radcds(tmp_path, "show", "nothing-1.0")
    assert done.returncode == 3
    assert "there is no model 'nothing-1.0'" in done.stderr
