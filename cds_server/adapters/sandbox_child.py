"""The processes that open what comes from outside: ``python -m cds_server.adapters.sandbox_child``.

A keeper loads everything once and touches no foreign bytes. It forks one process ahead, which waits
for an instance, confines itself, opens this one instance, answers and ends: what an instance does
to it ends with it, and images of two patients are never in one process. The keeper then says how
that process ended, and forks the next.

The keeper ends when the other end of its control socket is closed, however the server ends.
"""

import codecs
import contextlib
import functools
import gc
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from io import BytesIO

import numpy as np
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from cds_server.adapters.confinement import Limits, confine
from cds_server.adapters.instance_header import Header
from cds_server.adapters.opened_instance import ReadableFile, for_model, for_viewer, header_alone
from cds_server.errors import InstanceUnreadable
from fhir_mappers.errors import ImageDeclined

READY = b"ready"
MOST_MESSAGE_BYTES = 64 * 1024
_NOBODY_ASKS = 3
_MAPPING = mmap.MAP_SHARED | mmap.MAP_POPULATE


def keep(control: socket.socket, limits: Limits) -> None:
    """Have one instance after the other opened, until nobody asks any more.

    A request is a message with three descriptors: where to answer, the instance, and a file for
    what is too long for a message. After each, the exit code of the process that opened it follows
    on the control socket.

    Parameters
    ----------
    control
        Where requests come from.
    limits
        What opening one instance may take.
    """
    _load()
    gc.freeze()
    if _exit_code(functools.partial(confine, limits)) != 0:
        return
    control.send(READY)
    while (code := _exit_code(functools.partial(_serve, control, limits))) != _NOBODY_ASKS:
        with contextlib.suppress(OSError):
            control.send(str(code).encode())


def _load() -> None:
    """Load what libraries load late: a confined process can open no file."""
    for encoding in set(python_encoding.values()):
        codecs.lookup(encoding)
    rehearsal = Dataset()
    rehearsal.file_meta = FileMetaDataset()
    rehearsal.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rehearsal.SOPClassUID = rehearsal.SOPInstanceUID = "2.999"
    rehearsal.StudyInstanceUID = rehearsal.SeriesInstanceUID = "2.999"
    rehearsal.Modality = "CR"
    rehearsal.SamplesPerPixel = 1
    rehearsal.PhotometricInterpretation = "MONOCHROME2"
    rehearsal.Rows = rehearsal.Columns = 16
    rehearsal.BitsAllocated = rehearsal.BitsStored = 8
    rehearsal.HighBit, rehearsal.PixelRepresentation = 7, 0
    rehearsal.PixelData = bytes(range(256))
    file = BytesIO()
    rehearsal.save_as(file, enforce_file_format=True)
    for_model(file)
    for_viewer(file, 0)


def _exit_code(work: Callable[[], None]) -> int:
    """Do some work in a process of its own, and give its exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _serve(control: socket.socket, limits: Limits) -> None:
    """Wait for a request, confine this process, open the instance, and say what came of it."""
    message, descriptors, _, _ = socket.recv_fds(control, MOST_MESSAGE_BYTES, 3)
    control.close()
    if not message:
        os._exit(_NOBODY_ASKS)
    answer, instance, content = descriptors
    size = os.fstat(instance).st_size
    file = mmap.mmap(instance, size, flags=_MAPPING, prot=mmap.PROT_READ) if size else BytesIO()
    confine(limits)
    what = json.loads(message)["open"]
    try:
        if what == "image":
            said = _for_model(file, content)
        elif what == "header":
            said = _header_alone(file, content)
        else:
            said = _for_viewer(file, what, content)
    except InstanceUnreadable as error:
        said = {"unreadable": str(error)}
    except ImageDeclined as error:
        said = {"declined": error.outcome.reason, "detail": error.outcome.detail}
    _write(answer, memoryview(json.dumps(said).encode()))


def _for_model(file: ReadableFile, content: int) -> dict[str, object]:
    opened = for_model(file)
    image, header = opened.image, opened.header
    _write(content, np.ascontiguousarray(image.pixels).data.cast("B"))
    return {
        **_put(header, content),
        "rows": image.pixels.shape[0],
        "columns": image.pixels.shape[1],
        "subject": image.subject,
        "view": image.view,
        "age_band": image.age_band,
        "pixel_spacing_mm": image.pixel_spacing_mm,
    }


def _header_alone(file: ReadableFile, content: int) -> dict[str, object]:
    return _put(header_alone(file), content)


def _put(header: Header, content: int) -> dict[str, object]:
    _write(content, memoryview(header.content))
    return {
        "transfer_syntax": header.transfer_syntax,
        "implicit_vr": header.encoding.implicit_vr,
        "little_endian": header.encoding.little_endian,
    }


def _for_viewer(file: ReadableFile, frame: int, content: int) -> dict[str, object]:
    pixels = for_viewer(file, frame)
    _write(content, memoryview(pixels.stored))
    return {
        "slope": pixels.slope,
        "intercept": pixels.intercept,
        "window": pixels.window,
        "invert": pixels.invert,
        "of": pixels.of,
    }


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    keep(
        socket.socket(fileno=int(sys.argv[1])),
        Limits(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])),
    )
