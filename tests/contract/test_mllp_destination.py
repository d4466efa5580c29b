"""Delivery over MLLP keeps the promises of a report feed."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from mllp_peers import RawPeer, Script, ack, frame, oru, raw_peer
from studies import ISSUED, MODEL, OUTCOMES, STUDY_UID, chest_instance, chest_study, context

from cds_server.adapters.mllp_destination import MllpDestination
from cds_server.errors import DeliveryFailed, DeliveryRefused, DestinationUnavailable
from cds_server.mllp.connection import Limits, MllpConnection
from cds_server.mllp.endpoint import Endpoint
from cds_server.mllp.tls import TlsFiles
from cds_server.ports import ReportFeed, StoredResult
from fhir_mappers.identifiers import result_id
from fhir_mappers.oru_r01 import control_id
from fhir_mappers.report_context import ReportSet
from fhir_mappers.report_set import report_set

PATIENT, HASTY = Limits(acknowledgement_s=20), Limits(connect_s=1, acknowledgement_s=0.3)


Feed = tuple[MllpDestination, RawPeer]


@contextmanager
def feed(
    *scripts: Script, tls: TlsFiles | None = None, limits: Limits = PATIENT, **changes: Any
) -> Iterator[Feed]:
    with raw_peer(*scripts) as peer:
        endpoint = Endpoint("127.0.0.1", peer.port, tls)
        connection = MllpConnection(endpoint, limits)
        try:
            yield (
                MllpDestination(
                    "ris", connection, compose=lambda _, artefacts: artefacts.oru, **changes
                ),
                peer,
            )
        finally:
            connection.close()


def answers(*codes: str) -> Script:
    def script(connected: socket.socket, message: Callable[[], bytes]) -> None:
        for code in codes:
            about = message().split(b"|")[9].decode()
            connected.sendall(frame(ack(code, about)))
        message()

    return script


def result() -> tuple[StoredResult, ReportSet]:
    outcome = OUTCOMES["flagged"]
    stored = StoredResult(result_id(STUDY_UID, MODEL.sha256), chest_study(), outcome, ISSUED, {})
    artefacts = report_set(
        chest_study(), outcome, context=context(), source=chest_instance(), image=None
    )
    return stored, artefacts


def test_it_is_a_report_feed_that_sends_one_message_at_a_time() -> None:
    with feed() as (ris, _):
        assert isinstance(ris, ReportFeed)
        assert (ris.name, ris.at_once) == ("ris", 1)


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_a_result_is_delivered_once_it_is_acknowledged(code: str) -> None:
    with feed(answers(code)) as (ris, _):
        ris.send(oru(accept="AL", application="NE"))


@pytest.mark.parametrize("code", ["AR", "CR"])
def test_what_is_rejected_is_not_sent_again(code: str) -> None:
    with feed(answers(code)) as (ris, _), pytest.raises(DeliveryRefused, match=code):
        ris.send(oru())


@pytest.mark.parametrize("code", ["AE", "CE"])
def test_what_failed_may_be_sent_again(code: str) -> None:
    with feed(answers(code)) as (ris, _), pytest.raises(DeliveryFailed, match=code) as caught:
        ris.send(oru())
    assert type(caught.value) is DeliveryFailed


def silent(connected: socket.socket, message: Callable[[], bytes]) -> None:  # noqa: ARG001
    message()
    message()


def another(connected: socket.socket, message: Callable[[], bytes]) -> None:
    message()
    connected.sendall(frame(ack("AA", "OTHER")))
    message()


def hangs_up(connected: socket.socket, message: Callable[[], bytes]) -> None:  # noqa: ARG001
    message()


@pytest.mark.parametrize("script", [silent, another, hangs_up])
def test_silence_says_that_the_receiver_is_away(script: Script) -> None:
    with feed(script, limits=HASTY) as (ris, _), pytest.raises(DestinationUnavailable):
        ris.send(oru())


def test_a_receiver_that_is_not_there_or_not_trusted_is_away(tmp_path: Path) -> None:
    with feed() as (ris, peer):
        peer.listener.close()
        with pytest.raises(DestinationUnavailable):
            ris.send(oru())
    trusted = TlsFiles(Authority(tmp_path).file)
    with (
        feed(silent, tls=trusted, limits=HASTY) as (ris, _),
        pytest.raises(DestinationUnavailable),
    ):
        ris.send(oru())


def test_what_is_composed_is_what_is_sent_byte_for_byte_and_so_is_its_repeat() -> None:
    with feed(answers("AE", "AA")) as (ris, peer):
        message = ris.compose(*result())
        with pytest.raises(DeliveryFailed):
            ris.send(message)
        ris.send(message)
        assert peer.received == [message, message]
    assert control_id(context().result_id).encode() in message


def test_a_slow_receiver_gets_no_more_messages_a_second_than_it_can_take() -> None:
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 6))
        now += seconds

    pace = {"messages_per_s": 4, "monotonic": lambda: now, "sleep": sleep}
    with feed(answers("AA", "AA", "AA", "AA"), **pace) as (ris, _):
        for each in ("ID1", "ID2", "ID3"):
            ris.send(oru(each))
        now += 60
        ris.send(oru("ID4"))
    assert slept == [0.25, 0.25]
