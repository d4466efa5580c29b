"""An archive in a folder of DICOM files."""

import os
import struct
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cds_server.errors import InstanceUnreadable, StudyNotFound
from cds_server.imaging import Arrival, FileProblem
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import InvalidStudy

_DAMAGED = (
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_LARGEST_BYTES = 1024 * 1024 * 1024
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_INDEX_ATTRIBUTES = [*_IDENTIFIERS, "Modality", "Rows", "Columns", "BitsAllocated"]


class FolderArchive:
    """DICOM files and folders of them, behind the same port as a PACS.

    Each file is examined before it is indexed, and what is wrong with it is said. Threads may share
    the archive.

    Parameters
    ----------
    paths
        Files and folders; folders are searched through, and searched again at each ``arrivals``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._problems: dict[Path, FileProblem] = {}
        self._files: dict[str, Path] = {}
        self._parents: dict[str, tuple[str, str]] = {}
        self._examined: set[Path] = set()
        self._lock = threading.Lock()
        self._index()

    @property
    def problems(self) -> Sequence[FileProblem]:
        """Every input that cannot be read, by path."""
        return [self._problems[path] for path in sorted(self._problems)]

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:  # noqa: ARG002
        """List all studies, sorted, looking for new files first; a file tells no time."""
        with self._lock:
            self._index()
            found = Counter(study for study, _ in self._parents.values())
        return [Arrival(uid, (), found[uid]) for uid in sorted(found)]

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance.

        Raises
        ------
        StudyNotFound
            If there is no such study.
        """
        found = []
        for path in self._instances(study_instance_uid) or self._just_arrived(study_instance_uid):
            try:
                with _quiet():
                    dataset = pydicom.dcmread(path, stop_before_pixels=True)
                    found.append(dataset.to_json_dict(suppress_invalid_tags=True))
            except (InvalidDicomError, *_DAMAGED):
                self._problem(path, "is damaged or truncated", "Export the file again.")
        if not found:
            msg = "the folder has no such study"
            raise StudyNotFound(msg)
        return found

    def instance(
        self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> bytes:
        """Give the bytes of one file.

        Raises
        ------
        InstanceUnreadable
            If the file cannot be read, or is too large.
        StudyNotFound
            If there is no such instance.
        """
        path = self._files.get(sop_instance_uid)
        parents = self._parents.get(sop_instance_uid)
        if path is None or parents != (study_instance_uid, series_instance_uid):
            msg = "the folder has no such instance"
            raise StudyNotFound(msg)
        try:
            if path.stat().st_size > _LARGEST_BYTES:
                msg = "The file is larger than radcds reads."
                raise InstanceUnreadable(msg)
            return path.read_bytes()
        except FileNotFoundError as error:
            msg = "the file was removed"
            raise StudyNotFound(msg) from error
        except OSError as error:
            msg = "The file is damaged and cannot be read."
            raise InstanceUnreadable(msg) from error

    def _instances(self, study_instance_uid: str) -> Sequence[Path]:
        with self._lock:
            own = [uid for uid, (study, _) in self._parents.items() if study == study_instance_uid]
        return [self._files[uid] for uid in sorted(own)]

    def _just_arrived(self, study_instance_uid: str) -> Sequence[Path]:
        """Look for new files, and for those of a study among them."""
        self.arrivals()
        return self._instances(study_instance_uid)

    # ── Index ────────────────────────────────────────────────────────────────────────────────────

    def _index(self) -> None:
        """Examine the files that are new."""
        new = [path for path in self._listed() if path not in self._examined]
        for path in new:
            self._examined.add(path)
            self._examine(path)

    def _listed(self) -> Iterator[Path]:
        for path in self._paths:
            if path.is_dir():
                yield from self._walk(path)
            elif path.exists():
                yield path
            else:
                self._problem(path, "there is no such file or folder", "Check the path.")

    def _walk(self, folder: Path) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            where = Path(error.filename)
            self._problem(where, f"cannot be listed ({error.strerror})", "Mend its rights.")

        for where, folders, names in os.walk(folder, onerror=unreadable):
            folders.sort()
            for name in sorted(names):
                if name != "DICOMDIR" and not name.startswith("."):
                    yield Path(where) / name

    def _problem(self, path: Path, what: str, remedy: str) -> None:
        self._problems[path] = FileProblem(path, what, remedy)

    def _examine(self, path: Path) -> None:
        """Index a file, or say what is wrong with it."""
        try:
            sop_instance_uid, *parents = _identified(path)
        except _Unusable as error:
            self._problem(path, str(error), "Export the file again, or leave it out.")
            return
        if sop_instance_uid in self._files:
            what = "has the SOP Instance UID of another file"
            self._problem(path, what, "Leave one of the two out.")
            return
        self._files[sop_instance_uid] = path
        self._parents[sop_instance_uid] = (parents[0], parents[1])


class _Unusable(Exception):
    """A file is not a DICOM instance that can be indexed."""


def _identified(path: Path) -> tuple[str, str, str]:
    """Read just enough of a file to identify it: give its instance, its study and its series.

    Raises
    ------
    _Unusable
        Saying what is wrong.
    """
    try:
        if path.stat().st_size == 0:
            msg = "is empty"
            raise _Unusable(msg)
        with _quiet():
            meta = read_file_meta_info(path)
            _check_syntax(meta)
            dataset = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=[*_INDEX_ATTRIBUTES]
            )
            return _checked_identity(dataset)
    except InvalidStudy as error:
        raise _Unusable(str(error)) from error
    except InvalidDicomError as error:
        msg = "is not a DICOM file"
        raise _Unusable(msg) from error
    except PermissionError as error:
        msg = "may not be read"
        raise _Unusable(msg) from error
    except _DAMAGED as error:
        msg = "is damaged or truncated"
        raise _Unusable(msg) from error


def _checked_identity(dataset: Dataset) -> tuple[str, str, str]:
    """Check every identifier of a file and give those of instance, study and series.

    Raises
    ------
    _Unusable
        If one is missing.
    InvalidStudy
        If one is malformed.
    """
    for keyword in _IDENTIFIERS:
        if keyword not in dataset:
            msg = f"has no {keyword}; is it truncated?"
            raise _Unusable(msg)
        check_uid(str(dataset[keyword].value), keyword)
    return (
        str(dataset.SOPInstanceUID),
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
    )


def _check_syntax(meta: Dataset) -> None:
    """Refuse a deflated file before anything inflates it: a small one can fill the memory.

    Raises
    ------
    _Unusable
        If it is deflated, or names no transfer syntax.
    """
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        msg = "names no transfer syntax"
        raise _Unusable(msg)
    if syntax == DeflatedExplicitVRLittleEndian:
        msg = "is deflated, which radcds does not inflate"
        raise _Unusable(msg)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks about odd values to itself: what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
