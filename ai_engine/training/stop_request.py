"""Ctrl-C and SIGTERM ask a training to stop at its next checkpoint."""

import signal
import threading
from types import FrameType
from typing import Self


class StopRequest:
    """Whether somebody asked to stop, while the block runs. A second Ctrl-C stops at once.

    In a thread that is not the main one nobody can ask.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave

    def _ask(self, number: int, _: FrameType | None) -> None:
        """Note the wish.

        Raises
        ------
        KeyboardInterrupt
            At the second Ctrl-C.
        """
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
