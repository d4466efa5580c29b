"""Bundles that a publisher of the tests signs."""

import hashlib
import json
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ai_engine.bundle import default_bundle_path
from ai_engine.bundle_files import MANIFEST, SIGNATURE, json_bytes
from ai_engine.publishers import Publishers, SigningKey

KEY = SigningKey("test", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
PUBLISHERS = Publishers({"test": KEY.key.public_key().public_bytes_raw()})


def copied(folder: Path, *, key: SigningKey = KEY, **changes: object) -> Path:
    """Copy the bundle that ships to a folder, change its manifest and sign it."""
    shutil.copytree(default_bundle_path(), folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    sign(folder, manifest | changes, key)
    return folder


def without_network(folder: Path) -> Path:
    """Copy the bundle that ships with a few bytes in place of its network, which is not run."""
    copied(folder)
    for path in ("models/model.onnx", "models/model.safetensors"):
        changed(folder, path, b"no network")
    return folder


def changed(folder: Path, path: str, content: bytes) -> None:
    """Change one file of a bundle, its digest, and the signature."""
    (folder / path).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][path] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    sign(folder, manifest, KEY)


def sign(folder: Path, manifest: object, key: SigningKey) -> None:
    content = json_bytes(manifest)
    (folder / MANIFEST).write_bytes(content)
    (folder / SIGNATURE).write_bytes(key.sign(content))


def publishers_file(path: Path) -> Path:
    """Write the public key of the tests where a site would."""
    path.write_text(json.dumps({"test": KEY.public}))
    return path
