"""The pages on destinations say what the code reads, and what it counts."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from certificates import Authority
from prometheus_client.parser import text_string_to_metric_families
from serving import Serving
from studies import site

from cds_server.destinations_file import FhirAuth, Receivers, read_receivers
from cds_server.errors import InvalidSettings
from cds_server.outbox import DeliveryState
from fhir_mappers.fhir_rules.profiles import Profile
from fhir_mappers.hl7_dialect import AcknowledgementMode, CharacterSet, Hl7Version, PriorityField

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference/destinations.md").read_text(encoding="utf-8")
LEAST = {
    "The file": "{}\n",
    "`[[hl7]]`": '[[hl7]]\nname = "ris"\naddress = "127.0.0.1:2575"\n{}\n',
    "`[[fhir]]`": '[[fhir]]\nname = "trust"\nurl = "https://fhir.example.org/r4"\n{}\n',
    "`[hl7_inbound]`": '[hl7_inbound]\naddress = "127.0.0.1:2575"\n{}\n',
    "`tls`": '[[hl7]]\nname = "ris"\naddress = "127.0.0.1:2575"\n[hl7.tls]\n{}\n',
}
"""Each section of the page, and a file with the least of what it is about."""


def read(folder: Path, text: str) -> Receivers:
    (folder / "destinations.toml").write_text(text, encoding="utf-8")
    return read_receivers(folder / "destinations.toml", site())


def documented(section: str) -> Mapping[str, str]:
    """Give the keys of a section, each with its default in words or as TOML."""
    part = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", part, re.MULTILINE))


@pytest.mark.parametrize("section", LEAST)
def test_every_key_of_the_file_is_documented_and_no_other(section: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="unknown key 'unheard_of'") as refused:
        read(tmp_path, LEAST[section].format("unheard_of = 1"))
    known = str(refused.value).partition("the keys are ")[2].split(", ")
    assert sorted(documented(section)) == known


@pytest.mark.parametrize("section", LEAST)
def test_every_default_that_is_documented_is_the_one(section: str, tmp_path: Path) -> None:
    defaults = {key: said[1:-1] for key, said in documented(section).items() if said[0] == "`"}
    given = "\n".join(f"{key} = {value}" for key, value in defaults.items())
    assert read(tmp_path, LEAST[section].format(given)) == read(
        tmp_path, LEAST[section].format("")
    ), "a value that is written down changes nothing"


@pytest.mark.parametrize("section", LEAST)
def test_what_is_said_to_be_required_is(section: str, tmp_path: Path) -> None:
    for key in [key for key, said in documented(section).items() if said == "required"]:
        text = re.sub(rf"^{key} = .*\n", "", LEAST[section].format(""), flags=re.MULTILINE)
        if section == "`[hl7_inbound]`":
            text = "[hl7_inbound]\nclear_text = true\n"
        with pytest.raises(InvalidSettings, match=f"{key} is missing"):
            read(tmp_path, text)


@pytest.mark.parametrize(
    "kind", [FhirAuth, Profile, AcknowledgementMode, CharacterSet, Hl7Version, PriorityField]
)
def test_every_value_of_a_choice_is_named(kind: type) -> None:
    for value in kind:  # type: ignore[attr-defined]
        assert f"`{value}`" in PAGE or f'"{value}"' in PAGE, value


def test_the_example_is_a_good_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.server("radcds.example.org")
    own.certificate.rename(tmp_path / "radcds.pem")
    own.key.rename(tmp_path / "radcds.key")
    receivers = read(tmp_path, PAGE.partition("```toml\n")[2].partition("```")[0])
    assert [each.name for each in receivers.hl7] == ["ris", "archive-feed"]
    assert [each.name for each in receivers.fhir] == ["trust", "network"]
    assert receivers.inbound is not None


def test_the_largest_overlays_are_those_of_the_page(tmp_path: Path) -> None:
    for version, largest_kb in (("2.5.1", 68), ("2.4", 47)):
        assert re.search(rf"`overlay_kb`.*\b{largest_kb}\b", PAGE)
        values = f'version = "{version}"\noverlay_kb = {{}}'
        assert read(tmp_path, LEAST["`[[hl7]]`"].format(values.format(largest_kb)))
        with pytest.raises(InvalidSettings, match="holds an overlay"):
            read(tmp_path, LEAST["`[[hl7]]`"].format(values.format(largest_kb + 1)))


def test_every_metric_is_documented_and_no_other(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.add("urgent")
    serving.operations.note("archive", "does not answer")
    families = text_string_to_metric_families(serving.client.get("/metrics").text)
    told = {each.name: {label for s in each.samples for label in s.labels} for each in families}
    page = (DOCS / "how-to/operate-deliveries.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(radcds_\w+)` \| (.*?) \|", page, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == told
    alerts = page.partition("groups:")[2]
    asked = set(re.findall(r"radcds_\w+", alerts))
    assert len(asked) == 3
    assert asked <= set(told)


def test_every_state_of_a_delivery_is_documented_and_no_other() -> None:
    page = (DOCS / "how-to/operate-deliveries.md").read_text(encoding="utf-8")
    states = page.partition("| state |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (\w+) \|", states, re.MULTILINE) == [
        each.value for each in DeliveryState
    ]
