"""Kermany's radiographs of children, as published and as a table with a zip."""

from pathlib import Path

import pytest
from PIL import Image as Pillow

from ai_engine.errors import ImagesMissing, LabelsRefused
from ai_engine.labelled_images.kermany import KermanyPneumonia
from ai_engine.labelled_images.official_split import Part

PUBLISHED = {
    "train/NORMAL/IM-0115-0001.jpeg": ("N-0115", False, Part.TRAINING),
    "train/NORMAL/NORMAL2-IM-0383-0001.jpeg": ("N2-0383", False, Part.TRAINING),
    "train/PNEUMONIA/person1_bacteria_1.jpeg": ("P1", True, Part.TRAINING),
    "val/PNEUMONIA/person1946_bacteria_4874.jpeg": ("P1946", True, Part.TRAINING),
    "test/PNEUMONIA/person1_virus_6.jpeg": ("P1", True, Part.TEST),
}


def write(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.new("L", (8, 8), 99).save(path)


def test_the_published_folders_tell_label_person_and_part(tmp_path: Path) -> None:
    write(tmp_path, list(PUBLISHED))
    kermany = KermanyPneumonia([tmp_path])
    told = {
        each.address: (each.person, "pneumonia" in each.present, kermany.parts[each.address])
        for each in kermany.images
    }
    assert told == PUBLISHED
    assert float(kermany.pixels(kermany.images[0]).mean()) == pytest.approx(99 / 255, abs=0.01)


def test_a_table_tells_the_same(tmp_path: Path) -> None:
    write(tmp_path, list(PUBLISHED))
    lines = [
        f"{Path(name).name},{int(sick)},{person},{part is Part.TEST}"
        for name, (person, sick, part) in PUBLISHED.items()
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,pneumonia,pid,official_test", *lines]))
    folders, table = (
        KermanyPneumonia([tmp_path]),
        KermanyPneumonia([tmp_path], tmp_path / "labels.csv"),
    )
    assert sorted(table.images, key=lambda each: each.address) == sorted(
        folders.images, key=lambda each: each.address
    )
    assert table.parts == folders.parts


def test_a_name_that_tells_no_person_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ["train/NORMAL/0001.jpeg"])
    with pytest.raises(LabelsRefused, match="tells no person"):
        KermanyPneumonia([tmp_path])


def test_a_folder_without_the_published_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ["IM-0115-0001.jpeg"])
    with pytest.raises(ImagesMissing, match="NORMAL or PNEUMONIA"):
        KermanyPneumonia([tmp_path])


@pytest.mark.parametrize("line", ["IM-0115-0001.jpeg,2,N-1,True", "IM-0115-0001.jpeg,1,N-1,yes"])
def test_a_value_of_another_kind_is_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, ["IM-0115-0001.jpeg"])
    (tmp_path / "labels.csv").write_text(f"file,pneumonia,pid,official_test\n{line}\n")
    with pytest.raises(LabelsRefused, match="pneumonia 0 or 1, official_test True or False"):
        KermanyPneumonia([tmp_path], tmp_path / "labels.csv")
