"""A scope grants exactly what it says, and a malformed one nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_server.oauth.scopes import allows, granted

LETTERS = "cruds"
LEVELS = st.sampled_from(["patient", "user", "system"])
TYPES = st.sampled_from(["ImagingStudy", "DiagnosticReport", "Observation", "Patient"])
IN_ORDER = st.sets(st.sampled_from(LETTERS), min_size=1).map(
    lambda chosen: "".join(letter for letter in LETTERS if letter in chosen)
)


@given(LEVELS, TYPES, IN_ORDER, st.sets(st.sampled_from(LETTERS), min_size=1))
def test_a_scope_grants_its_letters_and_no_other(
    level: str, kind: str, held: str, asked: set[str]
) -> None:
    scopes = granted(f"openid {level}/{kind}.{held} launch")
    assert allows(scopes, level, kind, "".join(asked)) == (asked <= set(held))


@given(LEVELS, LEVELS, TYPES, TYPES, IN_ORDER)
def test_a_scope_grants_nothing_of_another_level_or_type(
    level: str, other_level: str, kind: str, other_kind: str, held: str
) -> None:
    scopes = granted(f"{level}/{kind}.{held}")
    same = (level, kind) == (other_level, other_kind)
    assert allows(scopes, other_level, other_kind, held) == same


@given(LEVELS, TYPES, IN_ORDER)
def test_the_wildcard_stands_for_every_type(level: str, kind: str, held: str) -> None:
    assert allows(granted(f"{level}/*.{held}"), level, kind, held)
    assert allows(granted(f"{level}/*.{held}"), level, "*", held)
    assert not allows(granted(f"{level}/{kind}.{held}"), level, "*", held)


@given(LEVELS, TYPES, st.permutations(LETTERS), st.integers(1, 5))
def test_letters_out_of_order_grant_nothing(
    level: str, kind: str, shuffled: list[str], count: int
) -> None:
    letters = "".join(shuffled[:count])
    in_order = letters == "".join(letter for letter in LETTERS if letter in letters)
    assert allows(granted(f"{level}/{kind}.{letters}"), level, kind, letters) == in_order


@given(LEVELS, TYPES, IN_ORDER, st.text("abc=&?|:/.%*-_", max_size=20))
def test_a_query_narrows_and_so_does_not_grant_everything(
    level: str, kind: str, held: str, query: str
) -> None:
    assert not allows(granted(f"{level}/{kind}.{held}?{query}"), level, kind, held[0])


@given(st.text(max_size=60), LEVELS, TYPES, st.sampled_from(LETTERS))
def test_whatever_else_grants_nothing(text: str, level: str, kind: str, letter: str) -> None:
    allowed = allows(granted(text), level, kind, letter)
    assert not allowed or any(each.startswith(f"{level}/") for each in text.split(" "))


@given(LEVELS, TYPES, IN_ORDER, st.characters(), st.integers(0, 40))
def test_one_wrong_character_grants_nothing_more(
    level: str, kind: str, held: str, character: str, at: int
) -> None:
    scope = f"{level}/{kind}.{held}"
    spoilt = f"{scope[:at]}{character}{scope[at:]}"
    for letter in set(LETTERS) - set(held) - {character}:
        assert not allows(granted(spoilt), level, kind, letter)


@pytest.mark.parametrize(
    ("scope", "letters", "allowed"),
    [
        ("patient/ImagingStudy.read", "rs", True),
        ("patient/ImagingStudy.read", "c", False),
        ("patient/ImagingStudy.write", "cud", True),
        ("patient/ImagingStudy.write", "r", False),
        ("patient/ImagingStudy.*", "cruds", True),
        ("patient/*.*", "cruds", True),
        ("patient/*.read", "s", True),
        ("patient/ImagingStudy.r patient/ImagingStudy.s", "rs", True),
        ("patient/ImagingStudy.rs", "", False),
        ("patient/ImagingStudy.rs", "x", False),
        ("patient/ImagingStudy.", "r", False),
        ("patient/ImagingStudy.rr", "r", False),
        ("patient/ImagingStudy.sr", "r", False),
        ("patient/ImagingStudy.Rs", "r", False),
        ("patient/imagingStudy.rs", "r", False),
        ("patient/ImagingStudy.rs\n", "r", False),
        ("patient/ImagingStudy.rs?", "r", False),
        ("PATIENT/ImagingStudy.rs", "r", False),
        ("patient/ImagingStudy/1.rs", "r", False),
        ("xpatient/ImagingStudy.rs", "r", False),
        ("", "r", False),
    ],
)
def test_scopes_of_both_versions(scope: str, letters: str, allowed: bool) -> None:  # noqa: FBT001
    assert allows(granted(scope), "patient", "ImagingStudy", letters) == allowed


def test_the_scope_string_is_split_at_spaces_alone() -> None:
    assert granted("  openid launch  fhirUser ") == {"openid", "launch", "fhirUser"}
    assert granted("a\tb") == {"a\tb"}
