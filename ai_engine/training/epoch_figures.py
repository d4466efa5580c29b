"""The figures of each epoch, as lines of JSON in the run folder."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

_FILE = "metrics.jsonl"


class EpochFigures:
    """Collects the figures of an epoch and appends them to ``metrics.jsonl``.

    Parameters
    ----------
    folder
        Of the stage.
    writes
        Whether this process writes.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self._path, self._writes = folder / _FILE, writes
        self._loss, self._steps = 0.0, 0
        self._began = time.monotonic()

    def add(self, loss: float) -> None:
        """Count the loss of one step."""
        self._loss += loss
        self._steps += 1

    def end(
        self,
        epoch: int,
        step: int,
        rate: float,
        images_per_s: float,
        mean: float | None,
        aurocs: Mapping[str, float | None],
    ) -> dict[str, object]:
        """Write the line of an epoch and begin the next.

        Parameters
        ----------
        epoch, step
            That ended, from 1.
        rate
            Learning rate of the head.
        images_per_s
            In training, since the epoch began or went on.
        mean
            AUROC, or ``None`` where none could be measured.
        aurocs
            Of each finding.
        """
        line: dict[str, object] = {
            "epoch": epoch,
            "step": step,
            "loss": self._loss / max(self._steps, 1),
            "head_rate": rate,
            "mean_auroc": mean,
            "auroc": dict(aurocs),
            "images_per_s": round(images_per_s, 2),
            "epoch_s": round(time.monotonic() - self._began, 1),
        }
        if self._writes:
            with self._path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(line) + "\n")
        self._loss, self._steps, self._began = 0.0, 0, time.monotonic()
        return line

    def state(self) -> dict[str, float]:
        """Give what a checkpoint keeps of the epoch so far."""
        return {"loss": self._loss, "steps": self._steps}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on with the epoch of a checkpoint."""
        self._loss, self._steps = float(state["loss"]), int(state["steps"])

    def forget_after(self, step: int) -> None:
        """Remove lines of epochs that ended after a checkpoint: they will be written again."""
        if not self._writes or not self._path.is_file():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        part = self._path.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        part.replace(self._path)


def _step_of(line: str) -> float:
    """Give the step of a line; one that a kill cut short is of no step."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")
