"""``radcds delivery list | retry | pause | resume`` and ``radcds recall``, for operators."""

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cds_server import bootstrap
from cds_server.amendments import RecallAsked
from cds_server.bootstrap import Services
from cds_server.config import Settings
from cds_server.errors import AuditUnavailable, InvalidSettings, ResultNotFound
from cds_server.network import Role
from cds_server.outbox import Delivery
from cds_server.viewer import Viewer
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_context import Recall

_NOT_DONE, _REFUSED, _NO_AUDIT = 1, 3, 4
_SHA256_LENGTH = 64

delivery = typer.Typer(help="Results on their way.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Destination = Annotated[str, typer.Argument(help="Name of the destination.")]


@delivery.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show what waits for each destination, and what does not arrive and why."""
    with _served() as services:
        found = services.operations_access.look(_operator(services))
        if as_json:
            value = {
                "destinations": {
                    name: {
                        "waiting": each.waiting,
                        "parked": each.parked,
                        "delivered": each.delivered,
                        "paused": name in found.paused,
                    }
                    for name, each in sorted(found.backlogs.items())
                },
                "troubles": [_as_json(each) for each in found.troubles],
            }
            typer.echo(json.dumps(value, indent=2))
            return
        table = Table("destination", "waiting", "given up", "delivered", "state")
        for name, backlog in sorted(found.backlogs.items()):
            state = "paused" if name in found.paused else "open"
            counts = (backlog.waiting, backlog.parked, backlog.delivered)
            table.add_row(name, *map(str, counts), state)
        console = Console(highlight=False, soft_wrap=True)
        console.print(table)
        for each in found.troubles:
            console.print(
                f"{each.publication_id} to {each.destination} ({each.state}): {each.says}",
                markup=False,
            )


@delivery.command()
def retry(
    destination: Destination,
    publication: Annotated[
        str, typer.Argument(help="Id of the publication; without it, all that were given up.")
    ] = "",
) -> None:
    """Try again what was given up, or send again what arrived: the same bytes."""
    with _served() as services:
        operator = _operator(services)
        if publication:
            number = int(services.operations_access.retry(publication, destination, operator))
        else:
            number = services.operations_access.retry_all(destination, operator)
        _say(f"{number} will be tried again.")
        if not number:
            raise typer.Exit(_NOT_DONE)


@delivery.command()
def pause(destination: Destination) -> None:
    """Send nothing to a destination until resumed; everything for it is kept."""
    with _served() as services:
        done = services.operations_access.pause(destination, _operator(services))
        _say(f"{destination} is paused." if done else f"{destination} was paused already.")


@delivery.command()
def resume(destination: Destination) -> None:
    """Send to a destination again."""
    with _served() as services:
        done = services.operations_access.resume(destination, _operator(services))
        _say(f"{destination} is open." if done else f"{destination} was open already.")


def recall(
    model_sha256: Annotated[str, typer.Argument(help="SHA-256 of the model version.")],
    reason: Annotated[str, typer.Option(help="Why, in words for clinicians; no patient data.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take back everything that a model version said, in every channel."""
    with _served() as services:
        model = model_sha256.lower()
        if len(model) != _SHA256_LENGTH or not reason.strip():
            _say("Give the whole SHA-256 of the model, as radcds shows it, and a reason.")
            raise typer.Exit(2)
        number = len(services.amendments.to_recall(model))
        if not yes:
            typer.confirm(f"Take back {number} results, and all to come of this model?", abort=True)
        now = services.clock.now()
        asked = RecallAsked(model, Recall(reason.strip(), now), _who())
        fact = AuditFact(
            kind=AuditKind.OPERATION,
            recorded=now,
            user=_who(),
            address=services.settings.base_url,
            detail={"action": "recall", "model-sha256": model, "reason": reason.strip()},
        )
        leaf = audit_event(fact, services.settings.site)
        if not services.amendments.ask_recall(asked, audit_events=[leaf]):
            _say("This model was recalled already.")
            raise typer.Exit(_NOT_DONE)
        _say(f"Recalled. The worker takes back {number} results; see: radcds delivery list")


@contextmanager
def _served() -> Iterator[Services]:
    """Open the server's stores; turn what it refuses into one line and an exit code."""
    try:
        yield bootstrap.services(Settings.from_environment())
    except ResultNotFound as error:
        _say(f"{error}.")
        raise typer.Exit(_NOT_DONE) from error
    except InvalidSettings as error:
        _say(f"radcds refuses to start: {error}")
        raise typer.Exit(_REFUSED) from error
    except AuditUnavailable as error:
        _say(f"No audit, no data: {error}")
        raise typer.Exit(_NO_AUDIT) from error


def _operator(services: Services) -> Viewer:
    return Viewer(_who(), services.settings.base_url, Role.OPERATOR, client="command line")


def _who() -> str:
    return f"{getpass.getuser()} on this machine"


def _as_json(delivery: Delivery) -> dict[str, object]:
    return {
        "publication_id": delivery.publication_id,
        "result_id": delivery.publication.result_id,
        "destination": delivery.destination,
        "state": delivery.state.value,
        "strikes": delivery.strikes,
        "says": delivery.says,
        "since": delivery.since.isoformat() if delivery.since else None,
        "due": delivery.due.isoformat() if delivery.due else None,
    }


def _say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
