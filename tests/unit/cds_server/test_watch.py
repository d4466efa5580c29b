"""Noticing studies: none is missed, none is looked at twice, restarts and outages included."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from standing_clock import StandingClock
from studies import site as example_site

from cds_server.adapters.sql_arrival_store import SqlArrivalStore
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_component_store import SqlComponentStore
from cds_server.adapters.sql_schema import open_engine
from cds_server.arrivals import Arrived, Listed
from cds_server.errors import ArchiveUnreachable, CdsServerError
from cds_server.imaging import Arrival
from cds_server.operations import Operations
from cds_server.watch import Watch, Watched

MODEL = "5f" * 32
PACS = Watched(3.0, frozenset({"CR", "DX", "CT"}), timedelta(seconds=10))


@dataclass
class ListedArchive:
    """An archive whose list a test writes."""

    listed: list[Arrival] = field(default_factory=list)
    away: bool = False
    asked: list[datetime | None] = field(default_factory=list)

    def arrivals(self, *, since: datetime | None = None) -> Sequence[Arrival]:
        self.asked.append(since)
        if self.away:
            msg = "the archive does not answer (ConnectionError)"
            raise ArchiveUnreachable(msg)
        return list(self.listed)


class Watching:
    """A watch over a database that survives it."""

    def __init__(self, folder: Path, watched: Watched = PACS) -> None:
        self.engine = open_engine(folder / "radcds.sqlite")
        self.trail = SqlAuditTrail(self.engine)
        self.archive = ListedArchive()
        self.clock = StandingClock()
        self.looked: list[Arrived] = []
        self.wait: timedelta | None = None
        self.broken = False
        self.damaged: set[str] = set()
        self.tried = 0
        self.seconds = 0.0
        self.list_takes_s = 0.0
        self.watched = watched
        self.restart()

    def restart(self, model: str = MODEL) -> None:
        self.arrivals = SqlArrivalStore(self.engine)
        self.operations = Operations(
            SqlComponentStore(self.engine), site=example_site(), clock=self.clock
        )
        self.watch = Watch(
            self.archive,  # type: ignore[arg-type]
            arrivals=self.arrivals,
            look=self.look,
            operations=self.operations,
            clock=self.clock,
            watched=self.watched,
            model_sha256=model,
            monotonic=self.monotonic,
        )

    def monotonic(self) -> float:
        self.seconds += self.list_takes_s / 2
        return self.seconds

    def look(self, arrived: Arrived) -> timedelta | None:
        self.tried += 1
        if arrived.study_instance_uid in self.damaged:
            msg = f"the record of {arrived.study_instance_uid} is damaged"
            raise CdsServerError(msg)
        if self.broken:
            msg = "the archive refused with status 503"
            raise ArchiveUnreachable(msg)
        self.looked.append(arrived)
        return self.wait

    def step(self, seconds: float = 0.0) -> list[str]:
        self.clock.time += timedelta(seconds=seconds)
        self.seconds += seconds
        self.looked.clear()
        self.watch.ask()
        self.watch.look()
        return [each.study_instance_uid for each in self.looked]


@pytest.fixture
def watching(tmp_path: Path) -> Watching:
    return Watching(tmp_path)


def radiograph(uid: str, instances: int = 1) -> Arrival:
    return Arrival(uid, ("CR",), instances)


def test_a_radiograph_is_looked_at_at_once_and_never_again(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.2")]
    assert watching.step() == ["1.2"]
    assert watching.step(60) == []
    watching.restart()
    assert watching.step(60) == []


def test_a_ct_is_looked_at_when_it_has_been_quiet(watching: Watching) -> None:
    watching.archive.listed = [Arrival("1.2", ("CT",), 40)]
    assert watching.step() == []
    watching.archive.listed = [Arrival("1.2", ("CT",), 100)]
    assert watching.step(8) == []
    assert watching.step(8) == []
    assert watching.step(3) == ["1.2"]


def test_a_list_that_only_confirms_what_an_event_told_makes_nothing_wait_longer(
    watching: Watching,
) -> None:
    watching.arrivals.told("1.2", watching.clock.time + timedelta(seconds=10))
    watching.archive.listed = [Arrival("1.2", ("CT",), 100)]
    assert watching.step(8) == []
    assert watching.step(3) == ["1.2"]


def test_a_study_that_arrives_while_the_server_is_down_is_found(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.1")]
    watching.step()
    watching.restart()
    watching.archive.listed.append(radiograph("1.2"))
    assert watching.step(3600) == ["1.2"]


def test_a_study_is_looked_at_again_when_it_has_grown_and_is_quiet(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.2")]
    watching.step()
    watching.archive.listed = [radiograph("1.2", 3)]
    assert watching.step(5) == []
    assert watching.step(31) == ["1.2"]
    assert watching.looked == [Arrived("1.2", 2, 3, in_place=False)]


def test_studies_of_other_modalities_are_passed_over(watching: Watching) -> None:
    watching.archive.listed = [Arrival("1.1", ("MR", "SR"), 400), Arrival("1.2", ("MR", "CR"), 1)]
    assert watching.step() == ["1.2"]


def test_a_study_whose_modality_the_archive_does_not_tell_is_looked_at(watching: Watching) -> None:
    watching.archive.listed = [Arrival("1.1")]
    watching.step()
    assert watching.step(11) == ["1.1"]


def test_on_a_small_archive_every_list_is_of_all_days(watching: Watching) -> None:
    for _ in range(3):
        watching.step(5)
    ages = [watching.clock.time - since for since in watching.archive.asked if since]
    assert len(ages) == 3
    assert min(ages) > timedelta(days=2)


@pytest.mark.parametrize("days", [3.0, None])
def test_on_a_huge_archive_all_days_are_listed_now_and_then(
    tmp_path: Path, days: float | None
) -> None:
    watching = Watching(tmp_path, replace(PACS, days=days))
    watching.list_takes_s = 6.0
    for _ in range(40):
        watching.step(5)
    wide = [
        since is None or watching.clock.time - since > timedelta(days=2)
        for since in watching.archive.asked
    ]
    assert wide[0]
    assert 1 < wide.count(True) < 10
    recent = next(
        since for since, swept in zip(watching.archive.asked, wide, strict=True) if not swept
    )
    assert recent is not None
    assert watching.clock.time - recent < timedelta(hours=3)


def test_a_folder_is_looked_at_whole(tmp_path: Path) -> None:
    watching = Watching(tmp_path, Watched())
    watching.archive.listed = [Arrival("1.1", (), 1)]
    assert watching.step() == ["1.1"]
    assert watching.archive.asked == [None]


def test_an_archive_that_is_away_is_told_once_and_so_is_its_return(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.2")]
    watching.archive.away = True
    for _ in range(3):
        with pytest.raises(ArchiveUnreachable):
            watching.step(5)
    (archive,) = watching.operations.components()
    assert "does not answer" in archive.trouble
    watching.archive.away = False
    assert watching.step(5) == ["1.2"]
    (archive,) = watching.operations.components()
    assert archive.trouble == ""
    told = [json.loads(each) for each in watching.trail.events()]
    assert [each["outcome"] for each in told] == ["8", "0"]
    assert watching.trail.verify() == 2


def test_an_archive_that_fails_between_list_and_look_loses_nothing(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.2")]
    watching.broken = True
    assert watching.step() == []
    watching.broken = False
    assert watching.step(1) == []
    assert watching.step(5) == ["1.2"]


def test_who_is_asked_to_come_later_does(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.2")]
    watching.wait = timedelta(seconds=20)
    assert watching.step() == ["1.2"]
    watching.wait = None
    assert watching.step(10) == []
    assert watching.step(10) == ["1.2"]
    assert watching.step(60) == []


def test_a_change_during_the_look_is_looked_at_too(watching: Watching) -> None:
    watching.arrivals.told("1.2", watching.clock.time)
    (arrived,) = watching.arrivals.due(watching.clock.time)
    watching.arrivals.told("1.2", watching.clock.time)
    watching.arrivals.looked(arrived, MODEL)
    assert watching.arrivals.due(watching.clock.time) == [Arrived("1.2", 2, None, in_place=True)]
    assert watching.arrivals.waiting(watching.clock.time) == (1, watching.clock.time)


def test_another_model_looks_again_at_the_days_that_are_watched(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.1")]
    watching.step()
    watching.clock.time += timedelta(days=2)
    watching.archive.listed = [radiograph("1.1"), radiograph("1.2")]
    watching.step()
    watching.clock.time += timedelta(days=2)
    watching.restart()
    assert watching.watch.renew() == 0
    watching.restart("a" * 64)
    assert watching.watch.renew() == 1
    watching.archive.listed = [radiograph("1.2")]
    assert watching.step() == ["1.2"]
    assert watching.step(60) == []


def test_what_is_beyond_the_days_is_forgotten_but_never_while_it_waits(watching: Watching) -> None:
    watching.archive.listed = [radiograph("1.1")]
    watching.step()
    watching.archive.listed = []
    watching.arrivals.told("1.2", watching.clock.time)
    watching.broken = True
    watching.step(4 * 86_400)
    watching.broken = False
    assert watching.step(10) == ["1.2"]
    now = watching.clock.time
    assert watching.arrivals.listed([Listed("1.1", 1, now, now)]), "it was forgotten, so it is new"


def test_a_ct_that_never_stops_coming_is_looked_at_after_ten_minutes(watching: Watching) -> None:
    for _ in range(70):
        watching.arrivals.told("1.2", watching.clock.time + timedelta(seconds=10))
        watching.clock.time += timedelta(seconds=9)
    assert watching.arrivals.due(watching.clock.time)


def test_a_new_study_never_waits_behind_those_that_are_looked_at_again(watching: Watching) -> None:
    watching.archive.listed = [radiograph(f"1.2.{number}") for number in range(60)]
    watching.step()
    watching.step()
    watching.archive.listed = [radiograph(f"1.2.{number}", 2) for number in range(60)]
    watching.step()
    watching.archive.listed.append(radiograph("1.3"))
    watching.clock.time += timedelta(seconds=31)
    watching.watch.ask()
    assert watching.arrivals.due(watching.clock.time)[0].study_instance_uid == "1.3"


def test_a_ct_that_never_stops_growing_in_the_list_is_looked_at_after_ten_minutes(
    watching: Watching,
) -> None:
    looked: list[str] = []
    for count in range(1, 71):
        watching.archive.listed = [Arrival("1.2", ("CT",), count)]
        looked += watching.step(9)
    assert looked == ["1.2"]


def test_what_comes_during_a_look_waits_until_it_is_quiet_again(watching: Watching) -> None:
    settle = timedelta(seconds=10)
    for _ in range(68):
        watching.arrivals.told("1.2", watching.clock.time + settle)
        watching.clock.time += timedelta(seconds=9)
    (arrived,) = watching.arrivals.due(watching.clock.time)
    watching.arrivals.told("1.2", watching.clock.time + settle)
    watching.arrivals.looked(arrived, MODEL)
    watching.arrivals.told("1.2", watching.clock.time + settle)
    assert watching.arrivals.due(watching.clock.time) == []
    assert watching.arrivals.due(watching.clock.time + settle)


def test_an_image_for_a_study_that_another_model_read_waits_until_it_is_quiet(
    watching: Watching,
) -> None:
    watching.archive.listed = [radiograph("1.2")]
    watching.step()
    watching.clock.time += timedelta(hours=1)
    watching.restart("a" * 64)
    assert watching.watch.renew() == 1
    watching.arrivals.told("1.2", watching.clock.time + timedelta(seconds=10))
    assert watching.arrivals.due(watching.clock.time) == []
    assert watching.arrivals.due(watching.clock.time + timedelta(seconds=10))


def test_a_postponed_study_that_changes_is_not_put_off(watching: Watching) -> None:
    watching.arrivals.told("1.2", watching.clock.time)
    (arrived,) = watching.arrivals.due(watching.clock.time)
    watching.arrivals.told("1.2", watching.clock.time)
    watching.arrivals.postpone(arrived, watching.clock.time + timedelta(hours=1))
    assert watching.arrivals.due(watching.clock.time)


def test_a_list_costs_few_statements_and_one_write(watching: Watching) -> None:
    statements: list[str] = []
    event.listen(
        watching.engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    now = watching.clock.time
    listed = [Listed(f"1.2.{number}", 1, now, now) for number in range(1200)]
    assert watching.arrivals.listed(listed) == 1200
    assert sum(each.startswith("BEGIN IMMEDIATE") for each in statements) == 1
    statements.clear()
    assert watching.arrivals.listed(listed) == 0
    assert len(statements) < 10
    assert not any(each.startswith(("INSERT", "BEGIN IMMEDIATE")) for each in statements)


def test_what_is_due_is_found_by_an_index_of_what_waits(watching: Watching) -> None:
    with watching.engine.begin() as connection:
        connection.exec_driver_sql("CREATE INDEX arrival_due ON arrival (due)")
    database = watching.engine.url.database
    assert database
    with open_engine(Path(database)).connect() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT * FROM arrival WHERE due <= 1 AND looked < change"
        ).all()
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
    assert "arrival_waiting" in str(plan)
    assert "arrival_due" not in names


def seen_and_grown(watching: Watching, count: int) -> None:
    watching.archive.listed = [radiograph(f"1.2.{number}") for number in range(count)]
    watching.step()
    watching.archive.listed = [radiograph(f"1.2.{number}", 2) for number in range(count)]
    watching.step()
    watching.clock.time += timedelta(seconds=31)
    watching.tried = 0


def test_an_archive_that_is_away_is_not_asked_about_each_study(watching: Watching) -> None:
    seen_and_grown(watching, 40)
    watching.broken = True
    for _ in range(20):
        watching.watch.look()
    assert watching.tried == 1
    watching.broken = False
    watching.arrivals.told("1.3", watching.clock.time)
    watching.watch.look()
    assert [each.study_instance_uid for each in watching.looked] == ["1.3"], "new, so it is taken"
    assert len(watching.step()) == 39


def test_a_study_that_fails_again_and_again_is_tried_ever_more_seldom(watching: Watching) -> None:
    seen_and_grown(watching, 1)
    watching.broken = True
    tried = []
    for second in range(200):
        before = watching.tried
        watching.step(1)
        tried += [second] * (watching.tried - before)
    assert [after - at for at, after in pairwise(tried)] == [5, 10, 20, 40, 60, 60]


def test_a_damaged_record_ends_nothing_and_is_told_without_naming_the_study(
    watching: Watching,
) -> None:
    watching.archive.listed = [radiograph("1.1"), radiograph("1.2")]
    watching.damaged = {"1.1"}
    assert watching.step() == ["1.2"]
    (studies,) = watching.operations.components()
    assert studies.name == "studies"
    assert "cannot be looked at" in studies.trouble
    assert "1.1" not in studies.trouble
    watching.archive.listed.append(radiograph("1.3"))
    assert watching.step(30) == ["1.3"]
    assert watching.operations.components() == [studies]
    watching.damaged = set()
    assert watching.step(30) == ["1.1"]
    (studies,) = watching.operations.components()
    assert studies.trouble == ""
    assert watching.trail.verify() == 2


def test_words_that_change_while_the_archive_is_away_are_no_news(watching: Watching) -> None:
    assert watching.operations.note("archive", "does not answer")
    since = watching.operations.components()[0].since
    watching.clock.time += timedelta(minutes=1)
    assert not watching.operations.note("archive", "does not answer; so it is since 09:30")
    (archive,) = watching.operations.components()
    assert archive.since == since
    assert archive.trouble.endswith("09:30")
    assert watching.trail.verify() == 1


def test_a_worker_without_a_sign_of_life_is_in_trouble(watching: Watching) -> None:
    watching.operations.beat("worker")
    watching.clock.time += timedelta(minutes=1)
    assert watching.operations.components() == []
    watching.clock.time += timedelta(minutes=2)
    (worker,) = watching.operations.components()
    assert "no sign of life" in worker.trouble


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.just("grow"), st.sampled_from("123")),
            st.tuples(st.just("told"), st.sampled_from("123")),
            st.tuples(st.just("restart"), st.just("")),
            st.tuples(st.just("outage"), st.just("")),
            st.tuples(st.just("step"), st.just("")),
        ),
        max_size=20,
    )
)
def test_whatever_happens_the_last_change_of_every_study_is_looked_at(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str]]
) -> None:
    watching = Watching(tmp_path_factory.mktemp("watch"))
    counts: dict[str, int] = {}
    seen: dict[str, int | None] = {}
    for what, which in events:
        uid = f"1.2.{which}"
        if what == "grow":
            counts[uid] = counts.get(uid, 0) + 1
            watching.archive.listed = [radiograph(each, n) for each, n in counts.items()]
        elif what == "told":
            counts.setdefault(uid, 1)
            watching.arrivals.told(uid, watching.clock.time)
        elif what == "restart":
            watching.restart()
        elif what == "outage":
            watching.broken = not watching.broken
        else:
            watching.step(7)
            seen |= {each.study_instance_uid: each.instances for each in watching.looked}
    watching.broken = False
    watching.archive.listed = [radiograph(each, n) for each, n in counts.items()]
    for _ in range(3):
        watching.step(31)
        seen |= {each.study_instance_uid: each.instances for each in watching.looked}
    assert seen == counts
    assert watching.step(31) == []
