"""The folder of a run: all that is needed to go on with it, and to repeat it."""

import csv
import fcntl
import hashlib
import io
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ai_engine.errors import RunRefused
from ai_engine.labelled_images.label_file import sha256_of
from ai_engine.training.configuration import Configuration
from ai_engine.training.configuration_file import as_json
from ai_engine.training.image_sets import SplitSet

_PACKAGES = (
    "radcds", "torch", "monai", "timm", "torchvision", "numpy", "pillow", "scikit-learn",
    "safetensors",
)  # fmt: skip
_CONFIGURATION, _GIVEN, _PROVENANCE = "resolved.json", "configuration.toml", "provenance.json"
_README = """# Training run of {name}

- `configuration.toml`: the configuration as it was given; `resolved.json`: with every default.
- `provenance.json`: versions, device, and the sha256 of every label and weight file.
- `splits.csv`: the part of each person. Keys of persons are hashed, with the set's label files as
  salt: who has the label files can tell who is who, so treat it as you treat them.
- `stages/NAME/`: `metrics.jsonl` (a line an epoch), `tensorboard/`, `checkpoints/`,
  `best.safetensors` (best mean validation AUROC) and `last.safetensors`, `complete.json`.

To go on after a stop or a crash, and to repeat the run into another folder:

    radcds train configuration.toml --data DATA --out FOLDER

The same configuration, label files and versions on the same machine give the same weights, bit for
bit, on a CPU; on a GPU with `deterministic = true`. Another configuration needs another folder.
"""


class RunFolder:
    """A folder that belongs to one configuration and one set of label files.

    Parameters
    ----------
    path
        Of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> Path:
        """Give the folder of a stage."""
        return self.path / "stages" / name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainings out while the block runs.

        Raises
        ------
        RunRefused
            If another one is running there, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w", encoding="utf-8")
        except OSError as error:
            msg = f"{self.path} cannot be written ({error.strerror}). Give another folder."
            raise RunRefused(msg) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                msg = f"Another training is running in {self.path}. Wait, or give another folder."
                raise RunRefused(msg) from error
            yield

    def claim(
        self,
        configuration: Configuration,
        given: str,
        sets: Sequence[SplitSet],
        files: Mapping[str, Path],
        device: str,
    ) -> None:
        """Write what the run is, or check that the folder is of the same run.

        Parameters
        ----------
        configuration
            Of the run; its ``hardware`` may differ from that of before.
        given
            Text of the configuration.
        sets
            Split.
        files
            Other files that the result depends on, by what they are.
        device
            That trains.

        Raises
        ------
        RunRefused
            If it is of another configuration, of other label files, or no run folder; it names
            what differs.
        """
        identity = {
            "configuration": _lasting(configuration),
            "files": {
                **{f"labels of {each.name}": _digests(each) for each in sets},
                **{what: sha256_of(path) for what, path in files.items()},
            },
            "splits": _digest(_splits(sets)),
        }
        existing = self.path / _CONFIGURATION
        if existing.is_file():
            self._compare(existing, identity)
        else:
            self._refuse_foreign()
            _write(existing, _text(identity))
        provenance = {
            "python": platform.python_version(),
            "machine": platform.platform(),
            "device": device,
            "packages": {name: _version(name) for name in _PACKAGES},
            "seed": configuration.seed,
            "hardware": as_json(configuration)["hardware"],
        }
        for name, text in (
            (_GIVEN, given),
            (_PROVENANCE, _text(provenance)),
            ("splits.csv", _splits(sets)),
            ("README.md", _README.format(name=configuration.name)),
        ):
            if text and not (self.path / name).is_file():
                _write(self.path / name, text)

    def completed(self, stage: str) -> dict[str, Any] | None:
        """Give what ``complete`` wrote of a stage, or ``None`` where it has not ended."""
        path = self.stage(stage) / "complete.json"
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def complete(self, stage: str, told: Mapping[str, object]) -> None:
        """Note that a stage has ended."""
        _write(self.stage(stage) / "complete.json", _text(told))

    def _refuse_foreign(self) -> None:
        """Refuse a folder that holds other things.

        Raises
        ------
        RunRefused
            Naming one of them.
        """
        names = sorted(each.name for each in self.path.iterdir() if not each.name.startswith("."))
        if names:
            msg = f"{self.path} is no run folder and holds {names[0]}. Give an empty folder."
            raise RunRefused(msg)

    def _compare(self, existing: Path, identity: dict[str, Any]) -> None:
        """Compare with the run of the folder.

        Raises
        ------
        RunRefused
            Naming the first difference.
        """
        try:
            before = json.loads(existing.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{existing} is damaged ({error}). Give another folder."
            raise RunRefused(msg) from error
        if before != identity:
            where = _difference(before, identity)
            msg = (
                f"{self.path} is the run of another configuration or of other labels: {where} "
                "differs. Give another folder, or the configuration and data of that run."
            )
            raise RunRefused(msg)


def _lasting(configuration: Configuration) -> dict[str, Any]:
    """Give the configuration without what may differ from one start to the next."""
    return {key: value for key, value in as_json(configuration).items() if key != "hardware"}


def _difference(before: object, now: object) -> str:
    """Give the path of the first value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                below = _difference(before.get(key), now.get(key))
                return f"{key}.{below}" if below else key
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        at = next(at for at, each in enumerate(before) if each != now[at])
        below = _difference(before[at], now[at])
        return f"{at}.{below}" if below else str(at)
    return ""


def _splits(sets: Sequence[SplitSet]) -> str:
    """List the part of each person of each set, by hashed key."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["set", "person", "part", "images"])
    for each in sets:
        salt = "|".join(_digests(each))
        counts: dict[tuple[str, str], int] = {}
        for part in ("training", "validation", "test"):
            for image in getattr(each.split, part):
                key = (_digest(f"{salt}|{image.person}")[:16], part)
                counts[key] = counts.get(key, 0) + 1
        for (person, part), count in sorted(counts.items()):
            rows.writerow([each.name, person, part, count])
    return out.getvalue()


def _digests(one: SplitSet) -> list[str]:
    return [sha256_of(path) for path in one.label_files]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
