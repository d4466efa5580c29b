"""A value that is dear to get, kept for a while."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

from cds_server.ports import Clock

T = TypeVar("T")


class Kept(Generic[T]):
    """Gets a value once, whichever thread asks first, and again when its time is over.

    A failure is not kept: it passes through, and the next caller tries again.

    Parameters
    ----------
    get
        Gives the value and until when it may be kept.
    clock
        What time it is.
    """

    def __init__(self, get: Callable[[], tuple[T, datetime]], clock: Clock) -> None:
        self._get = get
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[T, datetime] | None = None

    def value(self) -> T:
        """Give the value."""
        with self._lock:
            if self._kept is None or self._kept[1] <= self._clock.now():
                self._kept = self._get()
            return self._kept[0]
