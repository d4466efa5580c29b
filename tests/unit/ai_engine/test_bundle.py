"""A model file that is not exactly the released one is never run."""

import json
import shutil
from pathlib import Path

import pytest

from ai_engine.bundle import default_bundle_path, load_bundle
from ai_engine.errors import ModelUnavailable

FILES = sorted(path.name for path in default_bundle_path().iterdir())


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_bundle_path(), tmp_path / "bundle"))


def test_the_shipped_bundle_verifies() -> None:
    bundle = load_bundle(default_bundle_path())
    assert bundle.findings[0] == "abnormal"
    assert "not for clinical use" in str(bundle.card["status"])


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_a_flipped_bit_is_found_in_every_file(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ModelUnavailable, match=f"{name} has a wrong sha256"):
        load_bundle(copied)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_remedy(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelUnavailable, match=rf"{name} cannot be read.*Reinstall"):
        load_bundle(copied)


def test_an_extra_file_is_refused(copied: Path) -> None:
    (copied / "weights.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelUnavailable, match=r"weights\.pkl is not in the manifest"):
        load_bundle(copied)


def test_a_manifest_that_names_a_path_outside_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"]["../../etc/passwd"] = manifest["files"].pop("graph.bin")
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelUnavailable, match="not of format"):
        load_bundle(copied)


def test_changed_thresholds_are_another_model(copied: Path) -> None:
    before = load_bundle(copied).identity
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["version"] = "1.0.1"
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert load_bundle(copied).identity.sha256 != before.sha256


def test_the_bundle_is_small_and_holds_no_pickle() -> None:
    sizes = {path.name: path.stat().st_size for path in default_bundle_path().iterdir()}
    assert sum(sizes.values()) < 20 * 1024 * 1024
    assert not any(name.endswith((".pkl", ".pt", ".pth")) for name in sizes)
