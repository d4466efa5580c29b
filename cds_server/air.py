"""Files and folders checked against the rules of IHE AI Results: what ``radcds air check`` does.

The files come from anybody. Of each, a bounded part is read, without its pixels, and nothing is
inflated.
"""

import io
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cds_server.imaging import FileProblem
from fhir_mappers.air.rules import AirReport, check

Progress = Callable[[int, int], None]
"""Called with the number of files read and their total."""

_MOST_FILES = 10_000
_MOST_HEADER_BYTES = 32 * 1024 * 1024
_DAMAGED = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_PREAMBLE, _MAGIC = 128, b"DICM"
_META_GROUP = 0x0002
_ELEMENT_HEAD_BYTES = 8
_DICOM_SUFFIXES = {".dcm", ".dic", ".dicom", ".ima"}
_AGAIN = "Export the file again."


@dataclass(frozen=True, slots=True)
class AirCheck:
    """What became of a check.

    Parameters
    ----------
    report
        What was found in the objects.
    problems
        Each file or folder that could not be read.
    left_out
        How many files in folders were no DICOM files by their name and content.
    """

    report: AirReport
    problems: Sequence[FileProblem]
    left_out: int

    @property
    def clean(self) -> bool:
        """Whether everything was read, and nothing was found against it."""
        return self.report.clean and not self.problems


def check_files(paths: Sequence[Path], *, progress: Progress) -> AirCheck:
    """Check AI result objects, and their source images, in files and folders.

    Parameters
    ----------
    paths
        Files and folders. Within a folder, hidden files and ``DICOMDIR`` are passed by, and files
        that are plainly something else, such as a ``.json``.
    progress
        Told how far it is.
    """
    gathered = _Gathered()
    found = list(dict.fromkeys(gathered.files(paths)))
    for number, path in enumerate(found[:_MOST_FILES], 1):
        gathered.read(path)
        progress(number, min(len(found), _MOST_FILES))
    if len(found) > _MOST_FILES:
        what = f"is one of {len(found) - _MOST_FILES} files beyond the {_MOST_FILES} that are read"
        gathered.problem(found[_MOST_FILES], what, "Check one study at a time.")
    with _quiet():
        report = check(gathered.datasets)
    return AirCheck(report, gathered.problems, gathered.left_out)


@dataclass(slots=True)
class _Gathered:
    """What was read so far."""

    datasets: list[tuple[str, Dataset]] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    left_out: int = 0
    named: set[Path] = field(default_factory=set)

    def problem(self, path: Path, what: str, remedy: str) -> None:
        self.problems.append(FileProblem(path, what, remedy))

    def files(self, paths: Sequence[Path]) -> Iterator[Path]:
        """Find the files, in the order of their names."""
        for path in paths:
            if path.is_dir():
                before = len(self.problems)
                found = list(self._walk(path))
                if not found and len(self.problems) == before:
                    self.problem(path, "holds no file", "Name the folder of the result objects.")
                yield from found
            elif path.exists():
                self.named.add(path)
                yield path
            else:
                self.problem(path, "is not there", "Check the path.")

    def _walk(self, folder: Path) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            what = f"cannot be listed ({error.strerror})"
            self.problem(Path(error.filename), what, "Mend its rights.")

        for where, folders, names in os.walk(folder, onerror=unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name != "DICOMDIR" and not name.startswith("."):
                    yield Path(where) / name

    def read(self, path: Path) -> None:
        """Read a file, or say what is wrong with it."""
        try:
            if not path.is_file():
                self.problem(path, "is no plain file", "Name files and folders alone.")
                return
            with path.open("rb") as file:
                if not _is_dicom(file) and path not in self.named and _is_something_else(path):
                    self.left_out += 1
                    return
                self.datasets.append((str(path), _header(file)))
        except PermissionError:
            self.problem(path, "may not be read", "Mend its rights.")
        except _Unusable as error:
            self.problem(path, str(error), error.remedy)
        except RecursionError:
            self.problem(path, "is nested deeper than radcds reads", _AGAIN)
        except _DAMAGED:
            self.problem(path, "is damaged or truncated", _AGAIN)


class _Unusable(Exception):
    """A file is not one that is read."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def _is_dicom(file: BinaryIO) -> bool:
    head = file.read(_PREAMBLE + len(_MAGIC))
    file.seek(0)
    return head[_PREAMBLE:] == _MAGIC


def _is_something_else(path: Path) -> bool:
    """Whether a name says that a file is none: names of DICOM files often end in a number."""
    suffix = path.suffix.lower()
    return suffix not in _DICOM_SUFFIXES and any(each.isalpha() for each in suffix)


def _header(file: BinaryIO) -> Dataset:
    """Read an object up to its pixels.

    Raises
    ------
    _Unusable
        If it is no DICOM file, is deflated, names no transfer syntax, is cut off, or is more than
        is read.
    """
    content = file.read(_MOST_HEADER_BYTES)
    _check_magic(content)
    head = _Whole(content)
    goes_on = len(content) == _MOST_HEADER_BYTES and bool(file.read(1))
    try:
        with _quiet():
            _check_syntax(head)
            dataset = pydicom.dcmread(head, stop_before_pixels=True)
        head.check_end()
    except _CutOff as error:
        if goes_on:
            msg = f"has a header of more than {_MOST_HEADER_BYTES // 2**20} MiB"
            raise _Unusable(msg, "Leave it out, or part its results.") from error
        msg = "is truncated"
        raise _Unusable(msg, _AGAIN) from error
    return dataset


def _check_magic(content: bytes) -> None:
    """Check that a file says of itself that it is DICOM; nothing is guessed.

    Raises
    ------
    _Unusable
        If it does not.
    """
    if not content:
        msg = "is empty"
        raise _Unusable(msg, _AGAIN)
    if content[_PREAMBLE : _PREAMBLE + len(_MAGIC)] != _MAGIC:
        msg = "is not a DICOM file"
        raise _Unusable(msg, "Leave it out.")


class _CutOff(Exception):
    """The bytes end within an element or a sequence."""


class _Whole(io.BytesIO):
    """Bytes that tell when they end too early: the reader would take what is there for all."""

    _SEARCH_BYTES = 8192

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._ends = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as many bytes as are asked for.

        Raises
        ------
        _CutOff
            If fewer are left. The head of the next element may be missing whole, once; and who
            searches for a delimiter reads ahead.
        """
        found = super().read(size)
        if size is None or size < 0 or len(found) == size or size == self._SEARCH_BYTES:
            return found
        if found or size > _ELEMENT_HEAD_BYTES:
            raise _CutOff
        self._ends += size == _ELEMENT_HEAD_BYTES
        return found

    def check_end(self) -> None:
        """Check that the end came where an element may end, and no sequence was open.

        Raises
        ------
        _CutOff
            If it did not.
        """
        if self._ends > 1:
            raise _CutOff


def _check_syntax(head: BinaryIO) -> None:
    """Refuse a deflated file before anything inflates it: a small one can fill the memory.

    Raises
    ------
    _Unusable
        If it is deflated, or names no transfer syntax.
    """
    head.seek(_PREAMBLE + len(_MAGIC))
    meta = read_dataset(
        head,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag.group > _META_GROUP,
    )
    head.seek(0)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        msg = "names no transfer syntax"
        raise _Unusable(msg, _AGAIN)
    if syntax == DeflatedExplicitVRLittleEndian:
        msg = "is deflated, which radcds does not inflate"
        raise _Unusable(msg, "Export it in another transfer syntax.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks about odd values to itself: what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
