"""Is this server fit to start? Each check says what it found and what to do."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_engine.errors import ModelUnavailable
from cds_server import bootstrap, model_in_use
from cds_server.bootstrap import Services
from cds_server.config import Settings, is_address
from cds_server.errors import ArchiveError, CdsServerError, InstanceUnreadable, InvalidSettings
from cds_server.network_file import read_network
from cds_server.ports import ReportFeed
from fhir_mappers.workitem import State


@dataclass(frozen=True, slots=True)
class Check:
    """One thing examined.

    Parameters
    ----------
    name
        What was examined.
    passed
        Whether it is in order.
    says
        What was found, and what to do where it is not in order.
    """

    name: str
    passed: bool
    says: str


def examine(settings: Settings) -> list[Check]:
    """Examine model, archive, network, databases, audit trail and output folders."""
    return [
        _check("model", lambda: _model(settings)),
        _check("archive", lambda: _archive(settings)),
        _check("opening images", lambda: _opening(settings)),
        *_beside(settings),
        _check("network", lambda: _network(settings)),
        *_databases(settings),
        *_output_folders(settings),
    ]


def _check(name: str, examined: Callable[[], str]) -> Check:
    try:
        return Check(name, passed=True, says=examined())
    except (ModelUnavailable, CdsServerError) as error:
        return Check(name, passed=False, says=str(error))


def _model(settings: Settings) -> str:
    model = model_in_use.reader(settings).model
    return f"{model.name} {model.version}, sha256 {model.sha256[:16]}…, as its publisher signed it"


def _archive(settings: Settings) -> str:
    """Count the studies.

    Raises
    ------
    ArchiveError
        If some input cannot be read.
    """
    archive = bootstrap.archive(settings)
    studies = len(bootstrap.watched_arrivals(archive, settings))
    if archive.problems:
        first = archive.problems[0]
        msg = (
            f"{studies} studies, but {len(archive.problems)} inputs cannot be read; "
            f"the first: {first.path} {first.what}. {first.remedy}"
        )
        raise ArchiveError(msg)
    return f"{studies} studies in the archive"


def _opening(settings: Settings) -> str:
    """Open something that is no image, in a confined process."""
    with contextlib.suppress(InstanceUnreadable):
        bootstrap.decoder(settings).decode(b"")
    return "a confined process opens each image"


def _beside(settings: Settings) -> Iterator[Check]:
    """Ask the PACS that gets the results, and the worklist that gives work."""
    if is_address(settings.result_archive):
        yield _check("result archive", lambda: _results(settings))
    if settings.workitems:
        yield _check("worklist", lambda: _worklist(settings))


def _results(settings: Settings) -> str:
    archive = bootstrap.result_archive(settings)
    if archive is not None:
        bootstrap.watched_arrivals(archive, settings)
    return f"{settings.result_archive} answers"


def _worklist(settings: Settings) -> str:
    source, wanted = bootstrap.worklist(settings)
    waiting = source.search(State.SCHEDULED, wanted)
    return f"{len(waiting)} workitems are scheduled in {settings.workitems}"


def _network(settings: Settings) -> str:
    """Say who is trusted.

    Raises
    ------
    InvalidSettings
        If the file is not good.
    """
    if settings.network is None:
        return "no EHR is trusted: people sign in on this machine alone"
    network = read_network(settings.network)
    return f"{len(network.centres)} centres and {len(network.ehrs)} EHRs in {settings.network}"


def _ehrs(services: Services) -> Iterator[Check]:
    """Ask each EHR that launches radcds for its SMART configuration."""
    for ehr in services.network.ehrs:
        if ehr.smart is not None:
            smart = services.smart[ehr.fhir_base_url]
            yield _check(
                f"EHR {ehr.name}",
                lambda smart=smart: f"signs people in at {smart.configuration().issuer}",  # type: ignore[misc]
            )


def _databases(settings: Settings) -> Iterator[Check]:
    try:
        services = bootstrap.services(settings)
    except InvalidSettings as error:
        yield Check("database", passed=False, says=str(error))
        return
    readiness: Mapping[str, str] = services.readiness()
    for name, says in readiness.items():
        yield Check(name, passed=says == "ok", says=says)
    yield _check("audit trail", lambda: f"{services.trail.verify()} events verify")
    yield from _ehrs(services)
    yield from _receivers(services)


def _receivers(services: Services) -> Iterator[Check]:
    """Ask everyone of the file of destinations."""
    try:
        destinations = bootstrap.destinations(services)
    except InvalidSettings as error:
        yield Check("destinations", passed=False, says=str(error))
        return
    for each in destinations:
        if isinstance(each, ReportFeed):
            yield _check(f"destination {each.name}", each.probe)


def _output_folders(settings: Settings) -> Iterator[Check]:
    results = settings.result_archive
    folders = {
        "output": settings.output,
        "oru_folder": settings.oru_folder,
        "result_archive": Path(results) if results and not is_address(results) else None,
    }
    for name, folder in folders.items():
        if folder is None:
            continue
        nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        writable = os.access(nearest, os.W_OK)
        says = (
            f"{folder} can be written"
            if writable
            else f"{folder} cannot be written; mend its rights"
        )
        yield Check(name, passed=writable, says=says)
