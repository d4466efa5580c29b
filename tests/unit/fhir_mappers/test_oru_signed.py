"""A radiologist's word on the AI's result, and the withdrawal of what a model said."""

import pytest
from hl7_samples import RECALL, dialect, fields, ours, signed
from studies import OUTCOMES, context

from fhir_mappers.hl7_dialect import Hl7Version
from fhir_mappers.report_context import Verdict

AI_WORDS = "RADCDS-AI^Impression of the AI, not of the radiologist^99RADCDS"
IMPRESSION = "19005-8^Impression^LN"
OBSERVER = "C123^Dr Zoë Example^^^^^^^&2.999.2&ISO"


def statuses(content: bytes, identifier: str) -> set[str]:
    return {obx[11] for obx in fields(content, "OBX") if obx[3].startswith(identifier)}


@pytest.mark.parametrize(
    ("verdict", "report", "ai"), [(Verdict.CONFIRMED, "F", "F"), (Verdict.CORRECTED, "C", "P")]
)
@pytest.mark.parametrize("version", list(Hl7Version))
def test_a_confirmed_result_is_final_and_what_was_corrected_is_the_radiologists_alone(
    verdict: Verdict, report: str, ai: str, version: Hl7Version
) -> None:
    content = ours("urgent", dialect(version), signed(verdict))
    assert fields(content, "OBR")[0][25] == report
    assert statuses(content, IMPRESSION) == {report}
    for said_by_ai in ("RADCDS-TRIAGE", "RADCDS-ACR", "59776-5", "RADCDS-AI"):
        assert statuses(content, said_by_ai) == {ai}


def test_the_statement_comes_first_and_the_ais_words_are_marked_as_the_ais() -> None:
    content = ours("flagged", dialect(), signed(Verdict.CORRECTED))
    spoken = [obx for obx in fields(content, "OBX") if obx[2] == "FT"]
    assert [obx[5] for obx in spoken[:3]] == [
        "No effusion.",
        "Normal chest.",
        "AI result corrected by Dr Zoë Example",
    ]
    assert {obx[3] for obx in spoken[:3]} == {IMPRESSION}
    assert {obx[3] for obx in spoken[3:]} == {AI_WORDS}
    assert spoken[3][5] == "AI OUTPUT - NOT WRITTEN BY A RADIOLOGIST"
    assert "PRELIMINARY" not in content.decode()
    assert fields(content, "NTE")[0][3].startswith("Signed by a radiologist.")


def test_a_confirmation_without_words_still_says_who_confirmed() -> None:
    content = ours("normal", dialect(), signed(statement="  \n"))
    spoken = [obx for obx in fields(content, "OBX") if obx[3] == IMPRESSION]
    assert [obx[5] for obx in spoken] == ["AI result confirmed by Dr Zoë Example"]


@pytest.mark.parametrize("version", list(Hl7Version))
def test_the_radiologist_interprets_and_answers_only_for_what_was_confirmed(
    version: Hl7Version,
) -> None:
    confirmed = ours("urgent", dialect(version), signed())
    interpreter = fields(confirmed, "OBR")[0][32]
    assert interpreter == "C123&Dr Zoë Example&&&&&&&&2.999.2&ISO^20261120093004+0000"
    for obx in fields(confirmed, "OBX"):
        answered = obx[16] if len(obx) > 16 else ""
        assert answered == (OBSERVER if obx[2] in {"FT", "CE", "CWE"} else "")
    corrected = ours("urgent", dialect(version), signed(Verdict.CORRECTED))
    answered_for = {obx[3] for obx in fields(corrected, "OBX") if OBSERVER in obx}
    assert answered_for == {IMPRESSION}


def test_a_study_that_was_read_waits_for_nobody() -> None:
    for version in Hl7Version:
        content = ours("urgent", dialect(version), signed())
        assert fields(content, "TQ1") == []
        assert fields(content, "OBR")[0][27:28] == [""]


@pytest.mark.parametrize("name", ["not_analysed", "failed"])
def test_what_was_not_analysed_is_not_made_final_by_a_signature(name: str) -> None:
    content = ours(name, dialect(), signed())
    assert fields(content, "OBR")[0][25] == "F"
    assert statuses(content, "RADCDS-TRIAGE") == statuses(content, "RADCDS-AI") == {"X"}
    assert statuses(content, IMPRESSION) == {"F"}


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_ai_alone_is_never_final_in_any_version(name: str) -> None:
    for version in Hl7Version:
        content = ours(name, dialect(version, link=True))
        assert fields(content, "OBR")[0][25] in {"P", "I"}
        assert statuses(content, "") <= {"P", "O", "X"}


@pytest.mark.parametrize("version", list(Hl7Version))
def test_a_recall_withdraws_everything_the_ai_said_and_says_why(version: Hl7Version) -> None:
    content = ours("urgent", dialect(version, link=True), recalled=True)
    assert fields(content, "OBR")[0][25] == "C"
    notice = fields(content, "NTE")[0][3]
    assert notice == f"AI RESULT WITHDRAWN - DO NOT USE. {RECALL.reason}"
    told = [obx for obx in fields(content, "OBX") if obx[3].startswith("RADCDS-RECALL")]
    assert [obx[5] for obx in told] == ["AI RESULT WITHDRAWN - DO NOT USE", RECALL.reason]
    others = [obx for obx in fields(content, "OBX") if obx not in told]
    assert {obx[11] for obx in others[1:]} == {"W"}
    assert {obx[8] for obx in others} == {""}
    assert fields(content, "TQ1") == []


def test_a_recall_names_the_observations_of_the_first_message() -> None:
    def keys(content: bytes) -> set[tuple[str, str]]:
        return {(obx[3], obx[4]) for obx in fields(content, "OBX")}

    made = dialect(link=True)
    first, recalled = ours("urgent", made), ours("urgent", made, recalled=True)
    assert keys(first) <= keys(recalled)
    (picture,) = [obx for obx in fields(recalled, "OBX") if obx[2] == "ED"]
    assert (picture[4], picture[5], picture[11]) == ("SALIENCY", "", "W")


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.CONFIRMED, "F"), (Verdict.CORRECTED, "C")]
)
def test_a_recall_does_not_withdraw_the_radiologists_words(verdict: Verdict, status: str) -> None:
    content = ours("urgent", dialect(), signed(verdict), recalled=True)
    assert statuses(content, IMPRESSION) == {status}
    assert statuses(content, "RADCDS-AI") == statuses(content, "59776-5") == {"W"}
    assert fields(content, "OBR")[0][32].startswith("C123&")
    answered_for = {obx[3] for obx in fields(content, "OBX") if OBSERVER in obx}
    assert answered_for == {IMPRESSION}


def test_times_are_those_of_the_signature_and_the_recall() -> None:
    content = ours("urgent", dialect(), recalled=True)
    at = RECALL.at.strftime("%Y%m%d%H%M%S%z")
    assert fields(content, "MSH")[0][6] == fields(content, "OBR")[0][22] == at
    assert context().signed is None
