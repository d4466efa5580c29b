"""Events of the PACS, and the page of those who operate the server."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from serving import Serving
from studies import STUDY_UID

from cds_server.arrivals import Arrived
from cds_server.network import Role
from cds_server.outbox import DeliveryState

SECRET = "a token of more than thirty-two characters"  # noqa: S105 - of tests
EVENT = {
    "study": STUDY_UID,
    "series": f"{STUDY_UID}.1",
    "instance": f"{STUDY_UID}.1.1",
    "modality": "CR",
}


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    made = Serving(tmp_path)
    made.pacs_token.write_text(f"{SECRET}\n")
    return made


def tell(serving: Serving, event: object, token: str = SECRET) -> tuple[int, dict[str, object]]:
    answer = serving.client.post(
        "/pacs/events", json=event, headers={"Authorization": f"Bearer {token}"}
    )
    return answer.status_code, answer.get_json(silent=True) or {}


def due(serving: Serving, seconds: float = 0.0) -> list[Arrived]:
    return list(serving.arrivals.due(serving.clock.now() + timedelta(seconds=seconds)))


def test_a_radiograph_that_the_pacs_tells_of_is_due_at_once(serving: Serving) -> None:
    assert tell(serving, EVENT) == (202, {"noticed": True})
    assert due(serving) == [Arrived(STUDY_UID, 1, None, in_place=True)]


def test_a_ct_is_due_when_its_slices_have_stopped_coming(serving: Serving) -> None:
    for _ in range(3):
        tell(serving, EVENT | {"modality": "CT"})
    assert due(serving, 5) == []
    assert due(serving, 11) == [Arrived(STUDY_UID, 3, None, in_place=True)]


def test_a_study_alone_is_enough_to_ask_for_its_reading(serving: Serving) -> None:
    assert tell(serving, {"study": STUDY_UID}) == (202, {"noticed": True})
    assert due(serving, 11)


@pytest.mark.parametrize("modality", ["SR", "PR", "KO", "SEG", "OT", "MR"])
def test_our_own_results_and_other_modalities_are_never_read(
    serving: Serving, modality: str
) -> None:
    assert tell(serving, EVENT | {"modality": modality}) == (202, {"noticed": False})
    assert due(serving, 60) == []


@pytest.mark.parametrize("token", ["", "wrong", SECRET[:-1], f"{SECRET} "])
def test_who_does_not_show_the_token_tells_nothing(serving: Serving, token: str) -> None:
    assert tell(serving, EVENT, token)[0] == 401
    assert due(serving, 60) == []


def test_without_a_token_nobody_is_let_in(serving: Serving) -> None:
    serving.pacs_token.unlink()
    assert tell(serving, EVENT)[0] == 401
    serving.pacs_token.write_text("short")
    assert tell(serving, EVENT, "short")[0] == 401


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({}, "study is not a UID"),
        ({"study": "../../etc"}, "study is not a UID"),
        (EVENT | {"series": "1..2"}, "series is not a UID"),
        (EVENT | {"instance": 5}, "instance is no text"),
        (EVENT | {"modality": "C R<script>"}, "modality is no DICOM code string"),
        (EVENT | {"patient": "Smith"}, "unknown keys"),
        ([EVENT], "not a JSON object"),
    ],
)
def test_a_malformed_event_is_refused_in_words(serving: Serving, event: object, says: str) -> None:
    status, answer = tell(serving, event)
    assert status == 400
    assert says in json.dumps(answer)
    assert "Smith" not in json.dumps(answer)
    assert due(serving, 60) == []


def test_the_operations_page_shows_what_waits_what_is_away_and_what_does_not_arrive(
    serving: Serving,
) -> None:
    base = serving.sign_in()
    quiet = serving.client.get(f"{base}/operations").get_data(as_text=True)
    assert "No part was ever in trouble" in quiet
    assert "every study that the archive told of was looked at" in quiet
    result_id = serving.add("urgent")
    tell(serving, EVENT)
    serving.operations.note("archive", "the archive does not answer (<timeout>)")
    serving.store.outbox.settle(
        result_id, "fhir", DeliveryState.PARKED, says="the PACS is full", at=serving.clock.now()
    )
    shown = serving.client.get(f"{base}/operations").get_data(as_text=True)
    assert "<strong>1</strong> study has arrived" in shown
    assert "the archive does not answer (&lt;timeout&gt;)" in shown
    assert "the PACS is full" in shown
    assert "given up" in shown
    assert f"{base}/studies/{result_id}" in shown
    for identity in ("MRN", "TEST", "Example Trust", STUDY_UID):
        assert identity not in shown.partition("<main")[2]


def test_a_look_at_the_operations_is_recorded_and_clinicians_have_none(serving: Serving) -> None:
    before = len(serving.trail.recorded)
    base = serving.sign_in(Role.AUDITOR)
    assert serving.client.get(f"{base}/operations").status_code == 200
    assert json.loads(serving.trail.recorded[-1])["subtype"][0]["code"] == "search"
    assert len(serving.trail.recorded) > before
    for role in (Role.RADIOLOGIST, Role.CLINICIAN):
        base = serving.sign_in(role)
        page = serving.client.get(f"{base}/operations")
        assert page.status_code == 403
        assert "Operations</a>" not in page.get_data(as_text=True)


def test_no_audit_no_operations(serving: Serving) -> None:
    base = serving.sign_in()
    serving.trail.broken = True
    assert serving.client.get(f"{base}/operations").status_code == 503
