"""What radcds adds to the model's time, part by part; and the retrieval of one radiograph."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import cast

from dicomweb_client.web import DICOMwebClient
from orthanc import Orthanc, orthanc
from pacs_race import p50_p95
from pacs_stand_in import STAND_IN
from pacs_studies import SentStudy
from rich.progress import Progress

from cds_server import bootstrap
from cds_server.adapters.system_clock import SystemClock
from cds_server.config import Settings
from cds_server.delivery import Courier, Patience
from cds_server.imaging import Arrival, DecodedInstance, Decoder, ImageArchive
from cds_server.ports import Destination, StoredResult
from cds_server.triage import Triage
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

LIST, DESCRIBE = "QIDO, the list of studies", "WADO, metadata"
RETRIEVE, OPEN = "WADO, 7.2 MB", "decode, in the sandbox"
REPORT, STORE = (
    "report set, with every DICOM object",
    "STOW, each object looked for before and after",
)
REST, TOTAL = "result and audit trail into the database", "**QIDO to STOW complete**"
PARTS = (LIST, DESCRIBE, RETRIEVE, OPEN, REPORT, REST, STORE)


@dataclass
class Laps:
    """Seconds by part."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


@dataclass
class TimedArchive:
    """An archive under the watch."""

    archive: ImageArchive
    laps: Laps
    problems: Sequence[object] = ()

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:
        with self.laps.of(LIST):
            return self.archive.arrivals(since=since)

    def metadata(self, study_instance_uid: str) -> Sequence[Mapping[str, object]]:
        with self.laps.of(DESCRIBE):
            return self.archive.metadata(study_instance_uid)

    def instance(self, *uids: str) -> bytes:
        with self.laps.of(RETRIEVE):
            return self.archive.instance(*uids)


@dataclass
class TimedDecoder:
    """A decoder under the watch."""

    decoder: Decoder
    laps: Laps

    def decode(self, instance: bytes) -> DecodedInstance:
        with self.laps.of(OPEN):
            return self.decoder.decode(instance)


@dataclass
class TimedDestination:
    """A destination under the watch."""

    destination: Destination
    laps: Laps
    name: str = "pacs"
    at_once: int = 1

    def deliver(self, result: StoredResult, artefacts: ReportSet) -> None:
        with self.laps.of(STORE):
            self.destination.deliver(result, artefacts)


def overhead(studies: Sequence[SentStudy], folder: Path, progress: Progress) -> list[str]:
    """Give the lines of the parts and their sum; the first study warms up and does not count.

    Each study is alone in the PACS. What others add to the list of studies is a line of its own.
    """
    with orthanc(folder) as pacs:
        read = _story(pacs, folder)
        task = progress.add_task("the parts of one study", total=len(studies))
        found: list[Mapping[str, float]] = []
        for study in studies:
            pacs.upload(study.files[0].read_bytes())
            found.append(read(study.study_instance_uid))
            pacs.delete_everything()
            progress.advance(task)
        progress.remove_task(task)
        others = _listing(pacs, studies)
    lines = [_line(part, [each[part] for each in found[1:]]) for part in (*PARTS, TOTAL)]
    return [*lines, _line(f"beside it: the list of {len(studies)} studies", others)]


def _listing(pacs: Orthanc, studies: Sequence[SentStudy]) -> list[float]:
    """Time the list of all the studies."""
    for study in studies:
        pacs.upload(study.files[0].read_bytes())
    archive = bootstrap.archive(replace(Settings(), archive=pacs.url))
    laps = Laps()
    seconds = []
    for _ in studies:
        laps.seconds.clear()
        with laps.of(LIST):
            assert len(archive.arrivals()) == len(studies)
        seconds.append(laps.seconds[LIST])
    return seconds


def _story(pacs: Orthanc, folder: Path) -> Callable[[str], Mapping[str, float]]:
    """Put the story together as ``bootstrap`` does, over timed parts and without queues."""
    settings = replace(
        Settings(), archive=pacs.url, result_archive=pacs.url, data_dir=folder / "data"
    )
    services, laps = bootstrap.services(settings), Laps()
    archive = TimedArchive(bootstrap.archive(settings), laps)
    (destination,) = (each for each in bootstrap.destinations(services) if each.name == "pacs")
    triage = Triage(
        archive=cast("ImageArchive", archive),
        decoder=cast("Decoder", TimedDecoder(bootstrap.decoder(settings), laps)),
        reader=STAND_IN,
        store=services.store,
        trail=services.trail,
        outbox=services.outbox,
        courier=Courier(
            outbox=services.outbox,
            store=services.store,
            amendments=services.amendments,
            trail=services.trail,
            destinations=[TimedDestination(cast("Destination", destination), laps)],
            site=settings.site,
            clock=SystemClock(),
            patience=Patience(),
        ),
        site=settings.site,
        clock=SystemClock(),
        software_version="benchmark",
        name="benchmark",
    )

    def read(study_instance_uid: str) -> Mapping[str, float]:
        identifier = result_id(study_instance_uid, STAND_IN.model.sha256)
        laps.seconds.clear()
        start = time.perf_counter()
        assert any(each.study_instance_uid == study_instance_uid for each in archive.arrivals())
        services.store.notice(identifier, study_instance_uid, services.clock.now())
        triage._read_and_store(identifier)
        triage._deliver(identifier, destination.name, 1)
        total = time.perf_counter() - start
        result = services.store.entry(identifier).result
        assert result is not None
        laps.seconds[REPORT] = result.seconds["report"]
        rest = total - sum(laps.seconds.values())
        return {**laps.seconds, REST: rest, TOTAL: total}

    return read


def retrieval(study: SentStudy, count: int, folder: Path, progress: Progress) -> list[str]:
    """Give the lines of one retrieval, ours and the library's as its documentation has it."""
    uid = study.study_instance_uid
    uids = (uid, f"{uid}.1", f"{uid}.1.1")
    times: dict[str, list[float]] = defaultdict(list)
    with orthanc(folder) as pacs:
        pacs.upload(study.files[0].read_bytes())
        archive = bootstrap.archive(replace(Settings(), archive=pacs.url))
        client = DICOMwebClient(url=pacs.url)
        ways: Mapping[str, Callable[[], object]] = {
            "radcds: as it is stored, not compressed": lambda: archive.instance(*uids),
            "`DICOMwebClient(url).retrieve_instance(…)`": lambda: client.retrieve_instance(*uids),
        }
        task = progress.add_task("retrieving a radiograph", total=count)
        for _ in range(count + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
            progress.advance(task)
        progress.remove_task(task)
    return [_line(name, values[1:]) for name, values in times.items()]


def _line(name: str, seconds: Sequence[float]) -> str:
    p50, p95 = p50_p95([each * 1000 for each in seconds])
    return f"| {name} | {p50:.0f} | {p95:.0f} |"
