"""``radcds air check``: AI result objects of any maker, checked on the command line."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from cds_server.air import AirCheck, check_files
from fhir_mappers.air.rule import Severity

_FOUND = 1
_PATIENCE_S = 2.0
_COLOUR = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}

air = typer.Typer(help="DICOM objects that hold AI results.", no_args_is_help=True)


@air.callback()
def _group() -> None:
    """DICOM objects that hold AI results."""


@air.command("check", help="Check AI results against IHE AI Results (AIR) and DICOM.")
def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Result objects and their source images; folders of them too."
        ),
    ],
    as_json: Annotated[  # noqa: FBT002 - Typer makes options of parameters
        bool, typer.Option("--json", help="Print JSON on standard output.")
    ] = False,
) -> None:
    """Check AI results, print what was found, and exit with 1 where that is anything.

    Raises
    ------
    typer.Exit
        With 1, if anything was found, or could not be read.
    """
    with _progress() as advance:
        done = check_files(paths, progress=advance)
    if as_json:
        typer.echo(json.dumps(air_as_json(done), indent=2))
    else:
        _print(done)
    if not done.clean:
        raise typer.Exit(_FOUND)


def air_as_json(done: AirCheck) -> dict[str, object]:
    """Give what was found as plain values."""
    return {
        "clean": done.clean,
        "results": done.report.results,
        "sources": done.report.sources,
        "findings": [
            {
                "severity": each.rule.severity.value,
                "rule": each.rule.id,
                "file": each.object or None,
                "what": each.what,
                "says": each.rule.says,
                "source": each.rule.source,
            }
            for each in done.report.findings
        ],
        "notes": list(done.report.notes),
        "problems": [
            {"path": str(each.path), "what": each.what, "remedy": each.remedy}
            for each in done.problems
        ],
        "left_out": done.left_out,
    }


def air_table(done: AirCheck) -> Table:
    """Lay the findings out for a terminal, errors first."""
    table = Table()
    for column in ("", "file", "rule", "what is wrong"):
        table.add_column(column, overflow="fold")
    for each in done.report.findings:
        table.add_row(
            Text(each.rule.severity, style=_COLOUR[each.rule.severity]),
            Text(_printable(each.object) or "the set"),
            Text(each.rule.id),
            Text.assemble(each.what, "\n", (each.rule.source, "dim")),
        )
    return table


def _print(done: AirCheck) -> None:
    console = Console(highlight=False)
    if done.report.findings:
        console.print(air_table(done))
    console.print(Text(_summary(done)))
    aside = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in done.report.notes:
        aside.print(Text(f"note: {note}"))
    for each in done.problems:
        aside.print(Text(f"{_printable(str(each.path))}: {each.what}. {each.remedy}"))


def _summary(done: AirCheck) -> str:
    severities = [each.rule.severity for each in done.report.findings]
    counts = (
        f"results: {done.report.results}, source images: {done.report.sources}; "
        f"errors: {severities.count(Severity.ERROR)}, "
        f"warnings: {severities.count(Severity.WARNING)}"
    )
    unread = f"; not read: {len(done.problems)}" if done.problems else ""
    left_out = f"; left out, no DICOM: {done.left_out}" if done.left_out else ""
    return f"{counts}{unread}{left_out}"


def _printable(value: str) -> str:
    """Take what would move a terminal's cursor out of a file name."""
    return "".join(each if each.isprintable() else "�" for each in value)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, once it takes more than two seconds."""
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("checking", total=None)
    began = time.monotonic()

    def advance(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if done < total and time.monotonic() - began > _PATIENCE_S:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
