"""What Prometheus is told: how much waits and where, and nothing of a patient."""

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import TOKEN, Serving
from studies import STUDY_UID

from cds_server.outbox import DeliveryState, Pause

MONITORING = "the token of the monitoring, long enough"


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


def figures(serving: Serving) -> dict[str, float]:
    answer = serving.client.get("/metrics")
    assert answer.status_code == 200
    return {
        " ".join(
            [sample.name, *(sample.labels[name] for name in sorted(sample.labels))]
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_waits_and_what_does_not_arrive_is_counted(serving: Serving) -> None:
    ids = [serving.add("urgent", number) for number in range(3)]
    outbox = serving.store.outbox
    now = serving.clock.now()
    outbox.settle(ids[0], "fhir", DeliveryState.DELIVERED, at=now)
    outbox.settle(ids[1], "fhir", DeliveryState.PARKED, says="no", at=now)
    outbox.pause("fhir", Pause("dr.who", now), audit_events=[])
    serving.arrivals.told(STUDY_UID, now - timedelta(minutes=5))
    serving.operations.note("archive", "does not answer")
    found = figures(serving)
    assert found["radcds_deliveries fhir waiting"] == 1
    assert found["radcds_deliveries fhir parked"] == 1
    assert found["radcds_deliveries fhir delivered"] == 1
    assert found["radcds_destination_paused fhir"] == 1
    assert found["radcds_delivery_oldest_seconds fhir"] > 0
    assert found["radcds_inbound_messages failed"] == 0
    assert found["radcds_studies_waiting"] == 1
    assert found["radcds_studies_oldest_seconds"] >= 300
    assert found["radcds_component_working archive"] == 0
    serving.operations.note("archive")
    assert figures(serving)["radcds_component_working archive"] == 1


def test_a_quiet_server_says_that_nothing_waits(serving: Serving) -> None:
    found = figures(serving)
    assert found["radcds_studies_waiting"] == found["radcds_studies_oldest_seconds"] == 0


def test_no_figure_names_a_patient_or_a_study(serving: Serving) -> None:
    identifier = serving.add("urgent")
    told = serving.client.get("/metrics").text
    for identity in ("PATIENT", "MRN", STUDY_UID, identifier, "ACC"):
        assert identity not in told


def test_only_the_monitoring_and_the_local_operator_are_told(serving: Serving) -> None:
    stranger = serving.app.test_client()

    def asked(authorization: str) -> int:
        return int(stranger.get("/metrics", headers={"Authorization": authorization}).status_code)

    assert asked("") == asked(f"Bearer {MONITORING}") == 401
    assert asked(f"Bearer {TOKEN}") == 200
    serving.metrics_token.write_text(MONITORING)
    serving.metrics_token.chmod(0o600)
    assert asked(f"Bearer {MONITORING}") == 200
    assert asked("Bearer another token that is long enough") == 401
    assert asked(f"Basic {MONITORING}") == 401
