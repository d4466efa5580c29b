"""No fault of FHIR R4 in a resource of ours leaves the server."""

from typing import Any

import orjson
import pytest
from fhir_mutants import MUTANTS, Resource, Step, changed, good, leaves
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mappers.errors import InvalidMessage
from fhir_mappers.fhir_json import emitted
from fhir_mappers.fhir_rules.elements import ELEMENTS, EMITTED_TYPES, RESOURCE_TYPES, Element
from fhir_mappers.fhir_rules.invariants import KEYS, broken_by
from fhir_mappers.fhir_rules.narrative import wrong_with_narrative
from fhir_mappers.fhir_rules.primitives import wrong_with
from fhir_mappers.fhir_rules.r4 import check

GOOD = good()
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
CANARY = "CANARY-OF-A-PATIENT"


def elements(
    value: Any, kind: str, path: tuple[Step, ...] = ()
) -> list[tuple[tuple[Step, ...], Element]]:
    """Find the element of each value of a resource."""
    found: list[tuple[tuple[Step, ...], Element]] = []
    for name, each in value.items():
        element = ELEMENTS[kind].get(name)
        if element is None:
            continue
        items = enumerate(each) if element.is_list else [(None, each)]
        for number, item in items:
            here = (*path, name) if number is None else (*path, name, number)
            found.append((here, element))
            if element.kind == "Resource":
                found += elements(item, item["resourceType"], here)
            elif element.kind in ELEMENTS:
                found += elements(item, element.kind, here)
    return found


def places(wanted: str) -> list[tuple[str, tuple[Step, ...], Element]]:
    """Find every place of one sort in all good resources."""
    return [
        (name, path, element)
        for name, resource in GOOD.items()
        for path, element in elements(resource, resource["resourceType"])
        if (element.codes is not None if wanted == "bound" else element.kind == wanted)
    ]


BOUND, REFERENCES, CODINGS = places("bound"), places("Reference"), places("Coding")


@pytest.mark.parametrize("name", sorted(GOOD))
def test_what_is_good_is_emitted_as_it_is(name: str) -> None:
    assert orjson.loads(emitted(GOOD[name])) == GOOD[name]


def test_every_type_that_is_emitted_has_a_good_example() -> None:
    assert {each["resourceType"] for each in GOOD.values()} == EMITTED_TYPES - {"Endpoint"}


@pytest.mark.parametrize("fault", sorted(MUTANTS))
def test_no_single_fault_is_sent(fault: str) -> None:
    name, change = MUTANTS[fault]
    with pytest.raises(InvalidMessage) as refused:
        check(change(GOOD[name]))
    invariant = fault.split(maxsplit=1)[0]
    if invariant in KEYS:
        assert f": {invariant}: " in str(refused.value)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BOUND), st.text(max_size=20) | st.sampled_from(["final", "R", "active"]))
def test_no_other_string_stands_for_a_bound_code(
    place: tuple[str, tuple[Step, ...], Element], code: str
) -> None:
    name, path, element = place
    assert element.codes is not None
    if code in element.codes:
        return
    with pytest.raises(InvalidMessage, match=r"codes allowed here|must be a code"):
        check(changed(GOOD[name], path, code))


@pytest.mark.parametrize(("name", "path", "element"), BOUND)
def test_every_bound_code_is_refused_when_it_is_changed(
    name: str, path: tuple[Step, ...], element: Element
) -> None:
    assert element.codes is not None
    for wrong in ("x", *sorted(element.codes)[:1]):
        with pytest.raises(InvalidMessage) as refused:
            check(changed(GOOD[name], path, f"{wrong}x"))
        assert ", ".join(sorted(element.codes)) in str(refused.value)


@pytest.mark.parametrize(("name", "path", "element"), REFERENCES)
def test_a_reference_names_only_what_it_may(
    name: str, path: tuple[Step, ...], element: Element
) -> None:
    wrong = sorted((RESOURCE_TYPES | {"Nonsense"}) - (element.targets or RESOURCE_TYPES))
    for kind in (*wrong[:3], wrong[-1]):
        for reference in ({"reference": f"{kind}/1"}, {"type": kind, "display": "x"}):
            with pytest.raises(InvalidMessage):
                check(changed(GOOD[name], path, reference))
    literal = f"{(sorted(element.targets) or ['Device'])[0]}/1"
    for right in (literal, f"https://a.example/fhir/{literal}", "urn:uuid:1"):
        check(changed(GOOD[name], path, {"reference": right}))


@pytest.mark.parametrize(("name", "path"), [place[:2] for place in CODINGS])
def test_a_coding_of_a_known_system_has_a_known_code_and_its_display(
    name: str, path: tuple[Step, ...]
) -> None:
    coding = next(value for at, value in leaves(GOOD[name]) if at == path)
    system = coding.get("system", "")
    if system.startswith("https://radcds.example.org/") or "code" not in coding:
        return
    if system != "urn:ietf:rfc:3986":
        broken = broken_by("Coding", {**coding, "display": "another display"})
        assert "display" in broken or system.endswith("/DCM")
    if not system.endswith("/DCM"):
        assert broken_by("Coding", {**coding, "code": "nonsense"})


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("nothing", [None, "", " ", [], {}])
def test_nothing_is_ever_empty(name: str, nothing: object) -> None:
    for path, _ in leaves(GOOD[name]):
        with pytest.raises(InvalidMessage):
            check(changed(GOOD[name], path, nothing))


@pytest.mark.parametrize("name", sorted(GOOD))
def test_no_value_has_the_json_type_of_another(name: str) -> None:
    for path, value in leaves(GOOD[name]):
        wrong: list[Any] = [{"x": 1}, [[value]]] if isinstance(value, list) else [[value], [[]]]
        if isinstance(value, bool | int | float):
            wrong += [str(value), f"{value}.0", float("nan"), float("inf")]
        elif isinstance(value, str):
            wrong += [1, True, 0.5, {"value": value}]
        else:
            wrong += ["text", 1]
        for each in wrong:
            with pytest.raises(InvalidMessage):
                check(changed(GOOD[name], path, each))


@pytest.mark.parametrize("name", sorted(GOOD))
def test_no_unknown_element_is_sent(name: str) -> None:
    objects = [((), GOOD[name]), *leaves(GOOD[name])]
    for path, value in objects:
        if isinstance(value, dict):
            for unknown in ("colour", "_colour", "contained", "modifierExtension"):
                target = {**value, unknown: "x"}
                broken = changed(GOOD[name], path, target) if path else target
                with pytest.raises(InvalidMessage, match="no element"):
                    check(broken)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_refusal_never_quotes_a_value(name: str) -> None:
    for path, value in leaves(GOOD[name]):
        for canary in (CANARY, f" {CANARY}\n", {CANARY: CANARY}, [CANARY], {"reference": CANARY}):
            if value == canary:
                continue
            try:
                emitted(changed(GOOD[name], path, canary))
            except InvalidMessage as refused:
                shown = str(refused).replace(f".{CANARY}", "")
                assert "CANARY" not in shown
                assert refused.__cause__ is None


def test_a_refusal_says_where_what_and_what_is_allowed() -> None:
    broken = changed(GOOD["Bundle"], ("entry", 3, "resource", "status"), "prelim")
    kind = broken["entry"][3]["resource"]["resourceType"]
    with pytest.raises(InvalidMessage) as refused:
        emitted(broken)
    assert str(refused.value) == (
        f"Bundle.entry[3].resource.{kind}.status: is not one of the codes allowed here: "
        "amended, entered-in-error, final, preliminary"
    )


def test_what_is_empty_is_left_out_before_it_is_checked() -> None:
    report: Resource = {**GOOD["DiagnosticReport"], "encounter": {}, "specimen": [None, ""]}
    assert orjson.loads(emitted(report)) == GOOD["DiagnosticReport"]


@pytest.mark.parametrize(
    "inner",
    ["<p>x</p>", "text", "<p>a &amp; b<br/></p>", "<ul><li>1</li></ul>", "&#x27;", "<b>1</b> 2"],
)
def test_plain_narrative_passes(inner: str) -> None:
    assert wrong_with_narrative(DIV.format(inner)) == ""


@pytest.mark.parametrize(
    "inner",
    [
        *("", "<p></p>", "<p>", "</p>", "<p>x</div>", "<br>x", "<p/ >x", "<!-- x -->", "<P>x</P>"),
        *("<script>x</script>", "<img/>x", "<a href='javascript:x'>x</a>", "<p class='a'>x</p>"),
        *("<iframe/>x", "<style>x</style>", "a & b", "&nbsp;x", "<![CDATA[x]]>", "<?php x?>", "<"),
        *("x</div><div>y", "<svg><script>1</script></svg>", "</div>x<div>"),
    ],
)
def test_no_other_markup_stands_in_a_narrative(inner: str) -> None:
    assert wrong_with_narrative(DIV.format(inner)).startswith("txt-")


@pytest.mark.parametrize("div", [None, 1, "", "x", "<div>x</div>", DIV.format("x") + "y"])
def test_a_narrative_is_one_div_of_xhtml(div: object) -> None:
    assert wrong_with_narrative(div).startswith("txt-1")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("instant", "2026-11-20T09:30:04.123456789Z", "2026-11-20T09:30:04.Z"),
        ("instant", "2026-11-20T09:30:04+14:00", "2026-11-20T09:30:04+15:00"),
        ("instant", "2026-11-20T23:59:60Z", "2026-11-20T24:00:00Z"),
        ("dateTime", "2026", "26"),
        ("dateTime", "2026-11", "2026-00"),
        ("dateTime", "2026-11-20", "2026-11-20T09"),
        ("date", "2026-11-20", "2026-11-32"),
        ("time", "09:30:04", "9:30:04"),
        ("base64Binary", "AAAA", "AAA"),
        ("base64Binary", "AAA=", "A==="),
        ("id", "a" * 64, "a" * 65),
        ("oid", "urn:oid:1.2.840", "urn:oid:1.02"),
        ("uuid", "urn:uuid:8021f3a6-6a2a-56c5-8e53-a77daf5954a7", "urn:uuid:8021f3a6"),
        ("code", "a b", "a  b"),
        ("unsignedInt", 0, -1),
        ("positiveInt", 1, 0),
        ("integer", -(2**31), 2**31),
        ("decimal", 1, True),
        ("boolean", False, 0),
        ("markdown", "# a\n\nb", "\n"),
        ("string", "x" * 1048576, "x" * 1048577),
    ],
)
def test_a_primitive_value_has_its_format(kind: str, right: object, wrong: object) -> None:
    assert wrong_with(kind, right) == ""
    assert wrong_with(kind, wrong)


def test_extensions_may_stand_beside_a_primitive_value_and_nowhere_else() -> None:
    label = {"extension": [{"url": "https://a.example/b", "valueString": "x"}]}
    report = GOOD["DiagnosticReport"]
    check({**report, "_conclusion": label})
    without_value = {name: each for name, each in report.items() if name != "conclusion"}
    for broken in (
        {**report, "_conclusion": {}},
        {**report, "_conclusion": {**label, "value": "x"}},
        {**report, "_subject": label},
        {**without_value, "_conclusion": label},
    ):
        with pytest.raises(InvalidMessage):
            check(broken)


@pytest.mark.parametrize(
    ("start", "end", "holds"),
    [
        ("2026-11-20", "2026-11-20T08:00:00Z", True),
        ("2026-11-20T09:00:00+02:00", "2026-11-20T08:00:00Z", True),
        ("2026-11-20T09:00:00-02:00", "2026-11-20T08:00:00Z", False),
        ("2026-12", "2026-11-20", False),
        ("2026", "2025-11-20", False),
    ],
)
def test_a_period_does_not_end_before_it_starts(start: str, end: str, *, holds: bool) -> None:
    assert (broken_by("Period", {"start": start, "end": end}) == "") is holds
