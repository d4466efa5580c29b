"""Everything that a bundle holds beside its graph and its weights."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import distribution, version

import numpy as np

from ai_engine.bundle import Bundle
from ai_engine.bundle_files import json_bytes
from ai_engine.model_card import check_model_card

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


def bundle_contents(
    bundle: Bundle, weights: bytes, *, architecture: str = "efficientnet-lite0"
) -> dict[str, bytes]:
    """Write every file of a bundle.

    Parameters
    ----------
    bundle
        The model, its card complete.
    weights
        Safetensors of the network.
    architecture
        Name of the network in ``ai_engine.networks``.

    Raises
    ------
    ModelUnavailable
        If the card leaves something out.
    """
    check_model_card(bundle.card)
    serving = {
        "input": asdict(bundle.input_spec),
        "findings": list(bundle.findings),
        "head_bias": list(bundle.head_bias),
        "modalities": sorted(bundle.modalities),
        "scope": {
            "subjects": sorted(bundle.scope.subjects),
            "views": sorted(bundle.scope.views),
            "age_bands": sorted(bundle.scope.age_bands),
            "field_of_view_mm": asdict(bundle.scope.field_of_view_mm),
        },
    }
    points = {
        finding: {**asdict(point), **asdict(bundle.calibration[finding])}
        for finding, point in bundle.operating_points.items()
    }
    return {
        "LICENSE": _licence(),
        "configs/inference.json": json_bytes(_inference(bundle, architecture)),
        "configs/metadata.json": json_bytes(_metadata(bundle, architecture)),
        "configs/operating_points.json": json_bytes(points),
        "configs/scope.npz": _familiarity(bundle),
        "configs/serving.json": json_bytes(serving),
        "docs/data_license.txt": _data_licence(bundle.card),
        "model_card.json": json_bytes(bundle.card),
        "models/model.onnx": bundle.graph,
        "models/model.safetensors": weights,
    }


def _licence() -> bytes:
    """Give the licence of the package, which its own models share.

    Raises
    ------
    FileNotFoundError
        If the package was not installed with it.
    """
    text = distribution("radcds").read_text("licenses/LICENSE")
    if text is None:
        msg = "radcds is not installed with its licence; install it with pip"
        raise FileNotFoundError(msg)
    return text.encode()


def _inference(bundle: Bundle, architecture: str) -> dict[str, object]:
    """Say how MONAI builds the network, loads its weights and prepares an image.

    References
    ----------
    MONAI Bundle configuration: ``_target_``, ``$`` for expressions, ``@`` for references.
    """
    return {
        "imports": [
            "$from pathlib import Path",
            "$from safetensors.torch import load_file",
            "$from ai_engine.preprocess import network_input",
        ],
        "bundle_root": ".",
        "spec": {"_target_": "ai_engine.preprocess.InputSpec", **asdict(bundle.input_spec)},
        "preprocessing": "$lambda pixels: network_input(pixels, @spec)",
        "network_def": {
            "_target_": "ai_engine.networks.build_network",
            "architecture": architecture,
            "findings": len(bundle.findings),
        },
        "weights": "$load_file(Path(@bundle_root) / 'models' / 'model.safetensors')",
        "initialize": [
            "$@network_def.load_state_dict({k: v.float() for k, v in @weights.items()})",
            "$@network_def.eval()",
        ],
    }


def _metadata(bundle: Bundle, architecture: str) -> dict[str, object]:
    """Describe the model as MONAI does.

    References
    ----------
    MONAI Bundle Specification 1.0, ``metadata.json``.
    """
    card, spec = bundle.card, bundle.input_spec
    names = {str(number): finding for number, finding in enumerate(bundle.findings)}
    logits = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(names),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": names,
    }
    return {
        "schema": _SCHEMA,
        "version": bundle.identity.version,
        "changelog": {bundle.identity.version: str(card["status"])},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("safetensors", "timm")},
        "name": bundle.identity.name,
        "task": "Triage of chest radiographs",
        "description": str(card["intended_use"]),
        "authors": str(_attributes(card)["developer"]),
        "copyright": str(card["licence"]),
        "network": architecture,
        "data_source": _data_licence(card).decode(),
        "data_type": "DICOM",
        "image_classes": "one channel, 0 to 1, bright is dense, then normalised",
        "pred_classes": "logit of each finding, and its saliency map",
        "intended_use": str(card["intended_use"]),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "radiograph",
                    "num_channels": 1,
                    "spatial_shape": [spec.rows, spec.columns],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {"0": "radiograph"},
                }
            },
            "outputs": {
                "pred": logits,
                "maps": logits | {"type": "image", "format": "magnitude"},
            },
        },
    }


def _attributes(card: Mapping[str, object]) -> Mapping[str, object]:
    said = card["source_attributes"]
    return said if isinstance(said, Mapping) else {}


def _data_licence(card: Mapping[str, object]) -> bytes:
    """Write which data the weights come from, and under what terms."""
    data = card["data"] if isinstance(card["data"], list) else []
    return "\n".join(
        "".join(f"{name}: {value}\n" for name, value in each.items()) for each in data
    ).encode()


def _familiarity(bundle: Bundle) -> bytes:
    written = io.BytesIO()
    np.savez(
        written,
        mean=bundle.familiarity.mean,
        components=bundle.familiarity.components,
        limit=np.float64(bundle.familiarity.limit),
    )
    return written.getvalue()
