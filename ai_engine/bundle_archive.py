"""A model bundle as one file, to carry from one machine to another."""

import shutil
import tempfile
import zipfile
from pathlib import Path

from ai_engine.bundle import Bundle, bundle_of
from ai_engine.bundle_files import (
    LARGEST_BYTES,
    MANIFEST,
    OPTIONAL,
    REQUIRED,
    SIGNATURE,
    read_bundle,
)
from ai_engine.errors import ModelUnavailable
from ai_engine.publishers import Publishers

_NAMES = REQUIRED | OPTIONAL | {MANIFEST, SIGNATURE}
_CHUNK_BYTES = 1024 * 1024


def export_bundle(folder: Path, archive: Path, publishers: Publishers) -> Bundle:
    """Verify a bundle and write it as a zip file: the same bundle gives the same bytes.

    Parameters
    ----------
    folder
        Of the bundle.
    archive
        File to write; must not exist.
    publishers
        Whose models are believed.

    Raises
    ------
    ModelUnavailable
        If the bundle does not verify, or the file exists or cannot be written.
    """
    files = read_bundle(folder, publishers)
    bundle = bundle_of(files)
    own = {name: (folder / name).read_bytes() for name in (MANIFEST, SIGNATURE)}
    try:
        with archive.open("xb") as handle, zipfile.ZipFile(handle, "w") as written:
            for name, content in sorted({**files.contents, **own}.items()):
                written.writestr(zipfile.ZipInfo(name), content)
    except OSError as error:
        msg = f"{archive} cannot be written ({error.strerror}); name a new file"
        raise ModelUnavailable(msg) from error
    return bundle


def install_bundle(source: Path, models: Path, publishers: Publishers) -> tuple[Bundle, Path]:
    """Verify a bundle and put it among the installed ones, whole or not at all.

    Parameters
    ----------
    source
        A folder, or a file of ``export_bundle``.
    models
        Folder of the installed bundles; made if needed.
    publishers
        Whose models are believed.

    Returns
    -------
    tuple[Bundle, Path]
        The model, and its folder. What is installed already is left as it is.

    Raises
    ------
    ModelUnavailable
        If it does not verify, cannot be written, or another bundle of this name and version is
        installed.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".arriving-", dir=models) as temporary:
            arriving = Path(temporary) / "bundle"
            if source.is_dir():
                read_bundle(source, publishers)
                shutil.copytree(source, arriving)
            else:
                _unpack(source, arriving)
            bundle = bundle_of(read_bundle(arriving, publishers))
            place = models / f"{bundle.identity.name}-{bundle.identity.version}"
            if not place.exists():
                arriving.rename(place)
            elif read_bundle(place, publishers).sha256 != bundle.identity.sha256:
                msg = (
                    f"another bundle of {place.name} is installed in {place}; a changed model "
                    "needs a new version"
                )
                raise ModelUnavailable(msg)
    except OSError as error:
        msg = f"the bundle cannot be installed in {models} ({error.strerror})"
        raise ModelUnavailable(msg) from error
    return bundle, place


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive that a bundle may have, and refuse any other.

    Raises
    ------
    ModelUnavailable
        If it is no zip file, damaged, too large, or holds something else.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for each in packed.infolist():
                if each.filename not in _NAMES:
                    msg = f"{archive.name} is no model bundle: it holds {each.filename[:80]!r}"
                    raise ModelUnavailable(msg)
                if each.file_size > LARGEST_BYTES:
                    msg = f"{archive.name}: {each.filename} is larger than 2 GiB"
                    raise ModelUnavailable(msg)
                _write(packed, each, folder / each.filename)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        msg = f"{archive.name} is no undamaged zip file ({error}); get it again"
        raise ModelUnavailable(msg) from error
    except FileNotFoundError as error:
        msg = f"{archive} does not exist; name the folder or the file of a bundle"
        raise ModelUnavailable(msg) from error


def _write(packed: zipfile.ZipFile, each: zipfile.ZipInfo, path: Path) -> None:
    """Write one file, never more than its header says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = each.file_size
    with packed.open(each) as content, path.open("xb") as written:
        while chunk := content.read(min(_CHUNK_BYTES, left)):
            written.write(chunk)
            left -= len(chunk)
