"""What a delivery costs, and how fast a feed is; prints the tables for docs/benchmarks.md.

Every figure is that of the worker as it is installed: SQLite, each delivery recorded in the audit
trail before it leaves, each message flushed to the disk by the receiver before it acknowledges it.
``--results 60 --waiting 2000`` is a quick look; the defaults give the figures.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from running import free_port, machine, resident_mb

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from killed_feed import Process, outbox_of, store, write_settings
from studies import OUTCOMES, chest_study, context

from fhir_mappers.oru_r01 import OVERLAY_JPEG_BYTES, oru_r01
from fhir_mappers.transaction import transaction_bundle

_TIMES = 200
_TOLD = Console(stderr=True)


class Feed:
    """Results that wait for some receivers, in a folder of their own."""

    def __init__(self, folder: Path, results: int, receivers: Sequence[str]) -> None:
        folder.mkdir()
        self._folder, self._receivers = folder, {name: free_port() for name in receivers}
        write_settings(folder, self._receivers)
        with Progress(console=_TOLD) as bar:
            task = bar.add_task(f"storing {results:,} results", total=results)
            store(folder, results, receivers, lambda: bar.advance(task))
        self._outbox = outbox_of(folder)
        self.sender = Process("send", folder)

    def receiving(self, stack: ExitStack) -> None:
        """Start the receivers."""
        for name, port in self._receivers.items():
            stack.enter_context(Process("receive", self._folder / name, port).running())

    @property
    def waiting(self) -> int:
        """How many deliveries have not arrived."""
        return sum(each.waiting for each in self._outbox.backlogs().values())

    def until(self, waiting: int) -> float:
        """Wait until no more than so many are left; give the seconds since the epoch."""
        while self.waiting > waiting:
            time.sleep(0.02)
        return time.monotonic()

    def sender_mb(self) -> float:
        """Say how much memory the sender holds."""
        assert self.sender.process
        return resident_mb(self.sender.process.pid)


def middle_ms(work: Callable[[], object]) -> str:
    """Time some work, and give the median and the 95th percentile."""
    took = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return f"{statistics.median(took):.1f} | {statistics.quantiles(took, n=20)[-1]:.1f}"


def of_one_result() -> None:
    """Print what is spent on one result before it waits."""
    picture = b"\xff\xd8\xff\xe0" + os.urandom(OVERLAY_JPEG_BYTES - 4)
    study, outcome = chest_study(), OUTCOMES["urgent"]

    def bundle() -> bytes:
        return transaction_bundle(study, outcome, context=context(), overlay_jpeg=picture)

    def message() -> bytes:
        return oru_r01(study, outcome, context=context(), overlay_jpeg=picture)

    sizes = f"{len(bundle()) / 1000:.0f} and {len(message()) / 1000:.0f} kB"
    print(f"| one result with the largest overlay ({sizes}), {_TIMES} times | p50 ms | p95 ms |")
    print("|---|---|---|")
    print(f"| FHIR transaction: built, validated, serialised | {middle_ms(bundle)} |")
    print(f"| ORU^R01: built, checked, serialised | {middle_ms(message)} |\n")


def sustained(folder: Path, results: int) -> None:
    """Print how many deliveries a second three receivers get."""
    feed = Feed(folder, results, ["ris1", "ris2", "ris3"])
    with ExitStack() as stack:
        feed.receiving(stack)
        stack.enter_context(feed.sender.running())
        began, first = feed.until(3 * results - 30), feed.waiting
        ended = feed.until(0)
    print(f"| to three receivers, deliveries a second | {first / (ended - began):.0f} |")


def recovery(folder: Path) -> None:
    """Print how long a feed of 1,000 is interrupted by a kill."""
    feed = Feed(folder, 1_100, ["ris"])
    with ExitStack() as stack:
        feed.receiving(stack)
        stack.enter_context(feed.sender.running())
        feed.until(1_000)
        feed.sender.kill_and_start()
        began, left = time.monotonic(), feed.waiting
        first = feed.until(left - 1)
        ended = feed.until(0)
    print(
        f"| killed with -9 with {left:,} waiting: to the next delivery, s | {first - began:.1f} |"
    )
    print(f"| the same: to the last delivery, s | {ended - began:.1f} |")


def memory(folder: Path, results: int) -> None:
    """Print how much memory a sender holds whose receiver was away for days."""
    feed = Feed(folder, results, ["ris"])
    with ExitStack() as stack:
        stack.enter_context(feed.sender.running())
        time.sleep(20)
        away = feed.sender_mb()
        feed.receiving(stack)
        began, first = feed.until(results - 10), feed.waiting
        left = feed.until(results - min(1_000, results // 2)), feed.waiting
        arriving = feed.sender_mb()
    print(f"| {results:,} waiting, the receiver away: memory of the sender, MB | {away:.0f} |")
    print(f"| the same, the receiver back: memory of the sender, MB | {arriving:.0f} |")
    print(f"| the same: deliveries a second | {(first - left[1]) / (left[0] - began):.0f} |")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=int, default=1_000, help="to three receivers")
    options.add_argument("--waiting", type=int, default=100_000, help="whose memory is measured")
    given = options.parse_args()
    print(f"{machine()}; {datetime.now(UTC).date()}\n")
    of_one_result()
    print("| feed by MLLP | figure |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        sustained(Path(folder) / "sustained", given.results)
        recovery(Path(folder) / "recovery")
        memory(Path(folder) / "memory", given.waiting)


if __name__ == "__main__":
    main()
