"""The files of a model bundle: read, each one verified against the signed manifest, and written.

::

    manifest.json                   name, version; sha256 and size of every other file
    manifest.sig                    who says so: Ed25519 over manifest.json
    model_card.json                 for a clinical-governance board
    LICENSE, docs/data_license.txt  of the weights, and of the data that they come from
    configs/metadata.json           as MONAI describes a bundle
    configs/inference.json          as MONAI runs one
    configs/serving.json            input, findings, modalities: what serving needs to know
    configs/operating_points.json   calibration and thresholds of each finding
    configs/scope.npz               what the training images looked like
    models/model.onnx               logits and saliency maps in one pass
    models/model.safetensors        the same weights for the reference implementation
    docs/evaluation.json, .html     optional: how it was judged

References
----------
MONAI Bundle Specification 1.0: ``configs``, ``models``, ``docs``, ``LICENSE``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_engine.errors import ModelUnavailable
from ai_engine.publishers import Publishers, SigningKey

FORMAT = 2
REQUIRED = frozenset(
    {
        "LICENSE",
        "configs/inference.json",
        "configs/metadata.json",
        "configs/operating_points.json",
        "configs/scope.npz",
        "configs/serving.json",
        "docs/data_license.txt",
        "model_card.json",
        "models/model.onnx",
        "models/model.safetensors",
    }
)
OPTIONAL = frozenset({"docs/evaluation.html", "docs/evaluation.json"})
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
LARGEST_BYTES = 2 * 1024**3
REMEDY = "Install the bundle again, or name another with RADCDS_MODEL."


@dataclass(frozen=True, slots=True, eq=False)
class BundleFiles:
    """Every file of a bundle, as its publisher signed it.

    Parameters
    ----------
    name, version
        Of the model.
    sha256
        Of the manifest, in hex: it stands for every byte of the bundle.
    publisher
        Who signed the manifest.
    contents
        Path within the bundle → bytes.
    """

    name: str
    version: str
    sha256: str
    publisher: str
    contents: Mapping[str, bytes]

    def json(self, path: str) -> dict[str, Any]:
        """Read one file as a JSON object.

        Raises
        ------
        ModelUnavailable
            If it is none.
        """
        return _json_object(self.name, path, self.contents[path])


def read_bundle(folder: Path, publishers: Publishers) -> BundleFiles:
    """Read a bundle, and believe no byte of it that its publisher did not sign.

    Raises
    ------
    ModelUnavailable
        If a file is missing, extra, a link or altered, or the publisher is not trusted; it names
        the file and the remedy.
    """
    manifest_bytes = _read(folder, MANIFEST)
    try:
        publisher = publishers.who_signed(manifest_bytes, _signature(folder, manifest_bytes))
    except ModelUnavailable as error:
        msg = f"model bundle {folder.name}: {error}."
        raise ModelUnavailable(msg) from error
    manifest = _json_object(folder.name, MANIFEST, manifest_bytes)
    listed = _listed(folder, manifest)
    _refuse_what_is_not_listed(folder, set(listed))
    return BundleFiles(
        name=str(manifest.get("name")),
        version=str(manifest.get("version")),
        sha256=hashlib.sha256(manifest_bytes).hexdigest(),
        publisher=publisher,
        contents={path: _verified(folder, path, said) for path, said in sorted(listed.items())},
    )


def write_bundle(
    folder: Path, name: str, version: str, contents: Mapping[str, bytes], key: SigningKey
) -> None:
    """Write a bundle and sign it.

    Parameters
    ----------
    folder
        Must not exist, or be empty.
    name, version
        Of the model.
    contents
        Path within the bundle → bytes: all of ``REQUIRED``, and any of ``OPTIONAL``.
    key
        Of the publisher.

    Raises
    ------
    ModelUnavailable
        If the folder holds something already, or a file is missing or unknown.
    """
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} holds something already; name a new folder for the bundle"
        raise ModelUnavailable(msg)
    if wrong := (REQUIRED - set(contents)) | (set(contents) - REQUIRED - OPTIONAL):
        msg = f"a bundle of format {FORMAT} cannot be written: {min(wrong)} is missing or unknown"
        raise ModelUnavailable(msg)
    manifest = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "files": {
            path: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for path, content in sorted(contents.items())
        },
    }
    manifest_bytes = json_bytes(manifest)
    signed = {MANIFEST: manifest_bytes, SIGNATURE: key.sign(manifest_bytes)}
    for path, content in {**contents, **signed}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def json_bytes(value: object) -> bytes:
    """Write JSON as it stands in a bundle."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _signature(folder: Path, manifest: bytes) -> bytes:
    """Read the signature; a bundle of another format may have none, and is told apart first.

    Raises
    ------
    ModelUnavailable
        If there is none.
    """
    if not (folder / SIGNATURE).exists():
        _listed(folder, _json_object(folder.name, MANIFEST, manifest))
    return _read(folder, SIGNATURE)


def _listed(folder: Path, manifest: dict[str, Any]) -> dict[str, object]:
    """Give what the manifest says of each file.

    Raises
    ------
    ModelUnavailable
        If it is of another format, or lists other files than the format has.
    """
    if manifest.get("format") != FORMAT:
        msg = (
            f"model bundle {folder.name} is of format {manifest.get('format')!r}; this radcds "
            f"reads format {FORMAT}. Get the bundle in this format from its publisher."
        )
        raise ModelUnavailable(msg)
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not set(listed) >= REQUIRED:
        msg = f"model bundle {folder.name}: manifest.json does not list every file. {REMEDY}"
        raise ModelUnavailable(msg)
    if unknown := set(listed) - REQUIRED - OPTIONAL:
        msg = f"model bundle {folder.name}: {min(unknown)} is no file of a bundle. {REMEDY}"
        raise ModelUnavailable(msg)
    return listed


def _refuse_what_is_not_listed(folder: Path, listed: set[str]) -> None:
    for each in folder.rglob("*"):
        path = each.relative_to(folder).as_posix()
        if each.is_symlink():
            msg = f"model bundle {folder.name}: {path} is a link. {REMEDY}"
            raise ModelUnavailable(msg)
        if not each.is_dir() and path not in {*listed, MANIFEST, SIGNATURE}:
            msg = f"model bundle {folder.name}: {path} is not in the manifest. {REMEDY}"
            raise ModelUnavailable(msg)


def _verified(folder: Path, path: str, said: object) -> bytes:
    content = _read(folder, path)
    if not isinstance(said, dict) or hashlib.sha256(content).hexdigest() != said.get("sha256"):
        msg = f"model bundle {folder.name}: {path} has a wrong sha256. {REMEDY}"
        raise ModelUnavailable(msg)
    return content


def _read(folder: Path, path: str) -> bytes:
    try:
        if (folder / path).stat().st_size > LARGEST_BYTES:
            msg = f"model bundle {folder.name}: {path} is larger than 2 GiB. {REMEDY}"
            raise ModelUnavailable(msg)
        return (folder / path).read_bytes()
    except OSError as error:
        msg = f"model bundle {folder.name}: {path} cannot be read ({error.strerror}). {REMEDY}"
        raise ModelUnavailable(msg) from error


def _json_object(bundle: str, path: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        msg = f"model bundle {bundle}: {path} is no JSON. {REMEDY}"
        raise ModelUnavailable(msg) from error
    if not isinstance(value, dict):
        msg = f"model bundle {bundle}: {path} is no JSON object. {REMEDY}"
        raise ModelUnavailable(msg)
    return value
