"""A decoder that opens nothing itself: processes that can do no harm do it."""

import contextlib
import fcntl
import json
import math
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ai_engine.image import AgeBand, Image, Subject, View
from ai_engine.result import Reason
from cds_server.adapters.confinement import Limits
from cds_server.adapters.instance_header import MOST_HEADER_BYTES, Encoding, Header
from cds_server.adapters.opened_instance import CUT_OFF, TOO_MUCH_MEMORY, TOO_MUCH_TIME
from cds_server.adapters.sandbox_child import MOST_MESSAGE_BYTES, READY
from cds_server.errors import ArchiveUnreachable, InstanceUnreadable
from cds_server.imaging import DecodedInstance
from fhir_mappers.dicom_study import check_uid
from fhir_mappers.errors import ImageDeclined, InvalidStudy
from fhir_mappers.viewer_images import Pixels

_MB = 1024 * 1024
_ANSWER_MB = 272
_START_TIMEOUT_S = 30.0
_GRACE_S = 0.5
_LONGEST_WORDS = 300
_UNCHANGEABLE = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_BAD_ANSWER = (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError)
_NO_ANSWER = "The instance could not be opened: no answer came back that can be used."
_ENDED = {
    -signal.SIGKILL: TOO_MUCH_MEMORY,
    -signal.SIGXCPU: TOO_MUCH_TIME,
    -signal.SIGALRM: TOO_MUCH_TIME,
}


class DecoderUnavailable(ArchiveUnreachable):
    """No process to open images in can be had now. The image is not at fault; try again."""


class SandboxedDecoder:
    """Opens each instance in a process of its own, confined and bounded; threads may share it.

    Nothing that such a process says is believed: sizes, numbers and words are checked, and
    anything that is no answer makes the instance unreadable.

    Parameters
    ----------
    slots
        How many instances are opened at once. Each slot keeps a process ready, of about 60 MB.
    memory_mb
        Address space in MiB that opening one instance may take, beyond those 60. A radiograph of
        15 megapixels takes about 150, one of 30 about 330.
    timeout_s
        Seconds that opening one instance may take.
    wait_s
        Seconds to wait for a free slot.
    """

    def __init__(
        self,
        *,
        slots: int = 1,
        memory_mb: int = 768,
        timeout_s: float = 20.0,
        wait_s: float = 120.0,
    ) -> None:
        self._limits = Limits(memory_mb, timeout_s, _ANSWER_MB)
        self._wait_s = wait_s
        self._slots: queue.LifoQueue[_Keeper | None] = queue.LifoQueue()
        for _ in range(slots):
            self._slots.put(None)

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
        """End the processes that are not at work; they also end with the server."""
        for _ in range(self._slots.qsize()):
            keeper = self._slots.get()
            if keeper is not None:
                keeper.end()
            self._slots.put(None)

    def decode(self, instance: bytes) -> DecodedInstance:
        """Open an instance for the model.

        Raises
        ------
        InstanceUnreadable
            If it is damaged, or takes more time or memory than it may.
        ImageDeclined
            If it holds no image that the model could see; with the coded reason.
        DecoderUnavailable
            If no process could be had to open it in.
        """
        with self._asked(instance, "image") as answer:
            return answer.decoded()

    def header(self, instance: bytes) -> Dataset:
        """Open the header of an instance alone.

        Raises
        ------
        InstanceUnreadable
            If it is damaged, or takes more time or memory than it may.
        DecoderUnavailable
            If no process could be had to open it in.
        """
        with self._asked(instance, "header") as answer:
            return answer.header(0)

    def pixels(self, instance: bytes, frame: int) -> Pixels:
        """Open one frame of an instance for the viewer; frames count from 0.

        Raises
        ------
        InstanceUnreadable
            If it is damaged, or takes more time or memory than it may.
        ImageDeclined
            If it holds no pixels that can be shown.
        DecoderUnavailable
            If no process could be had to open it in.
        """
        with self._asked(instance, frame) as answer:
            return answer.pixels()

    @contextmanager
    def _asked(self, instance: bytes, what: int | str) -> Iterator["_Answer"]:
        """Have a frame of an instance opened, its image or its header, and give what came back.

        Raises
        ------
        InstanceUnreadable
            If that is no answer.
        """
        with _memory_file() as given, _memory_file() as content:
            with _unavailable_said():
                _write(given, memoryview(instance))
            message = self._message(json.dumps({"open": what}).encode(), given, content)
            try:
                yield _opened(message, content)
            except _BAD_ANSWER as error:
                raise InstanceUnreadable(_NO_ANSWER) from error

    def _message(self, request: bytes, given: int, content: int) -> bytes:
        """Give the message that answers a request.

        Raises
        ------
        InstanceUnreadable
            If it takes too long, or the process that opened the instance ended without one.
        DecoderUnavailable
            If the keeper ended.
        """
        with self._keeper() as keeper, _unavailable_said():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours:
                with theirs:
                    keeper.ask(request, (theirs.fileno(), given, content))
                ours.settimeout(self._limits.timeout_s + _GRACE_S)
                try:
                    message = ours.recv(MOST_MESSAGE_BYTES)
                except TimeoutError as error:
                    keeper.end()
                    raise InstanceUnreadable(TOO_MUCH_TIME) from error
            if not message:
                raise InstanceUnreadable(_ENDED.get(keeper.exit_code(), CUT_OFF))
        return message

    @contextmanager
    def _keeper(self) -> Iterator["_Keeper"]:
        """Take a keeper, started where there is none, for as long as the block runs.

        Raises
        ------
        DecoderUnavailable
            If all stay busy, or none can be started.
        """
        try:
            keeper = self._slots.get(timeout=self._wait_s)
        except queue.Empty:
            msg = f"every process that opens images has been busy for {self._wait_s:.0f} s"
            raise DecoderUnavailable(msg) from None
        try:
            if keeper is None or not keeper.alive:
                keeper = _Keeper(self._limits)
            yield keeper
        finally:
            self._slots.put(keeper)


class _Keeper:
    """A running ``sandbox_child``.

    Parameters
    ----------
    limits
        What opening one instance may take.

    Raises
    ------
    DecoderUnavailable
        If it does not start.
    """

    def __init__(self, limits: Limits) -> None:
        with _unavailable_said():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(_START_TIMEOUT_S + limits.timeout_s)
            with contextlib.ExitStack() as closed, theirs:
                closed.enter_context(ours)
                process = _start(theirs.fileno(), limits)
                closed.pop_all()
            self._process, self._control, self._at_work = process, ours, False
            self.end = weakref.finalize(self, _end, process, ours)
            if ours.recv(len(READY)) == READY:
                return
        self.end()
        msg = "the process that opens images does not start, or cannot be confined on this machine"
        raise DecoderUnavailable(msg)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return bool(self.end.alive) and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, request: bytes, descriptors: tuple[int, int, int]) -> None:
        """Send a request; the answer goes to the first of the descriptors."""
        if self._at_work:
            self.exit_code()
        socket.send_fds(self._control, [request], descriptors)
        self._at_work = True

    def exit_code(self) -> int:
        """Wait for the end of the process that was asked last, and give its exit code.

        Raises
        ------
        DecoderUnavailable
            If the keeper ended.
        """
        said = self._control.recv(MOST_MESSAGE_BYTES)
        self._at_work = False
        try:
            return int(said)
        except ValueError as error:
            self.end()
            msg = "the process that opens images was ended from outside"
            raise DecoderUnavailable(msg) from error


def _start(descriptor: int, limits: Limits) -> subprocess.Popen[bytes]:
    """Start a keeper, with nothing of this process but the modules it may import."""
    path = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
    numbers = (descriptor, limits.memory_mb, limits.timeout_s, limits.answer_mb)
    return subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-P", "-m", "cds_server.adapters.sandbox_child", *map(str, numbers)],
        cwd="/",
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    """End a keeper and the process that it forked."""
    control.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back: a message, and a file for what is too long for one. Neither is trusted.

    Its methods raise any of ``_BAD_ANSWER`` if it is no answer.
    """

    said: Mapping[str, Any]
    content: int
    content_bytes: int

    def decoded(self) -> DecodedInstance:
        """Read the answer to ``decode``.

        Raises
        ------
        ValueError
            If its sizes contradict each other.
        """
        said = self.said
        rows, columns = _count(said["rows"]), _count(said["columns"])
        end_of_pixels = rows * columns * 4
        if not end_of_pixels < self.content_bytes <= end_of_pixels + MOST_HEADER_BYTES:
            raise ValueError(_NO_ANSWER)
        header = self.header(end_of_pixels)
        mapped = mmap.mmap(self.content, end_of_pixels, access=mmap.ACCESS_COPY)
        pixels = np.frombuffer(mapped, np.float32).reshape(rows, columns)
        return DecodedInstance(header, self._image(pixels))

    def header(self, start: int) -> Dataset:
        """Read the header, which stands at the end of the file."""
        said = self.said
        return Header(
            os.pread(self.content, MOST_HEADER_BYTES, start),
            Encoding(said["implicit_vr"] is True, said["little_endian"] is True),
            _uid(said["transfer_syntax"]),
        ).dataset()

    def _image(self, pixels: NDArray[np.float32]) -> Image:
        """Give the image.

        Raises
        ------
        ValueError
            If its pixels are beyond 0 to 1.
        """
        if not (pixels.min() >= 0.0 and pixels.max() <= 1.0):
            raise ValueError(_NO_ANSWER)
        said, spacing = self.said, self.said["pixel_spacing_mm"]
        return Image(
            pixels,
            Subject(said["subject"]),
            View(said["view"]),
            AgeBand(said["age_band"]),
            None if spacing is None else (_number(spacing[0]), _number(spacing[1])),
        )

    def pixels(self) -> Pixels:
        """Read the answer to ``pixels``."""
        said = self.said
        return Pixels(
            os.pread(self.content, self.content_bytes, 0),
            _number(said["slope"]),
            _number(said["intercept"]),
            (_number(said["window"][0]), _number(said["window"][1])),
            said["invert"] is True,
            (str(said["of"][0]), str(said["of"][1])),
        )


def _opened(message: bytes, content: int) -> _Answer:
    """Take an answer, and see to it that nobody can change it any more.

    Raises
    ------
    InstanceUnreadable
        If it says that the instance is damaged.
    ImageDeclined
        If it says that the instance holds nothing of use.
    ValueError
        If it is no answer.

    References
    ----------
    memfd_create(2), File sealing.
    """
    said = json.loads(message)
    if "unreadable" in said:
        raise InstanceUnreadable(_words(said["unreadable"]))
    if "declined" in said:
        raise ImageDeclined(Reason(said["declined"]), _words(said["detail"]))
    fcntl.fcntl(content, fcntl.F_ADD_SEALS, _UNCHANGEABLE)
    size = os.fstat(content).st_size
    if not 0 < size <= _ANSWER_MB * _MB:
        raise ValueError(_NO_ANSWER)
    return _Answer(said, content, size)


def _count(value: object) -> int:
    """Give a whole number above 0.

    Raises
    ------
    ValueError
        If it is none.
    """
    if type(value) is not int or not 0 < value <= _ANSWER_MB * _MB:
        raise ValueError(_NO_ANSWER)
    return value


def _number(value: object) -> float:
    """Give a finite number.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(_NO_ANSWER)
    return float(value)


def _words(value: object) -> str:
    """Give a sentence.

    Raises
    ------
    ValueError
        If it is none that can be shown.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_WORDS or not value.isprintable():
        raise ValueError(_NO_ANSWER)
    return value


def _uid(value: str) -> str:
    """Give a UID.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return check_uid(value, "UID")
    except InvalidStudy as error:
        raise ValueError(_NO_ANSWER) from error


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextmanager
def _memory_file() -> Iterator[int]:
    """Give the descriptor of an empty file in memory, gone after the block."""
    with _unavailable_said():
        descriptor = os.memfd_create("radcds", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _unavailable_said() -> Iterator[None]:
    """Say that the machine has no room for a decoder.

    Raises
    ------
    DecoderUnavailable
        Instead of what the operating system says.
    """
    try:
        yield
    except OSError as error:
        msg = f"the process that opens images cannot be had ({error.strerror or error})"
        raise DecoderUnavailable(msg) from error
