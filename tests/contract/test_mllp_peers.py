"""Other people's HL7 receivers and senders, over real sockets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import Authority
from mllp_peers import ack, npm_receiver, npm_sender, oru, overlay_sha256
from studies import OUTCOMES, chest_study, context

from cds_server.errors import DestinationUnavailable
from cds_server.mllp.connection import Limits, MllpConnection
from cds_server.mllp.endpoint import Endpoint, Listening
from cds_server.mllp.server import MllpServer, Peer
from cds_server.mllp.tls import TlsFiles
from fhir_mappers.oru_r01 import OVERLAY_JPEG_BYTES, control_id, oru_r01

WAITS = Limits(acknowledgement_s=10)
RECEIVERS = ["node-hl7-server", "simple-hl7", "medplum"]
SENDERS = ["node-hl7-client", "simple-hl7", "medplum"]
CONTROL_ID = control_id(context().result_id)


@pytest.fixture(scope="module")
def message() -> bytes:
    """The largest message: an overlay that fills OBX-5."""
    picture = b"\xff\xd8\xff\xe0" + os.urandom(OVERLAY_JPEG_BYTES - 4)
    return oru_r01(chest_study(), OUTCOMES["flagged"], context=context(), overlay_jpeg=picture)


def to(port: int, tls: TlsFiles | None = None) -> MllpConnection:
    return MllpConnection(Endpoint("127.0.0.1", port, tls), WAITS)


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_receiver_of_npm_decodes_the_overlay_byte_for_byte_and_accepts(
    receiver: str, message: bytes
) -> None:
    assert len(message) > 90_000
    with npm_receiver(receiver) as peer:
        connection = to(peer.port)
        for _ in range(3):
            answer = connection.exchange(message)
            assert (answer.code, answer.control_id) == ("AA", CONTROL_ID)
            decoded = peer.decoded()
            assert decoded["control"] == CONTROL_ID
            assert decoded["overlay_sha256"] == overlay_sha256(message)
            assert decoded["observations"] == message.count(b"\rOBX|")
        connection.close()


@pytest.mark.parametrize("receiver", RECEIVERS)
@pytest.mark.parametrize("code", ["AE", "AR"])
def test_what_a_receiver_of_npm_refuses_is_heard(receiver: str, code: str) -> None:
    with npm_receiver(receiver, answer=code) as peer:
        connection = to(peer.port)
        assert connection.exchange(oru()).code == code
        connection.close()


def test_a_receiver_that_answers_earlier_messages_again_is_not_believed() -> None:
    """node-hl7-server 2.5.0 keeps what a connection brought, and answers all of it each time."""
    with npm_receiver("node-hl7-server") as peer:
        connection = to(peer.port)
        ids = [f"ID{number}" for number in range(4)]
        assert [connection.exchange(oru(each)).control_id for each in ids] == ids
        assert connection.strays > 0
        connection.close()


@pytest.mark.parametrize(("accept", "application"), [("AL", "AL"), ("AL", "NE"), ("", "")])
def test_the_enhanced_mode_of_medplum_ends_with_the_answer_that_was_asked_for(
    accept: str, application: str
) -> None:
    with npm_receiver("medplum", enhanced=True) as peer:
        connection = to(peer.port)
        for each in ("ID1", "ID2"):
            answer = connection.exchange(oru(each, accept=accept, application=application))
            assert answer.control_id == each
            assert answer.code == ("CA" if application == "NE" else "AA")
        connection.close()


def test_node_hl7_server_takes_the_message_over_tls_with_a_client_certificate(
    message: bytes, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own, client = authority.server("127.0.0.1"), authority.client("radcds")
    with npm_receiver("node-hl7-server", tls=own, ca=authority.file) as peer:
        connection = to(peer.port, TlsFiles(authority.file, client.certificate, client.key))
        assert connection.exchange(message).code == "AA"
        assert peer.decoded()["overlay_sha256"] == overlay_sha256(message)
        connection.close()
        with pytest.raises(
            DestinationUnavailable, match=r"refuses? the certificate of this server"
        ):
            to(peer.port, TlsFiles(authority.file)).exchange(message)


def listening(kept: list[bytes], tls: TlsFiles | None = None) -> MllpServer:
    def handler(message: bytes, _: Peer) -> bytes:
        kept.append(message)
        return ack("AA", message.split(b"|")[9].decode())

    return MllpServer(Listening(port=0, tls=tls), handler, notice=print)


@pytest.mark.parametrize("sender", SENDERS)
def test_a_sender_of_npm_is_understood_and_understands(sender: str, message: bytes) -> None:
    kept: list[bytes] = []
    with listening(kept) as server:
        answers = npm_sender(sender, server.port, [message, oru("ID2"), oru("ID3")])
    assert answers == [["AA", CONTROL_ID], ["AA", "ID2"], ["AA", "ID3"]]
    assert overlay_sha256(kept[0]) == overlay_sha256(message)
    assert len(kept) == 3


def test_medplum_waits_for_the_answer_of_the_application() -> None:
    with listening([]) as server:
        answers = npm_sender("medplum", server.port, [oru("ID1")], application=True)
    assert answers == [["AA", "ID1"]]


def test_node_hl7_client_sends_over_tls_with_a_certificate(message: bytes, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, client = authority.server("127.0.0.1"), authority.client("ris")
    shown = {"key": client.key, "cert": client.certificate, "ca": authority.file}
    kept: list[bytes] = []
    with listening(kept, TlsFiles(authority.file, own.certificate, own.key)) as server:
        files = {name: str(path) for name, path in shown.items()}
        assert npm_sender("node-hl7-client", server.port, [message], tls=files) == [
            ["AA", CONTROL_ID]
        ]
    assert overlay_sha256(kept[0]) == overlay_sha256(message)


def test_mllp_send_of_python_hl7_sends_every_message_of_a_file(
    message: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "messages.hl7"
    file.write_bytes(message + oru("ID2") + oru("ID3"))
    kept: list[bytes] = []
    with listening(kept) as server:
        program = Path(sys.executable).with_name("mllp_send")
        sent = subprocess.run(
            [program, "--loose", "-p", str(server.port), "--file", file, "127.0.0.1"],
            capture_output=True,
            check=False,
        )
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.count(b"MSA|AA|") == 3
    assert [each.split(b"|")[9] for each in kept] == [CONTROL_ID.encode(), b"ID2", b"ID3"]
    assert overlay_sha256(kept[0]) == overlay_sha256(message)
