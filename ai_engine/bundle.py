"""A model, loaded only if every byte of its bundle is what its publisher signed."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_engine.bundle_files import REMEDY, BundleFiles, read_bundle
from ai_engine.errors import ModelUnavailable
from ai_engine.image import AgeBand, Subject, View
from ai_engine.model_card import check_model_card
from ai_engine.preprocess import InputSpec
from ai_engine.publishers import Publishers
from ai_engine.result import ModelIdentity
from ai_engine.scope import Familiarity, Range, Scope
from ai_engine.triage_rule import OperatingPoint

_STEEPEST = 60.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of one finding: probability = 1 / (1 + exp(-(slope·logit + offset)))."""

    slope: float
    offset: float

    def probability(self, logit: float) -> float:
        """Give the calibrated probability, 0 to 1, of a logit."""
        exponent = np.clip(self.slope * logit + self.offset, -_STEEPEST, _STEEPEST)
        return float(1.0 / (1.0 + np.exp(-exponent)))


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
    scope
        Which images it was built for.
    familiarity
        What the training images looked like.
    card
        The model card.
    graph
        The verified bytes of the ONNX graph: they, not the file, are what is run.
    modalities
        What the network reads, by DICOM modality (0008,0060).
    publisher
        Who signed it.
    """

    identity: ModelIdentity
    input_spec: InputSpec
    head_bias: tuple[float, ...]
    operating_points: dict[str, OperatingPoint]
    calibration: dict[str, Calibration]
    scope: Scope
    familiarity: Familiarity
    card: dict[str, object]
    graph: bytes
    modalities: frozenset[str]
    publisher: str = ""

    @property
    def findings(self) -> tuple[str, ...]:
        """Labels of the findings, in the order of the graph's outputs."""
        return tuple(self.operating_points)


def default_bundle_path() -> Path:
    """Give the folder of the bundle that ships with the package."""
    return Path(__file__).parent / "bundles" / "cxr-lite0-1.0.1"


def bundles_that_ship() -> list[Path]:
    """Give the folders of all bundles that ship with the package."""
    return sorted(
        each.parent for each in (Path(__file__).parent / "bundles").glob("*/manifest.json")
    )


def load_bundle(folder: Path, publishers: Publishers | None = None) -> Bundle:
    """Read a bundle, verifying signature and every file first.

    Parameters
    ----------
    folder
        Of the bundle.
    publishers
        Whose models are run; those that ship with the package unless given.

    Raises
    ------
    ModelUnavailable
        If the publisher is not trusted, a file is missing, extra or altered, the card does not say
        what it must, or something impossible is said; it names the file and the remedy.
    """
    return bundle_of(read_bundle(folder, publishers or Publishers.trusted()))


def bundle_of(files: BundleFiles) -> Bundle:
    """Make a model of the files of its bundle.

    Raises
    ------
    ModelUnavailable
        If they say something impossible.
    """
    serving = files.json("configs/serving.json")
    points = files.json("configs/operating_points.json")
    card = files.json("model_card.json")
    try:
        check_model_card(card)
        labels = list(serving["findings"])
        return Bundle(
            identity=ModelIdentity(files.name, files.version, files.sha256),
            input_spec=InputSpec(**serving["input"]),
            head_bias=tuple(float(value) for value in serving["head_bias"]),
            operating_points={
                label: OperatingPoint(points[label]["flag"], points[label]["urgent"])
                for label in labels
            },
            calibration={
                label: Calibration(points[label]["slope"], points[label]["offset"])
                for label in labels
            },
            scope=_scope(serving["scope"]),
            familiarity=_familiarity(files.contents["configs/scope.npz"]),
            card=card,
            graph=files.contents["models/model.onnx"],
            modalities=frozenset(serving["modalities"]),
            publisher=files.publisher,
        )
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        msg = f"model bundle {files.name} does not make sense ({error!r}). {REMEDY}"
        raise ModelUnavailable(msg) from error


def _scope(said: Mapping[str, Any]) -> Scope:
    return Scope(
        subjects=frozenset(map(Subject, said["subjects"])),
        views=frozenset(map(View, said["views"])),
        age_bands=frozenset(map(AgeBand, said["age_bands"])),
        field_of_view_mm=Range(**said["field_of_view_mm"]),
    )


def _familiarity(content: bytes) -> Familiarity:
    with np.load(io.BytesIO(content), allow_pickle=False) as scope:
        return Familiarity(scope["mean"], scope["components"], float(scope["limit"]))
