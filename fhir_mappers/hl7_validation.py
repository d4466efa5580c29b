"""Does an HL7 v2 message keep the rules of its version? For ours, and for those of others.

Checked are the separators, the character set, the segments and their order, required fields,
repetitions, data types, escapes, codes, lengths, and what OBX-2 says of OBX-5. For the messages
that radcds speaks all of it, in 2.3.1, 2.4 and 2.5.1; for others what hl7apy knows of them.

References
----------
HL7 v2.3.1, v2.4, v2.5.1 ch. 2, 3, 4, 7; IHE RAD-128.
"""

from collections.abc import Iterator, Sequence

from fhir_mappers.hl7_faults import SET_ID, Hl7Fault, outside, wrong_type
from fhir_mappers.hl7_grammar import (
    VERSIONS,
    FieldRule,
    field_rules,
    has_structure,
    known_version,
    sequence_faults,
    structure_name,
)
from fhir_mappers.hl7_inbound.escapes import faulty_escape
from fhir_mappers.hl7_inbound.hl7_message import (
    NULL,
    ErrorCode,
    HL7Message,
    Place,
    ReceivedSegment,
    UnreadableMessage,
    Value,
)
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.hl7_observation_rules import observation_faults, report_faults
from fhir_mappers.hl7_tables import (
    CODED_FIELDS,
    LENGTHS,
    LONGEST_SET_ID,
    LONGEST_TIME,
    PRIORITY_WITHIN,
    TABLES,
)

_COUNTED = {"OBX": "OBR", "OBR": "PID"}
"""Segments whose set ids count from 1, and after which segment they start again."""


def validate(content: bytes) -> list[Hl7Fault]:
    """Give every rule that a message breaks, in the order of the message.

    Parameters
    ----------
    content
        One message, without the frame of MLLP. One that cannot be read has that one fault.
    """
    try:
        message = read_message(content)
    except UnreadableMessage as error:
        return [Hl7Fault(error.place, error.what, error.to_do, error.code)]
    rules = _Rules(message)
    faults = [*rules.message_faults(), *rules.segment_faults()]
    order = {id(segment): at for at, segment in enumerate(message.segments)}
    positions = {(each.name, each.occurrence): order[id(each)] for each in message.segments}
    return sorted(
        faults,
        key=lambda fault: (
            positions.get((fault.place.segment, fault.place.occurrence), len(positions)),
            fault.place.field,
            fault.place.component,
        ),
    )


class _Rules:
    """The rules of one message."""

    def __init__(self, message: HL7Message) -> None:
        self._message = message
        self._version = known_version(message.header.version)

    def message_faults(self) -> Iterator[Hl7Fault]:
        """Check version, structure, order and numbering."""
        msh, header = self._message.segments[0], self._message.header
        if header.version not in VERSIONS:
            yield Hl7Fault(
                msh.place(12), "a version that is not known", f"send one of {', '.join(VERSIONS)}",
                ErrorCode.UNSUPPORTED_VERSION,
            )  # fmt: skip
        structure = structure_name(header)
        if not has_structure(self._version, structure):
            yield Hl7Fault(
                msh.place(9), f"no message of HL7 {self._version} that is known",
                "send such as ORU^R01^ORU_R01", ErrorCode.UNSUPPORTED_TYPE,
            )  # fmt: skip
        else:
            if header.structure not in {"", structure}:
                yield Hl7Fault(
                    msh.place(9, 3), "not the structure of this event", f"send {structure}",
                    ErrorCode.TABLE_VALUE,
                )  # fmt: skip
            yield from self._order_faults(structure)
        yield from self._counting_faults()

    def segment_faults(self) -> Iterator[Hl7Fault]:
        """Check each segment by itself."""
        for segment in self._message.segments:
            rules = field_rules(self._version, segment.name)
            if not rules and not segment.name.startswith("Z"):
                yield Hl7Fault(
                    segment.place(), f"no segment of HL7 {self._version}",
                    "leave it out, or name a segment of your own with Z",
                    ErrorCode.SEGMENT_SEQUENCE,
                )  # fmt: skip
            yield from self._field_faults(segment, rules)
            if segment.name == "OBX":
                yield from observation_faults(segment, self._version)
            if segment.name == "OBR" and self._message.header.message_type == "ORU":
                yield from report_faults(segment)

    def _order_faults(self, structure: str) -> Iterator[Hl7Fault]:
        known = [s for s in self._message.segments if field_rules(self._version, s.name)]
        for found in sequence_faults(self._version, structure, known):
            there = known[found.at].place() if found.at < len(known) else Place()
            before = f"before {there}" if there.segment else "at the end"
            if found.expected:
                what, to_do = f"{found.expected} is missing {before}", f"send {found.expected}"
            else:
                what, to_do = "the segment has no place here", f"keep to the order of {structure}"
            yield Hl7Fault(there, what, to_do, found.code)

    def _counting_faults(self) -> Iterator[Hl7Fault]:
        last: dict[str, int] = {}
        for segment in self._message.segments:
            for counted, start in _COUNTED.items():
                if segment.name == start:
                    last[counted] = 0
            if segment.name not in _COUNTED:
                continue
            due, said = last.get(segment.name, 0) + 1, segment.part(1)
            last[segment.name] = int(said) if SET_ID.fullmatch(said) else due
            if said not in {"", str(due)}:
                yield Hl7Fault(
                    segment.place(1), "the set id does not count from 1",
                    "number them without a gap", ErrorCode.DATA_TYPE,
                )  # fmt: skip

    def _field_faults(
        self, segment: ReceivedSegment, rules: Sequence[FieldRule]
    ) -> Iterator[Hl7Fault]:
        for rule in rules:
            values = segment.values(rule.number)
            if segment.name == "MSH" and rule.number <= 2:  # noqa: PLR2004 - MSH-1, MSH-2
                continue
            if rule.required and not any(value.raw for value in values):
                yield Hl7Fault(
                    segment.place(rule.number), f"{rule.words} is missing", "send it",
                    ErrorCode.REQUIRED_FIELD,
                )  # fmt: skip
            if values and not rule.datatype:
                yield Hl7Fault(
                    segment.place(rule.number), "the version has withdrawn this field",
                    "leave it empty", ErrorCode.DATA_TYPE,
                )  # fmt: skip
            if len(values) > 1 and not rule.repeats:
                yield Hl7Fault(
                    segment.place(rule.number), "the field does not repeat",
                    "send one, and escape ~ in text", ErrorCode.DATA_TYPE,
                )  # fmt: skip
            for value in values:
                yield from _value_faults(segment, rule, value)
        if rules and any(segment.fields[len(rules) :]):
            yield Hl7Fault(
                segment.place(len(rules) + 1), f"HL7 {self._version} has no such field",
                "leave it out", ErrorCode.DATA_TYPE,
            )  # fmt: skip


def _value_faults(segment: ReceivedSegment, rule: FieldRule, value: Value) -> Iterator[Hl7Fault]:
    place = segment.place(rule.number)
    if faulty_escape(value.raw, value.separators):
        yield Hl7Fault(
            place, "an escape character that starts no escape sequence", "escape it as \\E\\",
            ErrorCode.DATA_TYPE,
        )  # fmt: skip
    if "\n" in value.raw:
        yield Hl7Fault(place, "a line end", "escape it as \\.br\\", ErrorCode.DATA_TYPE)
    if not value.raw or value.raw == NULL:
        return
    longest = _longest(segment.name, rule)
    if longest and len(value.raw) > longest:
        yield Hl7Fault(
            place, f"longer than {longest:,} characters", "shorten it", ErrorCode.TOO_LONG
        )
    if (segment.name, rule.number) != ("OBX", 5):
        wrong = wrong_type(rule.datatype, value)
        if wrong:
            yield Hl7Fault(place, f"not a {rule.datatype}", wrong, ErrorCode.DATA_TYPE)
    yield from _code_faults(segment, rule.number, value)


def _longest(segment: str, rule: FieldRule) -> int:
    by_type = {"TS": LONGEST_TIME, "DTM": LONGEST_TIME, "SI": LONGEST_SET_ID}
    return LENGTHS.get((segment, rule.number), by_type.get(rule.datatype, 0))


def _code_faults(segment: ReceivedSegment, number: int, value: Value) -> Iterator[Hl7Fault]:
    component, table = CODED_FIELDS.get((segment.name, number), (0, ""))
    code = value.part(component) if table else ""
    within = table == "0485" and PRIORITY_WITHIN.fullmatch(code)
    if code and code not in TABLES[table] and not within:
        yield outside(segment.place(number, component), table)
