"""Parsers of other people read the HL7 v2 messages that radcds makes, and what it reads."""

import base64
import hashlib
import json
import re
import subprocess
import tempfile
from datetime import UTC
from typing import Any

import hl7
import pytest
from hl7_samples import OTHERS, RECALL, dialect, noise_jpeg, orm, ours, signed
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import ValidationError
from hl7apy.parser import parse_message
from judges import _HERE, _MODULES, ask
from studies import ISSUED, OUTCOMES, chest_study, context

from ai_engine.result import TriageResult
from fhir_mappers.hl7_dialect import CharacterSet, Hl7Version
from fhir_mappers.hl7_inbound.acknowledgement import (
    AcknowledgementCode,
    ReceivedError,
    acknowledgement,
)
from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, Place
from fhir_mappers.hl7_inbound.patient_changes import read_patient_changes
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.hl7_inbound.reported import read_reports
from fhir_mappers.oru_r01 import control_id, oru_r01
from fhir_mappers.report_context import Verdict
from fhir_mappers.study import Patient, PersonName

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


def sent(name: str, *, with_picture: bool = True, **changes: object) -> bytes:
    outcome = OUTCOMES[name]
    picture = JPEG if with_picture and isinstance(outcome, TriageResult) else None
    return oru_r01(chest_study(**changes), outcome, context=context(), overlay_jpeg=picture)


def odd_patient() -> Patient:
    return Patient("A|B^C&D~E\\F", "", PersonName("O'Brien|x", "Zoë^y"), None, "F")


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_hl7apy_finds_a_valid_oru_r01(name: str) -> None:
    """Its strict level holds the data of an ED to 199 characters, which no picture meets."""
    text = sent(name, with_picture=False).decode()
    message = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT)
    assert message.validate()
    assert message.name == "ORU_R01"
    assert parse_message(sent(name).decode()).validate()


def test_hl7apy_rejects_a_message_that_breaks_its_structure() -> None:
    text = sent("flagged").decode().replace("ORC|", "ZZZ|").replace("OBR|1|", "OBR||")
    with pytest.raises(Exception, match=r".+"):
        assert parse_message(text, validation_level=VALIDATION_LEVEL.STRICT).validate()


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_python_hl7_and_medplum_read_the_same_fields(name: str) -> None:
    content = sent(name)
    parsed = hl7.parse(content.decode())
    verdict = ask("hl7", content)
    assert verdict["control"] == control_id(context().result_id)
    assert str(parsed.segment("MSH")[10]) == verdict["control"]
    names = [segment[0] for segment in verdict["segments"]]
    assert names == [str(segment[0]) for segment in parsed]
    for segment, other in zip(parsed, verdict["segments"], strict=True):
        if other[0] != "MSH":
            assert [str(field) for field in segment][1:] == other[1:]


def test_text_with_delimiters_comes_back_whole() -> None:
    content = sent("flagged", patient=odd_patient(), accession_number="7|8^9")
    parsed = hl7.parse(content.decode())
    assert hl7.parse(content.decode()).unescape(str(parsed.segment("PID")[3][0][0])) == (
        "A|B^C&D~E\\F"
    )
    assert parsed.unescape(str(parsed.segment("OBR")[18])) == "7|8^9"
    assert parsed.unescape(str(parsed.segment("PID")[5][0][1])) == "Zoë^y"


def test_the_overlay_arrives_byte_for_byte_within_the_length_of_obx_5() -> None:
    parsed = hl7.parse(sent("urgent").decode())
    picture = next(obx for obx in parsed.segments("OBX") if str(obx[2]) == "ED")
    value = str(picture[5])
    assert len(value) <= 99_999
    assert value.split("^")[1:4] == ["IM", "JPEG", "Base64"]
    assert base64.b64decode(value.split("^")[4]) == JPEG


def test_obx_segments_are_numbered_without_a_gap() -> None:
    parsed = hl7.parse(sent("urgent").decode())
    numbers = [int(str(obx[1])) for obx in parsed.segments("OBX")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_python_hl7_and_medplum_see_a_field_that_is_not_escaped() -> None:
    """The same comparison fails where a delimiter or a line end of the data goes out raw."""
    whole = sent("flagged", patient=odd_patient())
    for broken in (whole.replace(rb"\F\x", b"|x"), whole.replace(rb"\F\x", b"\rNTE|x")):
        assert broken != whole
        good, bad = ask("hl7", whole)["segments"], ask("hl7", broken)["segments"]
        assert good != bad
        parsed = hl7.parse(broken.decode())
        assert [str(each) for each in parsed] != [str(each) for each in hl7.parse(whole.decode())]


def read_by_others(content: bytes, encoding: str = "utf8") -> dict[str, dict[str, Any]]:
    """What medplum, node-hl7-client and simple-hl7 find."""
    script = _HERE / "contract" / "judges" / "hl7_readers.js"
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        asked = subprocess.run(
            ["node", script, _MODULES, file.name, encoding],
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    found: dict[str, dict[str, Any]] = json.loads(asked.stdout)
    assert set(found) == {"medplum", "node_hl7", "simple_hl7"}
    return found


@pytest.mark.parametrize("version", list(Hl7Version))
def test_every_reader_gets_the_picture_as_it_was(version: Hl7Version) -> None:
    picture = noise_jpeg(250)
    assert len(picture) < dialect(version).overlay_bytes
    content = ours("urgent", dialect(version, link=True), signed(), picture=picture)
    digest = hashlib.sha256(picture).hexdigest()
    for found in read_by_others(content).values():
        assert found["sha256"] == digest
    (obx,) = (each for each in hl7.parse(content.decode()).segments("OBX") if str(each[2]) == "ED")
    assert hashlib.sha256(base64.b64decode(str(obx[5]).split("^")[4])).hexdigest() == digest
    parsed = parse_message(content.decode(), VALIDATION_LEVEL.TOLERANT)
    assert parsed.validate()
    data = [
        line.split("^")[4] for line in parsed.to_er7().split("|") if line.startswith("RADCDS^IM")
    ]
    assert hashlib.sha256(base64.b64decode(data[0])).hexdigest() == digest


@pytest.mark.parametrize("version", list(Hl7Version))
@pytest.mark.parametrize("stands", ["alone", "confirmed", "corrected", "recalled"])
def test_every_reader_sees_the_same_observations_and_statuses(
    version: Hl7Version, stands: str
) -> None:
    said = signed(Verdict(stands)) if stands in set(Verdict) else context()
    made = dialect(version, link=True)
    content = ours("urgent", made, said, recalled=stands == "recalled")
    assert parse_message(content.decode(), VALIDATION_LEVEL.TOLERANT).validate()
    expected = [(str(obx[2]), str(obx[11])) for obx in hl7.parse(content.decode()).segments("OBX")]
    for found in read_by_others(content).values():
        assert list(zip(found["kinds"], found["statuses"], strict=True)) == expected
        assert found["control"] == content.split(b"|")[9].decode()


@pytest.mark.parametrize(
    ("character_set", "encoding", "name"),
    [
        (CharacterSet.UTF_8, "utf8", "Zoë^y"),
        (CharacterSet.LATIN_1, "latin1", "Zoë^y"),
        (CharacterSet.ASCII, "ascii", "Zoe^y"),
    ],
)
def test_text_in_each_character_set_is_read_as_meant(
    character_set: CharacterSet, encoding: str, name: str
) -> None:
    made = dialect(character_set=character_set)
    content = oru_r01(
        chest_study(patient=odd_patient()),
        OUTCOMES["normal"],
        context=context(),
        overlay_jpeg=None,
        dialect=made,
    )
    text = content.decode(character_set.codec)
    parsed = hl7.parse(text)
    assert parsed.unescape(str(parsed.segment("PID")[5][0][1])) == name
    assert parse_message(text, VALIDATION_LEVEL.STRICT).validate()
    kinds = {tuple(found["kinds"]) for found in read_by_others(content, encoding).values()}
    assert len(kinds) == 1
    assert read_message(content).required("PID").part(5, 2) == name


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5.1"])
def test_hl7apy_finds_our_answers_valid(version: str) -> None:
    error = ReceivedError(Place("OBR", 1, 4), ErrorCode.REQUIRED_FIELD)
    message = read_message(orm(version=version))
    for given in (None, error):
        answer = acknowledgement(message, AcknowledgementCode.AE, "no code", given, at=ISSUED)
        parsed = parse_message(answer.decode(), VALIDATION_LEVEL.STRICT)
        assert parsed.validate()
        assert parsed.msa.msa_2.value == "MSG1"
        assert str(hl7.parse(answer.decode()).segment("MSA")[1]) == "AE"


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_messages_that_the_tests_read_are_valid_for_hl7apy(name: str) -> None:
    """But for ORM^O01: of a choice of segments, OBR, RQD and others, it requires every one."""
    text = OTHERS[name].decode()
    if "ORM^O01" in text:
        with pytest.raises(ValidationError, match=r"ORM_O01_\w+\.RQD"):
            parse_message(text, VALIDATION_LEVEL.TOLERANT).validate()
    else:
        assert parse_message(text, VALIDATION_LEVEL.TOLERANT).validate()


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_fields_of_others_are_read_as_python_hl7_reads_them(name: str) -> None:
    message, parsed = read_message(OTHERS[name]), hl7.parse(OTHERS[name].decode())
    assert [each.name for each in message.segments] == [str(each[0]) for each in parsed]
    for ours_read, theirs in zip(message.segments, parsed, strict=True):
        start = 1 if ours_read.name != "MSH" else 3
        for number in range(start, len(theirs)):
            raw = str(theirs[number])
            assert ours_read.raw(number) == raw
            first = re.split(r"[~^&]", raw, maxsplit=1)[0]
            meant = " ".join(parsed.unescape(first).splitlines()).strip()
            assert ours_read.part(number) == meant


def test_our_own_message_comes_back_through_our_own_reader() -> None:
    message = read_message(ours("urgent", dialect(), signed(Verdict.CORRECTED)))
    (read,) = read_reports(message, zone=UTC)
    assert read.study_instance_uid == chest_study().study_instance_uid
    assert read.accession_number == "ACC1001"
    at = read.words.index("No effusion.")
    assert read.words[at + 1] == "Normal chest."
    assert read.radiologist is not None
    assert read.radiologist.identifier.authorities == ("urn:oid:2.999.2",)
    assert RECALL.reason not in " ".join(read.words)
    (update,) = read_patient_changes(read_message(OTHERS["update"]))
    assert update.patient.identifiers[0].value == read.patient.identifiers[0].value
