"""What a RIS may rely on in the ORU^R01, also where the archive knew little."""

import re
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import example, given, settings
from hypothesis import strategies as st
from studies import MODEL, OUTCOMES, chest_study, context, declined, outcome

from ai_engine.result import Finding, NotAnalysed, Outcome, Priority, Reason, TriageResult
from fhir_mappers.oru_r01 import control_id, oru_r01
from fhir_mappers.study import Patient, PersonName, Study

NOBODY = Patient("", "", PersonName(), None, "")
FLAGGED = outcome(Priority.FLAGGED)


def segments(study: Study, said: Outcome = FLAGGED) -> list[list[str]]:
    text = oru_r01(study, said, context=context(), overlay_jpeg=None).decode()
    assert parse_message(text, validation_level=VALIDATION_LEVEL.STRICT).validate()
    return [segment.split("|") for segment in text.rstrip("\r").split("\r")]


def only(name: str, found: list[list[str]]) -> list[str]:
    (segment,) = [each for each in found if each[0] == name]
    return segment


def test_an_unknown_patient_is_a_patient_of_this_result_alone() -> None:
    pid = only("PID", segments(chest_study(patient=NOBODY)))
    assert pid[3] == f"{control_id(context().result_id)}^^^RADCDS^U"
    assert pid[5] == "^^^^^^U"


def test_a_study_without_accession_number_has_a_filler_number_of_this_server() -> None:
    found = segments(chest_study(accession_number=""))
    own = f"{control_id(context().result_id)[:15]}^RADCDS"
    assert only("OBR", found)[3] == only("ORC", found)[3] == own
    assert len(own) == 22
    assert only("OBR", found)[18] == ""


@pytest.mark.parametrize(
    ("issuer", "assigner"),
    [
        ("RXX", "RXX"),
        ("", "&2.999.1&ISO"),
        ("An Example Trust with a long name", "&An Example Trust with a long name&L"),
        ("A&B", r"A\T\B"),
    ],
)
def test_a_patient_id_keeps_its_issuer(issuer: str, assigner: str) -> None:
    patient = replace(chest_study().patient, issuer=issuer)
    pid = only("PID", segments(chest_study(patient=patient)))
    assert pid[3] == f"MRN 123456^^^{assigner}^MR"


@pytest.mark.parametrize("said", [declined(), OUTCOMES["failed"]])
def test_what_was_not_analysed_is_not_called_a_chest_radiograph(said: NotAnalysed) -> None:
    assert only("OBR", segments(chest_study(), said))[4].startswith("18748-4^")


def test_one_view_is_not_called_two() -> None:
    assert only("OBR", segments(chest_study()))[4] == "36554-4^XR Chest Single View^LN"


def test_the_disclaimer_belongs_to_the_whole_report() -> None:
    names = [segment[0] for segment in segments(chest_study())]
    assert names[:8] == ["MSH", "SFT", "PID", "PV1", "ORC", "OBR", "NTE", "TQ1"]
    assert set(names[8:]) == {"OBX"}


def test_a_time_before_time_zones_is_written_in_utc() -> None:
    taken = datetime(1900, 1, 1, 12, tzinfo=ZoneInfo("Asia/Kolkata"))
    assert only("OBR", segments(chest_study(started=taken)))[7].endswith("+0000")


@settings(deadline=None)
@example("x" * 400, Reason.UNREADABLE)
@given(st.text(min_size=1, max_size=600).filter(str.strip), st.sampled_from(Reason))
def test_any_explanation_keeps_cwe_2_within_199_characters(detail: str, reason: Reason) -> None:
    """By python-hl7: the strict level of hl7apy also holds FT to 199, where HL7 gives it 65,536."""
    said = NotAnalysed(reason, detail, MODEL)
    sent = oru_r01(chest_study(), said, context=context(), overlay_jpeg=None).decode()
    message = hl7.parse(sent)
    found = message.segments("OBX")
    assert {str(obx[11]) for obx in found} == {"O", "X"}
    assert {str(obx[8]) for obx in found} == {""}
    code, text, system = (str(part) for part in found[1][5][0])
    assert (code, system) == (reason.value, "99RADCDS")
    assert len(message.unescape(text)) <= 199


@settings(deadline=None)
@given(st.floats(0.3, 0.7), st.sampled_from([0.0, 1e-3, 4e-4, 1e-7, -1e-7, -4e-4, -1e-3]))
def test_obx_7_and_obx_9_never_contradict_obx_8(threshold: float, gap: float) -> None:
    finding = Finding("effusion", threshold + gap, threshold)
    priority = Priority.FLAGGED if finding.positive else Priority.NORMAL
    found = segments(chest_study(), TriageResult(priority, (finding,), (), MODEL))
    obx = next(each for each in found if each[0] == "OBX" and each[3].startswith("59776-5"))
    assert (float(obx[9]) >= float(obx[7].removeprefix("<"))) is (obx[8] != "N")


def test_control_id_fits_msh_10() -> None:
    assert re.fullmatch(r"[0-9A-F]{20}", control_id(context().result_id))


def test_an_actionable_result_names_its_acr_category_and_another_names_none() -> None:
    def category(priority: Priority) -> list[str]:
        found = segments(chest_study(), outcome(priority))
        return [each[5] for each in found if each[0] == "OBX" and each[3].startswith("RADCDS-ACR")]

    assert category(Priority.URGENT) == ["RID49481^Category 2 Actionable Finding^RADLEX"]
    assert category(Priority.FLAGGED) == ["RID49482^Category 3 Actionable Finding^RADLEX"]
    assert category(Priority.NORMAL) == []


def test_software_and_equipment_keep_the_lengths_of_their_fields() -> None:
    found = segments(chest_study())
    sft = only("SFT", found)
    assert [len(part) <= longest for part, longest in zip(sft[2:5], (15, 20, 20), strict=True)]
    assert sft[4] == MODEL.sha256[:20]
    assert {each[18] for each in found if each[0] == "OBX" and each[18:]} == {
        "5f5f5f5f5f5f5f5^RADCDS"
    }
