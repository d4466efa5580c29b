"""Ten thousand results under a hundred kill -9 of sender and receiver; prints what became of them.

``python tests/benchmarks/delivery.py [--results N] [--kills N]``
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from killed_feed import feed
from rich.console import Console
from rich.progress import Progress
from running import machine


def main() -> None:
    """Run the feed and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=int, default=10_000)
    options.add_argument("--kills", type=int, default=100)
    given = options.parse_args()
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("arrived", total=given.results)
        report = feed(
            Path(folder),
            results=given.results,
            kills=given.kills,
            every_s=(2.0, 7.0),
            advance=lambda done, _: bar.update(task, completed=done),
        )
    killed = ", ".join(f"{who} {times} times" for who, times in report.kills.items())
    print("| what | figure |\n|---|---|")
    print(f"| killed with -9 | {killed} |")
    print(f"| results sent | {len(report.sent)} |")
    print(f"| lost | {report.lost} |")
    print(f"| out of order in their accession number | {report.out_of_order} |")
    print(f"| arrived twice, the same bytes | {report.repeats - report.changed_repeats} |")
    print(f"| arrived twice, other bytes | {report.changed_repeats} |")
    print(f"| parked | {report.parked} |")
    print(f"| in seconds | {report.seconds:.0f} |")


if __name__ == "__main__":
    main()
