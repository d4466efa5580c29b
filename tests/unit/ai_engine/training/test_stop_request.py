"""Ctrl-C asks once, and then insists."""

import os
import signal
import threading

import pytest

from ai_engine.training.stop_request import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_what_was_before_comes_back(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before


def press_twice() -> None:
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        press_twice()


def test_in_another_thread_nobody_can_ask_and_nothing_breaks() -> None:
    asked = []

    def train() -> None:
        with StopRequest() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert asked == [False]
