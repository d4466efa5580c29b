"""A model package on disk, loaded only if every byte is right.

::

    manifest.json           name, version, input, findings; sha256 and size of every other file
    graph.xml, graph.bin    OpenVINO IR: logits and saliency maps in one pass
    operating_points.json   calibration and thresholds of each finding
    scope.npz               what the training images looked like
    weights.safetensors     the same weights for the reference implementation
    card.json               the model card
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_engine.errors import ModelUnavailable
from ai_engine.preprocess import InputSpec
from ai_engine.result import ModelIdentity
from ai_engine.scope import Familiarity
from ai_engine.triage_rule import OperatingPoint

_FORMAT = 1
_FILES = frozenset(
    {
        "card.json",
        "graph.bin",
        "graph.xml",
        "operating_points.json",
        "scope.npz",
        "weights.safetensors",
    }
)
RADIOGRAPHS = frozenset({"CR", "DX"})
"""What a bundle reads whose manifest names no ``modalities``."""
_REMEDY = "Reinstall radcds, or set RADCDS_MODEL to an undamaged bundle."


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of one finding: probability = 1 / (1 + exp(-(slope·logit + offset)))."""

    slope: float
    offset: float


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified model package.

    Parameters
    ----------
    identity
        Name, version and the sha256 of the manifest.
    input_spec
        What the network takes.
    head_bias
        Bias of each finding's logit: map mean plus bias must equal the logit.
    operating_points, calibration
        Of each finding, in the order of the graph's outputs.
    familiarity
        What the training images looked like.
    card
        The model card.
    graph_xml, graph_bin
        The verified bytes of the graph: they, not the files, are what is run.
    modalities
        What the network reads, by DICOM modality (0008,0060).
    """

    identity: ModelIdentity
    input_spec: InputSpec
    head_bias: tuple[float, ...]
    operating_points: dict[str, OperatingPoint]
    calibration: dict[str, Calibration]
    familiarity: Familiarity
    card: dict[str, object]
    graph_xml: bytes
    graph_bin: bytes
    modalities: frozenset[str] = RADIOGRAPHS

    @property
    def findings(self) -> tuple[str, ...]:
        """Labels of the findings, in the order of the graph's outputs."""
        return tuple(self.operating_points)


def default_bundle_path() -> Path:
    """Give the folder of the bundle that ships with the package."""
    return Path(__file__).parent / "bundles" / "cxr-lite0-1.0.0"


def load_bundle(path: Path) -> Bundle:
    """Read a bundle, verifying every file against the manifest first.

    Raises
    ------
    ModelUnavailable
        If a file is missing, extra or altered, or says something impossible; it names the file
        and the remedy.
    """
    manifest_bytes = _read(path, "manifest.json")
    manifest = _json_object("manifest.json", manifest_bytes)
    files = _verified(path, manifest)
    try:
        return _bundle(manifest, manifest_bytes, files)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        msg = f"model bundle {path.name} does not make sense ({error!r}). {_REMEDY}"
        raise ModelUnavailable(msg) from error


def _bundle(manifest: dict[str, Any], manifest_bytes: bytes, files: dict[str, bytes]) -> Bundle:
    points = json.loads(files["operating_points.json"])
    labels = list(manifest["findings"])
    with np.load(io.BytesIO(files["scope.npz"]), allow_pickle=False) as scope:
        familiarity = Familiarity(scope["mean"], scope["components"], float(scope["limit"]))
    return Bundle(
        identity=ModelIdentity(
            manifest["name"], manifest["version"], hashlib.sha256(manifest_bytes).hexdigest()
        ),
        input_spec=InputSpec(**manifest["input"]),
        head_bias=tuple(float(value) for value in manifest["head_bias"]),
        operating_points={
            label: OperatingPoint(points[label]["flag"], points[label]["urgent"])
            for label in labels
        },
        calibration={
            label: Calibration(points[label]["slope"], points[label]["offset"]) for label in labels
        },
        familiarity=familiarity,
        card=_json_object("card.json", files["card.json"]),
        graph_xml=files["graph.xml"],
        graph_bin=files["graph.bin"],
        modalities=frozenset(manifest.get("modalities", RADIOGRAPHS)),
    )


def _verified(path: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    """Read every file of the manifest and compare its size and sha256.

    Raises
    ------
    ModelUnavailable
        If anything differs.
    """
    listed = manifest.get("files")
    if manifest.get("format") != _FORMAT or not isinstance(listed, dict) or set(listed) != _FILES:
        msg = f"model bundle {path.name}: manifest.json is not of format {_FORMAT}. {_REMEDY}"
        raise ModelUnavailable(msg)
    extra = {each.name for each in path.iterdir()} - _FILES - {"manifest.json"}
    if extra:
        msg = f"model bundle {path.name}: {min(extra)} is not in the manifest. {_REMEDY}"
        raise ModelUnavailable(msg)
    contents = {}
    for name, expected in listed.items():
        content = _read(path, name)
        if hashlib.sha256(content).hexdigest() != expected["sha256"]:
            msg = f"model bundle {path.name}: {name} has a wrong sha256. {_REMEDY}"
            raise ModelUnavailable(msg)
        contents[name] = content
    return contents


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        msg = f"model bundle {path.name}: {name} cannot be read ({error.strerror}). {_REMEDY}"
        raise ModelUnavailable(msg) from error


def _json_object(name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        msg = f"model bundle: {name} is no JSON. {_REMEDY}"
        raise ModelUnavailable(msg) from error
    if not isinstance(value, dict):
        msg = f"model bundle: {name} is no JSON object. {_REMEDY}"
        raise ModelUnavailable(msg)
    return value
