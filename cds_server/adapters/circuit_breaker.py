"""Leaving another server alone while it is not well."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cds_server.errors import ArchiveUnreachable
from cds_server.ports import Clock


@dataclass(frozen=True, slots=True)
class CircuitState:
    """How the way to a server is.

    Parameters
    ----------
    open
        Whether it is cut: the server is not asked for now.
    since
        When the first of the failures was that cut it; ``None`` while it is not cut.
    says
        What the latest of them was, in words without patient data; else empty.
    """

    open: bool = False
    since: datetime | None = None
    says: str = ""


class CircuitBreaker:
    """Cuts the way to an archive after several failures in a row; threads may share it.

    While it is cut, every attempt fails at once. After a pause one attempt is let through: if it
    fails, the pause doubles, up to a limit; if the archive answers, all may ask again.

    Parameters
    ----------
    clock
        Tells since when the archive is away.
    failures
        How many in a row cut the way.
    first_pause_s, longest_pause_s
        Length of the first pause, and of the longest.
    monotonic
        Measures the pauses, in seconds.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        failures: int = 5,
        first_pause_s: float = 5.0,
        longest_pause_s: float = 15.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._most = failures
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._failures = 0
        self._since: datetime | None = None
        self._says = ""
        self._pause_s = self._first_pause_s
        self._again_at_s: float | None = None
        self._probing = False

    @property
    def state(self) -> CircuitState:
        """How it is now."""
        with self._lock:
            if self._again_at_s is None:
                return CircuitState()
            return CircuitState(open=True, since=self._since, says=self._says)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Count what happens inside: ``ArchiveUnreachable`` as a failure, all else as an answer.

        Raises
        ------
        ArchiveUnreachable
            At once while the way is cut; else the one that was raised inside.
        """
        probe = self._admitted()
        answered = True
        try:
            yield
        except ArchiveUnreachable as error:
            answered = False
            self._failed(str(error), probe=probe)
            raise
        finally:
            if answered:
                with self._lock:
                    self._reset()

    def _admitted(self) -> bool:
        """Let an attempt through; ``True`` if it is the one that finds out.

        Raises
        ------
        ArchiveUnreachable
            While the way is cut.
        """
        with self._lock:
            if self._again_at_s is None:
                return False
            if self._probing or self._monotonic() < self._again_at_s:
                msg = f"{self._says}; so it is since {self._since:%Y-%m-%d %H:%M:%S %Z}"
                raise ArchiveUnreachable(msg)
            self._probing = True
            return True

    def _failed(self, says: str, *, probe: bool) -> None:
        with self._lock:
            self._failures += 1
            self._since = self._since or self._clock.now()
            self._says = says
            if probe:
                self._probing = False
                self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
            elif self._again_at_s is not None or self._failures < self._most:
                return
            self._again_at_s = self._monotonic() + self._pause_s
