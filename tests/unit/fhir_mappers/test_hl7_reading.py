"""Messages of other systems: any bytes are read, or refused in words that name no value."""

from itertools import pairwise

import pytest
from hl7_samples import OTHERS, PID, dialect, header, lines, orm, ours
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fhir_mappers.hl7_inbound.escapes import Separators, faulty_escape, unescaped
from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, UnreadableMessage
from fhir_mappers.hl7_inbound.reading import LIMITS, Limits, read_header, read_message

USUAL = Separators()


def refused(content: bytes, limits: Limits = LIMITS) -> UnreadableMessage:
    with pytest.raises(UnreadableMessage) as error:
        read_message(content, limits=limits)
    return error.value


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_message_is_read_with_its_header(name: str) -> None:
    message = read_message(OTHERS[name])
    head = message.header
    assert (head.sender, head.receiver) == (("RIS", "TRUST"), ("RADCDS", "RADNET"))
    assert (head.control_id, head.processing_id) == ("MSG1", "P")
    assert (head.enhanced, head.separators) == (False, USUAL)
    assert message.segments[0].raw(9).startswith(head.message_type)


def test_our_own_message_is_read_as_it_was_meant() -> None:
    message = read_message(ours("urgent", dialect()))
    assert message.header.enhanced
    assert message.required("PID").part(5, 1) == "TEST"
    assert [segment.occurrence for segment in message.named("OBX")][:3] == [1, 2, 3]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_segments_end_with_cr_or_as_an_editor_writes_them(end: str) -> None:
    content = orm().replace(b"\r", end.encode())
    assert len(read_message(content).segments) == 5
    assert len(read_message(b"\xef\xbb\xbf" + content).segments) == 5


def test_a_line_feed_in_a_text_starts_no_segment() -> None:
    content = lines(header("ORU^R01"), PID, "OBR|1", "NTE|1|L|first\nOBX|1|ST|x")
    message = read_message(content)
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "OBR", "NTE"]


def test_other_separators_are_the_senders_to_choose() -> None:
    swapped = str.maketrans("|^~\\&", "#$%@!")
    content = orm().decode().translate(swapped).encode()
    message = read_message(content)
    assert message.header.separators.msh_2 == "$%@!"
    assert message.required("PID").part(3, 4) == "Example Trust"


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("", "utf-8"), ("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"),
        ("ISO-8859-1", "latin-1"), ("unicode utf-8", "utf-8"), ("8859/1~UNICODE UTF-8", "latin-1"),
    ],
)  # fmt: skip
def test_the_character_set_is_that_of_msh_18(declared: str, codec: str) -> None:
    msh = header("ADT^A08", rest=f"||||||{declared}")
    content = f"{msh}\r{PID.replace('PATIENT', 'Zoë')}\r".encode(codec)
    assert read_message(content).required("PID").part(5, 2) == "Zoë"


def test_a_feed_may_say_what_an_empty_msh_18_means() -> None:
    content = f"{header('ADT^A08')}\r{PID.replace('PATIENT', 'Zoë')}\r".encode("latin-1")
    assert refused(content).place.segment == "PID"
    read = read_message(content, character_set="8859/1")
    assert read.required("PID").part(5, 2) == "Zoë"


@pytest.mark.parametrize(
    ("content", "place", "code"),
    [
        (b"", "the message", "100"),
        (b"\x0bMSH|^~\\&|", "the message", "100"),
        (b"FHS|^~\\&|\rMSH|^~\\&|", "the message", "100"),
        ("MSH|^~\\&".encode("utf-16"), "the message", "100"),
        (b"MSH", "MSH-2", "102"),
        (b"MSH|^^\\&|", "MSH-2", "102"),
        (b"MSH|^~\\|x", "MSH-2", "102"),
        (b"MSHA^~\\&A", "MSH-2", "102"),
        (lines("MSH|^~\\&|A|B|C|D|20261120||ORU^R01||P|2.5.1"), "MSH-10", "101"),
        (lines(header("ORU^R01", control_id="x" * 200)), "MSH-10", "101"),
        (lines(header("ORU^R01", control_id="a\\X00\\b")), "MSH-10", "101"),
        (lines(header("ORU^R01", "3.0")), "MSH-12", "203"),
        (lines(header("oru^R01")), "MSH-9.1", "200"),
        (lines(header("ORU^R01^<b>")), "MSH-9.3", "200"),
        (lines(header("ORU^R01", rest="||||||EBCDIC")), "MSH-18", "103"),
        (lines(header("ORU^R01"), "pid|1"), "the message", "100"),
        (lines(header("ORU^R01"), "PIDX|1"), "the message", "100"),
        (lines(header("ORU^R01"), header("ORU^R01")), "MSH[2]", "100"),
        (lines(header("ORU^R01"), "PID|1", "PID|1||a\x00b"), "PID[2]-3", "102"),
        (lines(header("ORU^R01"), "PID|1||a\x0bb"), "PID-3", "102"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_its_place(content: bytes, place: str, code: str) -> None:
    error = refused(content)
    assert (str(error.place), error.code) == (place, code)
    assert error.what
    assert error.to_do
    assert str(error) == f"{place}: {error.what}; {error.to_do}"


def test_an_error_never_quotes_a_value() -> None:
    private = "SECRET^NAME"
    for broken in (
        lines(header("ORU^R01"), f"PID|1||{private}\x00"),
        f"{header('ADT^A08')}\rPID|1||{private}\xff".encode("latin-1"),
        lines(header("ORU^R01", control_id="SECRET" * 40)),
        lines(header("SECRET^X")).replace(b"SECRET^X", b"SECRET X"),
    ):
        assert "SECRET" not in str(refused(broken))


@pytest.mark.parametrize(
    ("limits", "content"),
    [
        (Limits(message_bytes=100), orm()),
        (Limits(segments=4), orm()),
        (Limits(fields=30), lines(header("ORU^R01"), "OBX" + "|" * 31)),
        (Limits(repetitions=5), lines(header("ORU^R01"), "PID|1||" + "~" * 5)),
        (LIMITS, lines(header("ORU^R01") + "|" * 5_000)),
    ],
)
def test_more_than_the_limits_is_not_split_at_all(limits: Limits, content: bytes) -> None:
    assert refused(content, limits).code is ErrorCode.TOO_LONG


def test_a_large_message_within_the_limits_is_read_whole() -> None:
    content = lines(header("ORU^R01"), "OBX|1|ED|||" + "A" * 7_000_000)
    assert len(read_message(content).segments) == 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"A\T\B \F\ \S\ \R\ \E\ ".strip(), "A&B | ^ ~ \\"),
        (r"one\.br\two\.sp2\three\.sk3\four", "one\ntwo\n\nthree   four"),
        (r"\H\bold\N\ plain", "bold plain"),
        (r"\X0A\ and \XC3AB\ ".strip(), "\n and ë"),
        (r"\Zlocal\ \C2842\ \XFF\-", r"\Zlocal\ \C2842\ \XFF\-"),
        (r"\.sp99999\-", "\n" * 20 + "-"),
        ("50 \\ 60 and \\F\\", "50 \\ 60 and |"),
        ("end\\", "end\\"),
    ],
)  # fmt: skip
def test_escapes_are_decoded_and_what_is_none_stays(written: str, meant: str) -> None:
    assert unescaped(written, USUAL, "utf-8") == meant


def test_an_escaped_control_character_makes_no_two_identifiers_alike() -> None:
    message = read_message(lines(header("ADT^A08"), r"PID|1||12\X00\3"))
    assert message.required("PID").part(3) == "12\ufffd3"


@given(st.text())
def test_decoding_never_fails_and_leaves_plain_text_alone(text: str) -> None:
    decoded = unescaped(text, USUAL, "utf-8")
    if "\\" not in text:
        assert decoded == text
        assert not faulty_escape(text, USUAL)


@settings(max_examples=300)
@example(b"MSH|^~\\&|\r")
@example(b"MSH\r")
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: orm()[:80] + tail))
def test_any_bytes_are_a_message_or_an_error_in_our_words(content: bytes) -> None:
    for read in (read_message, read_header):
        try:
            read(content)
        except UnreadableMessage as error:
            assert error.to_do


@settings(max_examples=300)
@given(st.sampled_from(sorted(OTHERS)), st.data())
def test_any_change_of_a_message_is_a_message_or_an_error(name: str, data: st.DataObject) -> None:
    content = bytearray(OTHERS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    try:
        message = read_message(bytes(content))
    except UnreadableMessage:
        return
    names = [segment.name for segment in message.segments]
    assert all(len(each) == 3 for each in names)
    for one, other in pairwise(message.segments):
        assert one.name != other.name or one.occurrence < other.occurrence
