"""Takes from a process everything that decoding does not need, before it meets foreign bytes.

Limits of the kernel bound its memory, processor time and what it writes. It can open no file and no
socket any more. On x86-64, a filter lets through the system calls of computing alone: no program is
started, no process is signalled, no file is named.
"""

import contextlib
import ctypes
import math
import platform
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

_MB = 1024 * 1024
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL_PROCESS, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050001
_AUDIT_ARCH_X86_64 = 0xC000003E
_X86_64_CALLS = {
    "read": 0, "write": 1, "close": 3, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
    "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "sendto": 44, "exit": 60, "gettimeofday": 96, "sigaltstack": 131,
    "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228,
    "exit_group": 231, "getrandom": 318,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What opening one instance may take.

    Parameters
    ----------
    memory_mb
        Address space in MiB, beyond what the process has when it starts.
    timeout_s
        Seconds, by the clock and of the processor.
    answer_mb
        What it may write, in MiB.
    """

    memory_mb: int
    timeout_s: float
    answer_mb: int


def confine(limits: Limits) -> None:
    """Confine this process for the rest of its life. Everything it needs is loaded already.

    Raises
    ------
    OSError
        If the kernel refuses; the process must not go on.

    References
    ----------
    setrlimit(2), prctl(2), seccomp(2).
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + limits.memory_mb * _MB
    seconds = math.ceil(limits.timeout_s)
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.answer_mb * _MB,) * 2)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if platform.machine() == "x86_64":
        _filter_system_calls()


def _prctl(option: int, *arguments: int) -> None:
    """Ask the kernel for something about this process.

    Raises
    ------
    OSError
        If it refuses.
    """
    given = [*arguments, 0, 0, 0, 0][:4]
    if _LIBC.prctl(ctypes.c_int(option), *(ctypes.c_ulong(each) for each in given)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class _Program(ctypes.Structure):
    """A filter as the kernel takes it: ``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter_system_calls() -> None:
    """Refuse every system call but those of computing and answering.

    A call by the numbers of another architecture ends the process.

    References
    ----------
    Linux Documentation/userspace-api/seccomp_filter.rst; ``struct seccomp_data`` begins with the
    number of the call, then the architecture.
    """
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, 0),
    ]
    for number in sorted(_X86_64_CALLS.values()):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program.append((_RETURN, 0, 0, _REFUSE))
    instructions = b"".join(struct.pack("=HBBI", *each) for each in program)
    filter_program = _Program(len(program), instructions)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filter_program))
