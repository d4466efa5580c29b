"""An archive in a folder of DICOM files."""

import os
import struct
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pydicom
from dicomweb_client.file import DICOMfileClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cds_server.errors import InstanceUnreadable, StudyNotFound
from cds_server.ports import FileProblem
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
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_INDEX_ATTRIBUTES = [*_IDENTIFIERS, "Modality", "Rows", "Columns", "BitsAllocated"]


class FolderArchive:
    """DICOM files and folders of them, behind the same port as a PACS.

    Each file is examined before it is indexed: the file client reads anything, drops what it does
    not understand without a word, and cannot be used by two threads.

    Parameters
    ----------
    paths
        Files and folders; folders are searched through, and searched again at each ``study_uids``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._problems: dict[Path, FileProblem] = {}
        self._files: dict[str, Path] = {}
        self._examined: set[Path] = set()
        self._links = tempfile.TemporaryDirectory(prefix="radcds-")
        self._lock = threading.Lock()
        self._clients = threading.local()
        self._index()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the index; the files themselves are never touched."""
        self._links.cleanup()

    @property
    def problems(self) -> Sequence[FileProblem]:
        """Every input that cannot be read, by path."""
        return [self._problems[path] for path in sorted(self._problems)]

    def study_uids(self) -> Sequence[str]:
        """List the studies, sorted, looking for new files first."""
        with self._lock:
            self._index()
            studies = self._client().search_for_studies()
        return sorted({str(each["0020000D"]["Value"][0]) for each in studies})

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        """Give the DICOM JSON of each instance.

        Raises
        ------
        StudyNotFound
            If there is no such study.
        """
        found = []
        for path in self._instances(study_instance_uid):
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
    ) -> Dataset:
        """Read one instance.

        Raises
        ------
        InstanceUnreadable
            If the file is damaged.
        StudyNotFound
            If there is no such instance.
        """
        path = self._files.get(sop_instance_uid)
        if path is None:
            msg = "the folder has no such instance"
            raise StudyNotFound(msg)
        try:
            with _quiet():
                dataset = pydicom.dcmread(path)
        except (InvalidDicomError, *_DAMAGED) as error:
            msg = "The file is damaged and cannot be read."
            raise InstanceUnreadable(msg) from error
        if (dataset.get("StudyInstanceUID"), dataset.get("SeriesInstanceUID")) != (
            study_instance_uid,
            series_instance_uid,
        ):
            msg = "the folder has no such instance"
            raise StudyNotFound(msg)
        return dataset

    def _instances(self, study_instance_uid: str) -> Sequence[Path]:
        with self._lock:
            listed = self._client().search_for_instances(study_instance_uid)
        uids = [str(each["00080018"]["Value"][0]) for each in listed]
        return [self._files[uid] for uid in uids if uid in self._files]

    # ── Index ────────────────────────────────────────────────────────────────────────────────────

    def _index(self) -> None:
        """Examine the files that are new, and link the good ones where the client indexes them."""
        new = [path for path in self._listed() if path not in self._examined]
        for path in new:
            self._examined.add(path)
            self._examine(path)

    def _client(self) -> Any:  # noqa: ANN401 - the library is untyped
        """Give this thread's client, its index up to date."""
        count = len(self._files)
        if getattr(self._clients, "count", None) != count:
            with _quiet():
                self._clients.client = DICOMfileClient(
                    Path(self._links.name).as_uri(), update_db=True, in_memory=True, readonly=True
                )
            self._clients.count = count
        return self._clients.client

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
            sop_instance_uid = _identified(path)
        except _Unusable as error:
            self._problem(path, str(error), "Export the file again, or leave it out.")
            return
        if sop_instance_uid in self._files:
            what = "has the SOP Instance UID of another file"
            self._problem(path, what, "Leave one of the two out.")
            return
        self._files[sop_instance_uid] = path
        link = Path(self._links.name) / f"{len(self._files):08d}.dcm"
        link.symlink_to(path.absolute())


class _Unusable(Exception):
    """A file is not a DICOM instance that can be indexed."""


def _identified(path: Path) -> str:
    """Read just enough of a file to identify it, and give its SOP Instance UID.

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


def _checked_identity(dataset: Dataset) -> str:
    """Check every identifier of a file and give its SOP Instance UID.

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
    return str(dataset.SOPInstanceUID)


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
