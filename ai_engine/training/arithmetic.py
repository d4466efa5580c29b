"""How torch computes while a run goes on, and what to do when it cannot. Needs ``[torch]``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ai_engine.errors import TrainingFailed, TrainingStopped
from ai_engine.training.configuration import Configuration

_OUT_OF_MEMORY = (
    "There is too little memory for a batch. Lower the stage's batch and raise its accumulation by "
    "the same factor, which keeps the step, in a new run; or use a device with more memory."
)
_INTERRUPTED = (
    "Stopped. The newest checkpoint and the images prepared on disk are whole: start it again to "
    "go on."
)


@contextmanager
def arithmetic(configuration: Configuration) -> Iterator[None]:
    """Set torch's threads and determinism while the block runs."""
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(configuration.hardware.threads or threads)
    torch.use_deterministic_algorithms(configuration.deterministic or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)


@contextmanager
def explained() -> Iterator[None]:
    """Say what to do when memory runs out, or a GPU has no deterministic way.

    Raises
    ------
    TrainingFailed
        Instead of torch's own error.
    TrainingStopped
        Instead of an interrupt while no step is being taken, or of a second one.
    RuntimeError
        Of torch, of another cause.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise TrainingStopped(_INTERRUPTED) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingFailed(_OUT_OF_MEMORY) from error
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise TrainingFailed(_OUT_OF_MEMORY) from error
        if "CUBLAS_WORKSPACE_CONFIG" in str(error):
            msg = "deterministic on CUDA needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment."
            raise TrainingFailed(msg) from error
        raise
