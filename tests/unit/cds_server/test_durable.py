"""What queues deliveries goes on whatever the database does, and never ends in silence."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from dbos import DBOS, error
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from studies import ISSUED, OUTCOMES
from test_triage import RESULT, Story

from cds_server import durable
from cds_server.errors import AuditUnavailable
from cds_server.outbox import DeliveryState, Publication

FULL = OperationalError(
    "INSERT … VALUES (?)", ("Doe^Jane",), sqlite3.OperationalError("database or disk is full")
)
TROUBLES = [FULL, error.DBOSException("no queue"), AuditUnavailable("the trail is full")]


@dataclass
class Faulty:
    """A story whose rounds fail as a test wants; after these, they work."""

    faults: list[Exception | None]
    rounds: int = 0

    def send_waiting(self) -> int:
        self.rounds += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return 0

    def places(self) -> Mapping[str, int]:
        return {}


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: type(each).__name__)
def test_deliveries_are_queued_again_after_trouble_that_is_told_once(trouble: Exception) -> None:
    faulty = Faulty([None, trouble, trouble, trouble])
    with capture_logs() as logs, durable._steered(faulty) as steering:
        until(lambda: faulty.rounds > 6)
        assert not steering.done()
    assert [each["event"] for each in logs] == ["deliveries wait", "deliveries go on"]
    assert "Doe" not in str(logs)


def test_every_change_of_the_trouble_is_told() -> None:
    faulty = Faulty([*TROUBLES, *TROUBLES])
    with capture_logs() as logs, durable._steered(faulty):
        until(lambda: faulty.rounds > 7)
    assert [each["event"] for each in logs] == [*["deliveries wait"] * 6, "deliveries go on"]
    assert "database or disk is full" in logs[0]["error"]


def test_what_queues_deliveries_never_ends_in_silence() -> None:
    def works() -> None:
        with durable._steered(Faulty([None, ZeroDivisionError("a defect")])) as steering:
            until(steering.done)

    with capture_logs() as logs, pytest.raises(ZeroDivisionError):
        works()
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("deliveries are not queued any more", "critical")
    ]
    assert logs[0]["error"] == "ZeroDivisionError"


@dataclass
class Engine:
    """The workflows that gave up, as a test wants them."""

    gave_up: list[str] = field(default_factory=list)

    def list_workflows(self, **_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(workflow_id=each, error=ValueError("x")) for each in self.gave_up]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(DBOS, "list_workflows", made.list_workflows)
    return made


def waiting(*names: str) -> tuple[Story, list[Publication]]:
    story = Story(OUTCOMES["normal"])
    made = []
    for name in names:
        made.append(Publication(name, name, "1.2", "A", ISSUED))
        story.store.outbox.add(made[-1], ["collected"])
    return story, made


DIGITS = "12345678-1234-5678-1234-123456789012"
"""An id that reads like numbers, for ids of older workflows end in it."""


def test_a_delivery_whose_workflow_broke_is_parked_once(engine: Engine) -> None:
    story, _ = waiting(RESULT, DIGITS)
    engine.gave_up = [f"deliver-collected-{RESULT}-1-7"]
    (parked,) = story.triage.explain_lost_deliveries()
    assert parked.publication_id == RESULT
    assert [each.publication_id for each in story.triage.parked()] == [RESULT]
    assert "ValueError" in story.triage.parked()[0].says
    assert story.triage.explain_lost_deliveries() == []


def test_a_workflow_of_an_older_release_parks_nothing_that_was_queued_anew(
    engine: Engine,
) -> None:
    story, _ = waiting(RESULT, DIGITS)
    engine.gave_up = [f"deliver-collected-{each}" for each in (RESULT, DIGITS)]
    assert story.triage.explain_lost_deliveries() == []
    found = story.store.outbox.unqueued(["collected"])
    assert [each.publication_id for each in found] == [RESULT, DIGITS], "nothing is lost"


def test_an_attempt_of_an_earlier_turn_parks_nothing(engine: Engine) -> None:
    story, _ = waiting(RESULT)
    story.store.outbox.settle(RESULT, "collected", DeliveryState.PARKED, says="no", at=ISSUED)
    assert story.store.outbox.again(RESULT, "collected", audit_events=[])
    engine.gave_up = [f"deliver-collected-{RESULT}-1-0"]
    assert story.triage.explain_lost_deliveries() == []


def test_a_workflow_about_nothing_that_is_known_stops_nobody(engine: Engine) -> None:
    story, _ = waiting(RESULT)
    engine.gave_up = [
        f"deliver-collected-{uuid.UUID(int=9)}-1-0",
        f"deliver-gone-{RESULT}-1-0",
        f"deliver-collected-{RESULT}-1-0",
    ]
    assert len(story.triage.explain_lost_deliveries()) == 1
