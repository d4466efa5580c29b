"""A PACS that goes away and comes back: nothing is lost, nothing is doubled, all of it is told."""

import io
import time
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from beside_pacs import file_of, results_of, wait_for, worker
from orthanc import free_ports
from strict_pacs import Seen, strict_pacs
from studies import STUDY_UID, chest_instance

from cds_server.outbox import DeliveryState


def test_a_pacs_that_is_down_and_back_gets_every_result_once(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with worker(port, tmp_path / "data") as seen:
        wait_for(seen.components.components)
        assert "does not answer" in seen.trouble()
        with strict_pacs(port) as pacs:
            pacs.add(file_of(1))
            wait_for(lambda: seen.published() == 1)
            kept = dict(pacs.kept)
        wait_for(seen.trouble)
        with strict_pacs(port) as pacs:
            pacs.kept |= kept
            pacs.add(file_of(2))
            wait_for(lambda: seen.published() == 2)
            wait_for(lambda: not seen.trouble())
            time.sleep(2)
            for number in (1, 2):
                found = results_of(pacs, number)
                assert found["DX"] == 1
                assert found["SR"] == 2, "a report and the root result, once each"
            assert len(pacs.asked("POST")) == sum(results_of(pacs, 2).values()) - 1
        assert seen.outcomes("component") == ["8", "0", "8", "0"]
        assert len(seen.results.entries()) == 2
        assert seen.trail.verify() > 4


def test_a_result_that_the_pacs_does_not_take_is_kept_told_and_delivered_later(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    full = True

    def refuse(request: Seen) -> None:
        if full and request.method == "POST":
            raise ConnectionAbortedError

    with strict_pacs(port) as pacs:
        pacs.before = refuse
        pacs.add(file_of(1))
        with worker(port, tmp_path / "data") as seen:
            wait_for(lambda: seen.outbox.troubled(limit=9))
            (trouble,) = seen.outbox.troubled(limit=9)
            assert trouble.destination == "pacs"
            assert trouble.says
            assert trouble.state is DeliveryState.WAITING
            assert results_of(pacs, 1) == Counter(DX=1)
            full = False
            wait_for(lambda: seen.published() == 1)
            assert seen.outbox.troubled(limit=9) == []
            assert "8" in seen.outcomes("disclose")
            assert results_of(pacs, 1)["SR"] == 2


def test_a_worker_that_is_killed_while_it_stores_stores_the_rest_and_nothing_twice(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    posts = 0

    def slow(request: Seen) -> None:
        nonlocal posts
        if request.method == "POST":
            posts += 1
            time.sleep(0.3)

    data = tmp_path / "data"
    with strict_pacs(port) as pacs:
        pacs.before = slow
        pacs.add(file_of(1))
        for _ in range(3):
            before = posts
            with worker(port, data, killed=True) as seen:
                wait_for(lambda before=before: posts > before or seen.published() == 1)
        with worker(port, data) as seen:
            wait_for(lambda: seen.published() == 1)
        stored = [each.instance for each in pacs.kept.values() if each.metadata]
        assert len(stored) == len(set(stored))
        assert results_of(pacs, 1)["SR"] == 2
        assert len(seen.results.entries()) == 1


@pytest.mark.parametrize("late", ["PA", "LL"])
def test_an_image_that_comes_late_is_read_when_the_model_would_see_it(
    tmp_path: Path, late: str
) -> None:
    (port,) = free_ports(1)
    with strict_pacs(port) as pacs, worker(port, tmp_path / "data") as seen:
        pacs.add(file_of(1))
        wait_for(lambda: seen.published() == 1)
        first = results_of(pacs, 1)
        dataset = chest_instance(
            StudyInstanceUID=f"{STUDY_UID}.1",
            SeriesInstanceUID=f"{STUDY_UID}.1.2",
            SOPInstanceUID=f"{STUDY_UID}.1.2.1",
            AccessionNumber="ACC1",
            ViewPosition=late,
        )
        written = io.BytesIO()
        pydicom.dcmwrite(written, dataset, enforce_file_format=True)
        pacs.add(written.getvalue())
        expected = 2 if late == "PA" else 1
        time.sleep(1)
        wait_for(lambda: seen.published() == expected)
        again = results_of(pacs, 1)
        assert again["SR"] == 2 * expected
        assert again["DX"] == first["DX"] + 1
        assert [each.superseded for each in seen.results.entries()].count(True) == expected - 1
