"""A training configuration: what may stand in it, and what is said of what may not."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_engine.errors import ConfigurationRefused
from ai_engine.training import configuration as tables
from ai_engine.training.configuration import Configuration
from ai_engine.training.configuration_file import (
    as_json,
    described_keys,
    from_json,
    parse_configuration,
    read_configuration,
)

ROOT = Path(__file__).parents[4]
RECIPES = sorted((ROOT / "ai_engine/training/recipes").glob("*.toml"))
GOOD = """
name = "squares"
[network]
architecture = "efficientnet-lite0"
[[sets]]
name = "a"
layout = "nih"
labels = "labels.csv"
images = ["images"]
split = { validation = 0.2, of_source = { B = { test = 0.5 } } }
[[sets]]
name = "b"
layout = "fhir"
resources = ["labels.ndjson"]
images = "dicom"
codes = { "http://snomed.info/sct|36118008" = "pneumothorax" }
[[stages]]
name = "first"
sets = ["a", "b"]
findings = ["pneumothorax"]
rows = 64
columns = 96
epochs = 2
batch = 8
teacher = { probabilities = "teacher.csv", weight = 0.5 }
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_defaults_are_filled_in() -> None:
    configuration = parse_configuration(GOOD)
    (stage,) = configuration.stages
    assert (stage.accumulation, stage.keep, stage.clip_norm) == (1, "best", 1.0)
    assert configuration.sets[0].split.of_source["B"].validation == 0.1


def test_the_json_of_a_configuration_is_the_configuration() -> None:
    configuration = parse_configuration(GOOD)
    assert from_json(json.dumps(as_json(configuration))) == configuration


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs = 2", "epoch = 2", r"stages\[0\]\.epoch: there is no such key.*accumulation"),
        ("epochs = 2", "", r"stages\[0\]\.epochs: is missing. Passes over the images"),
        ("epochs = 2", "epochs = 0", r"stages\[0\]\.epochs: should be greater than or equal to 1"),
        ("epochs = 2", 'epochs = "2"', r"stages\[0\]\.epochs: should be a valid integer"),
        ("epochs = 2", "epochs = 2.5", r"stages\[0\]\.epochs: should be a valid integer"),
        ("epochs = 2", "epochs = true", r"stages\[0\]\.epochs: should be a valid integer"),
        ("weight = 0.5", "weight = 2.0", r"stages\[0\]\.teacher\.weight: should be less than"),
        ("weight = 0.5", "weight = nan", r"stages\[0\]\.teacher\.weight: should be a finite"),
        ('layout = "nih"', 'layout = "nhi"', r"sets\[0\].*'nih', 'kermany', 'table'"),
        ('images = ["images"]', 'images = "images"', r"sets\[0\]\.images: should be a valid"),
        ('labels = "labels.csv"', "labels = 3", r"sets\[0\]\.labels: should be a valid string"),
        ('labels = "labels.csv"', "labels = 1979-05-27", "texts, numbers, lists and tables"),
        ("test = 0.5", "test = 0.95", r"split\.of_source\.B: .*leave nobody to train on"),
        ("test = 0.5", "tset = 0.5", r"split\.of_source\.B\.tset: there is no such key.*test"),
        ('sets = ["a", "b"]', 'sets = ["c"]', "names the set 'c', and there is none such"),
        ('sets = ["a", "b"]', 'sets = ["a", "a"]', "a set is named twice"),
        ('name = "b"', 'name = "a"', "two sets have the name 'a'; rename one"),
        ('["pneumothorax"]', '["Big Heart"]', r"stages\[0\]\.findings\[0\]: .*match pattern"),
        ('["pneumothorax"]', "[]", r"stages\[0\]\.findings: .*at least 1 item"),
        ('"efficientnet-lite0"', '"efficientnet-b7"', "needs the file of the weights"),
        ('"efficientnet-lite0"', '"resnet"', r"network\.architecture: .*'densenet121'"),
        (
            '"efficientnet-lite0"',
            '"efficientnet-b0"\nstart = "chexnet"\nweights = "x"',
            "CheXNet is a DenseNet-121: its weights fit no other network. Use it as the teacher",
        ),
        (
            '"efficientnet-lite0"',
            '"efficientnet-lite0"\nstart = "random"\nweights = "x"',
            "'random' reads no weights",
        ),
        ("batch = 8", "batch = 8\nsource_weights = { A = 2.0 }", "for sampling = 'weighted'"),
        ("validation = 0.2", "official = true", "official decides what is held out"),
        ('name = "squares"', 'name = "squares', "is no TOML"),
        ('name = "squares"', 'name = "../x"', "name: .*match pattern"),
        ('name = "squares"', 'name = "x"\nseed = -1', "seed: should be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_may_stand_there(
    old: str, new: str, told: str
) -> None:
    with pytest.raises(ConfigurationRefused, match=told):
        parse_configuration(changed(old, new))


def test_every_mistake_is_told_at_once() -> None:
    text = changed("epochs = 2", "epochs = 0").replace("rows = 64", "rows = 3")
    with pytest.raises(ConfigurationRefused, match=r"(?s)stages\[0\]\.rows.*stages\[0\]\.epochs"):
        parse_configuration(text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-1, 2) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from([each.name for each in fields(Configuration)]), _values))
def test_a_value_of_any_kind_is_refused_in_words(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationRefused):
        from_json(json.dumps(content))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused, match="cannot be read"):
        read_configuration(tmp_path / "none.toml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_good_configuration(path: Path) -> None:
    assert read_configuration(path).stages


def test_there_is_a_recipe_for_each_way_to_train() -> None:
    assert [path.stem for path in RECIPES] == [
        "chexnet-distillation",
        "cxr-lite0",
        "nih-b7",
        "paediatric-pneumonia",
    ]


def section(title: str) -> dict[str, tuple[str, str]]:
    """Give default and meaning of each key that a section of the reference documents."""
    page = (ROOT / "docs/reference/training-configuration.md").read_text()
    assert f"\n## {title}\n" in page, title
    text = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    return {name: (default, meaning) for name, default, meaning in rows}


@pytest.mark.parametrize(
    ("title", "table"),
    [
        ("The file", tables.Configuration),
        ("`[network]`", tables.NetworkConfiguration),
        ('`[[sets]]` with `layout = "nih"`', tables.NihSet),
        ('`[[sets]]` with `layout = "kermany"`', tables.KermanySet),
        ('`[[sets]]` with `layout = "table"` or `"dicom_table"`', tables.TableSet),
        ('`[[sets]]` with `layout = "fhir"`', tables.FhirSet),
        ("`split` of a set", tables.SplitConfiguration),
        ("`[[stages]]`", tables.Stage),
        ("`augmentation` of a stage", tables.Augmentation),
        ("`teacher` of a stage", tables.Teacher),
        ("`[hardware]`", tables.Hardware),
    ],
)
def test_every_key_is_documented_with_its_default_and_no_other(title: str, table: type) -> None:
    documented = section(title)
    meanings = described_keys(table)
    assert {name: meaning for name, (_, meaning) in documented.items()} == meanings
    assert all(meanings.values())
    for each in fields(table):
        default, _ = documented[each.name]
        if each.default is MISSING and each.default_factory is MISSING:
            assert default == "—", each.name
        elif isinstance(each.default, bool):
            assert default == f"`{str(each.default).lower()}`", each.name
        elif isinstance(each.default, int | float | str):
            assert default == f"`{each.default}`", each.name


def test_the_example_of_the_how_to_is_a_good_configuration() -> None:
    page = (ROOT / "docs/how-to/train-on-your-own-data.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert parse_configuration(examples[0]).stages
