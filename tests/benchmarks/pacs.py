"""How fast a study walks from the PACS and back: ``make bench`` prints docs/benchmarks.md's tables.

A real Orthanc of Debian on loopback with its defaults, for every line a new one. The peers are
installed on first use. ``--studies 3`` is a quick look; 20 give the figures.
"""

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from running import machine

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
import pacs_peers as peers
from pacs_parts import overhead, retrieval
from pacs_race import CT_SERIES, RADIOGRAPHS, SHORTEST_S, raced
from pacs_slices import decided
from pacs_studies import ct_series, radiographs

STUDIES, SLICES, MANY_SLICES, MANY_SLICES_STUDIES = 20, 24, 100, 5


def install_peers(progress: Progress) -> None:
    """Install what is missing; what cannot be is told in its line of the table."""
    for requirement, *more in ((peers.ROUTER,), (peers.MONAI, *peers.WITH_MONAI)):
        task = progress.add_task(f"installing {requirement}", total=None)
        try:
            peers.installed(requirement, *more)
        except peers.DidNotRun as missing:
            progress.console.print(str(missing))
        progress.remove_task(task)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=STUDIES, help="in each line")
    count = options.parse_args().studies
    for program in ("Orthanc", "storescu"):
        if not which(program):
            sys.exit(f"{program} is missing: run scripts/install_system.sh orthanc dcmtk")
    os.environ["TCP_NODELAY"] = "1"
    named, today = machine(), datetime.now(UTC).date()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as name,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        folder = Path(name)
        install_peers(progress)
        task = progress.add_task("making the studies", total=None)
        chests = radiographs(folder / "cr", count + 1)
        series = ct_series(folder / "ct", count + 1, SLICES)
        many = ct_series(folder / "many", min(count, MANY_SLICES_STUDIES) + 1, MANY_SLICES)
        progress.remove_task(task)
        for each in ("parts", "retrieval"):
            (folder / each).mkdir()
        parts = overhead(chests, folder / "parts", progress)
        retrieved = retrieval(chests[0], count, folder / "retrieval", progress)
        race = [raced(entrant, chests, progress) for entrant in RADIOGRAPHS]
        race += [raced(entrant, series, progress) for entrant in CT_SERIES]
        slices = [
            line
            for stand_in in (False, True)
            for line in decided(many, progress, stand_in=stand_in)
        ]
    print(f"{named}; {today}\n")
    print(f"| RG1 without the model, {count} studies | p50 ms | p95 ms |\n|---|---|---|")
    print(*parts, sep="\n")
    print(
        f"\n| RG1, 7.2 MB, from a default Orthanc, {count} times | p50 ms | p95 ms |\n|---|---|---|"
    )
    print(*retrieved, sep="\n")
    print(
        "\n| from the first byte sent to the SR listed by QIDO | quiet time | the SR says ", end=""
    )
    print("| sent, p50 s | listed, p50 s | listed, p95 s |\n|---|---|---|---|---|---|")
    print(*race, sep="\n")
    print(f"\n| CT of {MANY_SLICES} slices, {len(many) - 1} studies | STOW, p50 s | p95 s ", end="")
    print("| SR listed, p50 s | p95 s | worker, peak MB | sandbox, peak MB |")
    print("|---|---|---|---|---|---|---|")
    print(*slices, sep="\n")
    print(f"""
{count} studies in each line of the race; a CT of it has {SLICES} slices of 512 x 512.
`storescu` sends to Orthanc for radcds, and straight to the peers, which saves them a hop; every SR
is looked for in Orthanc. Lines with a long quiet time send the next study while others wait. DCMTK
runs with TCP_NODELAY=1 on both sides: without it, each slice waits 50 ms for an acknowledgement.
The CT of {MANY_SLICES} slices is read after {SHORTEST_S} s of quiet, part of its times.""")
    if count < STUDIES:
        print(f"\nA quick look of {count} studies; {STUDIES} give the figures.")


if __name__ == "__main__":
    main()
