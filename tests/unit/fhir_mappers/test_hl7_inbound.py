"""What orders, patient changes, reports and answers say."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hl7_samples import OTHERS, PID, adt, dialect, header, lines, merge, omi, orm, ours, report
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import ISSUED, chest_study

from fhir_mappers.hl7_inbound.acknowledgement import (
    AcknowledgementCode,
    ReceivedError,
    acknowledgement,
    read_acknowledgement,
)
from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, HL7Message, Place, UnreadableMessage
from fhir_mappers.hl7_inbound.identity import Identifier
from fhir_mappers.hl7_inbound.orders import ACTIONS, InboundOrder, OrderAction, read_orders
from fhir_mappers.hl7_inbound.patient_changes import (
    PatientChange,
    PatientMerge,
    PatientUpdate,
    changed_study,
    read_patient_changes,
    with_patient,
)
from fhir_mappers.hl7_inbound.reading import read_header, read_message
from fhir_mappers.hl7_inbound.reported import STATUSES, InboundReport, ReportStatus, read_reports
from fhir_mappers.hl7_validation import validate
from fhir_mappers.study import Patient, PersonName, Study

LONDON = ZoneInfo("Europe/London")


def orders(content: bytes) -> tuple[InboundOrder, ...]:
    return read_orders(read_message(content))


def change(content: bytes) -> PatientChange:
    (only,) = read_patient_changes(read_message(content))
    return only


def reports(content: bytes) -> tuple[InboundReport, ...]:
    return read_reports(read_message(content), zone=LONDON)


def refused(read: Callable[[bytes], object], content: bytes) -> UnreadableMessage:
    with pytest.raises(UnreadableMessage) as error:
        read(content)
    return error.value


# Orders


def test_an_order_of_2_3_1_with_its_study_uid_in_zds() -> None:
    (order,) = orders(orm(more=("ZDS|1.2.840.99.1^RIS^Application^DICOM",)))
    assert order.action is OrderAction.NEW
    assert order.placer_number == Identifier("PLC1", ("RIS",))
    assert order.filler_number == Identifier("FIL1", ("RIS",))
    assert order.accession_number == "ACC1001"
    assert order.study_instance_uid == "1.2.840.99.1"
    assert (order.procedure.code, order.procedure.text) == ("XCHEST", "Chest radiograph")
    assert (order.modality, order.priority, order.status) == ("DX", "S", "SC")
    assert order.patient.name == PersonName("TEST", "PATIENT", "", "MS")


def test_an_imaging_order_has_accession_number_and_study_uid_in_ipc() -> None:
    (order,) = orders(omi())
    assert order.accession_number == "ACC2002"
    assert order.study_instance_uid == "1.2.840.99.1"
    assert (order.modality, order.priority) == ("DX", "A")
    assert order.patient.identifiers == (
        Identifier("MRN 123456", ("Example Trust",), "MR"),
        Identifier("999", ("urn:oid:2.999.9",), "NH"),
    )


@pytest.mark.parametrize(("control", "action"), sorted(ACTIONS.items()))
def test_a_control_code_says_what_becomes_of_the_order(control: str, action: OrderAction) -> None:
    assert orders(orm(control))[0].action is action


def test_an_order_without_accession_number_is_known_by_its_filler_number() -> None:
    assert orders(orm(obr_18=""))[0].accession_number == "FIL1"


def test_a_cancellation_needs_no_procedure() -> None:
    (order,) = orders(lines(header("ORM^O01"), PID, "ORC|CA|PLC1^RIS"))
    assert order.action is OrderAction.CANCEL
    assert order.procedure.code == order.accession_number == order.study_instance_uid == ""


def test_each_order_of_a_message_has_its_own_numbers() -> None:
    more = ("ORC|NW|P2|F2", "OBR|2|P2|F2|XHAND^Hand^L", "ZDS|1.2.3")
    first, second = orders(orm(more=more))
    assert (first.accession_number, first.study_instance_uid) == ("ACC1001", "")
    assert (second.accession_number, second.study_instance_uid) == ("F2", "1.2.3")
    assert second.priority == ""


@pytest.mark.parametrize(
    ("content", "place", "code"),
    [
        (adt("A08"), "MSH-9", "200"),
        (lines(header("ORM^O01"), "ORC|NW|1"), "PID", "100"),
        (lines(header("ORM^O01"), PID), "ORC", "100"),
        (lines(header("ORM^O01"), "PID|1||", "ORC|NW|1"), "PID-3", "101"),
        (orm("QQ"), "ORC-1", "103"),
        (orm(""), "ORC-1", "103"),
        (lines(header("ORM^O01"), PID, "ORC|NW", "OBR|1"), "ORC-3", "101"),
        (lines(header("ORM^O01"), PID, "OBR|1", "ORC|NW|1"), "OBR", "100"),
        (orm(more=("ZDS|1.2.../../etc",)), "ZDS-1", "102"),
        (orm(more=(f"ZDS|1.{'2' * 64}",)), "ZDS-1", "102"),
        (lines(header("ORM^O01"), "PID|1||1||A||1970ab", "ORC|NW|1"), "PID-7", "102"),
    ],
)
def test_an_order_that_cannot_be_understood_is_refused_by_its_place(
    content: bytes, place: str, code: str
) -> None:
    error = refused(orders, content)
    assert (str(error.place), error.code) == (place, code)


# Patients


def study_of(patient_id: str = "MRN 123456", issuer: str = "Example Trust") -> Study:
    study = chest_study()
    return with_patient(study, replace(study.patient, patient_id=patient_id, issuer=issuer))


def changed(content: bytes, study: Study, default: str = "") -> Patient | None:
    found = changed_study(study, change(content), default_issuer=default)
    return found and found.patient


@pytest.mark.parametrize("event", ["A01", "A04", "A08", "A28", "A31"])
def test_an_update_changes_what_it_says_and_nothing_else(event: str) -> None:
    pid = "PID|1||MRN 123456^^^Example Trust^MR||NEW^NAME||19710203"
    read = change(adt(event, pid=pid))
    assert isinstance(read, PatientUpdate)
    assert read.event == event
    assert changed(adt(event, pid=pid), study_of()) == Patient(
        "MRN 123456", "Example Trust", PersonName("NEW", "NAME"), "1971-02-03", "F"
    )


def test_what_is_deleted_is_deleted_and_what_is_not_said_stays() -> None:
    pid = 'PID|1||MRN 123456^^^Example Trust^MR||""||""|""'
    assert changed(adt("A08", pid=pid), study_of()) == Patient(
        "MRN 123456", "Example Trust", PersonName(), None, ""
    )
    silent = "PID|1||MRN 123456^^^Example Trust^MR||^^^^^^U||1970|U"
    assert changed(adt("A08", pid=silent), study_of()) == study_of().patient


def test_a_legal_name_is_preferred_and_an_alias_is_no_name() -> None:
    names = "OLD^NAME^^^^^M~NICK^^^^^^N~RIGHT&van^NAME^^^^^L"
    pid = f"PID|1||MRN 123456^^^Example Trust^MR||{names}"
    found = changed(adt("A08", pid=pid), study_of())
    assert found is not None
    assert found.name == PersonName("RIGHT", "NAME")


@pytest.mark.parametrize(
    ("issuer", "default", "matches"),
    [
        ("Example Trust", "", True),
        ("", "Example Trust", True),
        ("", "", False),
        ("Another Trust", "", False),
        ("Another Trust", "Example Trust", False),
    ],
)
def test_a_patient_is_a_namespace_and_a_number(issuer: str, default: str, *, matches: bool) -> None:
    assert (changed(adt("A08"), study_of(issuer=issuer), default) is not None) is matches


def test_a_number_without_a_namespace_is_nobodys_unless_the_feed_has_one() -> None:
    content = adt("A08", pid="PID|1||MRN 123456||NEW^NAME")
    assert changed(content, study_of()) is None
    assert changed(content, study_of(), "Example Trust") is not None
    assert changed(content, study_of(issuer=""), "") is None


def test_a_namespace_may_be_written_as_an_oid_or_by_another_name() -> None:
    by_oid = study_of("999", "urn:oid:2.999.9")
    assert changed(adt("A08"), by_oid) is not None
    aliases = {"Trust Hospital": "Example Trust"}
    read, study = change(adt("A08")), study_of(issuer="Trust Hospital")
    assert changed_study(study, read, default_issuer="") is None
    found = changed_study(study, read, default_issuer="", aliases=aliases)
    assert found is not None
    assert found.patient.issuer == "Trust Hospital"


def test_a_study_of_nobody_is_nobodys() -> None:
    assert changed(adt("A08", pid="PID|1||x^^^T"), study_of("", "")) is None


def test_a_merge_gives_the_number_that_stays_to_the_pending_result() -> None:
    read = change(merge())
    assert isinstance(read, PatientMerge)
    assert (read.retired.value, read.surviving.value) == ("MRN 123456", "MRN 777")
    found = changed(merge(), study_of())
    assert found is not None
    assert (found.patient_id, found.issuer) == ("MRN 777", "Example Trust")
    assert changed(merge(), study_of("MRN 777")) is None
    assert changed(merge(), study_of("MRN 1")) is None


def test_a_message_may_merge_more_than_one_pair() -> None:
    more = ("MRG|A^^^T", "PID|2||D^^^T", "MRG|C^^^T")
    read = read_patient_changes(read_message(adt("A40", pid="PID|1||B^^^T", more=more)))
    pairs = [(e.retired.value, e.surviving.value) for e in read if isinstance(e, PatientMerge)]
    assert pairs == [("A", "B"), ("C", "D")]


@pytest.mark.parametrize(
    ("content", "place", "code"),
    [
        (orm(), "MSH-9", "200"),
        (adt("A03"), "MSH-9.2", "201"),
        (adt("A40"), "MRG", "100"),
        (adt("A40", more=("MRG|",)), "MRG-1", "101"),
        (adt("A40", more=("MRG|x^^^Another Trust",)), "MRG-1", "204"),
        (merge("MRN 777^^^Example Trust^MR"), "MRG-1", "204"),
        (merge("x^^^Example Trust^PI"), "MRG-1", "204"),
        (adt("A40", pid="MRG|1", more=(PID,)), "MRG", "100"),
        (adt("A40", more=(PID, "MRG|1^^^T")), "PID", "100"),
        (adt("A40", more=("MRG|x^^^Example Trust", PID)), "PID[2]", "100"),
        (adt("A08", pid="PID|1||^^^T"), "PID-3", "101"),
    ],
)
def test_a_change_that_cannot_be_understood_is_refused_by_its_place(
    content: bytes, place: str, code: str
) -> None:
    error = refused(lambda each: read_patient_changes(read_message(each)), content)
    assert (str(error.place), error.code) == (place, code)


@given(st.text(min_size=1, max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_change_never_reaches_another_patient(number: str, issuer: str, default: str) -> None:
    study = study_of(number, issuer)
    found = changed_study(study, change(adt("A08")), default_issuer=default)
    same = number == "MRN 123456" and (issuer or default) == "Example Trust"
    other = number == "999" and (issuer or default) == "urn:oid:2.999.9"
    assert (found is not None) is (same or other)


# Reports


def test_a_report_says_study_status_words_and_radiologist() -> None:
    (read,) = reports(report())
    assert (read.accession_number, read.filler_number.value) == ("ACC1001", "FIL1")
    assert read.study_instance_uid == "1.2.826.0.1.3680043.8.498.1"
    assert read.status is ReportStatus.FINAL
    assert read.words == (
        "No effusion.",
        "Heart & lungs clear.",
        "Lines in place.",
        "No pneumothorax.",
    )
    assert read.radiologist is not None
    assert read.radiologist.name == "Dr Zoe Example"
    assert read.radiologist.identifier == Identifier("C123", ("RIS",))
    assert read.reported == datetime(2026, 11, 20, 10, 15, tzinfo=LONDON)
    assert read.sender == ("RIS", "TRUST")


@pytest.mark.parametrize(("code", "status"), sorted(STATUSES.items()))
def test_a_result_status_is_understood(code: str, status: ReportStatus) -> None:
    assert reports(report(code))[0].status is status


@pytest.mark.parametrize(
    ("written", "number", "name"),
    [
        ("C9&Example&Zoe", "C9", "Zoe Example"),
        ("C9^Example^Zoe^^^Dr^^^RIS", "C9", "Dr Zoe Example"),
        ("C9", "C9", ""),
        ("C9^20261120101500", "C9", ""),
        ("&Example", "", "Example"),
    ],
)
def test_a_radiologist_is_read_as_systems_write_one(written: str, number: str, name: str) -> None:
    content = report().replace(b"C123&Example&Zoe&&&Dr&&&RIS", written.encode())
    person = reports(content)[0].radiologist
    assert person is not None
    assert (person.identifier.value, person.name) == (number, name)


def test_a_radiologist_may_stand_in_obx_16_alone_or_nowhere() -> None:
    nameless = report().replace(b"|C123&Example&Zoe&&&Dr&&&RIS", b"")
    assert reports(nameless)[0].radiologist is None
    observer = nameless.replace(b"lungs clear.||||||F", b"lungs clear.||||||F|||||C7^Other^Ann")
    person = reports(observer)[0].radiologist
    assert person is not None
    assert (person.identifier.value, person.name) == ("C7", "Ann Other")


def test_notes_of_what_stands_are_words_and_others_are_not() -> None:
    read = reports(
        report(more=("NTE|1|L|Of a wrong line.", "OBX|5|TX|1||Last.||||||F", "NTE|1|L|Note."))
    )
    assert read[0].words[-2:] == ("Last.", "Note.")


def test_each_obr_is_a_report_of_its_own() -> None:
    second = "OBR|2||FIL2|X^Y^Z" + "|" * 21 + "P"
    one, two = reports(report(more=("ORC|RE||FIL2", second, "OBX|1|TX|1||Second.||||||P")))
    assert (one.status, two.status) == (ReportStatus.FINAL, ReportStatus.PRELIMINARY)
    assert (two.accession_number, two.words) == ("FIL2", ("Second.",))
    assert two.radiologist is None


def test_our_own_message_is_known_by_its_sender() -> None:
    (read,) = reports(ours("urgent", dialect()))
    assert read.sender == ("RADCDS", "RADNET")
    assert read.status is ReportStatus.PRELIMINARY
    assert read.words[0].startswith("AI output, not a diagnosis.")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (orm(), "MSH-9"),
        (lines(header("ORU^R01"), "OBR|1"), "PID"),
        (lines(header("ORU^R01"), PID), "OBR"),
        (lines(header("ORU^R01"), PID, "OBR|1"), "OBR-3"),
        (report("Q"), "OBR-25"),
        (report(""), "OBR-25"),
        (report().replace(b"20261120101500", b"yesterday"), "OBR-22"),
        (report().replace(b"1.2.826.0.1.3680043.8.498.1", b"not a uid"), "OBX-5"),
    ],
)
def test_a_report_that_cannot_be_understood_is_refused_by_its_place(
    content: bytes, place: str
) -> None:
    assert str(refused(reports, content).place) == place


@settings(max_examples=200)
@given(st.sampled_from(sorted(OTHERS)), st.data())
def test_no_change_of_a_message_makes_anything_but_our_own_error(
    name: str, data: st.DataObject
) -> None:
    content = bytearray(OTHERS[name])
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from(b'|^~\\&\r"0A9.') | st.integers(0, 255))

    def everything(message: HL7Message) -> None:
        for read in (
            read_orders,
            read_patient_changes,
            lambda each: read_reports(each, zone=LONDON),
        ):
            try:
                read(message)
            except UnreadableMessage as error:
                assert error.to_do

    try:
        everything(read_message(bytes(content)))
    except UnreadableMessage:
        return


# Answers


@pytest.mark.parametrize("code", list(AcknowledgementCode))
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_an_answer_names_the_message_and_is_read_back(name: str, code: AcknowledgementCode) -> None:
    message = read_message(OTHERS[name])
    answer = acknowledgement(message, code, "as it is", at=ISSUED)
    assert validate(answer) == []
    read = read_acknowledgement(answer, "MSG1")
    assert (read.code, read.control_id, read.says) == (code, "MSG1", "as it is")
    head = read_header(answer)
    assert (head.sender, head.receiver) == (message.header.receiver, message.header.sender)
    assert (head.version, head.message_type) == (message.header.version, "ACK")
    assert head.event == message.header.event


def test_an_answer_has_a_control_id_of_its_own_the_same_each_time() -> None:
    message = read_message(orm())
    ids = {
        read_header(acknowledgement(message, code, at=ISSUED)).control_id
        for code in (*AcknowledgementCode, *AcknowledgementCode)
    }
    assert len(ids) == len(AcknowledgementCode)
    assert all(len(each) == 20 for each in ids)


@pytest.mark.parametrize(
    ("version", "err"),
    [
        ("2.3.1", "ERR|OBX^3^5^102&Data type error&HL70357"),
        ("2.4", "ERR|OBX^3^5^102&Data type error&HL70357"),
        ("2.5.1", "ERR||OBX^3^5^1^2|102^Data type error^HL70357|E||||not a number"),
    ],
)
def test_an_error_is_told_in_the_shape_of_the_version(version: str, err: str) -> None:
    error = ReceivedError(Place("OBX", 3, 5, 2), ErrorCode.DATA_TYPE)
    message = read_message(orm(version=version))
    answer = acknowledgement(message, AcknowledgementCode.AE, "not a number", error, at=ISSUED)
    assert answer.decode().split("\r")[2] == err
    assert validate(answer) == []
    assert "not a number" in read_acknowledgement(answer, "MSG1").says


def test_a_message_that_cannot_be_read_is_answered_by_its_header() -> None:
    broken = orm() + b"PID|1||\x00\r"
    with pytest.raises(UnreadableMessage) as refused:
        read_message(broken)
    error = refused.value
    answer = acknowledgement(
        read_header(broken), AcknowledgementCode.AR, str(error), ReceivedError.of(error), at=ISSUED
    )
    assert read_acknowledgement(answer, "MSG1").code.rejected
    assert b"ERR|PID^2^3^102&" in answer


def test_an_answer_keeps_separators_character_set_and_names_of_the_other_side() -> None:
    swapped = str.maketrans("|^~\\&", "#$%@!")
    msh = r"MSH|^~\&|A^1.2.3^ISO|B\T\C|D|E|20261120||ADT^A08|x\F\y|P|2.4||||||8859/1"
    text = f"{msh}\r{PID.replace('PATIENT', 'Zoë')}\r".translate(swapped)
    message = read_message(text.encode("latin-1"))
    answer = acknowledgement(message, AcknowledgementCode.AA, "Zoë | ok", at=ISSUED)
    lines_of = answer.decode("latin-1").split("\r")
    assert lines_of[0].startswith("MSH|^~\\&|D|E|A^1.2.3^ISO|B!C|20261120093004+0000")
    assert lines_of[0].endswith("|8859/1")
    assert lines_of[1] == r"MSA|AA|x#y|Zo? \F\ ok"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (orm(), "MSA"),
        (lines(header("ACK"), "MSA|AA|OTHER"), "MSA-2"),
        (lines(header("ACK"), "MSA|AA"), "MSA-2"),
        (lines(header("ACK"), "MSA|OK|MSG1"), "MSA-1"),
        (lines(header("ACK"), "MSA||MSG1"), "MSA-1"),
        (b"HTTP/1.1 200 OK", "the message"),
    ],
)
def test_what_is_no_answer_to_this_message_is_an_error(content: bytes, place: str) -> None:
    assert str(refused(lambda each: read_acknowledgement(each, "MSG1"), content).place) == place


def test_what_the_other_side_says_is_one_short_line() -> None:
    content = lines(
        header("ACK", "2.5.1"),
        "MSA|AE|MSG1|No such order",
        "ERR||OBR^1^3|204^Unknown key identifier^HL70357|E||||No\\.br\\such order",
        f"ERR|||207^{'x' * 3_000}^HL70357|E",
    )
    read = read_acknowledgement(content, "MSG1")
    assert read.says.startswith("No such order; Unknown key identifier; x")
    assert "\n" not in read.says
    assert len(read.says) == 1_000


def test_codes_say_what_to_do_with_the_message() -> None:
    assert {code for code in AcknowledgementCode if code.accepted} == {"AA", "CA"}
    assert {code for code in AcknowledgementCode if code.rejected} == {"AR", "CR"}
    assert {code for code in AcknowledgementCode if code.commits} == {"CA", "CE", "CR"}


@settings(max_examples=200)
@given(st.binary(max_size=120) | st.text(max_size=120).map(str.encode))
def test_any_answer_is_read_or_an_error_in_our_words(content: bytes) -> None:
    for answer in (content, lines(header("ACK")) + b"MSA|" + content):
        try:
            read_acknowledgement(answer, "MSG1")
        except UnreadableMessage as error:
            assert error.to_do


@settings(max_examples=150)
@given(
    st.text(st.characters(codec="latin-1"), max_size=30),
    st.text(max_size=300),
    st.sampled_from(["8859/1", "UNICODE UTF-8", "ASCII", ""]),
)
def test_any_message_that_is_read_can_be_answered(name: str, text: str, declared: str) -> None:
    msh = f"MSH|^~\\&|{name}|B|C|D|20261120||ADT^A08|ID7|P|2.5.1||||||{declared}"
    codec = "ascii" if declared == "ASCII" else "latin-1" if "8859" in declared else "utf-8"
    try:
        message = read_message(f"{msh}\r".encode(codec, "replace"))
    except UnreadableMessage:
        return
    answer = acknowledgement(message, AcknowledgementCode.AE, text, at=ISSUED)
    assert read_acknowledgement(answer, message.header.control_id).code == "AE"
    assert answer.count(b"\r") == 2
