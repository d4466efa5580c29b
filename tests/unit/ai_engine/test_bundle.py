"""A model that is not exactly what a trusted publisher signed is never run."""

import base64
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from signed_models import KEY, PUBLISHERS, changed, copied, sign, without_network

from ai_engine.bundle import default_bundle_path, load_bundle
from ai_engine.bundle_files import MANIFEST, REQUIRED, SIGNATURE, json_bytes, write_bundle
from ai_engine.errors import ModelUnavailable
from ai_engine.model_card import SOURCE_ATTRIBUTES
from ai_engine.publishers import Publishers, SigningKey

FILES = sorted([*REQUIRED, MANIFEST, SIGNATURE])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_network(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def test_the_shipped_bundle_verifies() -> None:
    bundle = load_bundle(default_bundle_path())
    assert bundle.findings[0] == "abnormal"
    assert bundle.publisher == "radcds-2026"
    assert "not for clinical use" in str(bundle.card["status"])


def test_its_findings_are_in_the_order_of_its_card() -> None:
    bundle = load_bundle(default_bundle_path())
    assert list(bundle.findings) == bundle.card["findings"]


@pytest.mark.parametrize("path", sorted(REQUIRED))
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_found_in_every_file(bundle: Path, path: str, place: float) -> None:
    content = bytearray((bundle / path).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (bundle / path).write_bytes(content)
    with pytest.raises(ModelUnavailable, match=f"{path} has a wrong sha256"):
        load_bundle(bundle, PUBLISHERS)


@pytest.mark.parametrize("path", [MANIFEST, SIGNATURE])
def test_no_bit_of_manifest_or_signature_can_be_flipped(bundle: Path, path: str) -> None:
    whole = (bundle / path).read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        (bundle / path).write_bytes(content)
        with pytest.raises(ModelUnavailable):
            load_bundle(bundle, PUBLISHERS)


@pytest.mark.parametrize("path", FILES)
def test_a_missing_file_is_named_with_the_remedy(bundle: Path, path: str) -> None:
    (bundle / path).unlink()
    with pytest.raises(ModelUnavailable, match=rf"{path} cannot be read.*Install the bundle again"):
        load_bundle(bundle, PUBLISHERS)


@pytest.mark.parametrize("path", ["weights.pkl", "models/extra.bin", "docs/.hidden"])
def test_an_extra_file_is_refused(bundle: Path, path: str) -> None:
    (bundle / path).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelUnavailable, match=rf"{path} is not in the manifest"):
        load_bundle(bundle, PUBLISHERS)


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    card = bundle / "model_card.json"
    (tmp_path / "elsewhere.json").write_bytes(card.read_bytes())
    card.unlink()
    card.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelUnavailable, match=r"model_card\.json is a link"):
        load_bundle(bundle, PUBLISHERS)


def test_a_manifest_that_names_a_path_outside_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"]["../../etc/passwd"] = manifest["files"]["LICENSE"]
    sign(bundle, manifest, KEY)
    with pytest.raises(ModelUnavailable, match=r"etc/passwd is no file of a bundle"):
        load_bundle(bundle, PUBLISHERS)


def test_a_bundle_of_another_format_says_what_to_get(bundle: Path) -> None:
    sign(bundle, json.loads((bundle / MANIFEST).read_text()) | {"format": 3}, KEY)
    with pytest.raises(ModelUnavailable, match=r"format 3; this radcds reads format 2"):
        load_bundle(bundle, PUBLISHERS)


def test_a_bundle_of_the_first_format_is_told_apart_from_an_unsigned_one(bundle: Path) -> None:
    (bundle / SIGNATURE).unlink()
    (bundle / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(ModelUnavailable, match=r"format 1; this radcds reads format 2"):
        load_bundle(bundle, PUBLISHERS)


def test_a_stranger_s_model_is_refused_by_name(tmp_path: Path) -> None:
    stranger = SigningKey("stranger", Ed25519PrivateKey.generate())
    bundle = copied(tmp_path / "theirs", key=stranger)
    with pytest.raises(ModelUnavailable, match="signed by 'stranger', who is not trusted here"):
        load_bundle(bundle, PUBLISHERS)


def test_a_stranger_cannot_sign_in_the_name_of_a_publisher(tmp_path: Path) -> None:
    forger = SigningKey("test", Ed25519PrivateKey.generate())
    with pytest.raises(ModelUnavailable, match="not what 'test' signed"):
        load_bundle(copied(tmp_path / "forged", key=forger), PUBLISHERS)


def test_a_signature_of_something_else_does_not_fit_a_manifest(bundle: Path) -> None:
    manifest = (bundle / MANIFEST).read_bytes()
    signed = json.loads(KEY.sign(manifest))
    signed["ed25519"] = base64.b64encode(KEY.key.sign(manifest)).decode()
    (bundle / SIGNATURE).write_bytes(json_bytes(signed))
    with pytest.raises(ModelUnavailable, match="not what 'test' signed"):
        load_bundle(bundle, PUBLISHERS)


def test_another_version_is_another_model(tmp_path: Path) -> None:
    first, second = copied(tmp_path / "1"), copied(tmp_path / "2", version="1.0.2")
    one, other = (load_bundle(each, PUBLISHERS).identity for each in (first, second))
    assert one.sha256 != other.sha256
    assert other.version == "1.0.2"


@pytest.mark.parametrize("name", SOURCE_ATTRIBUTES)
def test_a_card_that_leaves_out_a_source_attribute_is_refused(bundle: Path, name: str) -> None:
    card = json.loads((bundle / "model_card.json").read_text())
    card["source_attributes"][name] = " "
    changed(bundle, "model_card.json", json.dumps(card).encode())
    with pytest.raises(ModelUnavailable, match=rf"does not say: source_attributes\.{name}\. "):
        load_bundle(bundle, PUBLISHERS)


def test_there_are_31_source_attributes() -> None:
    assert len(SOURCE_ATTRIBUTES) == 31


def test_a_card_without_attributions_of_its_data_is_refused(bundle: Path) -> None:
    card = json.loads((bundle / "model_card.json").read_text())
    del card["data"][1]["licence"]
    changed(bundle, "model_card.json", json.dumps(card).encode())
    with pytest.raises(ModelUnavailable, match=r"does not say: data\[1\]\.licence"):
        load_bundle(bundle, PUBLISHERS)
    changed(bundle, "model_card.json", json.dumps(card | {"data": []}).encode())
    with pytest.raises(ModelUnavailable, match=r"does not say: data\. "):
        load_bundle(bundle, PUBLISHERS)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("configs/serving.json", b"{}"),
        ("configs/serving.json", b"[]"),
        ("configs/serving.json", b"\xff"),
        ("configs/operating_points.json", b'{"abnormal": {"flag": 2}}'),
        ("configs/scope.npz", b"PK\x03\x04"),
        ("configs/scope.npz", b""),
    ],
)
def test_what_a_publisher_signed_by_mistake_is_refused(
    bundle: Path, path: str, content: bytes
) -> None:
    changed(bundle, path, content)
    with pytest.raises(ModelUnavailable):
        load_bundle(bundle, PUBLISHERS)


def test_a_bundle_is_never_written_over_another(bundle: Path) -> None:
    contents = {path: (bundle / path).read_bytes() for path in REQUIRED}
    with pytest.raises(ModelUnavailable, match="holds something already"):
        write_bundle(bundle, "x", "1", contents, KEY)
    del contents["LICENSE"]
    with pytest.raises(ModelUnavailable, match="LICENSE is missing"):
        write_bundle(bundle.parent / "new", "x", "1", contents, KEY)


def test_the_bundle_is_small_and_holds_no_pickle() -> None:
    sizes = {path.name: path.stat().st_size for path in default_bundle_path().rglob("*")}
    assert sum(sizes.values()) < 20 * 1024 * 1024
    assert not any(name.endswith((".pkl", ".pt", ".pth")) for name in sizes)


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"a": "!"}', '{"a": "AAAA"}', '{"a": 1}', '{"radcds-2026": "AAAA"}']
)
def test_publishers_that_make_no_sense_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "publishers.json").write_text(content)
    with pytest.raises(ModelUnavailable, match="publishers"):
        Publishers.trusted(tmp_path / "publishers.json")


def test_a_site_cannot_take_the_name_of_the_publisher_that_ships(tmp_path: Path) -> None:
    (tmp_path / "publishers.json").write_text(json.dumps({"radcds-2026": KEY.public}))
    with pytest.raises(ModelUnavailable, match="the name of another publisher already"):
        Publishers.trusted(tmp_path / "publishers.json")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAA==\n", b"\xff"])
def test_a_signing_key_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(ModelUnavailable, match="no unencrypted private key"):
        SigningKey.from_file("me", tmp_path / "key.pem")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        SigningKey.from_file("me", tmp_path / "none.pem")
