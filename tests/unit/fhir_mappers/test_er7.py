"""No text can break out of its field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappers.er7 import Segment, components, encapsulated, escaped, formatted_text, message
from fhir_mappers.errors import InvalidMessage

HEADER = Segment("MSH", {9: "ORU^R01^ORU_R01"})


def unescaped(text: str) -> str:
    for code, character in (("F", "|"), ("S", "^"), ("R", "~"), ("T", "&"), ("E", "\\")):
        text = text.replace(f"\\{code}\\", f"\0{character}")
    return text.replace("\0", "")


@given(st.text())
def test_text_never_starts_a_segment_field_or_component(text: str) -> None:
    sent = message([HEADER, Segment("NTE", {1: "1", 3: components(text, "after")})]).decode()
    _, note, end = sent.split("\r")
    assert end == ""
    name, number, comment, value = note.split("|")
    assert (name, number, comment) == ("NTE", "1", "")
    assert len(value.split("^")) == 2
    assert not set(value) & {"\n", "\x0b", "\x1c", "~", "&"}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_printable_text_survives(text: str) -> None:
    assert unescaped(escaped(text)) == text


def test_a_line_end_in_plain_text_becomes_a_blank() -> None:
    assert escaped("one\r\ntwo\rthree") == "one two three"


def test_lines_of_formatted_text_are_joined_by_the_escape_for_a_line_break() -> None:
    assert formatted_text(["a|b", "c"]) == "a\\F\\b\\.br\\c"


def test_a_picture_that_does_not_fit_is_refused_and_not_cut() -> None:
    with pytest.raises(InvalidMessage, match="99,999"):
        encapsulated("RADCDS", "IM", "JPEG", "A" * 99_999)


def test_a_character_that_the_set_lacks_is_not_lost_in_silence() -> None:
    note = Segment("NTE", {3: "Zoë"})
    assert message([HEADER, note], codec="latin-1").endswith(b"Zo\xeb\r")
    with pytest.raises(InvalidMessage, match="lacks a character"):
        message([HEADER, note], codec="ascii")


def test_empty_fields_at_the_end_are_left_out_of_the_header_too() -> None:
    assert message([Segment("MSH", {9: "ACK", 18: ""})]) == b"MSH|^~\\&|||||||ACK\r"


def test_a_message_starts_with_its_header() -> None:
    with pytest.raises(InvalidMessage, match="MSH"):
        message([Segment("PID", {1: "1"})])
