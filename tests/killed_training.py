"""Trainings in processes of their own, to be killed, interrupted, or run side by side.

A fork server imports torch once; each training is a fork of it.
"""

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

STOPPED, REFUSED = 3, 4


def fork_server() -> ForkServerContext:
    """Give the server that has the training loaded."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["ai_engine.training.training_run", "killed_training"])
    return server


def started(
    text: str, run: Path, data: Path, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Start a training."""
    process = fork_server().Process(target=_train, args=(text, run, data, dict(environment or {})))
    process.start()
    return process


def _train(text: str, run: Path, data: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    # torch after the fork server has been told what to load
    from ai_engine.errors import AiEngineError, TrainingStopped  # noqa: PLC0415
    from ai_engine.training.configuration_file import parse_configuration  # noqa: PLC0415
    from ai_engine.training.training_run import train  # noqa: PLC0415

    try:
        train(parse_configuration(text), run, data=data, given=text)
    except TrainingStopped as error:
        run.with_suffix(".told").write_text(str(error), encoding="utf-8")
        os._exit(STOPPED)
    except AiEngineError as error:
        run.with_suffix(".told").write_text(str(error), encoding="utf-8")
        os._exit(REFUSED)
