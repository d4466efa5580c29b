"""Reads every study the same, at once: what is left of the time is not the model's.

As a command it is ``radcds serve`` with this reader in place of the model's.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from studies import MODEL, OUTCOMES

from ai_engine.image import Image
from ai_engine.result import ModelIdentity, Outcome
from cds_server import model_in_use
from cds_server.config import Settings
from cds_server.serve import processes, wait_for_signal
from cds_server.worker import work_until_signalled


@dataclass(frozen=True)
class StandInReader:
    """Says of everything that it is urgent, with three findings and their maps."""

    model: ModelIdentity
    model_card: dict[str, object]
    modalities: frozenset[str]

    def read(self, images: Sequence[Image]) -> Outcome:
        assert images
        return OUTCOMES["urgent"]


STAND_IN = StandInReader(MODEL, {"status": "benchmark"}, frozenset({"CR", "DX", "CT"}))


def main() -> None:
    """Serve, or be its worker."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("command", choices=["serve", "worker"])
    options.add_argument("--port", type=int, default=0)
    given = options.parse_args()
    settings = Settings.from_environment()
    if given.command == "worker":
        model_in_use.reader = lambda _: STAND_IN  # type: ignore[assignment, return-value]
        work_until_signalled(settings)
        return
    worker = {"worker": [__file__, "worker"]}
    with processes(
        settings, host="127.0.0.1", port=given.port, worker=False, beside=worker
    ) as running:
        wait_for_signal(running)


if __name__ == "__main__":
    main()
