"""A run folder belongs to one configuration, one set of labels, one training."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from training_sets import configuration, write_set

from ai_engine.errors import ConfigurationRefused, RunRefused
from ai_engine.training.configuration import Configuration
from ai_engine.training.configuration_file import parse_configuration
from ai_engine.training.epoch_figures import EpochFigures
from ai_engine.training.image_sets import SplitSet, open_set
from ai_engine.training.run_folder import RunFolder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "data", images=12)
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def claimed(folder: RunFolder, wanted: Configuration, data: Path) -> list[SplitSet]:
    sets = [open_set(each, data, None) for each in wanted.sets]
    with folder.held():
        folder.claim(wanted, "as given", sets, {}, "cpu")
    return sets


def test_a_run_holds_what_is_needed_to_repeat_it(folder: RunFolder, data: Path) -> None:
    wanted = parse_configuration(configuration())
    (squares,) = claimed(folder, wanted, data)
    assert (folder.path / "configuration.toml").read_text() == "as given"
    provenance = json.loads((folder.path / "provenance.json").read_text())
    assert provenance["packages"]["numpy"]
    assert provenance["seed"] == 3
    resolved = json.loads((folder.path / "resolved.json").read_text())
    assert resolved["configuration"]["stages"][1]["clip_norm"] == 1.0
    assert len(resolved["files"]["labels of squares"][0]) == 64
    with (folder.path / "splits.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    persons = {each.person for each in squares.of.images}
    assert len(rows) == len({row["person"] for row in rows}) == len(persons)
    assert not persons & {row["person"] for row in rows}
    assert sum(int(row["images"]) for row in rows) == 12


def test_the_same_configuration_goes_on_with_other_hardware(folder: RunFolder, data: Path) -> None:
    wanted = parse_configuration(configuration())
    claimed(folder, wanted, data)
    hardware = dataclasses.replace(wanted.hardware, threads=2)
    claimed(folder, dataclasses.replace(wanted, hardware=hardware), data)


def test_a_run_of_another_configuration_is_refused_and_the_key_named(
    folder: RunFolder, data: Path
) -> None:
    claimed(folder, parse_configuration(configuration()), data)
    other = parse_configuration(configuration(average_decay="0.5"))
    with pytest.raises(RunRefused, match=r"configuration\.stages\.1\.average_decay differs"):
        claimed(folder, other, data)


def test_a_run_of_other_labels_is_refused(folder: RunFolder, data: Path) -> None:
    wanted = parse_configuration(configuration())
    claimed(folder, wanted, data)
    labels = data / "labels.csv"
    labels.write_text(labels.read_text().replace("p0,", "p00,"))
    with pytest.raises(RunRefused, match=r"files\.labels of squares"):
        claimed(folder, wanted, data)


def test_a_folder_of_other_things_is_refused(folder: RunFolder, data: Path) -> None:
    folder.path.mkdir()
    (folder.path / "thesis.docx").touch()
    with pytest.raises(RunRefused, match=r"no run folder and holds thesis\.docx"):
        claimed(folder, parse_configuration(configuration()), data)


def test_two_trainings_never_share_a_folder(folder: RunFolder) -> None:
    with (
        folder.held(),
        pytest.raises(RunRefused, match="Another training is running"),
        RunFolder(folder.path).held(),
    ):
        pass
    with folder.held():
        pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunRefused, match="cannot be written"), RunFolder(tmp_path / "file").held():
        pass


def test_a_damaged_run_is_refused(folder: RunFolder, data: Path) -> None:
    wanted = parse_configuration(configuration())
    claimed(folder, wanted, data)
    (folder.path / "resolved.json").write_text("{")
    with pytest.raises(RunRefused, match=r"resolved\.json is damaged"):
        claimed(folder, wanted, data)


def test_dicom_without_a_reader_is_refused(data: Path) -> None:
    text = configuration(layout='"dicom_table"')
    with pytest.raises(ConfigurationRefused, match="no reader of DICOM"):
        open_set(parse_configuration(text).sets[0], data, None)


def test_figures_of_epochs_after_a_checkpoint_are_forgotten(tmp_path: Path) -> None:
    figures = EpochFigures(tmp_path, writes=True)
    for epoch in (1, 2, 3):
        figures.add(0.5)
        figures.add(0.7)
        line = figures.end(epoch, epoch * 10, 1e-4, 9.0, 0.8, {"mass": 0.8, "nodule": None})
        assert line["loss"] == pytest.approx(0.6)
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 40, "lo')
    figures.forget_after(20)
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in kept] == [10, 20]
    assert kept[0]["auroc"] == {"mass": 0.8, "nodule": None}
