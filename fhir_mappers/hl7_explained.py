"""An HL7 v2 message in words, for the people who connect systems.

The lines hold what the message holds, patient data too: they are for a screen, never for a log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fhir_mappers.hl7_grammar import FieldRule, component_words, field_rules, known_version
from fhir_mappers.hl7_inbound.hl7_message import NULL, ReceivedSegment, Value
from fhir_mappers.hl7_inbound.reading import read_message

_LONGEST_SHOWN = 200
_OBSERVED = ("OBX", 5)
_WHOLE = frozenset({"TX", "FT", "ST", ""})


def explain(content: bytes) -> list[str]:
    """Give each field that has a value, one a line: place, name in words, decoded value.

    Parameters
    ----------
    content
        One message, without the frame of MLLP.

    Returns
    -------
    list of str
        Such as ``PID-5.1  Patient name, Family name: TEST``; nothing of the value can move a
        cursor or start a line, and what is longer than 200 characters is cut and measured.

    Raises
    ------
    UnreadableMessage
        If it cannot be read.
    """
    message = read_message(content)
    version = known_version(message.header.version)
    lines = []
    for segment in message.segments:
        rules = {rule.number: rule for rule in field_rules(version, segment.name)}
        lines.append(f"{segment.place()}")
        for number in range(1, len(segment.fields) + 1):
            rule = rules.get(number)
            if rule and (segment.name, number) == _OBSERVED:
                names = component_words(version, segment.part(2))
                rule = replace(rule, components=names)
            lines += _field(segment, number, rule)
    return lines


def _field(segment: ReceivedSegment, number: int, rule: FieldRule | None) -> Iterator[str]:
    words = rule.words if rule else "Not in this version"
    if segment.name == "MSH" and number <= 2:  # noqa: PLR2004 - MSH-1 and MSH-2 are not escaped
        yield f"  {segment.place(number)}  {words}: {_shown(segment.raw(number))}"
        return
    values = segment.values(number)
    for repetition, value in enumerate(values, start=1):
        again = f" ({repetition} of {len(values)})" if len(values) > 1 else ""
        names = rule.components if rule else ()
        yield from _value(segment, number, value, f"{words}{again}", names)


def _value(
    segment: ReceivedSegment, number: int, value: Value, words: str, names: Sequence[str]
) -> Iterator[str]:
    place = segment.place(number)
    parts = value.raw.split(value.separators.component)
    observed = (segment.name, number) == _OBSERVED
    if value.raw == NULL:
        yield f"  {place}  {words}: deleted"
    elif (observed and segment.part(2) in _WHOLE) or (len(parts) == 1 and not names):
        yield f"  {place}  {words}: {_shown(value.text)}"
    else:
        for component, part in enumerate(parts, start=1):
            if part:
                name = names[component - 1] if component <= len(names) else f"part {component}"
                whole = Value(part, value.separators, value.codec)
                yield f"  {place}.{component}  {words}, {name}: {_component(whole)}"


def _component(value: Value) -> str:
    parts = value.raw.split(value.separators.subcomponent)
    if len(parts) == 1:
        return _shown(value.text)
    texts = (Value(part, value.separators, value.codec).text for part in parts)
    return _shown(" & ".join(texts))


def _shown(text: str) -> str:
    """Give text for one line of a screen."""
    plain = "".join(each if each.isprintable() else " " for each in text.replace("\n", " / "))
    if len(plain) <= _LONGEST_SHOWN:
        return plain
    return f"{plain[:_LONGEST_SHOWN]}… ({len(plain):,} characters)"
