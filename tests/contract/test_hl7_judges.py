"""Three parsers of other people read the HL7 v2 messages that radcds makes."""

import base64

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from judges import ask
from studies import OUTCOMES, chest_study, context

from ai_engine.result import TriageResult
from fhir_mappers.oru_r01 import control_id, oru_r01
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
