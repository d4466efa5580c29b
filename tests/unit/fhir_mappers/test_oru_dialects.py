"""What each destination is sent: version, character set, picture, link, priority."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hl7_samples import RECALL, SMALL_JPEG, dialect, fields, noise_jpeg, ours, signed
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from studies import OUTCOMES, chest_study, context

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.hl7_dialect import (
    AcknowledgementMode,
    CharacterSet,
    Hl7Dialect,
    Hl7Version,
    PriorityField,
)
from fhir_mappers.hl7_validation import validate
from fhir_mappers.oru_r01 import control_id, oru_r01, recalled_oru
from fhir_mappers.report_context import DisplayMode, Verdict
from fhir_mappers.study import Patient, PersonName

VERSIONS = list(Hl7Version)
NAMED = Patient("MRN 1", "Example Trust", PersonName("Müller", "Zoë\u2013Łucja"), None, "F")


def strict(content: bytes, codec: str = "utf-8") -> bool:
    return bool(parse_message(content.decode(codec), VALIDATION_LEVEL.STRICT).validate())


def test_a_destination_that_says_nothing_gets_what_the_site_sends() -> None:
    arguments = {"context": context(), "overlay_jpeg": SMALL_JPEG}
    usual = oru_r01(chest_study(), OUTCOMES["urgent"], **arguments)  # type: ignore[arg-type]
    assert usual == ours("urgent", Hl7Dialect.of(context().site))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_every_version_is_valid_for_hl7apy_and_by_our_own_rules(
    version: Hl7Version, name: str
) -> None:
    for said in (context(), signed(), signed(Verdict.CORRECTED)):
        for recalled in (False, True):
            made = ours(name, dialect(version, link=True), said, picture=None, recalled=recalled)
            assert strict(made)
            assert validate(made) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_gets_only_the_segments_and_fields_that_it_has(version: Hl7Version) -> None:
    made = ours("urgent", dialect(version))
    newer = version is Hl7Version.V2_5_1
    assert fields(made, "MSH")[0][8] == "ORU^R01^ORU_R01"
    assert fields(made, "MSH")[0][11] == version
    assert bool(fields(made, "SFT")) is bool(fields(made, "TQ1")) is newer
    observed = fields(made, "OBX")
    assert {obx[2] for obx in observed} == {"ST", "CWE" if newer else "CE", "FT", "ED"}
    longest = max(len(obx) - 1 for obx in observed)
    assert longest == (17 if version is Hl7Version.V2_3_1 else 19)


def test_what_integrators_of_each_version_receive(golden: Callable[[str, bytes], None]) -> None:
    for version in VERSIONS[:2]:
        made = ours("flagged", dialect(version, link=True), picture=None)
        golden(f"hl7/flagged-{version}.hl7", made.replace(b"\r", b"\n"))
    for verdict in Verdict:
        made = ours("flagged", dialect(), signed(verdict), picture=None)
        golden(f"hl7/{verdict}.hl7", made.replace(b"\r", b"\n"))
    made = ours("flagged", dialect(), recalled=True)
    golden("hl7/recalled.hl7", made.replace(b"\r", b"\n"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_the_same_result_is_the_same_bytes(version: Hl7Version, name: str) -> None:
    made = dialect(version, link=True, overlay_max_bytes=5_000)
    picture = noise_jpeg(200)
    assert ours(name, made, picture=picture) == ours(name, made, picture=picture)


@pytest.mark.parametrize(
    ("field", "segment", "place", "value"),
    [
        (PriorityField.TQ1_9, "TQ1", 9, "S^Stat^HL70485"),
        (PriorityField.OBR_27_6, "OBR", 27, "^^^^^S"),
        (PriorityField.OBR_5, "OBR", 5, "S"),
    ],
)
def test_the_priority_stands_where_the_ris_sorts(
    field: PriorityField, segment: str, place: int, value: str
) -> None:
    made = ours("urgent", dialect(priority=field))
    assert fields(made, segment)[0][place] == value
    assert bool(fields(made, "TQ1")) is (field is PriorityField.TQ1_9)
    obr = fields(ours("not_analysed", dialect(priority=field)), "OBR")[0]
    assert obr[5] == ""
    assert "".join(obr[26:]) == ""


def test_an_older_version_gets_its_priority_in_obr_27() -> None:
    made = ours("flagged", dialect(Hl7Version.V2_3_1))
    assert fields(made, "OBR")[0][27] == "^^^^^A"


@pytest.mark.parametrize(
    ("mode", "asked"), [(AcknowledgementMode.ORIGINAL, ""), (AcknowledgementMode.ENHANCED, "AL")]
)
def test_the_mode_of_acknowledgement_is_said_in_msh(mode: AcknowledgementMode, asked: str) -> None:
    msh = fields(ours("normal", dialect(acknowledgement=mode)), "MSH")[0]
    assert (msh[14], msh[15]) == (asked, asked)


def test_what_a_version_does_not_have_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidMessage, match=r"TQ1 exists since HL7 2\.5"):
        dialect(Hl7Version.V2_4, priority=PriorityField.TQ1_9)
    for size in (-1, 49_001):
        with pytest.raises(InvalidMessage, match="49,000"):
            dialect(Hl7Version.V2_4, overlay_max_bytes=size)
    for name in ("Zoë", "A\rB", "x" * 181):
        with pytest.raises(InvalidMessage, match="ASCII"):
            dialect(receiver=(name, "TRUST"))


def test_the_link_is_opaque_and_off_until_asked_for() -> None:
    assert b"|RP|" not in ours("urgent", dialect())
    (pointer,) = [o for o in fields(ours("urgent", dialect(link=True)), "OBX") if o[2] == "RP"]
    base, result_id = context().site.base_url, context().result_id
    assert pointer[5] == f"{base}/studies/{result_id}^RADCDS^AP^HTML"
    assert (pointer[4], pointer[11]) == ("VIEWER", "P")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_overlay_that_is_too_large_is_made_smaller_and_stays_a_picture(
    version: Hl7Version,
) -> None:
    large = noise_jpeg(500)
    made = dialect(version)
    assert len(large) > made.overlay_bytes
    content = ours("urgent", made, picture=large)
    (obx,) = [each for each in fields(content, "OBX") if each[2] == "ED"]
    assert len(obx[5]) <= made.longest_obx_5
    sent = base64.b64decode(obx[5].split("^")[4])
    assert len(sent) <= made.overlay_bytes
    assert Image.open(io.BytesIO(sent)).format == "JPEG"
    assert b"left out" not in content


def test_an_overlay_that_cannot_be_so_small_is_left_out_and_the_message_says_so() -> None:
    content = ours("urgent", dialect(overlay_max_bytes=300), picture=noise_jpeg(400))
    assert b"|ED|" not in content
    said = [note[3] for note in fields(content, "NTE")]
    assert said[1] == "The overlay is left out: it is larger than this destination takes."
    assert validate(content) == []


def test_a_destination_without_overlays_gets_none_and_no_excuse() -> None:
    content = ours("urgent", dialect(overlay_max_bytes=0))
    assert b"|ED|" not in content
    assert b"left out" not in content


def test_a_triage_only_site_sends_no_overlay_in_any_dialect() -> None:
    for version in VERSIONS:
        content = ours("urgent", dialect(version), context(DisplayMode.TRIAGE_ONLY))
        assert b"|ED|" not in content
        assert b"left out" not in content


def test_an_overlay_that_is_no_picture_is_not_cut_but_refused() -> None:
    with pytest.raises(InvalidMessage, match="no JPEG"):
        ours("urgent", dialect(), picture=b"\xff\xd8" * 40_000)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (CharacterSet.UTF_8, "Müller^Zoë\u2013Łucja"),
        (CharacterSet.LATIN_1, "Müller^Zoë-Lucja"),
        (CharacterSet.ASCII, "Muller^Zoe-Lucja"),
    ],
)
def test_text_that_a_character_set_lacks_is_written_without_accents_and_the_message_says_so(
    character_set: CharacterSet, name: str
) -> None:
    content = oru_r01(
        chest_study(patient=NAMED),
        OUTCOMES["normal"],
        context=context(),
        overlay_jpeg=None,
        dialect=dialect(character_set=character_set),
    )
    codec = character_set.codec
    assert fields(content, "MSH", codec)[0][17] == character_set
    assert fields(content, "PID", codec)[0][5] == name
    notes = [note[3] for note in fields(content, "NTE", codec)]
    lacking = f"Characters that {character_set} lacks were replaced in PID-5."
    assert (lacking in notes) is (character_set is not CharacterSet.UTF_8)
    assert validate(content) == []


@pytest.mark.parametrize(("raw", "sent"), [("10² ≠ 5", "10? ? 5"), ("… “x” ﬁ 東", '... "x" ? ?')])
def test_no_replacement_says_another_thing(raw: str, sent: str) -> None:
    study = chest_study(patient=replace(NAMED, name=PersonName(raw)))
    content = oru_r01(
        study,
        OUTCOMES["normal"],
        context=context(),
        overlay_jpeg=None,
        dialect=dialect(character_set=CharacterSet.ASCII),
    )
    assert fields(content, "PID")[0][5] == sent


@pytest.mark.parametrize("changes", [{"accession_number": "Ä1"}, {"patient_id": "Ä1"}])
def test_an_identifier_is_never_changed(changes: dict[str, str]) -> None:
    study = chest_study(accession_number=changes.get("accession_number", "A1"))
    study = replace(study, patient=replace(NAMED, patient_id=changes.get("patient_id", "1")))
    with pytest.raises(InvalidMessage, match="UNICODE UTF-8") as refused:
        oru_r01(
            study,
            OUTCOMES["normal"],
            context=context(),
            overlay_jpeg=None,
            dialect=dialect(character_set=CharacterSet.ASCII),
        )
    assert "Ä" not in str(refused.value)


anything = st.text(max_size=30) | st.sampled_from(
    [
        "\uff5c\uff3e\uff5e\uff06\uff3c",
        "a\rPID|1",
        "\x1c\x0b",
        "ÀÉ\u0301",
        "x" * 300,
        "\ud800",
        "\\.br\\",
        "\\X0D\\",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(
    "\uff5cPID\uff5c1", "\uff3e", "a\r\nOBX|1", Hl7Version.V2_3_1, CharacterSet.ASCII, "recalled"
)
@given(
    anything,
    anything,
    anything,
    st.sampled_from(Hl7Version),
    st.sampled_from(CharacterSet),
    st.sampled_from(["signed", "recalled"]),
)
def test_no_text_starts_a_segment_or_a_field_in_any_dialect(
    family: str,
    radiologist: str,
    words: str,
    version: Hl7Version,
    character_set: CharacterSet,
    stands: str,
) -> None:
    study = chest_study(patient=Patient("1", "RXX", PersonName(family), None, "F"))
    said = signed(Verdict.CORRECTED, "statement")
    assert said.signed is not None
    said = replace(said, signed=replace(said.signed, radiologist=radiologist))
    made = dialect(version, character_set=character_set)
    if stands == "recalled":
        content = recalled_oru(
            study,
            OUTCOMES["urgent"],
            context=said,
            recall=replace(RECALL, reason=words),
            dialect=made,
        )
    else:
        said = replace(said, signed=replace(said.signed, statement=words))  # type: ignore[type-var]
        content = oru_r01(study, OUTCOMES["urgent"], context=said, overlay_jpeg=None, dialect=made)
    codec = character_set.codec
    names = [line[:3] for line in content.decode(codec).split("\r")]
    usual = ["MSH", *(["SFT"] if version is Hl7Version.V2_5_1 else []), "PID", "PV1", "ORC", "OBR"]
    assert names[: len(usual)] == usual
    rest = names[len(usual) : -1]
    assert rest == ["NTE"] * rest.count("NTE") + ["OBX"] * rest.count("OBX")
    assert [obx[1] for obx in fields(content, "OBX", codec)] == [
        str(number) for number in range(1, rest.count("OBX") + 1)
    ]
    assert {len(obx) for obx in fields(content, "OBX", codec)} <= set(range(12, 21))
    assert all(fault.place.field == 5 for fault in validate(content)), validate(content)


def test_every_message_of_a_result_has_a_control_id_of_its_own() -> None:
    made = dialect()
    arguments = {"context": context(), "overlay_jpeg": None, "dialect": made}
    rekeyed = oru_r01(chest_study(), OUTCOMES["urgent"], again="MSG7", **arguments)  # type: ignore[arg-type]
    messages = [
        ours("urgent", made),
        ours("urgent", made, signed()),
        ours("urgent", made, signed(number=2)),
        ours("urgent", made, recalled=True),
        rekeyed,
    ]
    ids = [fields(each, "MSH")[0][9] for each in messages]
    assert len(set(ids)) == len(ids)
    assert ids[0] == control_id(context().result_id)
    assert ids[1] == control_id(context().result_id, "signed|1")
    assert {len(each) for each in ids} == {20}
