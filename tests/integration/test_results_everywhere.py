"""One study to a RIS, a PACS and a FHIR server of others; signed, then recalled; the RIS away."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from beside_pacs import Watcher, file_of, results_of, wait_for, worker
from orthanc import free_ports
from sekmet import Sekmet, sekmet
from strict_pacs import StrictPacs, strict_pacs

from cds_server.adapters.sql_amendment_store import SqlAmendmentStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.amendments import SignOffAsked
from cds_server.mllp.endpoint import Listening
from cds_server.mllp.server import MllpServer, Peer
from cds_server.outbox import DeliveryState
from fhir_mappers.hl7_inbound.acknowledgement import AcknowledgementCode, acknowledgement
from fhir_mappers.hl7_inbound.hl7_message import HL7Message
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.report_context import SignOff, Verdict

SIGNED = SignOff(
    0,
    Verdict.CORRECTED,
    datetime(2026, 11, 25, 9, tzinfo=UTC),
    "Dr A Example",
    ("urn:gmc", "1"),
    "A skin fold.",
)


class Ris:
    """A RIS that keeps what it gets, and says what a test wants."""

    def __init__(self) -> None:
        self.got: list[HL7Message] = []
        self.raw: list[bytes] = []
        self.says = AcknowledgementCode.AA

    def take(self, content: bytes, _: Peer) -> bytes:
        message = read_message(content)
        if self.says is AcknowledgementCode.AA:
            self.got.append(message)
            self.raw.append(content)
        return acknowledgement(message, self.says, at=datetime.now(UTC))

    def statuses(self) -> list[str]:
        return [each.required("OBR").part(25) for each in self.got]

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        server = MllpServer(Listening(port=port), self.take, notice=lambda _: None)
        server.start()
        try:
            yield
        finally:
            server.stop()


class Around:
    """Everyone around the server."""

    def __init__(
        self, folder: Path, ports: tuple[int, int], fhir: Sekmet, pacs: StrictPacs
    ) -> None:
        self.pacs_port, self.ris_port = ports
        self.data = folder / "data"
        self.file = folder / "destinations.toml"
        self.file.write_text(
            f'[[hl7]]\nname = "ris"\naddress = "127.0.0.1:{self.ris_port}"\ntimeout_s = 2\n'
            f'[[fhir]]\nname = "trust"\nurl = "{fhir.url}"\n'
            'profiles = ["uk-core", "ai-transparency"]\n'
        )
        self.fhir, self.pacs, self.ris = fhir, pacs, Ris()

    def radcds(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        variables = {
            **os.environ,
            "RADCDS_DATA_DIR": str(self.data),
            "RADCDS_DESTINATIONS": str(self.file),
        }
        command = [sys.executable, "-m", "cds_server.cli", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    def doctor(self) -> dict[str, str]:
        told = self.radcds("doctor", "--json")
        checks = json.loads(told.stdout)
        return {each["name"]: each["says"] for each in checks if "destination" in each["name"]}

    def listed(self) -> dict[str, dict[str, int]]:
        told = self.radcds("delivery", "list", "--json")
        assert told.returncode == 0, told.stderr
        found: dict[str, dict[str, int]] = json.loads(told.stdout)["destinations"]
        return found

    def report_status(self) -> str:
        found = self.fhir.ask("DiagnosticReport")
        (entry,) = found["entry"]
        return str(entry["resource"]["status"])

    def sign(self, seen: Watcher) -> None:
        (entry,) = seen.results.entries()
        store = SqlAmendmentStore(open_engine(self.data / "radcds.sqlite"))
        store.ask_sign_off(SignOffAsked("", entry.result_id, SIGNED, "test"), audit_events=[])


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Around]:
    pacs_port, ris_port = free_ports(2)
    (tmp_path / "sekmet").mkdir()
    with sekmet(tmp_path / "sekmet") as fhir, strict_pacs(pacs_port) as pacs:
        yield Around(tmp_path, (pacs_port, ris_port), fhir, pacs)


@contextmanager
def beside(around: Around) -> Iterator[Watcher]:
    with worker(around.pacs_port, around.data, RADCDS_DESTINATIONS=str(around.file)) as seen:
        yield seen


def delivered(seen: Watcher, count: int) -> bool:
    states = [each.state for each in seen.outbox.deliveries()]
    return states.count(DeliveryState.DELIVERED) == count == len(states)


def test_a_result_is_published_signed_and_recalled_in_every_channel(around: Around) -> None:
    around.pacs.add(file_of(1))
    with around.ris.listening(around.ris_port), beside(around) as seen:
        wait_for(lambda: delivered(seen, 4))
        assert around.ris.statuses() == ["P"]
        assert around.report_status() == "preliminary"
        assert results_of(around.pacs, 1)["SR"] == 2
        around.sign(seen)
        wait_for(lambda: delivered(seen, 8))
        assert around.ris.statuses() == ["P", "C"]
        assert around.report_status() == "amended"
        assert results_of(around.pacs, 1)["SR"] == 4, "report and root result, again"
        assert "A skin fold" in around.ris.raw[-1].decode()
        (entry,) = seen.results.entries()
        assert entry.result is not None
        model = entry.result.outcome.model
        assert model is not None
        told = around.radcds("recall", model.sha256, "--reason", "Wrong on detector X.", "--yes")
        assert told.returncode == 0, told.stderr
        wait_for(lambda: delivered(seen, 12))
        assert around.report_status() == "corrected", "the radiologist's word stands"
        observations = around.fhir.ask("Observation")["entry"]
        assert {each["resource"]["status"] for each in observations} == {"entered-in-error"}
        assert "Wrong on detector X." in around.ris.raw[-1].decode()
        withdrawn = {each.part(11) for each in around.ris.got[-1].named("OBX")}
        assert "W" in withdrawn
        assert results_of(around.pacs, 1)["KO"] == 2
        assert results_of(around.pacs, 1)["SR"] == 6, "report and root result, withdrawn"
        assert seen.results.entries()[0].recalled
        assert seen.trail.verify() > 10
        ids = [each.header.control_id for each in around.ris.got]
        assert len(set(ids)) == 3
        assert around.doctor() == {
            "destination ris": f"127.0.0.1:{around.ris_port} takes connections",
            "destination trust": f"{around.fhir.url} is FHIR 4.0.1",
        }
        again = around.radcds("recall", model.sha256, "--reason", "Again.", "--yes")
        assert again.returncode == 1
        assert "recalled already" in again.stderr
        around.pacs.add(file_of(2))
        wait_for(lambda: delivered(seen, 16))
        assert "model was recalled: Wrong on detector X." in around.ris.raw[-1].decode()


def test_a_ris_that_is_away_keeps_nobody_else_waiting_and_gets_everything_later(
    around: Around,
) -> None:
    for number in (1, 2, 3):
        around.pacs.add(file_of(number))
    with beside(around) as seen:
        wait_for(lambda: len([d for d in seen.outbox.deliveries() if d.state == "delivered"]) == 9)
        assert around.listed()["ris"]["waiting"] == 3
        (trouble,) = {each.says for each in seen.outbox.troubled(limit=9)}
        assert "refused" in trouble or "not" in trouble
        assert "connection" in around.doctor()["destination ris"]
        names = [each.name for each in seen.components.components() if each.trouble]
        assert names == ["destination ris"]
        with around.ris.listening(around.ris_port):
            wait_for(lambda: delivered(seen, 12))
            assert around.ris.statuses() == ["P", "P", "P"]
            wait_for(lambda: not any(each.trouble for each in seen.components.components()))


def test_what_a_ris_refuses_is_parked_shown_and_sent_again_as_the_same_bytes(
    around: Around,
) -> None:
    around.pacs.add(file_of(1))
    around.ris.says = AcknowledgementCode.AR
    with around.ris.listening(around.ris_port), beside(around) as seen:
        wait_for(lambda: around.listed().get("ris", {}).get("parked") == 1)
        (parked,) = seen.outbox.deliveries(states=frozenset({DeliveryState.PARKED}))
        kept = seen.outbox.message(parked.publication_id, "ris")
        shown = around.radcds("delivery", "list")
        assert "refuses the message" in shown.stdout
        assert around.radcds("delivery", "pause", "ris").returncode == 0
        around.ris.says = AcknowledgementCode.AA
        assert around.radcds("delivery", "retry", "ris").returncode == 0
        threading.Event().wait(2)
        assert around.ris.got == [], "nothing is sent while it is paused"
        assert around.radcds("delivery", "resume", "ris").returncode == 0
        wait_for(lambda: delivered(seen, 4))
        assert around.ris.raw == [kept]
        assert around.radcds("delivery", "retry", "ris").returncode == 1, "nothing is parked"
        unknown = around.radcds("delivery", "pause", "nobody")
        assert unknown.returncode == 1
        assert "no such destination" in unknown.stderr
