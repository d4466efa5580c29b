"""What each version of HL7 v2 says of messages, segments and fields: the definitions of hl7apy.

Only its tables are used. Its parser and its builders lose typed ED fields and let a raw CR through.

References
----------
HL7 v2.1 to v2.8.2, as hl7apy 1.3.5 has them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hl7apy import SUPPORTED_LIBRARIES, load_library

from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, MessageHeader, ReceivedSegment

NEWEST_WRITTEN = "2.5.1"
VERSIONS = tuple(sorted(SUPPORTED_LIBRARIES))
_STRUCTURES = {
    ("ORU", "R01"): "ORU_R01", ("ORM", "O01"): "ORM_O01", ("OMI", "O23"): "OMI_O23",
    **{("ADT", event): "ADT_A01" for event in ("A01", "A04", "A08")},
    **{("ADT", event): "ADT_A05" for event in ("A28", "A31")},
    ("ADT", "A40"): "ADT_A39",
}  # fmt: skip
"""Table 0354, for messages that do not say it."""
_NOT_REQUIRED = frozenset({("2.3.1", "OBX", 2), ("2.3.1", "OBX", 4)})
"""Conditional in the standard, and required in hl7apy."""
_BROKEN_CHOICES = ("CHOICE", "SUPPGRP")
"""Groups of which one segment comes; some versions of the definitions require each."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What a version says of one field.

    Parameters
    ----------
    number, words
        Position, and its name in words.
    datatype
        Such as ``ST``; ``varies`` for OBX-5; empty where the version has withdrawn the field.
    required, repeats
        Its cardinality.
    components
        Names of the components in words, none for a simple type.
    """

    number: int
    words: str
    datatype: str
    required: bool
    repeats: bool
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SequenceFault:
    """A segment that is not where it should be.

    Parameters
    ----------
    at
        Index among the segments that were looked at; their number for the end of the message.
    expected
        The segment that is missing there; empty where one is too many.
    """

    at: int
    expected: str = ""
    code: ErrorCode = ErrorCode.SEGMENT_SEQUENCE


def known_version(version: str) -> str:
    """Give the version whose rules hold: itself where it is known, else the newest written."""
    return version if version in SUPPORTED_LIBRARIES else NEWEST_WRITTEN


@cache
def field_rules(version: str, segment: str) -> tuple[FieldRule, ...]:
    """Give the rules of the fields of a segment; none for one that the version does not have."""
    definition = load_library(version).SEGMENTS.get(segment)
    if definition is None:
        return ()
    return tuple(_rule(version, segment, child) for child in definition[1])


@cache
def component_words(version: str, datatype: str) -> tuple[str, ...]:
    """Give the names of the components of a data type; none for a simple one."""
    parts = load_library(version).DATATYPES_STRUCTS.get(datatype, ())
    return tuple(in_words(part[1][3]) for part in parts)


def structure_name(header: MessageHeader) -> str:
    """Give the structure of a message: MSH-9.3, else as its type and event say."""
    usual = "ACK" if header.message_type == "ACK" else ""
    by_event = _STRUCTURES.get((header.message_type, header.event), usual)
    return by_event or header.structure


def has_structure(version: str, name: str) -> bool:
    """Whether the version has a message structure."""
    return name in load_library(version).MESSAGES


def sequence_faults(
    version: str, structure: str, segments: Sequence[ReceivedSegment]
) -> Iterator[SequenceFault]:
    """Compare the order of segments with a message structure.

    Parameters
    ----------
    version, structure
        One that ``has_structure``.
    segments
        Without those that the version does not have.
    """
    walk = _Walk([segment.name for segment in segments])
    walk.children(_children(load_library(version).MESSAGES[structure]))
    yield from walk.faults
    if walk.at < len(walk.names):
        yield SequenceFault(walk.at)


def in_words(name: str) -> str:
    """Give a name of the definitions in words: ``SET_ID_PID`` is "Set id pid"."""
    return name.replace("_", " ").strip().capitalize()


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    least: int
    most: int
    choice: bool
    children: tuple["_Child", ...]

    @property
    def names(self) -> frozenset[str]:
        """The segments that it may hold."""
        if not self.children:
            return frozenset({self.name})
        return frozenset().union(*(child.names for child in self.children))

    @property
    def first_required(self) -> str:
        """The segment that a group cannot be without."""
        if not self.children:
            return self.name
        needed = [child for child in self.children if child.least] or list(self.children)
        return needed[0].first_required


class _Walk:
    """One comparison: how far it came, and what was missing."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.at = 0
        self.faults: list[SequenceFault] = []

    def children(self, children: Sequence[_Child]) -> None:
        """Take the segments of a sequence."""
        for child in children:
            count = 0
            while self._next() in child.names and (child.most < 0 or count < child.most):
                before = self.at
                self._one(child)
                if self.at == before:
                    break
                count += 1
            if count < child.least:
                self.faults.append(SequenceFault(self.at, child.first_required))

    def _one(self, child: _Child) -> None:
        if not child.children:
            self.at += 1
        elif child.choice:
            self._one(next(each for each in child.children if self._next() in each.names))
        else:
            self.children(child.children)

    def _next(self) -> str:
        return self.names[self.at] if self.at < len(self.names) else ""


def _children(definition: Any) -> tuple[_Child, ...]:  # noqa: ANN401 - tuples of hl7apy
    return tuple(
        _Child(
            name,
            cardinality[0],
            cardinality[1],
            kind == "GRP" and (reference[0] == "choice" or name.endswith(_BROKEN_CHOICES)),
            _children(reference) if kind == "GRP" else (),
        )
        for name, reference, cardinality, kind in definition[1]
    )


def _rule(version: str, segment: str, child: Any) -> FieldRule:  # noqa: ANN401 - as above
    name, reference, (least, most), _ = child
    number = int(name.rpartition("_")[2])
    parts = reference[1] if reference[0] == "sequence" else ()
    return FieldRule(
        number=number,
        words=in_words(reference[3]),
        datatype=reference[2] if most and reference[2] else "",
        required=bool(least) and (version, segment, number) not in _NOT_REQUIRED,
        repeats=most < 0,
        components=tuple(in_words(part[1][3]) for part in parts or ()),
    )
