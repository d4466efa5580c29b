"""MONAI reads the bundle that ships, builds its network and gets what is served."""

import json

import numpy as np
import pytest

from ai_engine.bundle import default_bundle_path, load_bundle
from ai_engine.image import Image
from ai_engine.runtime import CpuRuntime

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs the [torch] extra")
monai_bundle = pytest.importorskip("monai.bundle", reason="needs the [torch] extra")
onnx = pytest.importorskip("onnx", reason="needs the [torch] extra")

ROOT = default_bundle_path()
ASKED_BY_MONAI = (
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
)


def test_monai_builds_the_network_that_is_served(rg1_image: Image) -> None:
    parser = monai_bundle.ConfigParser()
    parser.read_config(ROOT / "configs/inference.json")
    parser.read_meta(ROOT / "configs/metadata.json")
    parser["bundle_root"] = str(ROOT)
    parser.parse()
    inputs = parser.get_parsed_content("preprocessing")(rg1_image.pixels)
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        logits, maps = network(torch.from_numpy(inputs))
    served_logits, served_maps = CpuRuntime(load_bundle(ROOT)).infer(inputs)
    assert np.abs(logits[0].numpy() - served_logits).max() < 1e-4
    assert np.abs(maps[0].numpy() - served_maps).max() < 1e-3


def test_the_metadata_has_what_monai_asks_for_and_says_what_serving_says() -> None:
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    assert not set(ASKED_BY_MONAI) - set(metadata)
    bundle = load_bundle(ROOT)
    assert metadata["version"] == bundle.identity.version
    formats = metadata["network_data_format"]
    spec = bundle.input_spec
    assert formats["inputs"]["image"]["spatial_shape"] == [spec.rows, spec.columns]
    assert tuple(formats["outputs"]["pred"]["channel_def"].values()) == bundle.findings


def test_the_graph_is_good_onnx_that_holds_no_code_and_no_path() -> None:
    model = onnx.load(ROOT / "models/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["image"]
    assert [each.name for each in model.graph.output] == ["logits", "maps"]
    assert {each.domain for each in model.opset_import} == {""}
    assert b"/home/" not in model.SerializeToString()
    assert b"site-packages" not in model.SerializeToString()
