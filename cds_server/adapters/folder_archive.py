"""An archive in a folder of DICOM files."""

import os
import struct
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
_LARGEST_BINARY_BYTES = 1024
_LARGEST_BYTES = 1024 * 1024 * 1024
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_INDEX_ATTRIBUTES = [*_IDENTIFIERS, "Modality", "Rows", "Columns", "BitsAllocated"]


_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Examined:
    """What was found in a file.

    Parameters
    ----------
    stamp
        Tells the file as it was from the file as it is; ``None`` where there was none.
    uids
        Of instance, study and series; ``None`` where it cannot be indexed.
    problem
        What is wrong with it.
    """

    stamp: _Stamp | None
    uids: tuple[str, str, str] | None = None
    problem: FileProblem | None = None


class FolderArchive:
    """DICOM files and folders of them, behind the same port as a PACS.

    Each file is examined before it is indexed, and again when it has changed, as one does that was
    seen half copied; what is wrong with it is said. Of two files with the same SOP Instance UID,
    the first that was seen counts. Threads may share the archive.

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
        self._examined: dict[Path, _Examined] = {}
        self._lock = threading.Lock()
        self._index()

    @property
    def problems(self) -> Sequence[FileProblem]:
        """Every input that cannot be read, by path."""
        with self._lock:
            return [self._problems[path] for path in sorted(self._problems)]

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:  # noqa: ARG002
        """List all studies, sorted, looking at the files first; a file tells no time."""
        with self._lock:
            self._index()
            found = Counter(study for study, _ in self._parents.values())
        return [Arrival(uid, (), found[uid]) for uid in sorted(found)]

    def holds(self, study_instance_uid: str) -> bool:
        """Say whether there is a file of a study."""
        return bool(self._current(study_instance_uid))

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance, without pixels and other large binary values.

        Raises
        ------
        StudyNotFound
            If there is no such study.
        """
        found = []
        for path in self._current(study_instance_uid):
            try:
                with _quiet():
                    found.append(_dicom_json(pydicom.dcmread(path, stop_before_pixels=True)))
            except (InvalidDicomError, *_DAMAGED):
                self._cannot_describe(path)
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
        with self._lock:
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

    def _current(self, study_instance_uid: str) -> Sequence[Path]:
        """Give the files of a study, as they are now."""
        with self._lock:
            files = self._instances(study_instance_uid)
            if not files or any(self._examined[each].stamp != _stamp(each) for each in files):
                self._index()
            return self._instances(study_instance_uid)

    def _instances(self, study_instance_uid: str) -> Sequence[Path]:
        own = [uid for uid, (study, _) in self._parents.items() if study == study_instance_uid]
        return [self._files[uid] for uid in sorted(own)]

    def _cannot_describe(self, path: Path) -> None:
        problem = FileProblem(path, "is damaged or truncated", "Export the file again.")
        with self._lock:
            self._problems[path] = problem
            if path in self._examined:
                self._examined[path] = replace(self._examined[path], problem=problem)

    # ── Index ────────────────────────────────────────────────────────────────────────────────────

    def _index(self) -> None:
        """Examine the files that are new or have changed, and forget those that are gone."""
        self._problems = {}
        stamps = {path: _stamp(path) for path in self._listed()}
        self._examined = {
            path: known
            for path, known in self._examined.items()
            if path in stamps and known.stamp == stamps[path]
        }
        for path, stamp in stamps.items():
            if path not in self._examined:
                self._examined[path] = _examined(path, stamp)
        self._files, self._parents = {}, {}
        for path, known in self._examined.items():
            self._enter(path, known)

    def _enter(self, path: Path, known: _Examined) -> None:
        """Make a file known by its UIDs, and what is wrong with it by its path."""
        if known.problem is not None:
            self._problems[path] = known.problem
        if known.uids is None:
            return
        instance, study, series = known.uids
        if instance in self._files:
            what = "has the SOP Instance UID of another file"
            self._problem(path, what, "Leave one of the two out.")
            return
        self._files[instance] = path
        self._parents[instance] = (study, series)

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


class _Unusable(Exception):
    """A file is not a DICOM instance that can be indexed."""


def _stamp(path: Path) -> _Stamp | None:
    """Give what changes when a file does, its rights included."""
    try:
        now = path.stat()
    except OSError:
        return None
    return (now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _examined(path: Path, stamp: _Stamp | None) -> _Examined:
    """Identify a file, or say what is wrong with it."""
    try:
        return _Examined(stamp, uids=_identified(path))
    except _Unusable as error:
        remedy = "Export the file again, or leave it out."
        return _Examined(stamp, problem=FileProblem(path, str(error), remedy))


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


def _dicom_json(dataset: Dataset) -> dict[str, object]:
    """Describe a data set, element by element: one that is damaged takes no other with it.

    ``Dataset.to_json_dict`` leaves out damaged elements only while the whole process reads
    strictly, and then also drops values that are merely too long, such as an Accession Number.
    """
    found: dict[str, object] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset would convert its elements
        try:
            element = dataset[tag]
            if isinstance(element.value, bytes) and len(element.value) > _LARGEST_BINARY_BYTES:
                continue
            if element.VR == "SQ":
                items = [_dicom_json(item) for item in element.value]
                found[f"{tag:08X}"] = {"vr": "SQ", "Value": items}
            else:
                found[f"{tag:08X}"] = element.to_json_dict(None, _LARGEST_BINARY_BYTES)
        except _DAMAGED:
            continue
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks about odd values to itself: what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
