"""The command line: ``radcds read | serve | worker | demo | doctor | …``.

Exit codes: 0 done; 1 done, but some input could not be read or a delivery was given up; 2 wrong
usage; 3 refused to start (setting, model, port, folder in use); 4 the audit trail cannot be
written or does not verify.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import OperationalError

from ai_engine.errors import ModelUnavailable
from cds_server import bootstrap
from cds_server.air_command import air
from cds_server.batch import BatchReport, batch_settings, read_batch
from cds_server.config import Settings
from cds_server.delivery_command import delivery, recall
from cds_server.demo import Shown, artefact_paths, demonstration
from cds_server.doctor import examine
from cds_server.errors import AlreadyRunning, AuditUnavailable, InvalidSettings
from cds_server.hl7_command import hl7
from cds_server.models_command import models
from cds_server.serve import PortInUse, serve_until_stopped, wait_for_signal
from cds_server.summary import batch_as_json, batch_table
from cds_server.training_command import evaluate, train
from cds_server.worker import work_until_signalled

_INCOMPLETE, _REFUSED, _NO_AUDIT = 1, 3, 4

app = typer.Typer(
    help="Imaging-AI decision support. Research and evaluation use; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
audit = typer.Typer(help="The audit trail.", no_args_is_help=True)
app.add_typer(audit, name="audit")
app.add_typer(air, name="air")
app.add_typer(hl7, name="hl7")
app.add_typer(delivery, name="delivery")
app.add_typer(models, name="models")
app.command("recall")(recall)
app.command("train")(train)
app.command("evaluate")(evaluate)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the server refuses into one line and an exit code; never a traceback."""
    try:
        yield
    except (InvalidSettings, ModelUnavailable, AlreadyRunning, PortInUse) as error:
        _say(f"radcds refuses to start: {error}")
        raise typer.Exit(_REFUSED) from error
    except AuditUnavailable as error:
        _say(f"No audit, no data: {error}")
        raise typer.Exit(_NO_AUDIT) from error
    except OperationalError as error:
        _say(f"No audit, no data: the database cannot be written ({error.orig}); free some space")
        raise typer.Exit(_NO_AUDIT) from error


def _say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)


@app.command()
def read(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the artefacts, one subfolder a study.")],
    as_json: AsJson = False,
) -> None:
    """Read studies and write their artefacts. The same command again resumes what was cut off."""
    with _refusals():
        settings = batch_settings(Settings.from_environment(), out)
        with _progress("reading") as advance:
            report = read_batch(paths, settings, progress=advance)
        if as_json:
            typer.echo(json.dumps(batch_as_json(report, out), indent=2))
        else:
            Console(highlight=False).print(batch_table(report, out))
        for problem in report.problems:
            _say(f"{problem.path}: {problem.what}. {problem.remedy}")
        for parked in report.parked:
            what = parked.publication.result_id
            _say(f"delivery to {parked.destination} of {what} given up: {parked.says}")
        if not report.complete:
            raise typer.Exit(_INCOMPLETE)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error until everything is done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if done == total:
                bar.stop()

        yield advance


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback though no EHR is trusted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the web service and the worker until stopped."""

    def started(address: str, token: str) -> None:
        if as_json:
            typer.echo(json.dumps({"open": address, "token": token}))
            return
        _say(f"radcds listens on {address}  (Ctrl-C stops it)")
        if token:
            _say(f"sign in on this machine with the token  {token}")

    with _refusals():
        ended = serve_until_stopped(
            Settings.from_environment(), host=host, port=port, insecure=insecure, started=started
        )
        if ended:
            _say(f"the {ended} process ended by itself; stopping")
            raise typer.Exit(_REFUSED)


@app.command()
def worker() -> None:
    """Run the worker alone, beside a web service that something else runs."""
    with _refusals():
        work_until_signalled(Settings.from_environment())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo-out"
    ),
    port: Annotated[int, typer.Option(help="Port of radcds; 0 picks a free one.")] = 8080,
    ehr_port: Annotated[int, typer.Option(help="Port of the mock EHR; 0 picks one.")] = 8090,
    once: Annotated[bool, typer.Option("--once", help="Stop after the summary.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a real radiograph and a real head CT, and show the result in a mock EHR."""
    with _refusals(), _progress("reading") as advance:
        settings = Settings.from_environment()
        with demonstration(out, settings, port=port, ehr_port=ehr_port, progress=advance) as (
            report,
            shown,
        ):
            if as_json:
                found = {**batch_as_json(report, out), "open": shown.radcds, "ehr": shown.ehr}
                typer.echo(json.dumps({**found, "token": shown.token}, indent=2))
            else:
                _print_demo(report, out, shown)
            if not once:
                _say("Ctrl-C stops the service.")
                wait_for_signal()


def _print_demo(report: BatchReport, out: Path, shown: Shown) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(batch_table(report, out))
    for path in artefact_paths(report, out):
        console.print(f"  {path}  ({path.stat().st_size:,} bytes)")
    console.print(f"\nOpen  {shown.ehr}   the EHR: choose a patient, read the card, open radcds")
    console.print(f"or    {shown.radcds}   radcds itself, with the token {shown.token}\n")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check settings, model, archive, databases and audit trail, and say what to mend."""
    with _refusals():
        checks = examine(Settings.from_environment())
        if as_json:
            typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
        else:
            for check in checks:
                typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.says}")
        if not all(check.passed for check in checks):
            raise typer.Exit(_INCOMPLETE)


@audit.command("verify")
def verify(
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder; the one of the settings by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no recorded event was altered, removed or inserted."""
    settings = Settings.from_environment()
    if data_dir:
        settings = Settings.from_mapping({"data_dir": str(data_dir)})
    with _refusals():
        events = bootstrap.services(settings).trail.verify()
        typer.echo(json.dumps({"events": events}) if as_json else f"{events} events verify")


if __name__ == "__main__":
    main()
