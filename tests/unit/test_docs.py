"""Documentation is a test that fails."""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import signed_models
import typer
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ai_engine.bundle import default_bundle_path
from ai_engine.bundle_files import MANIFEST, OPTIONAL, REQUIRED, SIGNATURE
from ai_engine.model_card import SOURCE_ATTRIBUTES
from ai_engine.publishers import Publishers, SigningKey
from cds_server.cli import app
from cds_server.config import Settings
from cds_server.network import CdsClient, Centre, Ehr, SmartRegistration, TokenIssuer
from cds_server.network_file import read_network

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def test_every_setting_is_documented_and_no_other() -> None:
    table = (ROOT / "docs/reference/settings.md").read_text()
    documented = dict(re.findall(r"^\| `RADCDS_(\w+)` \| [^|]* \| (.*) \|$", table, re.MULTILINE))
    known = {each.name.upper(): each.metadata["meaning"] for each in fields(Settings)}
    assert documented == known


def groups() -> dict[str, set[str]]:
    """Give the commands of each group; a command of its own has none."""
    group = typer.main.get_command(app)
    return {
        name: set(getattr(command, "commands", ()))
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


def commands() -> set[str]:
    return set(groups()) | {f"{name} {each}" for name, inner in groups().items() for each in inner}


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text()
    for command in commands() - {name for name, inner in groups().items() if inner}:
        assert f"`radcds {command}" in page, command


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    for named in re.findall(
        r"radcds (read|serve|worker|demo|doctor|audit|[a-z]+) ?(?=[A-Z-])", page.read_text()
    ):
        assert named in commands(), named


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_figures_of_the_readme_are_those_of_the_model_card() -> None:
    card = json.loads((default_bundle_path() / "model_card.json").read_text())
    held_out = card["held_out"]
    figure = held_out["findings"]["abnormal"]
    low, high = figure["interval_95"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{held_out['patients']} held-out patients" in readme
    assert f"AUROC of {figure['auroc']:.2f} (95 % interval {low:.2f} to {high:.2f})" in readme
    page = (ROOT / "docs/reference/model-card.md").read_text()
    assert f"| abnormal | {figure['auroc']:.2f} ({low:.2f} to {high:.2f}) |" in page


def tables(name: str) -> set[str]:
    """Give the keys that a section of the network reference documents."""
    page = (ROOT / "docs/reference/network.md").read_text()
    section = page.partition(f"## `{name}`")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("[[centre]]", Centre),
        ("[[ehr]]", Ehr),
        ("[ehr.cds]", CdsClient),
        ("[ehr.smart]", SmartRegistration),
        ("[[token_issuer]]", TokenIssuer),
    ],
)
def test_every_key_of_the_network_file_is_documented_and_no_other(name: str, kind: type) -> None:
    assert tables(name) == {each.name for each in fields(kind)}


def test_the_network_of_the_how_to_is_a_good_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/connect-an-ehr.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "network.toml").write_text(example)
    network = read_network(tmp_path / "network.toml")
    (ehr,) = network.ehrs
    assert ehr.cds is not None
    assert ehr.smart is not None
    assert network.centre_of("north hospital") == "north"


def test_the_files_that_the_walkthrough_names_are_there() -> None:
    page = (ROOT / "docs/explanation/security-walkthrough.md").read_text()
    named = re.findall(r"`((?:smart_app|cds_server)/[\w/.]+)`", page)
    assert len(named) > 8
    for each in named:
        assert (ROOT / each).exists(), each


def test_every_file_and_source_attribute_of_a_bundle_is_documented() -> None:
    page = (ROOT / "docs/reference/model-bundle.md").read_text()
    files = set(re.findall(r"`((?:configs|models|docs)/[\w.]+|manifest\.\w+|LICENSE)`", page))
    assert files | {"model_card.json"} == {*REQUIRED, *OPTIONAL, MANIFEST, SIGNATURE}
    for key, meaning in SOURCE_ATTRIBUTES.items():
        assert f"| `{key}` | {meaning} |" in page


def test_the_publisher_of_the_how_to_is_what_openssl_makes_of_a_key(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/install-a-model.md").read_text()
    pem = tmp_path / "publisher.pem"
    pem.write_bytes(
        signed_models.KEY.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    command = page.partition("writes:\n\n```sh\n")[2].partition("```")[0]
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert SigningKey.from_file("me", pem).public == done.stdout.strip()
    (tmp_path / "publishers.json").write_text(page.partition("```json\n")[2].partition("```")[0])
    trusted = Publishers.trusted(tmp_path / "publishers.json")
    assert trusted.keys["our-hospital"] == signed_models.PUBLISHERS.keys["test"]
