"""Messages of other systems over a real connection: kept before they are acknowledged."""

import random
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hl7_samples import OTHERS, merge, orm, report
from killed_inbox import Killable, Sender, Serving
from mllp_peers import npm_sender
from orthanc import free_ports
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_study

from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_schema import open_engine
from cds_server.inbox import InboxBacklog
from cds_server.mllp.connection import MllpConnection
from cds_server.mllp.endpoint import Endpoint
from cds_server.ports import StoredResult
from cds_server.worklist import WorklistQuery
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import ReportSet

MESSAGES, KILLS = 150, 8


def counted(folder: Path, what: str) -> int:
    with closing(sqlite3.connect(folder / "radcds.sqlite")) as connection:
        found: int = connection.execute(f"SELECT COUNT(*) FROM {what}").fetchone()[0]  # noqa: S608
    return found


def numbered(number: int) -> bytes:
    return report().replace(b"MSG1", b"MSG%d" % number).replace(b"ACC1001", b"ACC%d" % number)


def processed(serving: Serving) -> None:
    deadline = time.monotonic() + 30
    while serving.inbox.backlog().waiting:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_acknowledged_survives_a_kill_and_is_processed_once(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server, sender = Killable(tmp_path, port), Sender(port)
    server.start("keep")
    answer = sender.send(report())
    server.kill()
    assert b"MSA|AA|MSG1" in answer
    serving = Serving(tmp_path)
    assert serving.inbox.backlog().waiting == 1
    assert counted(tmp_path, "audit_leaf WHERE instr(content, 'message-sha256')") == 1
    server.start("process")
    assert b"MSA|AA|MSG1" in sender.send(report()), "the sender does not know, and sends it again"
    processed(serving)
    server.kill()
    assert len(serving.inbox.reports(limit=9)) == 1
    assert counted(tmp_path, "inbound_message") == 1
    sender.close()


def test_nothing_is_lost_or_taken_twice_however_the_server_is_killed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server, sender, chance = Killable(tmp_path, port), Sender(port), random.Random(20261125)
    server.start("process")
    done = threading.Event()

    def kills() -> None:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.8, 1.6))
            server.kill()
            server.start("process")
        done.set()

    killer = threading.Thread(target=kills)
    killer.start()
    sent = 0
    while sent < MESSAGES or not done.is_set():
        assert b"MSA|AA|" in sender.send(numbered(sent))
        sent += 1
    killer.join()
    serving = Serving(tmp_path)
    processed(serving)
    server.kill()
    sender.close()
    assert sender.repeats > 0, "some were sent while nobody was there"
    assert serving.inbox.backlog() == InboxBacklog()
    reports = serving.inbox.reports(limit=sent + 1)
    assert [each.report.accession_number for each in reports] == [f"ACC{n}" for n in range(sent)]
    leaves = "audit_leaf WHERE instr(content, 'message-sha256')"
    assert counted(tmp_path, leaves) == counted(tmp_path, "inbound_message") == sent
    assert SqlAuditTrail(open_engine(tmp_path / "radcds.sqlite")).verify() >= sent


def test_an_order_over_the_wire_moves_its_study_up_the_worklist(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    for number, accession in enumerate(("ACC9", "ACC1001")):
        uid = f"{STUDY_UID}.{number}"
        name = result_id(uid, MODEL.sha256)
        serving.results.notice(name, uid, ISSUED)
        study = chest_study(study_instance_uid=uid, accession_number=accession)
        stored = StoredResult(name, study, OUTCOMES["normal"], ISSUED, {})
        files = ReportSet(b"b", b"o", b"c")
        serving.results.save(stored, files, audit_events=[], destinations=())
    with serving.listening() as port:
        connection = MllpConnection(Endpoint("127.0.0.1", port))
        assert connection.exchange(orm()).code == "AA"
        connection.close()
    assert serving.orders.look() == 1
    page = serving.results.worklist(WorklistQuery())
    assert [each.study_instance_uid[-1] for each in page.entries] == ["1", "0"]


@pytest.mark.parametrize("sender", ["node-hl7-client", "simple-hl7", "medplum"])
def test_senders_of_somebody_else_get_their_acknowledgement(tmp_path: Path, sender: str) -> None:
    serving = Serving(tmp_path)
    contents = [
        content.replace(b"MSG1", b"M%d" % number) for number, content in enumerate(OTHERS.values())
    ]
    with serving.listening() as port:
        answers = npm_sender(sender, port, contents)
    assert answers == [["AA", f"M{number}"] for number in range(len(contents))]
    assert serving.orders.look() == len(contents)
    assert serving.inbox.backlog() == InboxBacklog()


@pytest.mark.parametrize(("application", "expected"), [(False, "CA"), (True, "AA")])
def test_both_answers_of_enhanced_mode_reach_a_sender_of_somebody_else(
    tmp_path: Path, *, application: bool, expected: str
) -> None:
    serving = Serving(tmp_path)
    first, _, others = merge().partition(b"\r")
    message = first + b"|||AL|AL\r" + others
    with serving.listening() as port:
        answers = npm_sender("medplum", port, [message], application=application)
    assert answers == [[expected, "MSG1"]]
    assert serving.inbox.backlog().waiting == 1


def test_our_own_sender_waits_for_both_answers(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    first, _, others = orm().partition(b"\r")
    with serving.listening() as port:
        connection = MllpConnection(Endpoint("127.0.0.1", port))
        for number in range(3):
            message = first.replace(b"MSG1", b"M%d" % number) + b"|||AL|AL\r" + others
            assert connection.exchange(message).code == "AA"
        connection.close()
    assert serving.inbox.backlog().waiting == 3
